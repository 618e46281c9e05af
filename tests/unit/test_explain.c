/* SPDX-License-Identifier: MIT
 *
 * What is said of errors whose own text misleads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/explain.h"

static void test_plain(void **state)
{
	char text[EXPLAIN_MAX];

	assert_string_equal(explain_error(-ENOMEM, text), strerror(ENOMEM));
	/* io_uring would have been refused with the other one. */
	assert_string_equal(explain_error(-ENOSYS, text), strerror(ENOSYS));
}

static void test_device(void **state)
{
	char text[EXPLAIN_MAX];

	assert_string_equal(explain_device("/dev/none", "mod", -ENOENT, text),
			    "there is no /dev/none; is the module mod loaded?");
	assert_string_equal(explain_device("/dev/null", "mod", -ENODEV, text),
			    "/dev/null: No such device; is the module mod loaded?");
	/* The node is there: something else is not. */
	assert_string_equal(explain_device("/dev/null", "mod", -ENOENT, text), strerror(ENOENT));
}

/* A child's exit status: whether explain_error() names io_uring where that is refused with err. */
static int names_io_uring(int err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	char text[EXPLAIN_MAX];

	if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint16_t)-err), SCMP_SYS(io_uring_setup), 0) ||
	    seccomp_load(ctx))
		return 2;
	explain_prepare();
	return strncmp(explain_error(err, text), "io_uring ", 9) == 0 ? 0 : 1;
}

static void test_io_uring(void **state)
{
	static const int errors[] = {-EPERM, -ENOSYS};

	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0)
			_exit(names_io_uring(errors[i]));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_io_uring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

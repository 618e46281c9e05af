/* SPDX-License-Identifier: MIT
 *
 * The library's helper threads: released, kicked, stopped.
 *
 * Only the main thread may use cmocka's assertions.
 */
/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/helper.h"

#define LONG_NS (3600 * UZ_NSEC_PER_SEC)

/* A helper that counts its rounds. */
struct counter {
	struct uz_helper helper;
	_Atomic unsigned rounds;
	unsigned written; /* before the release, without any lock */
	unsigned seen;	  /* ... by the first round */
	bool pause;	  /* after each round pause, instead of sleeping */
};

static void *count_rounds(void *arg)
{
	struct counter *c = arg;

	uz_helper_await_release(&c->helper);
	while (!uz_helper_stopping(&c->helper)) {
		uint32_t kicks = uz_helper_kicks(&c->helper);

		c->seen = c->written;
		atomic_fetch_add(&c->rounds, 1);
		if (c->pause)
			uz_helper_pause(&c->helper, LONG_NS);
		else
			uz_helper_sleep(&c->helper, kicks, LONG_NS);
	}
	return NULL;
}

static void await_rounds(struct counter *c, unsigned rounds)
{
	for (unsigned ms = 0; atomic_load(&c->rounds) < rounds; ms++) {
		assert_true(ms < 60000);
		usleep(1000);
	}
}

/* Nothing is done before the release, kicked or not; and then all that was written is seen. */
static void test_release(void **state)
{
	struct counter c = {0};

	assert_int_equal(uz_helper_start(&c.helper, count_rounds, &c), 0);
	uz_helper_kick(&c.helper);
	usleep(50 * 1000);
	assert_int_equal(c.rounds, 0);
	c.written = 42;
	uz_helper_release(&c.helper);
	await_rounds(&c, 1);
	uz_helper_stop(&c.helper);
	assert_int_equal(c.seen, 42);
}

/* One kick is at least one more round, whether the thread sleeps by then or still works. */
static void test_kick(void **state)
{
	struct counter c = {0};

	assert_int_equal(uz_helper_start(&c.helper, count_rounds, &c), 0);
	uz_helper_release(&c.helper);
	for (unsigned i = 0; i < 2000; i++) {
		unsigned before = atomic_load(&c.rounds);

		uz_helper_kick(&c.helper);
		await_rounds(&c, before + 1);
	}
	uz_helper_stop(&c.helper);
}

/* A kick does not shorten a pause. */
static void test_pause(void **state)
{
	struct counter c = {.pause = true};

	assert_int_equal(uz_helper_start(&c.helper, count_rounds, &c), 0);
	uz_helper_release(&c.helper);
	await_rounds(&c, 1);
	for (unsigned i = 0; i < 10; i++) {
		uz_helper_kick(&c.helper);
		usleep(5000);
	}
	assert_int_equal(c.rounds, 1);
	uz_helper_stop(&c.helper);
}

/* Whatever the thread does, it ends; and another one can be made, which waits for its own release.
 */
static void test_stop(void **state)
{
	struct counter c = {0};

	uz_helper_stop(&c.helper); /* there is none */
	for (unsigned i = 0; i < 300; i++) {
		unsigned before = c.rounds;

		c.pause = i % 2;
		assert_int_equal(uz_helper_start(&c.helper, count_rounds, &c), 0);
		if (i % 3)
			uz_helper_release(&c.helper);
		if (i % 3 == 2)
			await_rounds(&c, before + 1);
		uz_helper_stop(&c.helper);
		uz_helper_stop(&c.helper);
		if (i % 3 == 0)
			assert_int_equal(c.rounds, before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_kick),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

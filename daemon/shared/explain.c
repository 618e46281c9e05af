/* SPDX-License-Identifier: MIT */
#include "shared/explain.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYSCTL "/proc/sys/kernel/io_uring_disabled"

static int io_uring_disabled; /* the sysctl; 0 also where there is none (before Linux 6.6) */

void explain_prepare(void)
{
	FILE *f = fopen(SYSCTL, "re");

	if (!f)
		return;
	if (fscanf(f, "%d", &io_uring_disabled) != 1)
		io_uring_disabled = 0;
	fclose(f);
}

int explain_io_uring(void)
{
	struct io_uring_params params = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* The library makes its ring deep inside, and returns what the kernel said. A ring of our own is
 * refused for the same reason. */
static bool io_uring_refused(int err)
{
	return (err == -EPERM || err == -ENOSYS) && explain_io_uring() == err;
}

const char *explain_error(int err, char text[EXPLAIN_MAX])
{
	if (!io_uring_refused(err)) {
		snprintf(text, EXPLAIN_MAX, "%s", strerror(-err));
		return text;
	}
	explain_prepare();
	if (io_uring_disabled)
		snprintf(text, EXPLAIN_MAX,
			 "io_uring is switched off: sysctl kernel.io_uring_disabled is %d",
			 io_uring_disabled);
	else
		snprintf(text, EXPLAIN_MAX,
			 "io_uring can't be had: %s; a seccomp filter may forbid it",
			 strerror(-err));
	return text;
}

const char *explain_device(const char *node, const char *module, int err, char text[EXPLAIN_MAX])
{
	if (access(node, F_OK) < 0)
		snprintf(text, EXPLAIN_MAX, "there is no %s; is the module %s loaded?", node,
			 module);
	else if (err == -ENODEV || err == -ENXIO)
		snprintf(text, EXPLAIN_MAX, "%s: %s; is the module %s loaded?", node,
			 strerror(-err), module);
	else
		return explain_error(err, text);
	return text;
}

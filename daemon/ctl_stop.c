/* SPDX-License-Identifier: MIT
 *
 * uzramctl stop: ask the daemon to stop, and wait until it is gone.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* Wait for a process to end; deadline is in now_ms()'s time, -1 if there is none. */
static int wait_end(int pidfd, int64_t deadline)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int64_t left = -1;
	int n;

	do {
		if (deadline >= 0) {
			left = deadline - now_ms();
			if (left < 0)
				left = 0;
		}
		n = poll(&p, 1, (int)left);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? 0 : -ETIMEDOUT;
}

/* The write lasts as long as swapoff, and no mere signal ends a request that a FUSE daemon has
 * begun: so it is a child that writes, since a child can be killed. */
static int request_stop(const char *device, int64_t deadline)
{
	pid_t child = fork();
	int pidfd, status, err;

	if (child < 0)
		return -errno;
	if (!child)
		_exit(-ctl_write(device, "stop", "1"));
	pidfd = pidfd_open(child, 0);
	err = pidfd < 0 ? -errno : wait_end(pidfd, deadline);
	if (err)
		kill(child, SIGKILL);
	if (pidfd >= 0)
		close(pidfd);
	if (waitpid(child, &status, 0) < 0)
		return -errno;
	if (!err && !WIFEXITED(status))
		err = -EINTR;
	return err ? err : -WEXITSTATUS(status);
}

int ctl_stop(const struct ctl_args *args)
{
	int64_t deadline = args->timeout < 0 ? -1 : now_ms() + args->timeout;
	const char *what = "not stopped, it goes on serving";
	uint64_t pid;
	int daemon, err;

	err = ctl_read_numbers(args->device, "pid", &pid, 1);
	if (err)
		return ctl_fail(args->device, "cannot stop", err);
	/* Taken before the request: afterwards the number may be another process's. */
	daemon = pidfd_open((pid_t)pid, 0);
	if (daemon < 0)
		return ctl_fail(args->device, "cannot watch its daemon", -errno);
	err = request_stop(args->device, deadline);
	if (!err)
		err = wait_end(daemon, deadline);
	close(daemon);
	if (err == -ETIMEDOUT)
		what = "not stopped yet";
	return err ? ctl_fail(args->device, what, err) : EXIT_SUCCESS;
}

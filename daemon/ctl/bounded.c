/* SPDX-License-Identifier: MIT
 *
 * Requests that last no longer than the user wants to wait.
 *
 * No signal, not even SIGKILL, ends a process while a FUSE daemon has its request: the kernel waits
 * for the answer. So it is a child that makes the request. After the time limit it is left alone,
 * and with it a request that may still be carried out.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"

int64_t ctl_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

int ctl_await(int fd, int64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n;

	do {
		int64_t left = deadline - ctl_now_ms();

		n = poll(&p, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? 0 : -ETIMEDOUT;
}

/* Read all size bytes; -EIO if there are no more before that. */
static int read_result(int fd, char *bytes, size_t size, int64_t deadline)
{
	while (size) {
		int err = ctl_await(fd, deadline);
		ssize_t n;

		if (err)
			return err;
		n = read(fd, bytes, size);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		bytes += n;
		size -= (size_t)n;
	}
	return 0;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
	while (size) {
		ssize_t n = write(fd, bytes, size);

		if (n < 0)
			return false;
		bytes += n;
		size -= (size_t)n;
	}
	return true;
}

/* A child that is left alone must not keep others waiting for the end of what uzramctl prints, nor
 * hold a lock of theirs. Returns what pipe is called then. */
static int let_go(int pipe)
{
	int kept = dup2(pipe, STDERR_FILENO + 1), null;

	close_range((unsigned)kept + 1, ~0u, 0);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	return kept;
}

static void run_child(int pipe, int (*fn)(void *arg, void *ret), void *arg, void *ret, size_t size)
{
	int err;

	pipe = let_go(pipe);
	err = fn(arg, ret);
	if (write_all(pipe, (const char *)&err, sizeof(err)) && !err)
		write_all(pipe, ret, size);
	_exit(EXIT_SUCCESS);
}

int ctl_bounded(int (*fn)(void *arg, void *ret), void *arg, void *ret, size_t size,
		int64_t deadline)
{
	int ends[2], result, err;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (!child)
		run_child(ends[1], fn, arg, ret, size);
	err = child < 0 ? -errno : 0;
	close(ends[1]);
	if (!err)
		err = read_result(ends[0], (char *)&result, sizeof(result), deadline);
	if (!err && !result)
		err = read_result(ends[0], ret, size, deadline);
	close(ends[0]);
	if (child < 0)
		return err;
	if (err == -ETIMEDOUT)
		kill(child, SIGKILL); /* and wait no longer: it may not end by it */
	else
		waitpid(child, NULL, 0);
	return err ? err : result;
}

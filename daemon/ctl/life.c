/* SPDX-License-Identifier: MIT
 *
 * uzramctl stop, upgrade, sleep, wake: what changes the daemon itself, and takes its time.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"

/* Once the new server stands by, an upgrade takes a fraction of a second. If the old server then
 * serves on all the same, for whatever reason, its log says why. */
#define CHANGE_MS 120000

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

/* Write 1 to a control file, which lasts as long as swapoff, and no mere signal ends a request that
 * a FUSE daemon has begun: so it is a child that writes, since a child can be killed. */
static int request_once(const char *device, const char *attr, int64_t deadline)
{
	pid_t child = fork();
	int pidfd, status, err;

	if (child < 0)
		return -errno;
	if (!child)
		_exit(-ctl_write(device, attr, "1"));
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

/* While the daemon is changing its servers it can do nothing else. */
static int request(const char *device, const char *attr, int64_t deadline)
{
	int err;

	while ((err = request_once(device, attr, deadline)) == -EAGAIN) {
		if (deadline >= 0 && now_ms() > deadline)
			return -ETIMEDOUT;
		usleep(100000);
	}
	return err;
}

static int64_t deadline_of(const struct ctl_args *args)
{
	return args->timeout < 0 ? -1 : now_ms() + args->timeout;
}

int ctl_stop(const struct ctl_args *args)
{
	int64_t deadline = deadline_of(args);
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
	err = request(args->device, "stop", deadline);
	if (!err)
		err = wait_end(daemon, deadline);
	close(daemon);
	if (err == -ETIMEDOUT)
		what = "not stopped yet";
	return err ? ctl_fail(args->device, what, err) : EXIT_SUCCESS;
}

/* The daemon counts upgrades when the new one serves. */
static int await_upgrade(const char *device, uint64_t before, int64_t deadline)
{
	uint64_t done;
	int err;

	for (;;) {
		err = ctl_read_numbers(device, "upgrade", &done, 1);
		if (err || done > before)
			return err;
		if (deadline >= 0 && now_ms() > deadline)
			return -ETIMEDOUT;
		usleep(10000);
	}
}

int ctl_upgrade(const struct ctl_args *args)
{
	int64_t deadline = deadline_of(args);
	uint64_t before;
	int err;

	err = ctl_read_numbers(args->device, "upgrade", &before, 1);
	if (!err)
		err = request(args->device, "upgrade", deadline);
	if (!err && deadline < 0)
		deadline = now_ms() + CHANGE_MS;
	if (!err)
		err = await_upgrade(args->device, before, deadline);
	return err ? ctl_fail(args->device, "not upgraded, it goes on serving", err) : EXIT_SUCCESS;
}

static int sleep_device(void *arg, const char *device)
{
	const char *value = arg;
	int err;

	while ((err = ctl_write(device, "sleep", value)) == -EAGAIN)
		usleep(100000);
	if (!err || err == -ENOENT) /* what a dead daemon has left */
		return EXIT_SUCCESS;
	return ctl_fail(device, *value == '1' ? "not taken out of use" : "not in use again", err);
}

int ctl_sleep(const struct ctl_args *args)
{
	return ctl_each_device(sleep_device, (char[]){"1"});
}

int ctl_wake(const struct ctl_args *args)
{
	return ctl_each_device(sleep_device, (char[]){"0"});
}

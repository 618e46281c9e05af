/* SPDX-License-Identifier: MIT
 *
 * uzramctl compact, flush, stop, upgrade, sleep, wake: what is asked of the daemon, and takes its
 * time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "ctl/ctl.h"

#define RETRY_US 100000

static int64_t deadline_of(const struct ctl_args *args)
{
	return ctl_now_ms() + args->timeout;
}

/* --- requests --- */

/* A control file, and what to write to it. */
struct request {
	const char *device, *attr, *text;
};

static int write_request(void *arg, void *ret)
{
	const struct request *r = arg;

	return ctl_write(r->device, r->attr, r->text);
}

/* While the daemon is changing its servers it can do nothing else. */
static int request(const char *device, const char *attr, const char *text, int64_t deadline)
{
	struct request r = {device, attr, text};
	int err;

	while ((err = ctl_bounded(write_request, &r, NULL, 0, deadline)) == -EAGAIN) {
		if (ctl_now_ms() > deadline)
			return -ETIMEDOUT;
		usleep(RETRY_US);
	}
	return err;
}

/* A control file that is to be read, of which only the number it begins with counts. */
static int read_request(void *arg, void *ret)
{
	const struct request *r = arg;

	return ctl_read_numbers(r->device, r->attr, ret, 1);
}

static int read_number(const char *device, const char *attr, uint64_t *ret, int64_t deadline)
{
	struct request r = {device, attr, NULL};

	return ctl_bounded(read_request, &r, ret, sizeof(*ret), deadline);
}

/* The time is over, but what was asked is not: how says how to see what becomes of it. */
static int fail_late(const char *device, const char *what, const char *how)
{
	char why[512];

	snprintf(why, sizeof(why), "timed out; the request goes on: %s", how);
	return ctl_complain(device, what, why);
}

/* --- compact, flush --- */

int ctl_compact(const struct ctl_args *args)
{
	int err = request(args->device, "compact", "1", deadline_of(args));

	if (err == -ETIMEDOUT)
		return fail_late(args->device, "not compacted yet", "mm_stat counts the pages");
	return err ? ctl_fail(args->device, "cannot compact", err) : EXIT_SUCCESS;
}

int ctl_flush(const struct ctl_args *args)
{
	int err = request(args->device, "flush", "1", deadline_of(args));

	if (err == -ETIMEDOUT)
		return fail_late(args->device, "not flushed yet", "defer_stat counts what is left");
	return err ? ctl_fail(args->device, "cannot flush", err) : EXIT_SUCCESS;
}

/* --- stop --- */

static int fail_stop(const char *device, int err)
{
	const char *what = "not stopped, it goes on serving";
	char how[256];

	if (err == -ETIMEDOUT) {
		snprintf(how, sizeof(how),
			 "its log says how it ends, 'uzramctl stop --cancel %s' calls it off",
			 device);
		return fail_late(device, "not stopped yet", how);
	}
	if (err == -ENOMEM)
		return ctl_complain(device, what,
				    "not enough free memory to take back what it holds; free some, "
				    "or try with --force");
	return ctl_fail(device, what, err);
}

static int cancel_stop(const struct ctl_args *args)
{
	int err = request(args->device, "stop", "cancel", deadline_of(args));

	return err ? ctl_fail(args->device, "cannot call the stop off", err) : EXIT_SUCCESS;
}

int ctl_stop(const struct ctl_args *args)
{
	int64_t deadline = deadline_of(args);
	uint64_t pid;
	int daemon, err;

	if (args->cancel)
		return cancel_stop(args);
	err = read_number(args->device, "pid", &pid, deadline);
	if (err)
		return ctl_fail(args->device, "cannot stop", err);
	/* Taken before the request: afterwards the number may be another process's. */
	daemon = pidfd_open((pid_t)pid, 0);
	if (daemon < 0)
		return ctl_fail(args->device, "cannot watch its daemon", -errno);
	err = request(args->device, "stop", args->force ? "force" : "1", deadline);
	if (!err)
		err = ctl_await(daemon, deadline);
	close(daemon);
	return err ? fail_stop(args->device, err) : EXIT_SUCCESS;
}

/* --- upgrade --- */

/* The daemon counts upgrades when the new one serves. */
static int await_upgrade(const char *device, uint64_t before, int64_t deadline)
{
	uint64_t done;
	int err;

	for (;;) {
		err = read_number(device, "upgrade", &done, deadline);
		if (err || done > before)
			return err;
		if (ctl_now_ms() > deadline)
			return -ETIMEDOUT;
		usleep(RETRY_US);
	}
}

int ctl_upgrade(const struct ctl_args *args)
{
	int64_t deadline = deadline_of(args);
	uint64_t before;
	int err;

	err = read_number(args->device, "upgrade", &before, deadline);
	if (err)
		return ctl_fail(args->device, "not upgraded", err);
	err = request(args->device, "upgrade", "1", deadline);
	if (!err)
		err = await_upgrade(args->device, before, deadline);
	if (err == -ETIMEDOUT)
		return fail_late(args->device, "not upgraded yet",
				 "its log says how it ends; it goes on serving in any case");
	return err ? ctl_fail(args->device, "not upgraded, it goes on serving", err) : EXIT_SUCCESS;
}

/* --- sleep, wake --- */

static int sleep_device(void *arg, const char *device)
{
	const struct ctl_args *args = arg;
	const char *what = "not taken out of use";
	int err = request(device, "sleep", "1", deadline_of(args));

	if (!err || err == -ENOENT) /* what a dead daemon has left */
		return EXIT_SUCCESS;
	if (err == -ETIMEDOUT)
		return fail_late(device, "not taken out of use yet", "/proc/swaps shows it");
	if (err == -ENOMEM)
		return ctl_complain(device, what,
				    "not enough free memory to take back what it holds");
	return ctl_fail(device, what, err);
}

static int wake_device(void *arg, const char *device)
{
	const struct ctl_args *args = arg;
	int err = request(device, "sleep", "0", deadline_of(args));

	if (!err || err == -ENOENT)
		return EXIT_SUCCESS;
	if (err == -ETIMEDOUT)
		return fail_late(device, "not in use again yet", "/proc/swaps shows it");
	return ctl_fail(device, "not in use again", err);
}

int ctl_sleep(const struct ctl_args *args)
{
	return ctl_each_device(sleep_device, (void *)(uintptr_t)args);
}

int ctl_wake(const struct ctl_args *args)
{
	return ctl_each_device(wake_device, (void *)(uintptr_t)args);
}

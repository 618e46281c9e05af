/* SPDX-License-Identifier: MIT
 *
 * The parts of uzramctl.
 *
 * A device is nothing but the directory of control files that its daemon shows. Reading or writing
 * one of them is a request to the daemon and takes as long as the daemon takes, for ever if it
 * hangs: so whatever does is called through ctl_bounded(). No file stays open between calls: an
 * open file would keep the daemon from unmounting.
 */
#ifndef UZD_CTL_H
#define UZD_CTL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/host/attach.h"

#define CTL_RUNDIR    "/run/uzram"
#define CTL_SIZE_TEXT 24

/* Exit statuses beside EXIT_SUCCESS and EXIT_FAILURE; uzramctl(8) documents them. */
#define CTL_EXIT_USAGE	   2
#define CTL_EXIT_NO_DEVICE 3

/* What the command line says beside the verb. */
struct ctl_args {
	const char *device; /* NULL for a verb that takes none */
	bool bytes, json, noheadings;
	bool force, cancel;
	int timeout; /* milliseconds; of a verb for all devices: for each */
};

/* The columns of mm_stat. */
enum ctl_mm {
	MM_ORIG,
	MM_COMPR,
	MM_USED,
	MM_LIMIT,
	MM_USED_MAX,
	MM_SAME,
	MM_COMPACTED,
	MM_HUGE,
	MM_HUGE_SINCE,
	MM_COLUMNS,
};

/* What both list and stat show. */
struct ctl_device {
	uint64_t size, workers, mm[MM_COLUMNS];
	char algorithm[32];
	char block_device[ATTACH_PATH_MAX]; /* "none" if there is none */
	char mountpoint[PATH_MAX];	    /* escaped; "[SWAP]", or "" if it is not in use */
	int64_t swap_used;		    /* bytes, negative if it is not in use as swap */
};

/* --- bounded.c --- */

/* CLOCK_MONOTONIC; deadlines are in its time. */
int64_t ctl_now_ms(void);

/* Call fn in a child process, and have the size bytes at ret from it if fn returns 0. Returns what
 * fn does; -ETIMEDOUT, with ret in any state, if the deadline comes first: then fn may still go on,
 * in a process that has nothing of this one's open. */
int ctl_bounded(int (*fn)(void *arg, void *ret), void *arg, void *ret, size_t size,
		int64_t deadline);

/* Wait until fd, such as a pidfd, is readable. -ETIMEDOUT. */
int ctl_await(int fd, int64_t deadline);

/* --- device.c --- */

/* The directory that holds one directory per device. */
const char *ctl_rundir(void);

/* Call fn for every directory in there, in order. Returns EXIT_SUCCESS, or the last other thing
 * that fn returned: one bad device doesn't hide the others. */
int ctl_each_device(int (*fn)(void *arg, const char *device), void *arg);

/* Write text to ret, with "\xNN" for every byte that is no printable ASCII, and for backslashes: a
 * server that was taken over may say anything, and the terminal must not get to obey it. Cut to
 * size. Returns ret. */
const char *ctl_escape(const char *text, char *ret, size_t size);

/* Read the first line of device's control file attr into ret, without its newline and escaped.
 * -ENOENT: no such device; -ENOTCONN: its daemon is dead. */
int ctl_read(const char *device, const char *attr, char *ret, size_t size);

/* The same for a file that begins with count numbers, decimal and without a sign; -EBADMSG if it
 * does not. */
int ctl_read_numbers(const char *device, const char *attr, uint64_t *ret, unsigned count);

/* Write text to device's control file attr in one write(2). The daemon's error is returned as it
 * is. */
int ctl_write(const char *device, const char *attr, const char *text);

/* ret is not touched on failure. */
int ctl_device_load(const char *name, struct ctl_device *ret);

/* bytes as zramctl prints it: "1.5G", "4K", "0B"; or as a plain number. Returns ret. */
const char *ctl_size_text(uint64_t bytes, bool plain, char ret[CTL_SIZE_TEXT]);

/* --- main.c --- */

/* Print "uzramctl: DEVICE: WHAT: why" to stderr; returns the exit status that err stands for. */
int ctl_fail(const char *device, const char *what, int err);

/* The same, saying why; returns EXIT_FAILURE. */
int ctl_complain(const char *device, const char *what, const char *why);

/* The verbs. Each prints its own errors and returns an exit status. */
int ctl_list(const struct ctl_args *args);
int ctl_stat(const struct ctl_args *args);
int ctl_compact(const struct ctl_args *args);
int ctl_flush(const struct ctl_args *args);
int ctl_stop(const struct ctl_args *args);
int ctl_upgrade(const struct ctl_args *args);
int ctl_sleep(const struct ctl_args *args);
int ctl_wake(const struct ctl_args *args);

#endif

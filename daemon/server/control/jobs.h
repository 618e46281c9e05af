/* SPDX-License-Identifier: MIT
 *
 * The control thread: does one after the other what takes long (compact, flush, stop), so that no
 * worker is held up by it, and no swap I/O behind that worker.
 */
#ifndef UZD_JOBS_H
#define UZD_JOBS_H

#include <stdbool.h>
#include <stddef.h>

struct control;
struct jobs;

/* The process that waits until a control file is written. */
struct waiter {
	/* Called once, by any thread, with 0 or -errno. */
	void (*done)(const struct waiter *w, int err);
	void *request; /* this and size are done's own */
	size_t size;
};

/* Start the thread. Jobs run with control, which stays the caller's. 0 or -errno. */
int jobs_new(struct control *control, struct jobs **ret);

/* Do what is left to be done, and stop the thread. */
void jobs_finish(struct jobs *q);

/* Have the control thread call run, and then w->done with what that returned. False, and nothing is
 * called, if it has too much to do. Any thread. */
bool jobs_add(struct jobs *q, int (*run)(struct control *control), const struct waiter *w);

#endif

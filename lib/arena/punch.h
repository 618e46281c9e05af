/* SPDX-License-Identifier: MIT
 *
 * Surplus memory is punched out of the arena's file by way of an io_uring, so that the thread that
 * sees to it never waits for the kernel.
 *
 * The ring is restricted to fallocate(2), for good: no seccomp filter sees what a ring does.
 */
#ifndef UZ_ARENA_PUNCH_H
#define UZ_ARENA_PUNCH_H

#include <liburing.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "arena/arena.h"

#define UZ_PUNCHES_MAX 64 /* in flight */

/* All fields but `requested` belong to the thread that calls uz_punch_work(). */
struct uz_punch {
	struct uz_arena *arena; /* NULL: not initialised */
	struct io_uring ring;
	atomic_bool requested;
	uint64_t pass_at; /* ns: when the pass over the surplus begins, or has begun; 0: no pass */
	struct uz_extent extents[UZ_PUNCHES_MAX];
	bool busy[UZ_PUNCHES_MAX]; /* the extent of that number is being punched out */
	unsigned in_flight;	   /* busy ones */
};

/* Make the ring; event_fd is signalled whenever a punch has completed. 0 or -errno. */
int uz_punch_init(struct uz_punch *p, struct uz_arena *arena, int event_fd);
/* Nothing is in flight. A zeroed struct is allowed. */
void uz_punch_done(struct uz_punch *p);

/* There is surplus: uz_punch_work() is to begin a pass. Any thread; the caller sees to it that
 * uz_punch_work() is called soon. */
void uz_punch_request(struct uz_punch *p);

/* Do what is due: return what the kernel has taken to the arena, and submit more. Never waits.
 * Returns when to call it again at the latest; UINT64_MAX: only after a request. stop: submit
 * nothing more, so that UINT64_MAX means that nothing is in flight. context is the struct
 * uz_punch. One thread. */
uint64_t uz_punch_work(void *context, bool stop);

/* For uz_punch_init(), and its test: a ring that takes no operation but fallocate, and signals
 * event_fd for each that completes. Others complete with -EACCES; nothing can be registered any
 * more. 0 or -errno. */
int uz_punch_ring_init(struct io_uring *ring, int event_fd);

#endif

/* SPDX-License-Identifier: MIT
 *
 * What sleep.c (how the drain thread sleeps and is woken), drain.c (the thread) and defer.c (the
 * producers' side, and life) share. A file calls only those before it.
 */
#ifndef UZ_DEFER_INTERNAL_H
#define UZ_DEFER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/spin.h"
#include "defer/defer.h"

/* A buffer belongs to one producer (its current one), to the queue of full ones, or to the pool of
 * spares. taken <= count. Values from taken up to count are pending. Only the owning producer
 * changes count, only the drain thread changes taken; it resets both when it makes the buffer a
 * spare. */
struct buffer {
	_Atomic unsigned count; /* release by the producer pairs with the drain's acquire */
	unsigned taken;
	struct buffer *next; /* in the queue or the pool */
	void *page;
};

struct uz_defer_producer {
	struct buffer *_Atomic current; /* swapped by the producer alone */
	_Atomic uint64_t pushed;	/* written by the producer alone, as is fallbacks */
	_Atomic uint64_t fallbacks;
	struct uz_defer *defer;
	struct uz_defer_producer *prev, *next;
} __attribute__((aligned(64)));

/* What the drain thread is doing, for those who may have to wake it. */
enum drain_state {
	DRAIN_RUNNING, /* will look at everything once more before it sleeps */
	DRAIN_TICKING, /* asleep; the timer will wake it within max_age */
	DRAIN_IDLE,    /* asleep with no timer: nothing is pending */
};

/* Periods in a row, with nothing pushed, after which the drain thread gives up its timer. A tick
 * costs about what the push that finds no timer pays for a wake-up, so a few are worth waiting. */
#define DRAIN_LINGER 16

struct uz_defer {
	/* Read by every push; the rest is on other cache lines. */
	struct uz_defer_ops ops;
	_Atomic int state; /* enum drain_state */

	/* The pool and the queue. Held for a few instructions. */
	struct uz_spin lock __attribute__((aligned(64)));
	struct buffer *spares;
	unsigned nspares;
	struct buffer *full;

	/* The list of producers: adding and removing takes both locks, the drain thread walks it
	 * (and drains) under the mutex, uz_defer_stat() reads it under the spin lock, so that it
	 * never waits for a drain. */
	pthread_mutex_t walk_lock;
	struct uz_spin list_lock;
	struct uz_defer_producer *producers;
	unsigned nproducers;
	uint64_t pushed_by_freed,
		fallbacks_of_freed; /* of producers that are gone; under list_lock */

	/* Flush: a ticket is drawn from requested; done is the last ticket served. */
	_Atomic uint32_t flush_requested, flush_done;
	atomic_bool stop;
	atomic_bool kicked; /* uz_defer_kick() */

	void *context; /* for the callbacks */
	unsigned spares_wanted;
	uint64_t max_age_ns;
	int wake_fd;   /* the eventfd that the thread sleeps on */
	bool can_idle; /* membarrier(2) works */
	pthread_t thread;
	bool started;
	uz_drain_work *work; /* or NULL */
	void *work_context;

	/* The drain thread's own. */
	uint64_t tick;	/* ns: when partly filled buffers are due */
	unsigned quiet; /* ticks in a row at which nothing had been pushed */
	_Atomic uint64_t drained, runs;
};

/* Wake the drain thread unless it runs. */
void uz_defer_wake(struct uz_defer *d);
/* The same by a caller that has seen that it sleeps. */
void uz_drain_wake(struct uz_defer *d);

/* What the thread sleeps on. 0 or -errno. */
int uz_drain_sleep_init(struct uz_defer *d);
void uz_drain_sleep_done(struct uz_defer *d);

/* By the drain thread: sleep until the deadline (ns, or UZ_DRAIN_NEVER), or until it is woken; or
 * merely until its eventfd is signalled. */
void uz_drain_sleep(struct uz_defer *d, enum drain_state state, uint64_t deadline);
void uz_drain_wait(struct uz_defer *d, uint64_t deadline);

int uz_drain_start(struct uz_defer *d);
void uz_drain_stop(struct uz_defer *d);

#endif

/* SPDX-License-Identifier: MIT
 *
 * What the files of the deferred free share: sleep.c (how the drain thread sleeps and is woken),
 * drain.c (the thread) and defer.c (the producers' side, and life). Each calls only those before
 * it.
 */
#ifndef UZ_DEFER_INTERNAL_H
#define UZ_DEFER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/spin.h"
#include "defer/defer.h"

/* A buffer belongs to a producer (as its current one), to the queue of full ones, or to the pool
 * of spare ones. taken <= count. The values from taken up to count are pending. Only the
 * producer that owns the buffer changes count, only the drain thread changes taken. The drain
 * thread resets both when it makes the buffer a spare one. */
struct buffer {
	_Atomic unsigned count; /* the producer's release in uz_defer_push() pairs with the acquire
				   in drain_buffer() */
	unsigned taken;
	struct buffer *next; /* the next one in the queue or the pool */
	void *page;
};

struct uz_defer_producer {
	struct buffer *_Atomic current; /* Only the producer changes it. The release in push_full()
					   pairs with the acquires of the drain thread. */
	_Atomic uint64_t pushed;	/* only the producer writes this and fallbacks */
	_Atomic uint64_t fallbacks;
	struct uz_defer *defer;
	struct uz_defer_producer *prev, *next;
} __attribute__((aligned(64)));

/* What the drain thread is doing. Other threads look at this to see whether they must wake it.
 * See sleep.c. */
enum drain_state {
	DRAIN_RUNNING, /* it will look at everything once more before it sleeps: do not wake it */
	DRAIN_TICKING, /* it sleeps with a timer, and looks at partly filled buffers within max_age:
			  a push does not wake it */
	DRAIN_IDLE,    /* it sleeps without a timer, as nothing was pending: each push wakes it */
};

/* After so many ticks in a row at which nothing had been pushed, the drain thread does without
 * its timer. A tick costs about as much as the wake-up which the next push then pays for, so it
 * is worthwhile to wait for a few. */
#define DRAIN_LINGER 16

struct uz_defer {
	/* Every push reads these. Everything else is on other cache lines. */
	struct uz_defer_ops ops;
	_Atomic int state; /* enum drain_state */

	/* lock guards the pool and the queue. It is held for a few instructions. */
	struct uz_spin lock __attribute__((aligned(64)));
	struct buffer *spares;
	unsigned nspares;
	struct buffer *full;

	/* The list of producers. To add or remove one takes both locks. The drain thread walks
	 * the list, and drains, under the mutex. uz_defer_get_stat() reads it under the spin
	 * lock, so that it never waits for a drain. */
	pthread_mutex_t walk_lock;
	struct uz_spin list_lock;
	struct uz_defer_producer *producers;
	unsigned nproducers;
	/* Of producers that have been freed; under list_lock. */
	uint64_t pushed_by_freed, fallbacks_of_freed;

	/* A flush draws a ticket from flush_requested. flush_done is the last ticket that has
	 * been served. These, stop and kicked are sequentially consistent: they are set before
	 * the fence in uz_defer_wake(), and read after the one in uz_drain_sleep(). */
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

	/* The rest is the drain thread's own. drained: the release in drain_buffer() pairs with
	 * the load in uz_defer_get_stat(). */
	uint64_t tick;	/* ns: when partly filled buffers are due */
	unsigned quiet; /* ticks in a row at which nothing had been pushed */
	_Atomic uint64_t drained, runs;
};

/* Wake the drain thread unless it runs. What the caller has written before is visible to it. */
void uz_defer_wake(struct uz_defer *d);
/* The same for a caller that has seen that the thread sleeps. */
void uz_drain_wake(struct uz_defer *d);

/* Make, and close, what the thread sleeps on. 0 or -errno. */
int uz_drain_sleep_init(struct uz_defer *d);
void uz_drain_sleep_done(struct uz_defer *d);

/* For the drain thread. uz_drain_sleep() announces the state and sleeps, unless something is
 * pending, until the thread is woken or the deadline passes (ns, or UZ_DRAIN_NEVER).
 * uz_drain_wait() merely waits for the eventfd. Both may return early. */
void uz_drain_sleep(struct uz_defer *d, enum drain_state state, uint64_t deadline);
void uz_drain_wait(struct uz_defer *d, uint64_t deadline);

/* Make the thread, 0 or -errno; have it drain what is left and end, if it has been made. */
int uz_drain_start(struct uz_defer *d);
void uz_drain_stop(struct uz_defer *d);

#endif

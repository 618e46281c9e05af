/* SPDX-License-Identifier: MIT
 *
 * The drain thread. Its loop is: what is due, do it, how long to sleep.
 *
 * The thread never sleeps in io_uring_enter(2), although its other work has a ring. The kernel
 * counts a thread that does so as waiting for I/O, and an idle machine would show one CPU in I/O
 * wait, and full I/O pressure. (Linux 6.15 has a flag against that; this works on every kernel.)
 */
#include "defer/internal.h"

#include <sched.h>

#include "base/futex.h"
#include "base/thread.h"

/* --- draining --- */

/* Drain what has been appended to the buffer since the last time. Returns whether there was
 * anything. */
static bool drain_buffer(struct uz_defer *d, struct buffer *b)
{
	/* Pairs with the release in uz_defer_push(): the values below count are visible here. */
	unsigned count = atomic_load_explicit(&b->count, memory_order_acquire);

	if (count == b->taken)
		return false;
	d->ops.drain(d->context, b->page, b->taken, count - b->taken);
	/* Pairs with the load in uz_defer_get_stat(): `drained` is never more than `pushed`. */
	atomic_fetch_add_explicit(&d->drained, count - b->taken, memory_order_release);
	atomic_fetch_add_explicit(&d->runs, 1, memory_order_relaxed);
	b->taken = count;
	return true;
}

static void make_spare(struct uz_defer *d, struct buffer *b)
{
	b->taken = 0;
	atomic_store_explicit(&b->count, 0, memory_order_relaxed);
	uz_spin_lock(&d->lock);
	b->next = d->spares;
	d->spares = b;
	d->nspares++;
	uz_spin_unlock(&d->lock);
}

static bool drain_full(struct uz_defer *d)
{
	struct buffer *b;

	uz_spin_lock(&d->lock);
	b = d->full;
	d->full = NULL;
	uz_spin_unlock(&d->lock);
	if (!b)
		return false;
	while (b) {
		struct buffer *next = b->next;

		drain_buffer(d, b);
		make_spare(d, b);
		b = next;
	}
	return true;
}

/* Values in buffers that are not full. */
static bool drain_partial(struct uz_defer *d)
{
	bool any = false;

	pthread_mutex_lock(&d->walk_lock);
	for (struct uz_defer_producer *p = d->producers; p; p = p->next)
		any |= drain_buffer(d, atomic_load_explicit(&p->current, memory_order_acquire));
	pthread_mutex_unlock(&d->walk_lock);
	return any;
}

/* push_full() queues the full buffer before it switches `current`. So look at `current` first
 * and at the queue second. In the other order a buffer that becomes full in between would be
 * missed. */
static bool drain_all(struct uz_defer *d)
{
	bool any = drain_partial(d);

	return drain_full(d) || any;
}

/* --- a round --- */

/* What a round has to do. This is read before anything is done: what comes later is for a later
 * round. */
struct due {
	bool stop;	 /* uz_defer_free() waits */
	bool aged;	 /* the values in partly filled buffers have waited for long enough */
	bool flush;	 /* a flush waits */
	uint32_t ticket; /* the last ticket drawn so far: all flushes up to it are answered */
};

static struct due what_is_due(struct uz_defer *d)
{
	struct due due = {
		.stop = atomic_load(&d->stop),
		.aged = uz_now_ns() >= d->tick,
		.ticket = atomic_load(&d->flush_requested),
	};

	due.flush = due.ticket != atomic_load(&d->flush_done);
	return due;
}

static void restart_timer(struct uz_defer *d)
{
	d->tick = uz_now_ns() + d->max_age_ns;
}

static void answer_flush(struct uz_defer *d, uint32_t ticket)
{
	/* Pairs with the load in flush_until(): what was drained is visible there. */
	atomic_store(&d->flush_done, ticket);
	uz_futex_wake(&d->flush_done, INT_MAX);
}

/* Returns whether there was anything to drain. */
static bool drain_what_is_due(struct uz_defer *d, const struct due *due)
{
	bool any;

	if (due->aged || due->flush || due->stop) {
		any = drain_all(d);
		d->quiet = any ? 0 : d->quiet + due->aged;
		restart_timer(d);
	} else {
		any = drain_full(d);
	}
	if (any && d->ops.finish)
		d->ops.finish(d->context);
	if (due->flush)
		answer_flush(d, due->ticket);
	return any;
}

/* Returns when the other work is due next. */
static uint64_t do_other_work(struct uz_defer *d, bool stop)
{
	/* Before the work: a kick that comes later has it done once more. */
	atomic_store(&d->kicked, false);
	return d->work ? d->work(d->work_context, stop) : UZ_DRAIN_NEVER;
}

static void sleep_until_due(struct uz_defer *d, uint64_t work_at, bool stop)
{
	if (stop) {
		uz_drain_wait(d, work_at);
	} else if (d->quiet >= DRAIN_LINGER && d->can_idle && work_at == UZ_DRAIN_NEVER) {
		uz_drain_sleep(d, DRAIN_IDLE, UZ_DRAIN_NEVER);
		d->quiet = 0;
		restart_timer(d);
	} else {
		uz_drain_sleep(d, DRAIN_TICKING, work_at < d->tick ? work_at : d->tick);
	}
}

static void *drain_main(void *arg)
{
	struct uz_defer *d = arg;
	bool ended = false;

	uz_thread_name("uz-drain");
	restart_timer(d);
	while (!ended) {
		struct due due = what_is_due(d);
		bool any = drain_what_is_due(d, &due);
		uint64_t work_at = do_other_work(d, due.stop);

		if (any)
			continue; /* more may have come while it was drained */
		ended = due.stop && work_at == UZ_DRAIN_NEVER;
		if (!ended)
			sleep_until_due(d, work_at, due.stop);
	}
	return NULL;
}

int uz_drain_start(struct uz_defer *d)
{
	int err = uz_thread_start(&d->thread, drain_main, d);

	if (err)
		return err;
	d->started = true;
	/* The work of the thread is never urgent, so it must not take the CPU of the thread that
	 * wakes it. If the kernel refuses that, no harm is done. We set it for the thread, since
	 * a thread of a jailed server may not do so itself. */
	pthread_setschedparam(d->thread, SCHED_BATCH, &(struct sched_param){0});
	return 0;
}

void uz_drain_stop(struct uz_defer *d)
{
	if (!d->started)
		return;
	atomic_store(&d->stop, true);
	uz_defer_wake(d);
	pthread_join(d->thread, NULL);
}

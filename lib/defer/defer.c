/* SPDX-License-Identifier: MIT
 *
 * The producers' side: buffers, push, flush.
 */
#include "defer/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/sized.h"

/* --- buffers ---
 * None is freed before the whole is: the drain thread may look at one that has left its producer
 * (push_full()). */

static struct buffer *buffer_new(void)
{
	struct buffer *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->page = aligned_alloc(UZ_DEFER_BUF_SIZE, UZ_DEFER_BUF_SIZE);
	if (!b->page) {
		free(b);
		return NULL;
	}
	memset(b->page, 0, UZ_DEFER_BUF_SIZE); /* no page fault later, on the path of a free */
	return b;
}

static void buffer_free(struct buffer *b)
{
	free(b->page);
	free(b);
}

/* Take a buffer out of the pool, unless that leaves fewer than keep. *ret_low: half of the pool's
 * buffers, or more, are in use. */
static struct buffer *take_spare(struct uz_defer *d, unsigned keep, bool *ret_low)
{
	struct buffer *b = NULL;

	uz_spin_lock(&d->lock);
	if (d->nspares > keep) {
		b = d->spares;
		d->spares = b->next;
		d->nspares--;
	}
	*ret_low = d->nspares <= d->spares_wanted / 2;
	uz_spin_unlock(&d->lock);
	return b;
}

static void queue_full(struct uz_defer *d, struct buffer *b)
{
	uz_spin_lock(&d->lock);
	b->next = d->full;
	d->full = b;
	uz_spin_unlock(&d->lock);
}

/* --- push --- */

static void count_up(_Atomic uint64_t *counter)
{
	/* One writer: no read-modify-write is needed. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* The buffer b is full, and value not in it if ret is UZ_PUSH_FULL. */
static bool push_full(struct uz_defer_producer *p, struct buffer *b, enum uz_push_ret ret,
		      uint64_t value)
{
	struct uz_defer *d = p->defer;
	bool low;
	struct buffer *spare = take_spare(d, 0, &low);

	if (!spare) {
		/* The drain thread works its way through full buffers, and through this one where
		 * it is. */
		uz_defer_wake(d);
		if (ret == UZ_PUSH_FULL_QUEUED)
			return true;
		count_up(&p->fallbacks);
		return false;
	}
	/* In this order a flush finds b in the one place or the other. That both may hold for a
	 * moment, even when b has been drained and has gone on to another producer, does no harm:
	 * only the drain thread reads it through them. */
	queue_full(d, b);
	UZ_CRASH(PUSH_FULL);
	atomic_store_explicit(&p->current, spare, memory_order_release);
	/* Unless the pool runs low the timer, which runs since the first value was pushed, is soon
	 * enough: a wake-up costs as much as the pushes of a whole buffer. */
	if (low)
		uz_defer_wake(d);
	return ret == UZ_PUSH_FULL_QUEUED || uz_defer_push(p, value);
}

bool uz_defer_push(struct uz_defer_producer *p, uint64_t value)
{
	struct buffer *b = atomic_load_explicit(&p->current, memory_order_relaxed);
	unsigned count = atomic_load_explicit(&b->count, memory_order_relaxed);
	enum uz_push_ret ret = p->defer->ops.push(b->page, count, value);

	if (ret == UZ_PUSH_FULL)
		return push_full(p, b, ret, value);
	count_up(&p->pushed); /* before it can be drained */
	atomic_store_explicit(&b->count, count + 1, memory_order_release);
	/* The store above and the load below must not swap. The drain thread, when it is about to
	 * sleep without a timer, makes every CPU of ours pass a full barrier (membarrier(2)), so
	 * that a compiler barrier is enough here. */
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&p->defer->state, memory_order_relaxed) == DRAIN_IDLE)
		uz_drain_wake(p->defer);
	return ret == UZ_PUSH_OK || push_full(p, b, ret, value);
}

/* --- flush --- */

/* deadline 0: none. */
static bool flush_until(struct uz_defer *d, uint64_t deadline)
{
	uint32_t ticket = atomic_fetch_add(&d->flush_requested, 1) + 1;

	uz_defer_wake(d);
	for (;;) {
		uint32_t done = atomic_load(&d->flush_done);
		uint64_t now = deadline ? uz_now_ns() : 0;

		if ((int32_t)(done - ticket) >= 0)
			return true;
		if (deadline && now >= deadline)
			return false;
		uz_futex_wait(&d->flush_done, done, deadline - now);
	}
}

void uz_defer_flush(struct uz_defer *d)
{
	flush_until(d, 0);
}

bool uz_defer_flush_within(struct uz_defer *d, unsigned ms)
{
	return flush_until(d, uz_now_ns() + ms * UZ_NSEC_PER_MSEC);
}

/* --- producers --- */

int uz_defer_producer_new(struct uz_defer *d, struct uz_defer_producer **ret)
{
	struct uz_defer_producer *p = aligned_alloc(64, sizeof(*p));
	struct buffer *b;
	bool low;

	if (!p)
		return -ENOMEM;
	/* First those that producers now gone have left in the pool. */
	b = take_spare(d, d->spares_wanted, &low);
	if (!b)
		b = buffer_new();
	if (!b) {
		free(p);
		return -ENOMEM;
	}
	memset(p, 0, sizeof(*p));
	p->defer = d;
	atomic_init(&p->current, b);

	pthread_mutex_lock(&d->walk_lock);
	uz_spin_lock(&d->list_lock);
	p->next = d->producers;
	if (p->next)
		p->next->prev = p;
	d->producers = p;
	d->nproducers++;
	uz_spin_unlock(&d->list_lock);
	pthread_mutex_unlock(&d->walk_lock);
	*ret = p;
	return 0;
}

void uz_defer_producer_free(struct uz_defer_producer *p)
{
	struct uz_defer *d;

	if (!p)
		return;
	d = p->defer;
	pthread_mutex_lock(&d->walk_lock);
	queue_full(d, atomic_load_explicit(&p->current, memory_order_relaxed));
	uz_spin_lock(&d->list_lock);
	if (p->prev)
		p->prev->next = p->next;
	else
		d->producers = p->next;
	if (p->next)
		p->next->prev = p->prev;
	d->nproducers--;
	d->pushed_by_freed += atomic_load_explicit(&p->pushed, memory_order_relaxed);
	d->fallbacks_of_freed += atomic_load_explicit(&p->fallbacks, memory_order_relaxed);
	uz_spin_unlock(&d->list_lock);
	pthread_mutex_unlock(&d->walk_lock);
	uz_defer_wake(d);
	free(p);
}

/* --- the whole --- */

static void free_list(struct buffer *b)
{
	while (b) {
		struct buffer *next = b->next;

		buffer_free(b);
		b = next;
	}
}

/* Take over what a program has given. */
static int take_defer_config(struct uz_defer *d, const struct uz_defer_config *given)
{
	struct uz_defer_config config;
	int err = uz_sized_take(&config, sizeof(config), given);

	if (err)
		return err;
	if (!config.ops || !config.spares || !config.max_age_ms)
		return -EINVAL;
	err = uz_sized_take(&d->ops, sizeof(d->ops), config.ops);
	if (err)
		return err;
	d->context = config.context;
	d->spares_wanted = config.spares;
	d->max_age_ns = config.max_age_ms * UZ_NSEC_PER_MSEC;
	return d->ops.push && d->ops.drain ? 0 : -EINVAL;
}

static int fill_pool(struct uz_defer *d)
{
	while (d->nspares < d->spares_wanted) {
		struct buffer *b = buffer_new();

		if (!b)
			return -ENOMEM;
		b->next = d->spares;
		d->spares = b;
		d->nspares++;
	}
	return 0;
}

int uz_defer_prepare(const struct uz_defer_config *config, struct uz_defer **ret)
{
	struct uz_defer *d = aligned_alloc(64, sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	memset(d, 0, sizeof(*d));
	err = take_defer_config(d, config);
	if (!err)
		err = uz_drain_sleep_init(d);
	if (err) {
		free(d);
		return err;
	}
	pthread_mutex_init(&d->walk_lock, NULL);
	err = fill_pool(d);
	if (err) {
		uz_defer_free(d);
		return err;
	}
	*ret = d;
	return 0;
}

int uz_defer_start(struct uz_defer *d, uz_drain_work *work, void *context)
{
	d->work = work;
	d->work_context = context;
	return uz_drain_start(d);
}

int uz_defer_new(const struct uz_defer_config *config, struct uz_defer **ret)
{
	struct uz_defer *d;
	int err = uz_defer_prepare(config, &d);

	if (err)
		return err;
	err = uz_defer_start(d, NULL, NULL);
	if (err) {
		uz_defer_free(d);
		return err;
	}
	*ret = d;
	return 0;
}

void uz_defer_free(struct uz_defer *d)
{
	if (!d)
		return;
	assert(!d->producers);
	uz_drain_stop(d);
	uz_drain_sleep_done(d);
	free_list(d->spares);
	pthread_mutex_destroy(&d->walk_lock);
	free(d);
}

int uz_defer_event_fd(const struct uz_defer *d)
{
	return d->wake_fd;
}

void uz_defer_kick(struct uz_defer *d)
{
	atomic_store(&d->kicked, true);
	uz_defer_wake(d);
}

void uz_defer_get_stat(struct uz_defer *d, struct uz_defer_stat *ret)
{
	struct uz_defer_stat st = {
		/* Before pushed is added up, so that drained <= pushed holds for a reader too. */
		.drained = atomic_load(&d->drained),
		.runs = atomic_load(&d->runs),
	};

	uz_spin_lock(&d->list_lock);
	st.pushed = d->pushed_by_freed;
	st.fallbacks = d->fallbacks_of_freed;
	st.producers = d->nproducers;
	for (const struct uz_defer_producer *p = d->producers; p; p = p->next) {
		st.pushed += atomic_load_explicit(&p->pushed, memory_order_relaxed);
		st.fallbacks += atomic_load_explicit(&p->fallbacks, memory_order_relaxed);
	}
	uz_spin_unlock(&d->list_lock);
	uz_spin_lock(&d->lock);
	st.spares = d->nspares;
	uz_spin_unlock(&d->lock);
	uz_sized_give(ret, &st, sizeof(st));
}

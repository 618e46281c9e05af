/* SPDX-License-Identifier: MIT
 *
 * The producers' side: buffers, push, flush; and the life of the whole.
 */
#include "defer/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/sized.h"

/* --- buffers --- */

/* No buffer is freed before the whole is: the drain thread may look at one that has left its
 * producer (push_full()). */

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
	memset(b->page, 0, UZ_DEFER_BUF_SIZE); /* so that no push has a page fault */
	return b;
}

static void buffer_free(struct buffer *b)
{
	free(b->page);
	free(b);
}

/* Take a buffer out of the pool, unless that would leave fewer than keep. *ret_low: half of the
 * pool's buffers, or more, are in use. */
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
	/* There is one writer, so this needs no atomic read-modify-write. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* The buffer b is full. value is in it, unless ret is UZ_PUSH_FULL. Returns whether value has
 * been, or will be, drained. */
static bool push_full(struct uz_defer_producer *p, struct buffer *b, enum uz_push_ret ret,
		      uint64_t value)
{
	struct uz_defer *d = p->defer;
	bool low;
	struct buffer *spare = take_spare(d, 0, &low);

	if (!spare) {
		/* There is no spare buffer. This one stays the current one; the drain thread
		 * empties the full ones, and this one where it is, and the next push tries the
		 * exchange again. */
		uz_defer_wake(d);
		if (ret == UZ_PUSH_FULL_QUEUED)
			return true;
		count_up(&p->fallbacks);
		return false;
	}
	/* Queue b before `current` is switched: the drain thread looks at `current` first and at
	 * the queue second, and so finds b in at least one of the two. That both may have it for
	 * a moment does no harm, even when b has been drained and has been given to another
	 * producer: only the drain thread reads it through them. The release pairs with the
	 * acquires of the drain thread, which then see an empty buffer. */
	queue_full(d, b);
	UZ_CRASH(PUSH_FULL);
	atomic_store_explicit(&p->current, spare, memory_order_release);
	/* The drain thread has had its timer since the first value was pushed (DRAIN_TICKING),
	 * and that is soon enough, unless the pool runs low. A wake-up costs as much as the
	 * pushes of a whole buffer. */
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
	count_up(&p->pushed); /* before the value can be drained: pushed >= drained */
	/* Pairs with the acquire in drain_buffer(): the drain thread sees the value. */
	atomic_store_explicit(&b->count, count + 1, memory_order_release);
	/* The store above must not move behind the load below. A compiler barrier is enough
	 * here: before the drain thread sleeps in DRAIN_IDLE it calls membarrier(2), see
	 * sleep.c. */
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&p->defer->state, memory_order_relaxed) == DRAIN_IDLE)
		uz_drain_wake(p->defer);
	return ret == UZ_PUSH_OK || push_full(p, b, ret, value);
}

/* --- flush --- */

/* Wait for a ticket of our own to be served. deadline 0: there is none. */
static bool flush_until(struct uz_defer *d, uint64_t deadline)
{
	/* Pairs with what_is_due(), or with work_is_pending() through uz_defer_wake(). */
	uint32_t ticket = atomic_fetch_add(&d->flush_requested, 1) + 1;

	uz_defer_wake(d);
	for (;;) {
		/* Pairs with the store in answer_flush(). */
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
	/* First use the buffers that freed producers have left in the pool. */
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

/* Take over the configuration that a program has given. */
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
		/* Read before pushed is added up, so that drained <= pushed holds. Pairs with
		 * the release in drain_buffer(). */
		.drained = atomic_load(&d->drained),
		.runs = atomic_load_explicit(&d->runs, memory_order_relaxed),
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

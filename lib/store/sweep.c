/* SPDX-License-Identifier: MIT
 *
 * The sweeper: walks of the whole slot table while everything is served; and the thread that does
 * so by itself. It sleeps until so much has been freed that a walk may be worth it, and has no
 * timer while nothing is.
 */
#include <string.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/thread.h"
#include "store/internal.h"

/* A walk is worth it from a 64th of the pool's pages that it can free, and not for less than
 * SLACK_MIN. */
#define SLACK_SHARE 64
#define SLACK_MIN   (UINT64_C(256) << 10)
/* The thread rests so many times what it worked: it takes a fifth of a CPU at most. */
#define REST 4

/* Move the slot's object out of a victim zspage. */
static void move_object(struct uz_store *s, uint64_t slot)
{
	uz_entry e = uz_slot_lock(s, slot);
	uint64_t from = uz_entry_off(e), to;

	if (!uz_entry_has_object(e) || !uz_entry_sound(e) || !uz_pool_is_victim(s->pool, from) ||
	    uz_pool_alloc_dense(s->pool, from, &to)) {
		uz_slot_unlock(s, slot, e);
		return;
	}
	memcpy(uz_arena_ptr(s->config.arena, to), uz_arena_ptr(s->config.arena, from),
	       uz_entry_size(e));
	UZ_CRASH(COMPACT_COPIED);
	uz_slot_unlock(s, slot, uz_entry_moved(e, to));
	UZ_CRASH(COMPACT_PUBLISHED);
	uz_pool_release(s->pool, from);
	atomic_fetch_add_explicit(&s->moved_bytes, uz_entry_size(e), memory_order_relaxed);
}

static void empty_victims(struct uz_store *s)
{
	for (uint64_t slot = 0; slot < s->nslots && !atomic_load(&s->sweep_stop); slot++) {
		uz_entry e = atomic_load_explicit(&s->table[slot], memory_order_relaxed) &
			     ~UZ_ENTRY_LOCK;

		/* A guess without the lock, that holds for nearly all. */
		if (uz_entry_has_object(e) && uz_pool_is_victim(s->pool, uz_entry_off(e)))
			move_object(s, slot);
	}
}

uint64_t uz_store_compact(struct uz_store *s)
{
	uint64_t total = 0, freed;

	uz_store_flush(s);
	pthread_mutex_lock(&s->sweep_lock);
	do {
		freed = 0;
		if (uz_pool_compact_begin(s->pool)) {
			empty_victims(s);
			freed = uz_pool_compact_end(s->pool);
		}
		total += freed;
	} while (freed);
	pthread_mutex_unlock(&s->sweep_lock);
	return total;
}

/* --- the thread --- */

static uint64_t worth_bytes(const struct uz_pool_stat *st)
{
	uint64_t share = (st->pages << UZ_PAGE_SHIFT) / SLACK_SHARE;

	return share > SLACK_MIN ? share : SLACK_MIN;
}

/* Whether a walk is worth it now; if not, sets when to look again. */
static bool must_sweep(struct uz_store *s)
{
	struct uz_pool_stat st;

	uz_pool_stat(s->pool, &st);
	if (st.slack_pages << UZ_PAGE_SHIFT >= worth_bytes(&st))
		return true;
	atomic_store(&s->sweep_at, atomic_load(&s->freed_bytes) + worth_bytes(&st) -
					   (st.slack_pages << UZ_PAGE_SHIFT));
	return false;
}

/* CPU time of this thread. */
static uint64_t worked_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * UZ_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void *sweeper_main(void *arg)
{
	struct uz_store *s = arg;

	uz_thread_name("uz-sweep");
	while (!atomic_load(&s->sweep_stop)) {
		uint32_t kick = atomic_load(&s->sweep_kick);
		uint64_t rest_ns = 0;

		if (kick && must_sweep(s)) {
			uint64_t start = worked_ns();

			uz_store_compact(s);
			rest_ns = (worked_ns() - start) * REST + UZ_NSEC_PER_MSEC;
		}
		if (!atomic_load(&s->sweep_stop))
			uz_futex_wait(&s->sweep_kick, kick, rest_ns);
	}
	return NULL;
}

int uz_sweeper_start(struct uz_store *s)
{
	int err;

	atomic_store(&s->sweep_stop, false);
	err = uz_thread_start(&s->sweeper, sweeper_main, s);
	s->sweeper_running = !err;
	return err;
}

void uz_sweeper_kick(struct uz_store *s)
{
	atomic_fetch_add(&s->sweep_kick, 1);
	uz_futex_wake(&s->sweep_kick, 1);
}

void uz_sweeper_stop(struct uz_store *s)
{
	if (!s->sweeper_running)
		return;
	atomic_store(&s->sweep_stop, true);
	uz_sweeper_kick(s);
	pthread_join(s->sweeper, NULL);
	s->sweeper_running = false;
}

void uz_sweeper_freed(struct uz_store *s, uint64_t bytes)
{
	uint64_t freed = atomic_fetch_add_explicit(&s->freed_bytes, bytes, memory_order_relaxed);

	if (freed + bytes < atomic_load_explicit(&s->sweep_at, memory_order_relaxed))
		return;
	atomic_store_explicit(&s->sweep_at, UINT64_MAX, memory_order_relaxed);
	uz_sweeper_kick(s);
}

/* SPDX-License-Identifier: MIT
 *
 * The sweeper walks the whole slot table while everything is served, and moves objects together.
 * A thread does so by itself. It sleeps until so much has been freed that a walk may be
 * worthwhile, and has no timer while that is not so.
 */
#include <string.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/thread.h"
#include "store/internal.h"

/* A walk is worthwhile when it can free an eighth of the pool's pages: ongoing writes soon fill
 * less than that again. When hardly anything has been freed for a second, a 64th is enough. Less
 * than SLACK_MIN never is. */
#define SLACK_BUSY  8
#define SLACK_QUIET 64
#define SLACK_MIN   (UINT64_C(256) << 10)
#define QUIET_NS    UZ_NSEC_PER_SEC
/* After its work the thread rests for REST times as long, and for REST_MIN_NS. So it takes a
 * fifth of a CPU at most, and little where a small store is overwritten again and again. */
#define REST	    4
#define REST_MIN_NS (100 * UZ_NSEC_PER_MSEC)

/* Move the slot's object out of a victim zspage, if it is in one. */
static void move_object(struct uz_store *s, uint64_t slot)
{
	uint64_t from, to;
	uz_entry e;

	if (uz_slot_lock(s, slot, &e))
		return;
	from = uz_entry_off(e);
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
	for (uint64_t slot = 0; slot < s->nslots && !uz_helper_stopping(&s->sweeper); slot++) {
		uz_entry e = atomic_load_explicit(&s->table[slot], memory_order_relaxed) &
			     ~UZ_ENTRY_LOCK;

		/* A guess, without the lock. It is right for nearly all. */
		if (uz_entry_has_object(e) && uz_pool_is_victim(s->pool, uz_entry_off(e)))
			move_object(s, slot);
	}
}

/* One round. Returns how many pages it has freed. */
static uint64_t compact_some(struct uz_store *s)
{
	if (!uz_pool_compact_begin(s->pool))
		return 0;
	empty_victims(s);
	return uz_pool_compact_end(s->pool);
}

/* A round takes only so many victims of a class, and other threads free objects meanwhile. So
 * there are more rounds, as long as each frees at least half of what the first one did. What
 * others free out of victims counts, too, so that this alone would be no bound:
 * UZ_COMPACT_ROUNDS is. */
static uint64_t compact(struct uz_store *s)
{
	uint64_t first, freed, total;

	pthread_mutex_lock(&s->sweep_lock);
	first = freed = total = compact_some(s);
	for (unsigned i = 1; i < UZ_COMPACT_ROUNDS && freed && freed >= first / 2; i++) {
		if (uz_helper_stopping(&s->sweeper))
			break;
		freed = compact_some(s);
		total += freed;
	}
	pthread_mutex_unlock(&s->sweep_lock);
	return total;
}

uint64_t uz_store_compact(struct uz_store *s)
{
	uz_defer_flush(s->defer);
	return compact(s);
}

/* --- the thread --- */

static uint64_t worth_bytes(const struct uz_pool_stat *st, unsigned share)
{
	uint64_t bytes = (st->pages << UZ_PAGE_SHIFT) / share;

	return bytes > SLACK_MIN ? bytes : SLACK_MIN;
}

/* The CPU time of this thread. */
static uint64_t worked_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * UZ_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Have uz_sweeper_freed() kick us when freed_bytes reaches at. Returns for how long to sleep:
 * sleep_ns, or hardly at all if that has happened by now. */
static uint64_t sweep_when_freed(struct uz_store *s, uint64_t at, uint64_t sleep_ns)
{
	/* Pairs with uz_sweeper_freed(), which adds to freed_bytes first and reads sweep_at
	 * second. All four are sequentially consistent: at least one side sees the other's
	 * write. */
	atomic_store(&s->sweep_at, at);
	return atomic_load(&s->freed_bytes) >= at ? 1 : sleep_ns;
}

/* Compact if that is worthwhile. Returns for how long to sleep; 0: until uz_sweeper_freed()
 * kicks. *quiet_since is the freed_bytes at which we began to wait for a quiet second. */
static uint64_t compact_if_worth_it(struct uz_store *s, uint64_t *quiet_since)
{
	uint64_t freed = atomic_load(&s->freed_bytes), quiet, busy, slack, start;
	struct uz_pool_stat st;

	uz_pool_stat(s->pool, &st);
	slack = st.slack_pages << UZ_PAGE_SHIFT;
	quiet = worth_bytes(&st, SLACK_QUIET);
	busy = worth_bytes(&st, SLACK_BUSY);
	if (slack < quiet)
		return sweep_when_freed(s, freed + quiet - slack, 0);
	if (slack < busy && freed - *quiet_since > quiet) {
		*quiet_since = freed;
		return sweep_when_freed(s, freed + busy - slack, QUIET_NS);
	}
	start = worked_ns();
	/* What can't be moved, as a damaged entry names it, is not tried again and again. */
	if (!compact(s))
		return sweep_when_freed(s, freed + quiet, 0);
	return (worked_ns() - start) * REST + REST_MIN_NS;
}

static void *sweeper_main(void *arg)
{
	struct uz_store *s = arg;
	uint64_t quiet_since = 0;

	uz_thread_name("uz-sweep");
	uz_helper_await_release(&s->sweeper);
	if (!uz_helper_stopping(&s->sweeper))
		uz_arena_prepare_tables(s->config.arena);
	while (!uz_helper_stopping(&s->sweeper)) {
		uint32_t kicks = uz_helper_kicks(&s->sweeper);
		uint64_t sleep_ns = compact_if_worth_it(s, &quiet_since);

		uz_helper_sleep(&s->sweeper, kicks, sleep_ns);
	}
	return NULL;
}

int uz_sweeper_start(struct uz_store *s)
{
	return uz_helper_start(&s->sweeper, sweeper_main, s);
}

void uz_sweeper_freed(struct uz_store *s, uint64_t bytes)
{
	uint64_t freed = atomic_fetch_add(&s->freed_bytes, bytes) + bytes;

	/* Pairs with sweep_when_freed(). */
	if (freed < atomic_load(&s->sweep_at))
		return;
	/* One kick is enough. The sweeper sets it anew, before it sleeps. */
	atomic_store(&s->sweep_at, UINT64_MAX);
	uz_helper_kick(&s->sweeper);
}

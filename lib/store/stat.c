/* SPDX-License-Identifier: MIT
 *
 * Counters, and the statistics that are made of them.
 */
#include "base/sized.h"
#include "store/internal.h"

void uz_count_all(struct counters *sum, const struct counters *c)
{
	for (unsigned i = 0; i < N_COUNTERS; i++)
		count(sum, i, atomic_load_explicit(&c->n[i], memory_order_relaxed));
}

static uint64_t sum(const struct counters *c, enum counter i)
{
	int64_t n = atomic_load_explicit(&c->n[i], memory_order_relaxed);

	/* Workers are not read at one instant: a page may be seen to leave before it is seen to
	 * come. */
	return n > 0 ? (uint64_t)n : 0;
}

static void add_up(struct uz_store *s, struct counters *all)
{
	uz_spin_lock(&s->list_lock);
	uz_count_all(all, &s->unowned_counters);
	for (const struct uz_worker *w = s->workers; w; w = w->next)
		uz_count_all(all, &w->counters);
	uz_spin_unlock(&s->list_lock);
}

static uint64_t pending_bytes(const struct counters *all, uint64_t drained)
{
	uint64_t pushed = sum(all, N_PUSHED_BYTES);

	return pushed > drained ? pushed - drained : 0;
}

uint64_t uz_store_pending_bytes(struct uz_store *s)
{
	/* Read first, so that what is pending is never less than nothing. */
	uint64_t drained = atomic_load_explicit(&s->drained_bytes, memory_order_relaxed);
	struct counters all = {0};

	add_up(s, &all);
	return pending_bytes(&all, drained);
}

uint64_t uz_store_pages_stored(struct uz_store *s)
{
	struct counters all = {0};

	add_up(s, &all);
	return sum(&all, N_PAGES);
}

static void stat_defer(struct uz_store *s, uint64_t drained_bytes, const struct counters *all,
		       struct uz_store_stat *st)
{
	struct uz_defer_stat defer;

	uz_defer_stat(s->defer, &defer);
	st->defer_pushed = defer.pushed;
	st->defer_drained = defer.drained;
	st->defer_fallbacks = defer.fallbacks;
	st->defer_runs = defer.runs;
	st->defer_spares = defer.spares;
	st->defer_pending_bytes = pending_bytes(all, drained_bytes);
}

static void stat_memory(struct uz_store *s, struct uz_store_stat *st)
{
	struct uz_arena_stat arena;
	struct uz_pool_stat pool;

	uz_arena_stat(s->config.arena, &arena);
	uz_pool_stat(s->pool, &pool);
	st->mem_used = arena.used_pages << UZ_PAGE_SHIFT;
	st->mem_used_max = arena.used_max << UZ_PAGE_SHIFT;
	st->mem_limit = arena.limit;
	st->mem_ready = arena.ready_pages << UZ_PAGE_SHIFT;
	st->table_bytes = arena.table_bytes;
	st->meta_bytes = arena.meta_bytes;
	st->reserve_dry = arena.dry;
	st->reserve_self = arena.self;
	st->pages_compacted = pool.pages_compacted;
	st->moved_bytes = atomic_load_explicit(&s->moved_bytes, memory_order_relaxed);
}

void uz_store_get_stat(struct uz_store *s, struct uz_store_stat *ret)
{
	uint64_t drained_bytes = /* first: see uz_store_pending_bytes() */
		atomic_load_explicit(&s->drained_bytes, memory_order_relaxed);
	struct counters all = {0};
	struct uz_store_stat st = {0};

	add_up(s, &all);
	st.pages_stored = sum(&all, N_PAGES);
	st.compr_bytes = sum(&all, N_COMPR_BYTES);
	st.same_pages = sum(&all, N_SAME);
	st.huge_pages = sum(&all, N_HUGE);
	st.huge_pages_since = sum(&all, N_HUGE_SINCE);
	st.reads = sum(&all, N_READS);
	st.writes = sum(&all, N_WRITES);
	st.failed_reads = sum(&all, N_FAILED_READS);
	st.failed_writes = sum(&all, N_FAILED_WRITES);
	st.failed_limit = sum(&all, N_FAILED_LIMIT);
	st.failed_memory = sum(&all, N_FAILED_MEMORY);
	st.invalid_io = sum(&all, N_INVALID);
	st.notify_free = sum(&all, N_NOTIFY_FREE);
	st.corrupt =
		sum(&all, N_CORRUPT) + atomic_load_explicit(&s->bad_frees, memory_order_relaxed);
	stat_defer(s, drained_bytes, &all, &st);
	stat_memory(s, &st);
	uz_sized_give(ret, &st, sizeof(st));
}

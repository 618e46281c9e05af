/* SPDX-License-Identifier: MIT
 *
 * The life of a store and its workers; settings and statistics.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

static void on_surplus(void *context)
{
	struct uz_store *s = context;

	uz_defer_kick(s->defer);
}

static int prepare(struct uz_store *s)
{
	struct uz_defer_config defer = {
		.ops = &uz_store_defer_ops,
		.context = s,
		.spares = s->config.defer_spares,
		.max_age_ms = s->config.defer_age_ms,
		.arena = s->config.arena,
	};
	int err = uz_pool_new(s->config.arena, &s->pool);

	if (err)
		return err;
	s->max_len = uz_pool_huge_size(s->pool) - 1 - UZ_SUM_SIZE;
	err = uz_defer_new(&defer, &s->defer);
	if (!err)
		err = uz_arena_prepare(s->config.arena);
	return err || !s->config.compact ? err : uz_sweeper_start(s);
}

int uz_store_prepare(const struct uz_store_config *config, struct uz_store **ret)
{
	const struct uz_codec_info *info = uz_codec_info(config->codec);
	struct uz_store *s;
	int err;

	if (!info || config->level < info->level_min || config->level > info->level_max)
		return -EINVAL;
	s = aligned_alloc(64, (sizeof(*s) + 63) & ~(size_t)63);
	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	s->config = *config;
	s->table = uz_arena_table(config->arena);
	s->nslots = uz_arena_nslots(config->arena);
	pthread_mutex_init(&s->sweep_lock, NULL);
	err = prepare(s);
	if (err) {
		uz_store_free(s);
		return err;
	}
	*ret = s;
	return 0;
}

void uz_store_warm(struct uz_store *s)
{
	uz_arena_warm(s->config.arena);
}

int uz_store_start(struct uz_store *s, bool wait)
{
	int err = uz_store_recover(s);

	if (err)
		return err;
	uz_store_set_limit(s, s->config.mem_limit);
	uz_arena_set_populators(s->config.arena, s->config.populators);
	err = uz_arena_start(s->config.arena, s->config.reserve, wait, on_surplus, s);
	if (!err)
		uz_sweeper_kick(s);
	return err;
}

int uz_store_new(const struct uz_store_config *config, struct uz_store **ret)
{
	struct uz_store *s;
	int err = uz_store_prepare(config, &s);

	if (err)
		return err;
	err = uz_store_start(s, true);
	if (err) {
		uz_store_free(s);
		return err;
	}
	*ret = s;
	return 0;
}

void uz_store_free(struct uz_store *s)
{
	if (!s)
		return;
	assert(!s->workers);
	uz_sweeper_stop(s);
	uz_arena_stop(s->config.arena); /* first: the refill thread tells s->defer of surplus */
	uz_defer_free(s->defer);
	uz_pool_free(s->pool);
	pthread_mutex_destroy(&s->sweep_lock);
	free(s);
}

int uz_worker_new(struct uz_store *s, struct uz_worker **ret)
{
	struct uz_worker *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
	int err;

	if (!w)
		return -ENOMEM;
	memset(w, 0, sizeof(*w)); /* touches the buffers */
	w->store = s;
	err = uz_codec_ctx_new(s->config.codec, s->config.level, &w->codec);
	if (!err)
		err = uz_defer_producer_new(s->defer, &w->producer);
	if (err) {
		uz_codec_ctx_free(w->codec);
		free(w);
		return err;
	}
	uz_spin_lock(&s->list_lock);
	w->next = s->workers;
	if (w->next)
		w->next->prev = w;
	s->workers = w;
	uz_spin_unlock(&s->list_lock);
	*ret = w;
	return 0;
}

static void add_counters(struct counters *sum, const struct counters *c)
{
	for (unsigned i = 0; i < N_COUNTERS; i++)
		count(sum, i, atomic_load_explicit(&c->n[i], memory_order_relaxed));
}

void uz_worker_free(struct uz_worker *w)
{
	struct uz_store *s;

	if (!w)
		return;
	s = w->store;
	uz_spin_lock(&s->list_lock);
	if (w->prev)
		w->prev->next = w->next;
	else
		s->workers = w->next;
	if (w->next)
		w->next->prev = w->prev;
	add_counters(&s->gone, &w->counters);
	uz_spin_unlock(&s->list_lock);
	uz_defer_producer_free(w->producer);
	uz_codec_ctx_free(w->codec);
	free(w);
}

void uz_store_flush(struct uz_store *s)
{
	uz_defer_flush(s->defer);
}

void uz_store_set_limit(struct uz_store *s, uint64_t bytes)
{
	atomic_store(&s->mem_limit, bytes);
	uz_arena_set_limit(s->config.arena, bytes);
}

void uz_store_reset_max(struct uz_store *s)
{
	uz_arena_reset_max(s->config.arena);
}

unsigned uz_store_populating(const struct uz_store *s)
{
	return uz_arena_populating(s->config.arena);
}

enum uz_codec uz_store_codec(const struct uz_store *s)
{
	return s->config.codec;
}

uint64_t uz_store_disksize(const struct uz_store *s)
{
	return s->nslots << UZ_PAGE_SHIFT;
}

static uint64_t sum(const struct counters *c, enum counter i)
{
	int64_t n = atomic_load_explicit(&c->n[i], memory_order_relaxed);

	/* Workers are not read at one instant: a page may be seen to go before it is seen to come.
	 */
	return n > 0 ? (uint64_t)n : 0;
}

static void add_up(struct uz_store *s, struct counters *all)
{
	uz_spin_lock(&s->list_lock);
	add_counters(all, &s->gone);
	for (const struct uz_worker *w = s->workers; w; w = w->next)
		add_counters(all, &w->counters);
	uz_spin_unlock(&s->list_lock);
}

static uint64_t pending_bytes(const struct counters *all, uint64_t drained)
{
	uint64_t pushed = sum(all, N_PUSHED_BYTES);

	return pushed > drained ? pushed - drained : 0;
}

uint64_t uz_store_pending_bytes(struct uz_store *s)
{
	/* First, so that what is pending is never less than nothing. */
	uint64_t drained = atomic_load_explicit(&s->drained_bytes, memory_order_relaxed);
	struct counters all = {0};

	add_up(s, &all);
	return pending_bytes(&all, drained);
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
	st->mem_limit = atomic_load(&s->mem_limit);
	st->mem_ready = arena.ready_pages << UZ_PAGE_SHIFT;
	st->table_bytes = arena.table_bytes;
	st->meta_bytes = arena.meta_bytes;
	st->reserve_dry = arena.dry;
	st->reserve_self = arena.self;
	st->pages_compacted = pool.pages_compacted;
	st->moved_bytes = atomic_load_explicit(&s->moved_bytes, memory_order_relaxed);
}

void uz_store_stat(struct uz_store *s, struct uz_store_stat *ret)
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
	*ret = st;
}

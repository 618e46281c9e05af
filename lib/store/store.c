/* SPDX-License-Identifier: MIT
 *
 * The life of a store and its workers; settings.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sized.h"
#include "store/internal.h"

static void on_surplus(void *context)
{
	struct uz_store *s = context;

	uz_punch_request(&s->punch);
	uz_defer_kick(s->defer);
}

/* The drain thread also gives the arena's surplus back to the kernel. */
static int prepare_defer(struct uz_store *s)
{
	const struct uz_defer_config config = {
		.size = sizeof(config),
		.ops = &uz_store_defer_ops,
		.context = s,
		.spares = s->config.defer_spares,
		.max_age_ms = s->config.defer_age_ms,
	};
	int err = uz_defer_prepare(&config, &s->defer);

	if (!err)
		err = uz_punch_init(&s->punch, s->config.arena, uz_defer_event_fd(s->defer));
	return err ? err : uz_defer_start(s->defer, uz_punch_work, &s->punch);
}

static int prepare(struct uz_store *s)
{
	int err = uz_pool_new(s->config.arena, &s->pool);

	if (err)
		return err;
	uz_store_set_limit(s, s->config.mem_limit);
	s->max_encoded = uz_pool_huge_size(s->pool) - 1 - UZ_SUM_SIZE;
	err = prepare_defer(s);
	if (!err)
		err = uz_arena_prepare(s->config.arena);
	return err || !s->config.compact ? err : uz_sweeper_start(s);
}

/* Take over the configuration that a program has given. */
static int take_store_config(struct uz_store *s, const struct uz_store_config *given)
{
	const struct uz_codec_info *info;
	int err = uz_sized_take(&s->config, sizeof(s->config), given);

	if (err)
		return err;
	info = uz_codec_info(s->config.codec);
	if (!s->config.arena || !info || s->config.level < info->level_min ||
	    s->config.level > info->level_max)
		return -EINVAL;
	return 0;
}

int uz_store_prepare(const struct uz_store_config *config, struct uz_store **ret)
{
	struct uz_store *s = aligned_alloc(64, (sizeof(*s) + 63) & ~(size_t)63);
	int err;

	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	err = take_store_config(s, config);
	if (err) {
		free(s);
		return err;
	}
	s->table = uz_arena_table(s->config.arena);
	s->nslots = uz_arena_nslots(s->config.arena);
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
	uz_arena_set_populators(s->config.arena, s->config.populators);
	err = uz_arena_start(s->config.arena, s->config.reserve, wait, on_surplus, s);
	if (!err)
		uz_helper_release(&s->sweeper);
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
	uz_helper_stop(&s->sweeper);
	/* The refill thread tells s->defer of surplus, and the drain thread uses s->punch. */
	uz_arena_stop(s->config.arena);
	uz_defer_free(s->defer);
	uz_punch_done(&s->punch);
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
	memset(w, 0, sizeof(*w)); /* and so populates the buffers */
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
	uz_count_all(&s->unowned_counters, &w->counters);
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

/* SPDX-License-Identifier: MIT
 *
 * What happens to an entry that has left the slot table: it is counted, and its object is freed,
 * in most cases later and by the drain thread.
 */
#include <string.h>

#include "base/crash.h"
#include "store/internal.h"

void uz_count_entry(struct counters *c, uz_entry e, int by)
{
	unsigned codec = uz_entry_codec(e);

	if (!e)
		return;
	count(c, N_PAGES, by);
	if (codec == UZ_CODEC_SAME)
		count(c, N_SAME, by);
	if (codec == UZ_CODEC_RAW)
		count(c, N_HUGE, by);
	if (codec != UZ_CODEC_SAME && uz_entry_has_object(e))
		count(c, N_COMPR_BYTES, by * (int64_t)uz_entry_len(e));
}

void uz_dispose(struct uz_worker *w, uz_entry e)
{
	uz_count_entry(&w->counters, e, -1);
	if (!uz_entry_has_object(e))
		return;
	/* Damaged: what it names may be the object of another slot. Do not free that. */
	if (!uz_entry_sound(e)) {
		count(&w->counters, N_CORRUPT, 1);
		return;
	}
	if (w->store->config.deferred && uz_defer_push(w->producer, e)) {
		UZ_CRASH(PUSHED);
		count(&w->counters, N_PUSHED_BYTES, (int64_t)uz_entry_len(e));
	} else if (uz_pool_release(w->store->pool, uz_entry_off(e))) {
		count(&w->counters, N_CORRUPT, 1);
	} else {
		uz_sweeper_freed(w->store, uz_entry_len(e));
	}
}

/* --- the deferred free's callbacks --- */

static enum uz_push_ret push_entry(void *buf, unsigned n, uint64_t value)
{
	if (n == UZ_DEFER_BUF_SIZE / sizeof(value))
		return UZ_PUSH_FULL;
	((uint64_t *)buf)[n] = value;
	return UZ_PUSH_OK;
}

/* A counting sort by class, so that the objects of each class are freed in one run. */
static void sort_by_class(struct drain_batch *batch)
{
	memset(batch->start, 0, sizeof(batch->start));
	for (unsigned i = 0; i < batch->count; i++)
		batch->start[batch->cls[i] + 1]++;
	for (unsigned cls = 0; cls < UZ_POOL_CLASSES; cls++)
		batch->start[cls + 1] += batch->start[cls];
	/* As offsets are placed, each start moves to the end of its run. */
	for (unsigned i = 0; i < batch->count; i++)
		batch->sorted[batch->start[batch->cls[i]]++] = batch->offs[i];
}

static void free_batch(void *context)
{
	struct uz_store *s = context;
	struct drain_batch *batch = &s->batch;
	uint64_t bad = 0;
	unsigned from = 0;

	sort_by_class(batch);
	for (unsigned cls = 0; from < batch->count; cls++) {
		unsigned to = batch->start[cls];

		if (to > from) {
			bad += uz_pool_release_run(s->pool, cls, batch->sorted + from, to - from);
			UZ_CRASH(DRAIN_RUN);
		}
		from = to;
	}
	atomic_fetch_add_explicit(&s->drained_bytes, batch->bytes, memory_order_relaxed);
	uz_sweeper_freed(s, batch->bytes);
	atomic_fetch_add_explicit(&s->bad_frees, bad, memory_order_relaxed);
	batch->count = 0;
	batch->bytes = 0;
}

static void drain_entries(void *context, const void *buf, unsigned first, unsigned n)
{
	struct uz_store *s = context;
	struct drain_batch *batch = &s->batch;
	const uz_entry *entries = (const uz_entry *)buf + first;

	if (batch->count + n > DRAIN_BATCH)
		free_batch(s);
	for (unsigned i = 0; i < n; i++) {
		batch->offs[batch->count] = uz_entry_off(entries[i]);
		batch->cls[batch->count++] = (uint8_t)uz_pool_class_number(
			s->pool, uz_entry_off(entries[i]), uz_entry_size(entries[i]));
		batch->bytes += uz_entry_len(entries[i]);
	}
}

const struct uz_defer_ops uz_store_defer_ops = {
	.size = sizeof(uz_store_defer_ops),
	.push = push_entry,
	.drain = drain_entries,
	.finish = free_batch,
};

/* SPDX-License-Identifier: MIT
 *
 * The sweeper: walks of the whole slot table while everything is served.
 */
#include <string.h>

#include "base/crash.h"
#include "store/internal.h"

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
}

static void empty_victims(struct uz_store *s)
{
	for (uint64_t slot = 0; slot < s->nslots; slot++) {
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

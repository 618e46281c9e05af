/* SPDX-License-Identifier: MIT
 *
 * Compaction: which zspages to empty. The store's sweeper moves the objects, since only the
 * store knows, from the slot table, where they are named.
 */
#include "pool/internal.h"

/* This bounds for how long the class's lock is held, some 50 µs, as a writer may be waiting for
 * it. Where there is more to do, a compaction takes more than one round. */
#define VICTIMS_PER_CLASS 512

/* How many objects are free in the class's partly filled zspages. */
static uint64_t free_objects(const struct size_class *c)
{
	return c->zspages * c->objects - c->inuse;
}

/* Choose victims from the emptiest group up, as long as their objects fit into the free objects
 * of the zspages that stay. */
static size_t choose_victims(struct uz_pool *p, struct size_class *c)
{
	uint64_t room = free_objects(c), moving = 0;
	size_t victims = 0;

	for (unsigned g = GROUP_EMPTY + 1; g < GROUP_FULL; g++) {
		while (c->list[g] != ZSPAGE_NONE && victims < VICTIMS_PER_CLASS) {
			uint32_t unit = c->list[g];
			const struct zspage *zs = zspage_of(p, c->npages, unit);

			room -= c->objects - zs->inuse;
			moving += zs->inuse;
			if (moving > room)
				return victims;
			uz_zspage_unlink(p, c, unit);
			uz_zspage_link(p, c, unit, GROUP_VICTIM);
			victims++;
		}
	}
	return victims;
}

size_t uz_pool_compact_begin(struct uz_pool *p)
{
	size_t victims = 0;

	for (unsigned i = 0; i < p->nclasses; i++) {
		struct size_class *c = &p->classes[i];

		uz_spin_lock(&c->lock);
		c->victims_freed = 0;
		victims += choose_victims(p, c);
		uz_spin_unlock(&c->lock);
	}
	return victims;
}

bool uz_pool_is_victim(struct uz_pool *p, uint64_t off)
{
	struct place at;

	return uz_pool_locate(p, off, &at) &&
	       atomic_load_explicit(&at.zs->group, memory_order_relaxed) == GROUP_VICTIM;
}

size_t uz_pool_compact_end(struct uz_pool *p)
{
	size_t pages = 0;

	for (unsigned i = 0; i < p->nclasses; i++) {
		struct size_class *c = &p->classes[i];

		uz_spin_lock(&c->lock);
		while (c->list[GROUP_VICTIM] != ZSPAGE_NONE) {
			uint32_t unit = c->list[GROUP_VICTIM];

			uz_zspage_unlink(p, c, unit);
			uz_zspage_link(p, c, unit,
				       uz_zspage_fullness(c, zspage_of(p, c->npages, unit)));
		}
		pages += c->victims_freed * c->npages;
		uz_spin_unlock(&c->lock);
	}
	uz_arena_wake_getters(p->arena); /* the victims that stay have room again */
	atomic_fetch_add_explicit(&p->pages_compacted, pages, memory_order_relaxed);
	return pages;
}

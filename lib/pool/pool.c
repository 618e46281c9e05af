/* SPDX-License-Identifier: MIT
 *
 * Life of a pool, allocation and release.
 */
#include "pool/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int uz_pool_new(struct uz_arena *arena, struct uz_pool **ret)
{
	struct uz_pool *p = aligned_alloc(64, sizeof(*p));

	if (!p)
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->arena = arena;
	uz_pool_make_classes(p);
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		p->meta[n - 1] = uz_arena_unit_meta(arena, n, zspage_stride(n));
		if (!p->meta[n - 1]) {
			free(p);
			return -ENOMEM;
		}
	}
	*ret = p;
	return 0;
}

void uz_pool_free(struct uz_pool *p)
{
	free(p);
}

/* --- zspages; the class's lock is held --- */

unsigned uz_zspage_fullness(const struct size_class *c, const struct zspage *zs)
{
	if (zs->inuse == 0)
		return GROUP_EMPTY;
	if (zs->inuse == c->objects)
		return GROUP_FULL;
	return 1 + zs->inuse * 10u / c->objects;
}

void uz_zspage_link(struct uz_pool *p, struct size_class *c, uint32_t unit, unsigned group)
{
	struct zspage *zs = zspage_of(p, c->npages, unit);
	uint32_t head = c->list[group];

	atomic_store_explicit(&zs->group, (uint8_t)group, memory_order_relaxed);
	if (head == ZSPAGE_NONE) {
		zs->prev = zs->next = unit;
		c->nonempty |= (uint16_t)(1u << group);
	} else {
		struct zspage *first = zspage_of(p, c->npages, head);

		zs->next = head;
		zs->prev = first->prev;
		zspage_of(p, c->npages, first->prev)->next = unit;
		first->prev = unit;
	}
	c->list[group] = unit;
}

void uz_zspage_unlink(struct uz_pool *p, struct size_class *c, uint32_t unit)
{
	struct zspage *zs = zspage_of(p, c->npages, unit);
	unsigned group = atomic_load_explicit(&zs->group, memory_order_relaxed);

	if (zs->next == unit) {
		c->list[group] = ZSPAGE_NONE;
		c->nonempty &= (uint16_t) ~(1u << group);
		return;
	}
	zspage_of(p, c->npages, zs->prev)->next = zs->next;
	zspage_of(p, c->npages, zs->next)->prev = zs->prev;
	if (c->list[group] == unit)
		c->list[group] = zs->next;
}

/* After inuse has changed: into the right group. A victim stays one until it is empty. */
static void regroup(struct uz_pool *p, struct size_class *c, uint32_t unit)
{
	struct zspage *zs = zspage_of(p, c->npages, unit);
	unsigned old = atomic_load_explicit(&zs->group, memory_order_relaxed);
	unsigned group = uz_zspage_fullness(c, zs);

	if (group == old || old == GROUP_VICTIM)
		return;
	uz_zspage_unlink(p, c, unit);
	uz_zspage_link(p, c, unit, group);
}

static void zspage_start(struct uz_pool *p, struct size_class *c, uint32_t unit)
{
	struct zspage *zs = zspage_of(p, c->npages, unit);

	memset(zs->used, 0, zspage_words(c->npages) * sizeof(zs->used[0]));
	zs->inuse = 0;
	atomic_store_explicit(&zs->cls_plus_1, (uint16_t)(c - p->classes + 1),
			      memory_order_relaxed);
	uz_zspage_link(p, c, unit, GROUP_EMPTY);
	c->zspages++;
}

/* --- allocation --- */

/* From the fullest zspage that has room. False: there is none. The class's lock is held. */
static bool take_object(struct uz_pool *p, struct size_class *c, uint64_t *ret_off)
{
	unsigned groups = c->nonempty & ((1u << GROUP_FULL) - 1);
	uint32_t unit, index;
	struct zspage *zs;
	unsigned word = 0;

	if (!groups)
		return false;
	unit = c->list[31 - __builtin_clz(groups)];
	zs = zspage_of(p, c->npages, unit);
	while (zs->used[word] == UINT64_MAX)
		word++;
	index = word * 64 + (unsigned)__builtin_ctzll(~zs->used[word]);
	zs->used[word] |= UINT64_C(1) << (index % 64);
	zs->inuse++;
	c->inuse++;
	regroup(p, c, unit);
	*ret_off = uz_arena_unit_off(p->arena, c->npages, unit) + index * c->size;
	return true;
}

static bool take_room(struct uz_pool *p, struct size_class *c, uint64_t *ret_off)
{
	bool found;

	uz_spin_lock(&c->lock);
	found = take_object(p, c, ret_off);
	uz_spin_unlock(&c->lock);
	return found;
}

/* From a new zspage. */
static int take_new(struct uz_pool *p, struct size_class *c, uint64_t *ret_off)
{
	int64_t unit = uz_arena_get(p->arena, c->npages); /* without the lock: this may wait */
	bool found;

	if (unit < 0)
		return (int)unit;
	uz_spin_lock(&c->lock);
	found = take_object(p, c, ret_off); /* meanwhile another thread may have made room */
	if (!found) {
		zspage_start(p, c, (uint32_t)unit);
		take_object(p, c, ret_off);
	}
	uz_spin_unlock(&c->lock);
	if (found)
		uz_arena_put(p->arena, c->npages, (uint32_t)unit);
	return 0;
}

/* Whether a fine class without room is to take new memory for an object that would else go to the
 * coarse one: it does once it has zspages, or has been missed enough to pay for a part of one. */
static bool is_worth_it(struct size_class *fine, const struct size_class *coarse)
{
	bool worth;

	uz_spin_lock(&fine->lock);
	if (!fine->zspages)
		fine->missed += coarse->share - fine->share;
	worth = fine->zspages || fine->missed >= fine->npages * UZ_PAGE_SIZE / 4;
	uz_spin_unlock(&fine->lock);
	return worth;
}

int uz_pool_alloc(struct uz_pool *p, size_t size, uint64_t *ret_off)
{
	struct size_class *coarse = uz_pool_class_of(p, COARSE, size);
	struct size_class *fine = uz_pool_class_of(p, FINE, size);

	if (fine && take_room(p, fine, ret_off))
		return 0;
	if (fine && is_worth_it(fine, coarse) &&
	    (take_room(p, coarse, ret_off) || take_new(p, fine, ret_off) == 0))
		return 0;
	return take_room(p, coarse, ret_off) ? 0 : take_new(p, coarse, ret_off);
}

int uz_pool_alloc_dense(struct uz_pool *p, uint64_t off, uint64_t *ret_off)
{
	struct place at;

	return uz_pool_find(p, off, &at) && take_room(p, at.c, ret_off) ? 0 : -ENOSPC;
}

/* --- release --- */

bool uz_pool_find(struct uz_pool *p, uint64_t off, struct place *ret)
{
	uint32_t unit, within;
	unsigned npages, cls_plus_1;

	if (!uz_arena_locate(p->arena, off, &npages, &unit, &within))
		return false;
	ret->zs = zspage_of(p, npages, unit);
	cls_plus_1 = atomic_load_explicit(&ret->zs->cls_plus_1, memory_order_relaxed);
	if (!cls_plus_1)
		return false;
	ret->c = &p->classes[cls_plus_1 - 1];
	ret->unit = unit;
	ret->index = within / ret->c->size;
	return within % ret->c->size == 0 && ret->index < ret->c->objects;
}

/* The class's lock is held. If the zspage is empty now it leaves the class and joins the chain
 * *empty. */
static bool put_object(struct uz_pool *p, const struct place *at, uint32_t *empty)
{
	uint64_t bit = UINT64_C(1) << (at->index % 64);
	struct size_class *c = at->c;
	struct zspage *zs = at->zs;

	/* The place was found without the lock: if there was no live object the zspage may have
	 * changed its class since. */
	if (atomic_load_explicit(&zs->cls_plus_1, memory_order_relaxed) != c - p->classes + 1 ||
	    !(zs->used[at->index / 64] & bit))
		return false;
	zs->used[at->index / 64] &= ~bit;
	zs->inuse--;
	c->inuse--;
	if (zs->inuse) {
		regroup(p, c, at->unit);
		return true;
	}
	if (atomic_load_explicit(&zs->group, memory_order_relaxed) == GROUP_VICTIM)
		c->victims_freed++;
	uz_zspage_unlink(p, c, at->unit);
	c->zspages--;
	c->missed = 0;
	atomic_store_explicit(&zs->cls_plus_1, 0, memory_order_relaxed);
	zs->next = *empty;
	*empty = at->unit;
	return true;
}

static void put_empty(struct uz_pool *p, unsigned npages, uint32_t empty)
{
	while (empty != ZSPAGE_NONE) {
		uint32_t next = zspage_of(p, npages, empty)->next;

		uz_arena_put(p->arena, npages, empty);
		empty = next;
	}
}

int uz_pool_release(struct uz_pool *p, uint64_t off)
{
	uint32_t empty = ZSPAGE_NONE;
	struct place at;
	bool found;

	if (!uz_pool_find(p, off, &at))
		return -EINVAL;
	uz_spin_lock(&at.c->lock);
	found = put_object(p, &at, &empty);
	uz_spin_unlock(&at.c->lock);
	put_empty(p, at.c->npages, empty);
	return found ? 0 : -EINVAL;
}

size_t uz_pool_release_run(struct uz_pool *p, unsigned cls, const uint64_t *offs, size_t count)
{
	struct size_class *c = &p->classes[cls];
	uint32_t empty = ZSPAGE_NONE;
	size_t bad = 0;

	uz_spin_lock(&c->lock);
	for (size_t i = 0; i < count; i++) {
		struct place at;

		if (!uz_pool_find(p, offs[i], &at) || at.c != c || !put_object(p, &at, &empty))
			bad++;
	}
	uz_spin_unlock(&c->lock);
	put_empty(p, c->npages, empty);
	return bad;
}

void uz_pool_stat(struct uz_pool *p, struct uz_pool_stat *ret)
{
	struct uz_pool_stat st = {.pages_compacted = atomic_load(&p->pages_compacted)};

	for (unsigned i = 0; i < p->nclasses; i++) {
		struct size_class *c = &p->classes[i];

		uz_spin_lock(&c->lock);
		st.objects += c->inuse;
		st.object_bytes += c->inuse * c->size;
		st.zspages += c->zspages;
		st.pages += c->zspages * c->npages;
		uz_spin_unlock(&c->lock);
	}
	*ret = st;
}

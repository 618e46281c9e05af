/* SPDX-License-Identifier: MIT
 *
 * Life of a pool; allocation and release.
 */
#include "pool/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many objects are freed under one lock, at most: an I/O thread may be waiting for it. */
#define RUN_MAX 64

int uz_pool_new(struct uz_arena *arena, struct uz_pool **ret)
{
	struct uz_pool *p = aligned_alloc(64, sizeof(*p));

	if (!p)
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->arena = arena;
	uz_pool_make_classes(p);
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		p->meta[n - 1] = uz_arena_alloc_unit_meta(arena, n, zspage_stride(n));
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

static inline unsigned fullness(const struct size_class *c, const struct zspage *zs)
{
	if (zs->inuse == 0)
		return GROUP_EMPTY;
	if (zs->inuse == c->objects)
		return GROUP_FULL;
	return 1 + (zs->inuse * 10u * c->inv_objects >> 24);
}

unsigned uz_zspage_fullness(const struct size_class *c, const struct zspage *zs)
{
	return fullness(c, zs);
}

/* These two are inlined below, since nearly every free moves a zspage to another group. */
static inline void link_zspage(struct uz_pool *p, struct size_class *c, uint32_t unit,
			       unsigned group)
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

static inline void unlink_zspage(struct uz_pool *p, struct size_class *c, uint32_t unit)
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

void uz_zspage_link(struct uz_pool *p, struct size_class *c, uint32_t unit, unsigned group)
{
	link_zspage(p, c, unit, group);
}

void uz_zspage_unlink(struct uz_pool *p, struct size_class *c, uint32_t unit)
{
	unlink_zspage(p, c, unit);
}

/* Move the zspage to the right group, after inuse has changed. A victim stays a victim until it
 * is empty. */
static inline void regroup(struct uz_pool *p, struct size_class *c, uint32_t unit)
{
	struct zspage *zs = zspage_of(p, c->npages, unit);
	unsigned old = atomic_load_explicit(&zs->group, memory_order_relaxed);
	unsigned group = fullness(c, zs);

	if (group == old || old == GROUP_VICTIM)
		return;
	unlink_zspage(p, c, unit);
	link_zspage(p, c, unit, group);
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

/* Allocate from the fullest zspage that has room. False: there is none. The class's lock is
 * held. */
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

/* Allocate from a new zspage, which the unit becomes. */
static void start_and_take(struct uz_pool *p, struct size_class *c, uint32_t unit,
			   uint64_t *ret_off)
{
	bool found;

	uz_spin_lock(&c->lock);
	found = take_object(p, c, ret_off); /* another thread may have made room in the meantime */
	if (!found) {
		zspage_start(p, c, unit);
		take_object(p, c, ret_off);
	}
	uz_spin_unlock(&c->lock);
	if (found)
		uz_arena_put(p->arena, c->npages, &unit, 1);
}

static int take_new(struct uz_pool *p, struct size_class *c, uint64_t *ret_off)
{
	int64_t unit = uz_arena_try_get(p->arena, c->npages);

	if (unit < 0)
		return (int)unit;
	start_and_take(p, c, (uint32_t)unit, ret_off);
	return 0;
}

/* Whether a fine class without room gets new memory for an object, instead of the object going
 * to the coarse class. It does once it has zspages, or once objects that went to the coarse
 * class instead have cost a part of a zspage. */
static bool is_worth_it(struct size_class *fine, const struct size_class *coarse)
{
	bool worth;

	uz_spin_lock(&fine->lock);
	if (!fine->zspages)
		fine->bytes_missed += coarse->bytes_per_object - fine->bytes_per_object;
	worth = fine->zspages || fine->bytes_missed >= fine->npages * UZ_PAGE_SIZE / 4;
	uz_spin_unlock(&fine->lock);
	return worth;
}

int uz_pool_try_alloc(struct uz_pool *p, size_t size, uint64_t *ret_off)
{
	struct size_class *coarse = uz_pool_class_for(p, COARSE, size);
	struct size_class *fine = uz_pool_class_for(p, FINE, size);

	if (fine && take_room(p, fine, ret_off))
		return 0;
	if (fine && is_worth_it(fine, coarse) && take_new(p, fine, ret_off) == 0)
		return 0;
	return take_room(p, coarse, ret_off) ? 0 : take_new(p, coarse, ret_off);
}

int uz_pool_alloc(struct uz_pool *p, size_t size, struct uz_wait *wait, uint64_t *ret_off)
{
	struct size_class *coarse = uz_pool_class_for(p, COARSE, size);
	int64_t got = -EAGAIN;
	int err = -ENOMEM;

	uz_arena_wait_begin(p->arena, wait);
	while (got == -EAGAIN && (err = uz_pool_try_alloc(p, size, ret_off)) == -ENOMEM)
		got = uz_arena_wait(p->arena, wait, coarse->npages);
	uz_arena_wait_end(p->arena, wait);
	if (got == -EAGAIN)
		return err;
	if (got < 0)
		return (int)got;
	start_and_take(p, coarse, (uint32_t)got, ret_off);
	return 0;
}

int uz_pool_alloc_dense(struct uz_pool *p, uint64_t off, uint64_t *ret_off)
{
	struct place at;

	return uz_pool_locate(p, off, &at) && take_room(p, at.c, ret_off) ? 0 : -ENOSPC;
}

/* --- release --- */

/* Find the number of the object that begins within bytes into a zspage. False: none begins
 * there. */
static inline bool object_index(const struct size_class *c, uint32_t within, uint32_t *ret)
{
	*ret = (uint32_t)((uint64_t)within * c->inv_size >> 32);
	return *ret * c->size == within && *ret < c->objects;
}

bool uz_pool_locate(struct uz_pool *p, uint64_t off, struct place *ret)
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
	return object_index(ret->c, within, &ret->index);
}

enum put { PUT_BAD, PUT_DONE, PUT_EMPTIED };

/* Free one object. PUT_EMPTIED: the zspage is empty now and has left the class. Its unit is the
 * caller's, to be given back to the arena after the lock is dropped. The class's lock is held. */
static inline enum put put_object(struct uz_pool *p, const struct place *at)
{
	uint64_t bit = UINT64_C(1) << (at->index % 64);
	struct size_class *c = at->c;
	struct zspage *zs = at->zs;

	/* The place was found without the lock. If it had no live object, the zspage may have
	 * changed its class since. */
	if (atomic_load_explicit(&zs->cls_plus_1, memory_order_relaxed) != c - p->classes + 1 ||
	    !(zs->used[at->index / 64] & bit))
		return PUT_BAD;
	zs->used[at->index / 64] &= ~bit;
	zs->inuse--;
	c->inuse--;
	if (zs->inuse) {
		regroup(p, c, at->unit);
		return PUT_DONE;
	}
	if (atomic_load_explicit(&zs->group, memory_order_relaxed) == GROUP_VICTIM)
		c->victims_freed++;
	unlink_zspage(p, c, at->unit);
	c->zspages--;
	c->bytes_missed = 0;
	atomic_store_explicit(&zs->cls_plus_1, 0, memory_order_relaxed);
	return PUT_EMPTIED;
}

int uz_pool_release(struct uz_pool *p, uint64_t off)
{
	struct place at;
	enum put put;

	if (!uz_pool_locate(p, off, &at))
		return -EINVAL;
	uz_spin_lock(&at.c->lock);
	put = put_object(p, &at);
	uz_spin_unlock(&at.c->lock);
	if (put == PUT_EMPTIED)
		uz_arena_put(p->arena, at.c->npages, &at.unit, 1);
	else
		uz_arena_wake_getters(p->arena);
	return put == PUT_BAD ? -EINVAL : 0;
}

/* Find the objects of the class c among offs. This prefetches all of their zspages, so that the
 * frees of a run wait for memory together and not one after the other. */
static size_t find_run(struct uz_pool *p, struct size_class *c, const uint64_t *offs, size_t count,
		       struct place *ret)
{
	size_t found = 0;

	for (size_t i = 0; i < count; i++) {
		struct place *at = &ret[found];
		uint32_t within;
		unsigned npages;

		if (!uz_arena_locate(p->arena, offs[i], &npages, &at->unit, &within) ||
		    npages != c->npages)
			continue;
		at->c = c;
		at->zs = zspage_of(p, npages, at->unit);
		__builtin_prefetch(at->zs, 1);
		found += object_index(c, within, &at->index);
	}
	return found;
}

/* Free up to RUN_MAX objects. Returns how many of them there were. */
static size_t release_some(struct uz_pool *p, struct size_class *c, const uint64_t *offs,
			   size_t count)
{
	struct place at[RUN_MAX];
	uint32_t empty[RUN_MAX];
	size_t found = find_run(p, c, offs, count, at), freed = 0;
	uint32_t nempty = 0;

	uz_spin_lock(&c->lock);
	for (size_t i = 0; i < found; i++) {
		enum put put = put_object(p, &at[i]);

		freed += put != PUT_BAD;
		if (put == PUT_EMPTIED)
			empty[nempty++] = at[i].unit;
	}
	uz_spin_unlock(&c->lock);
	if (nempty)
		uz_arena_put(p->arena, c->npages, empty, nempty);
	else
		uz_arena_wake_getters(p->arena);
	return freed;
}

size_t uz_pool_release_run(struct uz_pool *p, unsigned cls, const uint64_t *offs, size_t count)
{
	size_t freed = 0;

	for (size_t i = 0, n; i < count; i += n) {
		n = count - i < RUN_MAX ? count - i : RUN_MAX;
		freed += release_some(p, &p->classes[cls], offs + i, n);
	}
	return count - freed;
}

void uz_pool_stat(struct uz_pool *p, struct uz_pool_stat *ret)
{
	struct uz_pool_stat st = {
		.pages_compacted = atomic_load_explicit(&p->pages_compacted, memory_order_relaxed),
	};

	for (unsigned i = 0; i < p->nclasses; i++) {
		struct size_class *c = &p->classes[i];

		uz_spin_lock(&c->lock);
		st.objects += c->inuse;
		st.object_bytes += c->inuse * c->size;
		st.zspages += c->zspages;
		st.pages += c->zspages * c->npages;
		st.slack_pages += (c->zspages * c->objects - c->inuse) / c->objects * c->npages;
		uz_spin_unlock(&c->lock);
	}
	*ret = st;
}

/* SPDX-License-Identifier: MIT
 *
 * A pool is rebuilt from the objects that the slot table names. And, for tests: pools are
 * checked and compared.
 */
#include "pool/internal.h"

#include <errno.h>
#include <string.h>

int uz_pool_claim(struct uz_pool *p, uint64_t off, size_t size)
{
	unsigned cls = uz_pool_class_number(p, off, size), npages;
	struct size_class *c = &p->classes[cls];
	uint32_t unit, within, index;
	struct zspage *zs;
	uint64_t bit;

	if (cls == UZ_POOL_CLASS_NONE || !uz_arena_locate(p->arena, off, &npages, &unit, &within))
		return -EINVAL;
	index = within / c->size;
	if (within % c->size || index >= c->objects)
		return -EINVAL;
	zs = zspage_of(p, npages, unit);
	if (zs->cls_plus_1 && zs->cls_plus_1 != cls + 1)
		return -EEXIST;
	bit = UINT64_C(1) << (index % 64);
	if (zs->used[index / 64] & bit)
		return -EEXIST;
	zs->cls_plus_1 = (uint16_t)(cls + 1);
	zs->used[index / 64] |= bit;
	zs->inuse++;
	c->inuse++;
	if (unit >= p->end[npages - 1])
		p->end[npages - 1] = unit + 1;
	return 0;
}

void uz_pool_reset(struct uz_pool *p)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		memset(p->meta[n - 1], 0, p->end[n - 1] * zspage_stride(n));
		p->end[n - 1] = 0;
	}
	for (unsigned i = 0; i < p->nclasses; i++)
		p->classes[i].inuse = 0;
}

static bool is_zspage(void *context, unsigned npages, uint32_t unit)
{
	return zspage_of(context, npages, unit)->cls_plus_1 != 0;
}

int uz_pool_claim_end(struct uz_pool *p)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		for (uint32_t unit = 0; unit < p->end[n - 1]; unit++) {
			const struct zspage *zs = zspage_of(p, n, unit);
			struct size_class *c;

			if (!zs->cls_plus_1)
				continue;
			c = &p->classes[zs->cls_plus_1 - 1];
			uz_zspage_link(p, c, unit, uz_zspage_fullness(c, zs));
			c->zspages++;
		}
	}
	return uz_arena_restore(p->arena, p->end, is_zspage, p);
}

static unsigned count_used(const struct size_class *c, const struct zspage *zs)
{
	unsigned n = 0;

	for (unsigned w = 0; w < zspage_words(c->npages); w++)
		n += (unsigned)__builtin_popcountll(zs->used[w]);
	return n;
}

static bool check_list(struct uz_pool *p, struct size_class *c, unsigned group, uint64_t *zspages,
		       uint64_t *inuse)
{
	uint32_t unit = c->list[group];

	if ((unit != ZSPAGE_NONE) != !!(c->nonempty & (1u << group)))
		return false;
	if (unit == ZSPAGE_NONE)
		return true;
	do {
		const struct zspage *zs = zspage_of(p, c->npages, unit);

		if (zs->cls_plus_1 != c - p->classes + 1 || atomic_load(&zs->group) != group ||
		    zs->inuse != count_used(c, zs) || zs->inuse > c->objects ||
		    (group != GROUP_VICTIM && uz_zspage_fullness(c, zs) != group) ||
		    zspage_of(p, c->npages, zs->next)->prev != unit)
			return false;
		*zspages += 1;
		*inuse += zs->inuse;
		unit = zs->next;
	} while (unit != c->list[group]);
	return true;
}

int uz_pool_check(struct uz_pool *p)
{
	struct uz_arena_stat st;
	uint64_t pages = 0;

	for (unsigned i = 0; i < p->nclasses; i++) {
		struct size_class *c = &p->classes[i];
		uint64_t zspages = 0, inuse = 0;

		for (unsigned g = 0; g < GROUPS; g++) {
			if (!check_list(p, c, g, &zspages, &inuse))
				return -EUCLEAN;
		}
		if (c->list[GROUP_EMPTY] != ZSPAGE_NONE || zspages != c->zspages ||
		    inuse != c->inuse)
			return -EUCLEAN;
		pages += zspages * c->npages;
	}
	uz_arena_stat(p->arena, &st);
	return pages == st.used_pages ? 0 : -EUCLEAN;
}

/* Whether every zspage of class i in p is in q too, with the same objects. */
static bool class_in(const struct uz_pool *p, const struct uz_pool *q, unsigned i)
{
	const struct size_class *c = &p->classes[i];

	for (unsigned g = 0; g < GROUPS; g++) {
		uint32_t unit = c->list[g];

		if (unit == ZSPAGE_NONE)
			continue;
		do {
			const struct zspage *x = zspage_of(p, c->npages, unit);
			const struct zspage *y = zspage_of(q, c->npages, unit);

			if (x->cls_plus_1 != y->cls_plus_1 || x->inuse != y->inuse ||
			    memcmp(x->used, y->used, zspage_words(c->npages) * sizeof(uint64_t)) !=
				    0)
				return false;
			unit = x->next;
		} while (unit != c->list[g]);
	}
	return true;
}

bool uz_pool_equal(const struct uz_pool *p, const struct uz_pool *q)
{
	for (unsigned i = 0; i < p->nclasses; i++) {
		if (p->classes[i].zspages != q->classes[i].zspages ||
		    p->classes[i].inuse != q->classes[i].inuse || !class_in(p, q, i))
			return false;
	}
	return true;
}

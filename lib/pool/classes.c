/* SPDX-License-Identifier: MIT
 *
 * Size classes: which there are, and which of them an object belongs to.
 *
 * No single set of classes suits both a small store and a large one. Many classes fit their
 * objects well, but each has a zspage that is only partly filled: with zsmalloc's classes that
 * is 3 to 6 % of a store of 100 MiB, and 13 to 24 % of one of 25 MiB. So nearly every size has
 * two classes: a *coarse* one, of few, with zspages of 1 to COARSE_PAGES pages; and a *fine*
 * one, of many, with larger zspages. Where an object lies tells which class it is in, since
 * units of each number of pages have an area of their own. An object goes to the coarse class
 * until its fine class would have saved a quarter of a zspage (uz_pool_alloc()).
 */
#include "pool/internal.h"

#define OBJECT_MIN  64u
#define COARSE_STEP 32u
#define FINE_STEP   UZ_POOL_GRANULE

static unsigned objects_in(unsigned npages, unsigned size)
{
	return npages * UZ_PAGE_SIZE / size;
}

/* The number of pages, from min to max, whose zspage wastes least on objects of size bytes
 * (zsmalloc's calculate_zspage_chain_size()). The smaller number wins a tie. 0: the objects are
 * so small that no zspage's bitmap has a bit for each. */
static unsigned best_npages(unsigned size, unsigned min, unsigned max)
{
	unsigned best = 0, best_waste = UINT32_MAX;

	for (unsigned n = min; n <= max; n++) {
		unsigned bytes = n * UZ_PAGE_SIZE;

		if (objects_in(n, size) > 64 * zspage_words(n))
			continue;
		/* In 1/65536 of the zspage, so that zspages of different sizes compare. */
		unsigned waste = (unsigned)(((uint64_t)(bytes % size) << 16) / bytes);

		if (waste < best_waste) {
			best = n;
			best_waste = waste;
		}
	}
	return best;
}

/* A reciprocal to divide by d with: n * reciprocal(bits, d) >> bits == n / d as long as n * d <
 * 2^bits. That takes a quarter of the time of a division. */
static uint32_t reciprocal(unsigned bits, unsigned d)
{
	return (uint32_t)(((UINT64_C(1) << bits) + d - 1) / d);
}

static struct size_class *add_class(struct uz_pool *p, unsigned size, unsigned npages)
{
	struct size_class *c = &p->classes[p->nclasses++];

	c->size = (uint16_t)size;
	c->npages = (uint8_t)npages;
	c->objects = (uint16_t)objects_in(npages, size);
	c->bytes_per_object = (uint16_t)(npages * UZ_PAGE_SIZE / c->objects);
	c->inv_size = reciprocal(32, size);
	c->inv_objects = reciprocal(24, c->objects);
	for (unsigned g = 0; g < GROUPS; g++)
		c->list[g] = ZSPAGE_NONE;
	return c;
}

/* Make the classes of one kind, from the largest size down, so that a size that packs like the
 * one above it joins that one's class. A size that takes no less in a fine class than in its
 * coarse one has no fine class. */
static void make_classes(struct uz_pool *p, unsigned kind, unsigned step, unsigned min,
			 unsigned max)
{
	struct size_class *last = NULL;

	for (unsigned size = UZ_PAGE_SIZE; size >= OBJECT_MIN; size -= step) {
		unsigned npages = best_npages(size, min, max), cls = UZ_POOL_CLASS_NONE;
		unsigned objects = npages ? objects_in(npages, size) : 0;

		if (kind == FINE && objects &&
		    npages * UZ_PAGE_SIZE / objects >=
			    uz_pool_class_for(p, COARSE, size)->bytes_per_object)
			objects = 0;
		if (objects && (!last || last->npages != npages || last->objects != objects))
			last = add_class(p, size, npages);
		if (objects)
			cls = (unsigned)(last - p->classes);
		for (unsigned g = size / UZ_POOL_GRANULE; g > (size - step) / UZ_POOL_GRANULE; g--)
			p->class_of[kind][g] = (uint8_t)cls;
	}
	for (unsigned g = 0; g < OBJECT_MIN / UZ_POOL_GRANULE; g++)
		p->class_of[kind][g] = p->class_of[kind][OBJECT_MIN / UZ_POOL_GRANULE];
}

void uz_pool_make_classes(struct uz_pool *p)
{
	unsigned size = UZ_PAGE_SIZE;

	make_classes(p, COARSE, COARSE_STEP, 1, COARSE_PAGES);
	make_classes(p, FINE, FINE_STEP, COARSE_PAGES + 1, UZ_UNIT_PAGES_MAX);
	while (p->class_of[FINE][size / UZ_POOL_GRANULE] == UZ_POOL_CLASS_NONE &&
	       uz_pool_class_for(p, COARSE, size)->size == UZ_PAGE_SIZE)
		size -= UZ_POOL_GRANULE;
	p->huge_size = size + 1;
}

size_t uz_pool_huge_size(const struct uz_pool *p)
{
	return p->huge_size;
}

unsigned uz_pool_class_number(const struct uz_pool *p, uint64_t off, size_t size)
{
	unsigned npages = uz_arena_unit_pages(p->arena, off);
	unsigned kind = npages > COARSE_PAGES ? FINE : COARSE;
	unsigned cls = p->class_of[kind][(size + UZ_POOL_GRANULE - 1) / UZ_POOL_GRANULE];

	return cls != UZ_POOL_CLASS_NONE && p->classes[cls].npages == npages ? cls
									     : UZ_POOL_CLASS_NONE;
}

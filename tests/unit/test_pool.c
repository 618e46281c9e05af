/* SPDX-License-Identifier: MIT
 *
 * The pool: size classes, allocation and release against a model, fullest first, compaction,
 * rebuilding, many threads.
 *
 * Only the main thread may use cmocka's assertions; the others count their complaints.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "model/pages.h"
#include "pool/internal.h"

#define PAGE	 UZ_PAGE_SIZE
#define DISKSIZE (UINT64_C(64) << 20)
#define RESERVE	 (UINT64_C(4) << 20)
#define MAX	 20000 /* objects of a model */

/* The main thread's. */
static unsigned below(unsigned n)
{
	static struct rng rng = {.state = 1};

	return (unsigned)rng_below(&rng, n);
}

/* --- objects and their contents --- */

struct object {
	uint64_t off;
	uint32_t size;
	uint32_t salt; /* its contents follow from this */
};

/* The ends, the middle, and something in every 16 bytes. */
static void fill(struct uz_arena *a, const struct object *o)
{
	memset(uz_arena_ptr(a, o->off), (unsigned char)(o->salt * 167 + 13), o->size);
	if (o->size >= sizeof(o->salt))
		memcpy(uz_arena_ptr(a, o->off), &o->salt, sizeof(o->salt));
}

static bool intact(struct uz_arena *a, const struct object *o)
{
	const unsigned char *p = uz_arena_ptr(a, o->off);
	uint32_t i = 0;

	if (o->size >= sizeof(o->salt)) {
		if (memcmp(p, &o->salt, sizeof(o->salt)) != 0)
			return false;
		i = sizeof(o->salt);
	}
	for (; i < o->size; i++) {
		if (p[i] != (unsigned char)(o->salt * 167 + 13))
			return false;
	}
	return true;
}

/* --- the model: a pool, and what must be in it --- */

struct model {
	struct uz_arena *arena;
	struct uz_pool *pool;
	struct object *live;
	unsigned nlive;
	uint32_t salt;
};

static void model_init(struct model *m)
{
	*m = (struct model){.live = calloc(MAX, sizeof(struct object))};
	assert_int_equal(uz_arena_new(DISKSIZE, &m->arena), 0);
	assert_int_equal(uz_pool_new(m->arena, &m->pool), 0);
	assert_int_equal(uz_arena_start(m->arena, RESERVE, true, NULL, NULL), 0);
}

static void model_done(struct model *m)
{
	uz_arena_stop(m->arena);
	uz_pool_free(m->pool);
	uz_arena_free(m->arena);
	free(m->live);
}

/* On a machine so busy that the refill thread does not run for UZ_ARENA_WAIT_MS, try again. */
static int alloc_patiently(struct uz_pool *p, size_t size, uint64_t *ret_off)
{
	int err = -ENOMEM;

	for (unsigned i = 0; err == -ENOMEM && i < 10; i++)
		err = uz_pool_alloc(p, size, ret_off);
	return err;
}

static const struct object *model_alloc(struct model *m, size_t size)
{
	struct object *o = &m->live[m->nlive];

	assert_true(m->nlive < MAX);
	assert_int_equal(alloc_patiently(m->pool, size, &o->off), 0);
	o->size = (uint32_t)size;
	o->salt = m->salt++;
	fill(m->arena, o);
	m->nlive++;
	return o;
}

static void model_release(struct model *m, unsigned i)
{
	assert_true(intact(m->arena, &m->live[i]));
	assert_int_equal(uz_pool_release(m->pool, m->live[i].off), 0);
	m->live[i] = m->live[--m->nlive];
}

static const struct size_class *class_of(const struct model *m, const struct object *o)
{
	return &m->pool->classes[uz_pool_class(m->pool, o->off, o->size)];
}

static void model_check(struct model *m)
{
	struct uz_pool_stat st;
	struct uz_arena_stat arena;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < m->nlive; i++) {
		assert_true(intact(m->arena, &m->live[i]));
		bytes += class_of(m, &m->live[i])->size;
	}
	uz_pool_stat(m->pool, &st);
	uz_arena_stat(m->arena, &arena);
	assert_int_equal(uz_pool_check(m->pool), 0);
	assert_int_equal(st.objects, m->nlive);
	assert_int_equal(st.object_bytes, bytes);
	assert_int_equal(st.pages, arena.used_pages);
}

/* A size as compressed pages have them: any, but mostly around a third of a page. */
static size_t random_size(void)
{
	switch (below(8)) {
	case 0:
		return 1 + below(64);
	case 1:
		return 1 + below(PAGE);
	case 2:
		return PAGE;
	default:
		return 600 + below(1500);
	}
}

/* --- classes --- */

/* The waste at the end of a zspage of n pages, in a fraction of 2^32. */
static uint64_t tail_waste(unsigned size, unsigned n)
{
	return ((uint64_t)(n * PAGE % size) << 32) / (n * PAGE);
}

static void check_class(const struct size_class *c, unsigned min, unsigned max)
{
	assert_int_equal(c->size % UZ_POOL_GRANULE, 0);
	assert_in_range(c->npages, min, max);
	assert_int_equal(c->objects, c->npages * PAGE / c->size);
	assert_int_equal(c->share, c->npages * PAGE / c->objects);
	assert_in_range(c->objects, 1, 64 * zspage_words(c->npages));
	for (unsigned n = min; n <= max; n++) {
		/* classes.c compares in 1/64Ki. */
		if (n * PAGE / c->size <= 64 * zspage_words(n))
			assert_true(tail_waste(c->size, c->npages) <=
				    tail_waste(c->size, n) + (UINT64_C(1) << 16));
	}
}

/* What an object of this size takes, with its share of the zspage's tail: of the two classes only
 * the coarse one may waste much, and there is no fine one that takes as much as the coarse. */
static void check_size(struct uz_pool *p, size_t size)
{
	const struct size_class *coarse = uz_pool_class_of(p, COARSE, size);
	const struct size_class *fine = uz_pool_class_of(p, FINE, size);

	assert_true(coarse->size >= size);
	check_class(coarse, 1, COARSE_PAGES);
	if (fine) {
		assert_in_range(fine->size, size, PAGE);
		check_class(fine, COARSE_PAGES + 1, UZ_UNIT_PAGES_MAX);
		assert_true(fine->share < coarse->share);
	}
	if (size >= uz_pool_huge_size(p)) {
		assert_null(fine);
		assert_int_equal(coarse->size, PAGE);
	} else if (size > 128) {
		unsigned share = fine ? fine->share : coarse->share;

		/* The widest of zsmalloc's merged classes cost no more. */
		assert_in_range(share, size, size + size / 8 + UZ_POOL_GRANULE);
		assert_in_range(share, size, PAGE - 1);
	}
}

static void test_classes(void **state)
{
	struct model m;

	model_init(&m);
	assert_in_range(uz_pool_huge_size(m.pool), PAGE * 3 / 4, PAGE);
	for (size_t size = PAGE; size > 0; size--)
		check_size(m.pool, size);
	assert_in_range(m.pool->nclasses, 1, UZ_POOL_CLASS_NONE);
	model_done(&m);
}

/* Where an object can be tells its class. */
static void test_class_of_place(void **state)
{
	struct model m;

	model_init(&m);
	for (size_t size = 1; size <= PAGE; size++) {
		for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
			unsigned cls =
				uz_pool_class(m.pool, uz_arena_unit_off(m.arena, n, 3), size);
			const struct size_class *c =
				uz_pool_class_of(m.pool, n > COARSE_PAGES ? FINE : COARSE, size);

			if (c && c->npages == n)
				assert_ptr_equal(&m.pool->classes[cls], c);
			else
				assert_int_equal(cls, UZ_POOL_CLASS_NONE);
		}
		assert_int_equal(uz_pool_class(m.pool, uz_arena_data_size(m.arena), size),
				 UZ_POOL_CLASS_NONE);
	}
	model_done(&m);
}

/* A size that is rare stays in its coarse class; one that is frequent has a fine one. When that has
 * lost its last zspage it must be earned anew. */
static void test_fine_is_earned(void **state)
{
	enum { SIZE = 1360 };
	const struct size_class *coarse, *fine;
	struct model m;
	unsigned first;

	model_init(&m);
	coarse = uz_pool_class_of(m.pool, COARSE, SIZE);
	fine = uz_pool_class_of(m.pool, FINE, SIZE);
	first = fine->npages * PAGE / 4 / (coarse->share - fine->share);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < first; i++)
			model_alloc(&m, SIZE);
		assert_int_equal(coarse->inuse, first);
		for (unsigned i = 0; i < 10 * first; i++)
			model_alloc(&m, SIZE);
		assert_int_equal(coarse->inuse, first);
		assert_int_equal(fine->inuse, 10 * first);
		model_check(&m);
		while (m.nlive)
			model_release(&m, below(m.nlive));
	}
	model_done(&m);
}

/* Where no larger unit can be had, a smaller one does. */
static void test_fine_refused(void **state)
{
	const struct size_class *coarse, *fine;
	struct model m;

	model_init(&m);
	coarse = uz_pool_class_of(m.pool, COARSE, 1360);
	fine = uz_pool_class_of(m.pool, FINE, 1360);
	while (!fine->inuse)
		model_alloc(&m, 1360);
	while (fine->inuse < fine->objects)
		model_alloc(&m, 1360);
	uz_arena_set_limit(
		m.arena, (coarse->zspages * coarse->npages + fine->npages + coarse->npages) * PAGE);
	while (coarse->inuse < coarse->zspages * coarse->objects)
		model_alloc(&m, 1360);
	model_alloc(&m, 1360);
	assert_int_equal(fine->inuse, fine->objects);
	model_check(&m);
	model_done(&m);
}

static int by_offset(const void *x, const void *y)
{
	const struct object *a = x, *b = y;

	return a->off < b->off ? -1 : a->off > b->off;
}

/* Objects lie within their units, and apart. */
static void check_layout(struct model *m)
{
	qsort(m->live, m->nlive, sizeof(*m->live), by_offset);
	for (unsigned i = 0; i < m->nlive; i++) {
		const struct object *o = &m->live[i];
		uint32_t first, last, within;
		unsigned npages;

		assert_int_equal(o->off % UZ_POOL_GRANULE, 0);
		if (o->size >= uz_pool_huge_size(m->pool))
			assert_int_equal(o->off % PAGE, 0);
		assert_true(uz_arena_locate(m->arena, o->off, &npages, &first, &within));
		assert_int_equal(npages, class_of(m, o)->npages);
		assert_true(
			uz_arena_locate(m->arena, o->off + o->size - 1, &npages, &last, &within));
		assert_int_equal(first, last);
		if (i + 1 < m->nlive)
			assert_true(o->off + o->size <= m->live[i + 1].off);
	}
}

static void test_every_size(void **state)
{
	struct model m;

	model_init(&m);
	for (size_t size = 1; size <= PAGE; size++) {
		model_alloc(&m, size);
		model_alloc(&m, PAGE + 1 - size);
	}
	check_layout(&m);
	model_check(&m);
	while (m.nlive)
		model_release(&m, below(m.nlive));
	model_check(&m);
	model_done(&m);
}

/* --- alloc and release --- */

static void test_random(void **state)
{
	struct model m;

	model_init(&m);
	for (unsigned round = 0; round < 40; round++) {
		unsigned releases = round % 2 ? 80 : 25; /* in a hundred */

		for (unsigned i = 0; i < 1000; i++) {
			if (m.nlive && below(100) < releases)
				model_release(&m, below(m.nlive));
			else
				model_alloc(&m, random_size());
		}
		model_check(&m);
		if (round % 8 == 0)
			check_layout(&m);
	}
	while (m.nlive)
		model_release(&m, m.nlive - 1);
	model_check(&m);
	model_done(&m);
}

/* Live objects of the class in each of its units. */
static void count_units(const struct model *m, const struct size_class *c, unsigned *ret)
{
	for (unsigned i = 0; i < m->nlive; i++) {
		uint32_t unit, within;
		unsigned npages;

		if (class_of(m, &m->live[i]) != c)
			continue;
		uz_arena_locate(m->arena, m->live[i].off, &npages, &unit, &within);
		ret[unit]++;
	}
}

static unsigned tenths(const struct size_class *c, unsigned inuse)
{
	return inuse == c->objects ? 11 : inuse ? 1 + inuse * 10 / c->objects : 0;
}

/* An object goes into a zspage of the fullest group of its class that has room; a new one is taken
 * only when all are full. */
static void test_fullest_first(void **state)
{
	static const size_t sizes[] = {64, 1000, 1360, 2000, 3000};
	struct model m;

	model_init(&m);
	for (unsigned round = 0; round < 200; round++) {
		size_t size = sizes[below(5)];
		unsigned inuse[4096] = {0}, best = 0, npages;
		const struct size_class *c;
		const struct object *o;
		uint32_t unit, within;

		for (unsigned i = below(40); i > 0; i--)
			model_alloc(&m, size);
		for (unsigned i = m.nlive / 4; i > 0; i--)
			model_release(&m, below(m.nlive));
		o = model_alloc(&m, size);
		c = class_of(&m, o);
		assert_true(uz_arena_locate(m.arena, o->off, &npages, &unit, &within));
		assert_true(unit < 4096);
		count_units(&m, c, inuse);
		inuse[unit]--;
		for (unsigned u = 0; u < 4096; u++) {
			if (inuse[u] < c->objects && tenths(c, inuse[u]) > best)
				best = tenths(c, inuse[u]);
		}
		assert_int_equal(tenths(c, inuse[unit]), best);
	}
	model_check(&m);
	model_done(&m);
}

/* No object at these offsets: refused, and nothing is changed. */
static void test_release_refuses(void **state)
{
	struct model m;
	uint64_t off;

	model_init(&m);
	for (unsigned i = 0; i < 500; i++)
		model_alloc(&m, random_size());
	for (unsigned i = 0; i < m.nlive; i++) {
		const struct object *o = &m.live[i];
		uint32_t size = class_of(&m, o)->size;

		assert_int_equal(uz_pool_release(m.pool, o->off + 1), -EINVAL);
		assert_int_equal(uz_pool_release(m.pool, o->off + size / 2), -EINVAL);
		assert_int_equal(uz_pool_release(m.pool, o->off + size - 1), -EINVAL);
	}
	model_check(&m);

	/* Freed before; with and without others in the zspage. */
	for (unsigned i = 0; i < 400; i++) {
		off = m.live[0].off;
		model_release(&m, 0);
		assert_int_equal(uz_pool_release(m.pool, off), -EINVAL);
	}
	model_check(&m);

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		uint32_t last = uz_arena_nunits(m.arena, n) - 1;

		off = uz_arena_unit_off(m.arena, n, last);
		assert_int_equal(uz_pool_release(m.pool, off), -EINVAL);
	}
	assert_int_equal(uz_pool_release(m.pool, uz_arena_data_size(m.arena)), -EINVAL);
	assert_int_equal(uz_pool_release(m.pool, UINT64_MAX), -EINVAL);
	model_check(&m);
	model_done(&m);
}

static void test_release_run(void **state)
{
	uint64_t offs[64];
	struct model m;
	unsigned cls, n = 0;

	model_init(&m);
	for (unsigned i = 0; i < 40; i++)
		model_alloc(&m, 1000);
	for (unsigned i = 0; i < 20; i++)
		model_alloc(&m, 2000);
	cls = uz_pool_class(m.pool, m.live[0].off, 1000);
	assert_int_equal(uz_pool_release_run(m.pool, cls, offs, 0), 0);

	/* Of the other class, between objects, outside; and none of the good ones twice. */
	for (unsigned i = 40; i < 60; i++)
		offs[n++] = m.live[i].off;
	offs[n++] = m.live[0].off + UZ_POOL_GRANULE;
	offs[n++] = uz_arena_data_size(m.arena);
	assert_int_equal(uz_pool_release_run(m.pool, cls, offs, n), n);
	model_check(&m);

	for (unsigned i = 0; i < 30; i++)
		offs[n++] = m.live[i].off;
	offs[n++] = m.live[3].off;
	assert_int_equal(uz_pool_release_run(m.pool, cls, offs, n), n - 30);
	memmove(m.live, m.live + 30, 30 * sizeof(*m.live));
	m.nlive -= 30;
	model_check(&m);

	/* All the rest of the class: its zspages go back to the arena. */
	for (n = 0; n < 10; n++)
		offs[n] = m.live[n].off;
	assert_int_equal(uz_pool_release_run(m.pool, cls, offs, n), 0);
	memmove(m.live, m.live + 10, 20 * sizeof(*m.live));
	m.nlive -= 10;
	model_check(&m);
	assert_int_equal(m.pool->classes[cls].zspages, 0);
	model_done(&m);
}

static void test_no_room(void **state)
{
	struct model m;
	uint64_t off = 42;

	model_init(&m);
	model_alloc(&m, 1000);
	uz_arena_set_limit(m.arena, (uint64_t)class_of(&m, &m.live[0])->npages * PAGE);
	while (m.nlive < class_of(&m, &m.live[0])->objects)
		model_alloc(&m, 1000);
	assert_int_equal(uz_pool_alloc(m.pool, 1000, &off), -ENOSPC);
	assert_int_equal(uz_pool_alloc(m.pool, PAGE, &off), -ENOSPC);
	assert_int_equal(uz_pool_alloc_dense(m.pool, m.live[0].off, &off), -ENOSPC);
	assert_int_equal(uz_pool_alloc_dense(m.pool, uz_arena_data_size(m.arena), &off), -ENOSPC);
	assert_int_equal(off, 42);
	model_check(&m);

	model_release(&m, 0);
	assert_int_equal(uz_pool_alloc_dense(m.pool, m.live[0].off, &off), 0);
	assert_int_equal(uz_pool_release(m.pool, off), 0);
	model_check(&m);
	model_done(&m);
}

/* --- compaction --- */

/* Move the victims' objects, as the store's sweeper does. */
static void move_victims(struct model *m)
{
	for (unsigned i = 0; i < m->nlive; i++) {
		struct object *o = &m->live[i];
		uint64_t from = o->off;

		if (!uz_pool_is_victim(m->pool, from))
			continue;
		assert_int_equal(uz_pool_alloc_dense(m->pool, from, &o->off), 0);
		assert_false(uz_pool_is_victim(m->pool, o->off));
		memcpy(uz_arena_ptr(m->arena, o->off), uz_arena_ptr(m->arena, from), o->size);
		assert_int_equal(uz_pool_release(m->pool, from), 0);
	}
}

static void fill_and_thin(struct model *m, unsigned objects, unsigned percent)
{
	while (m->nlive < objects)
		model_alloc(m, random_size());
	for (unsigned i = objects * percent / 100; i > 0; i--)
		model_release(m, below(m->nlive));
}

/* As often as there are victims. Returns the pages that were freed. */
static uint64_t compact(struct model *m)
{
	struct uz_arena_stat before, after;
	uint64_t total = 0, freed;

	while (uz_pool_compact_begin(m->pool)) {
		uz_arena_stat(m->arena, &before);
		move_victims(m);
		freed = uz_pool_compact_end(m->pool);
		uz_arena_stat(m->arena, &after);
		assert_true(freed > 0);
		assert_int_equal(before.used_pages - after.used_pages, freed);
		model_check(m);
		total += freed;
	}
	return total;
}

static void test_compact(void **state)
{
	struct uz_pool_stat before, after;
	struct model m;

	model_init(&m);
	for (unsigned round = 0; round < 3; round++) {
		uint64_t freed;

		fill_and_thin(&m, 10000, 70);
		uz_pool_stat(m.pool, &before);
		freed = compact(&m);
		uz_pool_stat(m.pool, &after);
		assert_true(freed > 0);
		assert_int_equal(before.pages - after.pages, freed);
		assert_int_equal(after.pages_compacted - before.pages_compacted, freed);
		assert_int_equal(after.objects, before.objects);
		/* No class could do with a zspage less. */
		for (unsigned i = 0; i < m.pool->nclasses; i++) {
			const struct size_class *c = &m.pool->classes[i];

			assert_int_equal(c->zspages, (c->inuse + c->objects - 1) / c->objects);
		}
		check_layout(&m);
	}
	while (m.nlive)
		model_release(&m, below(m.nlive));
	model_check(&m);
	model_done(&m);
}

/* Victims take no new objects, may be freed from, and are zspages like others afterwards. */
static void test_compact_abandoned(void **state)
{
	struct model m;
	unsigned victims = 0;

	model_init(&m);
	fill_and_thin(&m, 5000, 70);
	assert_true(uz_pool_compact_begin(m.pool) > 0);
	for (unsigned i = 0; i < 500; i++)
		assert_false(uz_pool_is_victim(m.pool, model_alloc(&m, random_size())->off));
	for (unsigned i = 0; i < 500; i++)
		model_release(&m, below(m.nlive));
	model_check(&m);
	for (unsigned i = 0; i < m.nlive; i++)
		victims += uz_pool_is_victim(m.pool, m.live[i].off);
	assert_true(victims > 0);
	uz_pool_compact_end(m.pool);
	for (unsigned i = 0; i < m.nlive; i++)
		assert_false(uz_pool_is_victim(m.pool, m.live[i].off));
	model_check(&m);
	while (m.nlive)
		model_release(&m, below(m.nlive));
	model_check(&m);
	assert_int_equal(uz_pool_compact_begin(m.pool), 0);
	model_done(&m);
}

/* --- rebuilding --- */

/* Attach to m's arena as a new process would, and make a pool from m's objects, in any order. */
static void model_rebuild(struct model *m, struct model *ret)
{
	*ret = (struct model){.live = calloc(MAX, sizeof(struct object)), .nlive = m->nlive};
	memcpy(ret->live, m->live, m->nlive * sizeof(*m->live));
	assert_int_equal(uz_arena_attach(uz_arena_fd(m->arena), &ret->arena), 0);
	assert_int_equal(uz_pool_new(ret->arena, &ret->pool), 0);
	for (unsigned i = 0; i < ret->nlive; i++) {
		unsigned j = below(ret->nlive);
		struct object swap = ret->live[i];

		ret->live[i] = ret->live[j];
		ret->live[j] = swap;
	}
	for (unsigned i = 0; i < ret->nlive; i++)
		assert_int_equal(uz_pool_claim(ret->pool, ret->live[i].off, ret->live[i].size), 0);
	assert_int_equal(uz_pool_claim_end(ret->pool), 0);
	assert_int_equal(uz_arena_start(ret->arena, RESERVE, true, NULL, NULL), 0);
}

static void random_history(struct model *m)
{
	for (unsigned round = 1 + below(4); round > 0; round--) {
		fill_and_thin(m, 2000 + below(2000), below(100));
		if (below(2) && uz_pool_compact_begin(m->pool)) {
			move_victims(m);
			uz_pool_compact_end(m->pool);
		}
	}
}

static void test_rebuild(void **state)
{
	struct model m, n;

	for (unsigned round = 0; round < 8; round++) {
		model_init(&m);
		if (round)
			random_history(&m);
		/* The old pool is looked at, but may not be used, once the new one has the arena.
		 */
		model_rebuild(&m, &n);
		assert_true(uz_pool_equal(m.pool, n.pool));
		assert_true(uz_pool_equal(n.pool, m.pool));
		model_check(&n);
		check_layout(&n);
		random_history(&n);
		model_check(&n);
		if (n.nlive) {
			model_release(&n, 0);
			assert_false(uz_pool_equal(m.pool, n.pool));
			assert_false(uz_pool_equal(n.pool, m.pool));
		}
		while (n.nlive)
			model_release(&n, 0);
		model_check(&n);
		model_done(&n);
		model_done(&m);
	}
}

static void test_claim_refuses(void **state)
{
	enum { SIZE = 1300 };
	struct uz_arena *a;
	struct uz_pool *p;
	const struct size_class *c, *coarse;
	uint64_t unit;

	assert_int_equal(uz_arena_new(DISKSIZE, &a), 0);
	assert_int_equal(uz_pool_new(a, &p), 0);
	coarse = uz_pool_class_of(p, COARSE, SIZE);
	c = uz_pool_class_of(p, FINE, SIZE);
	assert_true(c->objects * c->size < c->npages * PAGE);
	unit = uz_arena_unit_off(a, c->npages, 9);
	assert_int_equal(uz_pool_claim(p, unit + c->size, SIZE), 0);

	/* Taken; misaligned; beyond the zspage's last object; of another class, by pages and by
	 * zspage. */
	assert_int_equal(uz_pool_claim(p, unit + c->size, SIZE), -EEXIST);
	assert_int_equal(uz_pool_claim(p, unit + 1, SIZE), -EINVAL);
	assert_int_equal(uz_pool_claim(p, unit + c->size + UZ_POOL_GRANULE, SIZE), -EINVAL);
	assert_int_equal(uz_pool_claim(p, unit + c->objects * c->size, SIZE), -EINVAL);
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		if (n != c->npages && n != coarse->npages)
			assert_int_equal(uz_pool_claim(p, uz_arena_unit_off(a, n, 3), SIZE),
					 -EINVAL);
	}
	for (size_t size = 1; size <= PAGE; size++) {
		unsigned cls = uz_pool_class(p, unit, size);

		if (&p->classes[cls] != c)
			assert_int_equal(uz_pool_claim(p, unit, size),
					 cls == UZ_POOL_CLASS_NONE ? -EINVAL : -EEXIST);
	}
	assert_int_equal(uz_pool_claim(p, uz_arena_data_size(a), SIZE), -EINVAL);
	assert_int_equal(uz_pool_claim(p, UINT64_MAX - UZ_POOL_GRANULE + 1, SIZE), -EINVAL);

	/* None of it left a trace: the zspage has that one object, and there is no other. */
	assert_int_equal(uz_pool_claim(p, unit + (c->objects - 1u) * c->size, SIZE - 1), 0);
	assert_int_equal(uz_pool_claim_end(p), 0);
	assert_int_equal(uz_pool_check(p), 0);
	assert_int_equal(c->inuse, 2);
	assert_int_equal(c->zspages, 1);
	uz_pool_free(p);
	uz_arena_free(a);
}

/* --- threads --- */

#define THREADS	   4
#define THREAD_MAX 600 /* objects of a thread */

struct player {
	struct model *m;
	struct rng rng;
	uint64_t end_ns;
	struct object live[THREAD_MAX];
	unsigned nlive, complaints;
};

static void player_alloc(struct player *p)
{
	struct object *o = &p->live[p->nlive];

	/* Few classes: the threads meet. */
	o->size = 1000 + (uint32_t)(rng_next(&p->rng) % 4) * 700;
	o->salt = (uint32_t)rng_next(&p->rng);
	if (alloc_patiently(p->m->pool, o->size, &o->off)) {
		p->complaints++;
		return;
	}
	fill(p->m->arena, o);
	p->nlive++;
}

static void player_release(struct player *p)
{
	unsigned i = (unsigned)(rng_next(&p->rng) % p->nlive);

	if (!intact(p->m->arena, &p->live[i]) || uz_pool_release(p->m->pool, p->live[i].off))
		p->complaints++;
	p->live[i] = p->live[--p->nlive];
}

static void player_release_run(struct player *p)
{
	unsigned cls = uz_pool_class(p->m->pool, p->live[0].off, p->live[0].size);
	unsigned n = 0, kept = 0;
	uint64_t offs[THREAD_MAX];

	for (unsigned i = 0; i < p->nlive; i++) {
		if (uz_pool_class(p->m->pool, p->live[i].off, p->live[i].size) != cls)
			p->live[kept++] = p->live[i];
		else if (intact(p->m->arena, &p->live[i]))
			offs[n++] = p->live[i].off;
	}
	if (kept + n != p->nlive || uz_pool_release_run(p->m->pool, cls, offs, n))
		p->complaints++;
	p->nlive = kept;
}

static void *play(void *arg)
{
	struct player *p = arg;

	while (uz_now_ns() < p->end_ns) {
		unsigned want = (unsigned)(rng_next(&p->rng) % THREAD_MAX);

		while (p->nlive < want && !p->complaints)
			player_alloc(p);
		while (p->nlive > want)
			player_release(p);
		if (p->nlive && want % 4 == 0)
			player_release_run(p);
	}
	return NULL;
}

/* Compact the objects of this thread's model while others play, of whose objects nobody knows. */
static void compact_meanwhile(struct model *m, uint64_t end_ns)
{
	while (uz_now_ns() < end_ns) {
		struct object *o;

		if (!uz_pool_compact_begin(m->pool))
			continue;
		for (o = m->live; o < m->live + m->nlive; o++) {
			uint64_t from = o->off;

			/* What room there was others may have taken. */
			if (!uz_pool_is_victim(m->pool, from) ||
			    uz_pool_alloc_dense(m->pool, from, &o->off))
				continue;
			memcpy(uz_arena_ptr(m->arena, o->off), uz_arena_ptr(m->arena, from),
			       o->size);
			assert_int_equal(uz_pool_release(m->pool, from), 0);
		}
		uz_pool_compact_end(m->pool);
	}
}

static void run_players(struct player *players, struct model *m, uint64_t ns)
{
	uint64_t end_ns = uz_now_ns() + ns;
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		players[i].m = m;
		players[i].end_ns = end_ns;
		assert_int_equal(pthread_create(&threads[i], NULL, play, &players[i]), 0);
	}
	compact_meanwhile(m, end_ns);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(players[i].complaints, 0);
	}
}

static void test_threads(void **state)
{
	static struct player players[THREADS];
	struct model m, rebuilt;

	model_init(&m);
	for (unsigned i = 0; i < THREADS; i++)
		players[i] = (struct player){.rng = {.state = i}};
	for (unsigned i = 0; i < 1000; i++)
		model_alloc(&m, 1000 + i % 4 * 700);
	for (unsigned i = 0; i < 600; i++)
		model_release(&m, below(m.nlive));
	for (unsigned round = 0; round < 10; round++) {
		run_players(players, &m, UZ_NSEC_PER_SEC / 5);
		assert_int_equal(uz_pool_check(m.pool), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		memcpy(m.live + m.nlive, players[i].live, players[i].nlive * sizeof(struct object));
		m.nlive += players[i].nlive;
	}
	model_check(&m);
	check_layout(&m);
	model_rebuild(&m, &rebuilt);
	assert_true(uz_pool_equal(m.pool, rebuilt.pool));
	model_done(&rebuilt);
	model_done(&m);
}

struct waiter {
	struct model *m;
	uint64_t off;
	int err;
};

static void *wait_and_alloc(void *arg)
{
	struct waiter *w = arg;

	w->err = uz_pool_alloc(w->m->pool, 1000, &w->off);
	return NULL;
}

static uint64_t times_dry(struct uz_arena *a)
{
	struct uz_arena_stat st;

	uz_arena_stat(a, &st);
	return st.dry;
}

/* While a thread waits for a new zspage, room appears in an old one: no empty zspage may stay. */
static void test_room_meanwhile(void **state)
{
	struct model m;
	struct waiter w = {.m = &m};
	uint32_t held[1024], n = 0;
	unsigned npages;
	pthread_t thread;
	uint64_t dry;
	int64_t unit;

	model_init(&m);
	model_alloc(&m, 1000);
	npages = class_of(&m, &m.live[0])->npages;
	while (m.nlive < class_of(&m, &m.live[0])->objects)
		model_alloc(&m, 1000);
	uz_arena_stop(m.arena);
	while ((unit = uz_arena_get(m.arena, npages)) >= 0 && n < 1024)
		held[n++] = (uint32_t)unit;
	assert_int_equal(unit, -ENOMEM);

	dry = times_dry(m.arena);
	assert_int_equal(pthread_create(&thread, NULL, wait_and_alloc, &w), 0);
	while (times_dry(m.arena) == dry)
		usleep(100);
	model_release(&m, 0);
	while (n)
		uz_arena_put(m.arena, npages, &held[--n], 1);
	pthread_join(thread, NULL);
	assert_int_equal(w.err, 0);
	assert_int_equal(uz_pool_check(m.pool), 0);
	assert_int_equal(uz_pool_release(m.pool, w.off), 0);
	while (m.nlive)
		model_release(&m, 0);
	model_check(&m);
	model_done(&m);
}

/* An offset at which never an object was, but which some class could have one at. Meanwhile its
 * zspage is of that class at one moment and of another at the next. */
struct intruder {
	struct model *m;
	uint64_t off;
	atomic_bool stop;
	unsigned complaints;
};

static void *release_nothing(void *arg)
{
	struct intruder *t = arg;

	while (!atomic_load(&t->stop))
		t->complaints += uz_pool_release(t->m->pool, t->off) != -EINVAL;
	return NULL;
}

static void test_release_nothing_meanwhile(void **state)
{
	enum { LARGE = 1024, SMALL = 64 };
	uint64_t end_ns = uz_now_ns() + UZ_NSEC_PER_SEC;
	static struct model m; /* outlive a failed assertion, as the thread does */
	static struct intruder t = {.m = &m};
	pthread_t thread;

	model_init(&m);
	assert_int_equal(uz_pool_class_of(m.pool, COARSE, LARGE)->npages,
			 uz_pool_class_of(m.pool, COARSE, SMALL)->npages);
	t.off = model_alloc(&m, LARGE)->off + LARGE; /* object 1 of LARGE, 16 of SMALL */
	model_release(&m, 0);
	assert_int_equal(pthread_create(&thread, NULL, release_nothing, &t), 0);
	while (uz_now_ns() < end_ns) {
		model_alloc(&m, LARGE);
		model_release(&m, 0);
		for (unsigned i = 0; i < 4; i++)
			model_alloc(&m, SMALL);
		while (m.nlive)
			model_release(&m, 0);
	}
	atomic_store(&t.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(t.complaints, 0);
	model_check(&m);
	model_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_class_of_place),
		cmocka_unit_test(test_fine_is_earned),
		cmocka_unit_test(test_fine_refused),
		cmocka_unit_test(test_every_size),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_fullest_first),
		cmocka_unit_test(test_release_refuses),
		cmocka_unit_test(test_release_run),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_compact),
		cmocka_unit_test(test_compact_abandoned),
		cmocka_unit_test(test_rebuild),
		cmocka_unit_test(test_claim_refuses),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_room_meanwhile),
		cmocka_unit_test(test_release_nothing_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

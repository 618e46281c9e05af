/* SPDX-License-Identifier: MIT
 *
 * The pool: size classes, allocation and release against a model, fullest first, compaction,
 * rebuilding.
 */
#include "pool_fixture.h"

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
	assert_int_equal(c->bytes_per_object, c->npages * PAGE / c->objects);
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
	const struct size_class *coarse = uz_pool_class_for(p, COARSE, size);
	const struct size_class *fine = uz_pool_class_for(p, FINE, size);

	assert_true(coarse->size >= size);
	check_class(coarse, 1, COARSE_PAGES);
	if (fine) {
		assert_in_range(fine->size, size, PAGE);
		check_class(fine, COARSE_PAGES + 1, UZ_UNIT_PAGES_MAX);
		assert_true(fine->bytes_per_object < coarse->bytes_per_object);
	}
	if (size >= uz_pool_huge_size(p)) {
		assert_null(fine);
		assert_int_equal(coarse->size, PAGE);
	} else if (size > 128) {
		unsigned share = fine ? fine->bytes_per_object : coarse->bytes_per_object;

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
			unsigned cls = uz_pool_class_number(m.pool,
							    uz_arena_unit_off(m.arena, n, 3), size);
			const struct size_class *c =
				uz_pool_class_for(m.pool, n > COARSE_PAGES ? FINE : COARSE, size);

			if (c && c->npages == n)
				assert_ptr_equal(&m.pool->classes[cls], c);
			else
				assert_int_equal(cls, UZ_POOL_CLASS_NONE);
		}
		assert_int_equal(uz_pool_class_number(m.pool, uz_arena_data_size(m.arena), size),
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
	coarse = uz_pool_class_for(m.pool, COARSE, SIZE);
	fine = uz_pool_class_for(m.pool, FINE, SIZE);
	first = fine->npages * PAGE / 4 / (coarse->bytes_per_object - fine->bytes_per_object);
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
	coarse = uz_pool_class_for(m.pool, COARSE, 1360);
	fine = uz_pool_class_for(m.pool, FINE, 1360);
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

		if (class_of_object(m, &m->live[i]) != c)
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
		c = class_of_object(&m, o);
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
		uint32_t size = class_of_object(&m, o)->size;

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
	cls = uz_pool_class_number(m.pool, m.live[0].off, 1000);
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
	uz_arena_set_limit(m.arena, (uint64_t)class_of_object(&m, &m.live[0])->npages * PAGE);
	while (m.nlive < class_of_object(&m, &m.live[0])->objects)
		model_alloc(&m, 1000);
	assert_int_equal(pool_alloc(m.pool, 1000, &off), -ENOSPC);
	assert_int_equal(pool_alloc(m.pool, PAGE, &off), -ENOSPC);
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
	coarse = uz_pool_class_for(p, COARSE, SIZE);
	c = uz_pool_class_for(p, FINE, SIZE);
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
		unsigned cls = uz_pool_class_number(p, unit, size);

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

/* --- a dry reserve --- */

static void empty(struct uz_arena *a, unsigned npages)
{
	while (uz_arena_try_get(a, npages) >= 0)
		;
}

static void fill_room(struct model *m, struct size_class *c)
{
	uint64_t off;

	while (c->nonempty & ((1u << GROUP_FULL) - 1))
		assert_int_equal(uz_pool_try_alloc(m->pool, 900, &off), 0);
}

static const struct size_class *class_at(const struct model *m, uint64_t off)
{
	return &m->pool->classes[uz_pool_class_number(m->pool, off, 900)];
}

/* What there is is had without a wait: room in the fine class, a ready unit for it, room in the
 * coarse class, a ready unit for that. */
static void test_order(void **state)
{
	struct size_class *fine, *coarse;
	struct uz_arena_stat st;
	uint64_t off, zspages;
	struct model m;

	model_init(&m);
	fine = uz_pool_class_for(m.pool, FINE, 900);
	coarse = uz_pool_class_for(m.pool, COARSE, 900);
	while (!fine->zspages)
		assert_int_equal(alloc_patiently(m.pool, 900, &off), 0);
	assert_true(coarse->nonempty & ((1u << GROUP_FULL) - 1));
	zspages = coarse->zspages;
	uz_arena_stop(m.arena);

	assert_int_equal(uz_pool_try_alloc(m.pool, 900, &off), 0);
	assert_ptr_equal(class_at(&m, off), fine);
	fill_room(&m, fine);
	assert_int_equal(uz_pool_try_alloc(m.pool, 900, &off), 0);
	assert_ptr_equal(class_at(&m, off), fine);
	assert_int_equal(fine->zspages, 2);

	fill_room(&m, fine);
	empty(m.arena, fine->npages);
	assert_int_equal(uz_pool_try_alloc(m.pool, 900, &off), 0);
	assert_ptr_equal(class_at(&m, off), coarse);
	assert_int_equal(coarse->zspages, zspages);
	fill_room(&m, coarse);
	assert_int_equal(pool_alloc(m.pool, 900, &off), 0);
	assert_ptr_equal(class_at(&m, off), coarse);
	assert_int_equal(coarse->zspages, zspages + 1);

	uz_arena_stat(m.arena, &st);
	assert_int_equal(st.dry, 0);
	fill_room(&m, coarse);
	empty(m.arena, coarse->npages);
	assert_int_equal(uz_pool_try_alloc(m.pool, 900, &off), -ENOMEM);
	assert_int_equal(pool_alloc(m.pool, 900, &off), -ENOMEM);
	model_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),	       cmocka_unit_test(test_class_of_place),
		cmocka_unit_test(test_fine_is_earned), cmocka_unit_test(test_fine_refused),
		cmocka_unit_test(test_every_size),     cmocka_unit_test(test_random),
		cmocka_unit_test(test_fullest_first),  cmocka_unit_test(test_release_refuses),
		cmocka_unit_test(test_release_run),    cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_compact),	       cmocka_unit_test(test_compact_abandoned),
		cmocka_unit_test(test_rebuild),	       cmocka_unit_test(test_claim_refuses),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

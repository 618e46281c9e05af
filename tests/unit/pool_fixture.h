/* SPDX-License-Identifier: MIT
 *
 * What the pool's unit tests share: objects with contents that can be checked, and a model of what
 * must be in a pool.
 *
 * Only the main thread may use cmocka's assertions; the others count their complaints.
 */
#ifndef UZ_TESTS_POOL_FIXTURE_H
#define UZ_TESTS_POOL_FIXTURE_H

/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "model/pages.h"
#include "pool/internal.h"
#include "waiting.h"

#define PAGE	 UZ_PAGE_SIZE
#define DISKSIZE (UINT64_C(64) << 20)
#define RESERVE	 (UINT64_C(4) << 20)
#define MAX	 20000 /* objects of a model */

/* The main thread's. */
static inline unsigned below(unsigned n)
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
static inline void fill(struct uz_arena *a, const struct object *o)
{
	memset(uz_arena_ptr(a, o->off), (unsigned char)(o->salt * 167 + 13), o->size);
	if (o->size >= sizeof(o->salt))
		memcpy(uz_arena_ptr(a, o->off), &o->salt, sizeof(o->salt));
}

static inline bool intact(struct uz_arena *a, const struct object *o)
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

static inline void model_init(struct model *m)
{
	*m = (struct model){.live = calloc(MAX, sizeof(struct object))};
	assert_int_equal(uz_arena_new(DISKSIZE, &m->arena), 0);
	assert_int_equal(uz_pool_new(m->arena, &m->pool), 0);
	assert_int_equal(uz_arena_start(m->arena, RESERVE, true, NULL, NULL), 0);
}

static inline void model_done(struct model *m)
{
	uz_arena_stop(m->arena);
	uz_pool_free(m->pool);
	uz_arena_free(m->arena);
	free(m->live);
}

static inline int pool_alloc(struct uz_pool *p, size_t size, uint64_t *ret_off)
{
	struct uz_wait wait = {0};

	return uz_pool_alloc(p, size, &wait, ret_off);
}

/* On a machine so busy that the refill thread does not run for UZ_ARENA_WAIT_MS, try again. */
static inline int alloc_patiently(struct uz_pool *p, size_t size, uint64_t *ret_off)
{
	int err = -ENOMEM;

	for (unsigned i = 0; err == -ENOMEM && i < 10; i++) {
		usleep(i * UZ_ARENA_WAIT_MS * 1000);
		err = pool_alloc(p, size, ret_off);
	}
	return err;
}

static inline const struct object *model_alloc(struct model *m, size_t size)
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

static inline void model_release(struct model *m, unsigned i)
{
	assert_true(intact(m->arena, &m->live[i]));
	assert_int_equal(uz_pool_release(m->pool, m->live[i].off), 0);
	m->live[i] = m->live[--m->nlive];
}

static inline const struct size_class *class_of_object(const struct model *m,
						       const struct object *o)
{
	return &m->pool->classes[uz_pool_class_number(m->pool, o->off, o->size)];
}

static inline void model_check(struct model *m)
{
	struct uz_pool_stat st;
	struct uz_arena_stat arena;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < m->nlive; i++) {
		assert_true(intact(m->arena, &m->live[i]));
		bytes += class_of_object(m, &m->live[i])->size;
	}
	uz_pool_stat(m->pool, &st);
	uz_arena_stat(m->arena, &arena);
	assert_int_equal(uz_pool_check(m->pool), 0);
	assert_int_equal(st.objects, m->nlive);
	assert_int_equal(st.object_bytes, bytes);
	assert_int_equal(st.pages, arena.used_pages);
}

/* A size as compressed pages have them: any, but mostly around a third of a page. */
static inline size_t random_size(void)
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

static inline int by_offset(const void *x, const void *y)
{
	const struct object *a = x, *b = y;

	return a->off < b->off ? -1 : a->off > b->off;
}

/* Objects lie within their units, and apart. */
static inline void check_layout(struct model *m)
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
		assert_int_equal(npages, class_of_object(m, o)->npages);
		assert_true(
			uz_arena_locate(m->arena, o->off + o->size - 1, &npages, &last, &within));
		assert_int_equal(first, last);
		if (i + 1 < m->nlive)
			assert_true(o->off + o->size <= m->live[i + 1].off);
	}
}

/* Attach to m's arena as a new process would, and make a pool from m's objects, in any order. */
static inline void model_rebuild(struct model *m, struct model *ret)
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

#endif

/* SPDX-License-Identifier: MIT
 *
 * What the store's unit tests share: one arena, store and worker at a time, and pages that are told
 * by a number.
 */
#ifndef UZ_TESTS_STORE_FIXTURE_H
#define UZ_TESTS_STORE_FIXTURE_H

/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "../model/pages.h"
#include "store/internal.h"

#define PAGE  ((size_t)UZ_PAGE_SIZE)
#define SLOTS UINT64_C(2048)
#define NEVER 60000 /* ms, an age that no test lives to see: what is pushed stays pending */

static struct uz_arena *arena;
static struct uz_store *store;
static struct uz_worker *worker;
static struct uz_store_config config; /* the store's */

static inline void open_store(void)
{
	config.arena = arena;
	assert_int_equal(uz_store_new(&config, &store), 0);
	assert_int_equal(uz_worker_new(store, &worker), 0);
}

static inline void close_store(void)
{
	uz_worker_free(worker);
	uz_store_free(store);
	worker = NULL;
	store = NULL;
}

/* Throw the store away and build another on the same arena. */
static inline void reopen_store(void)
{
	close_store();
	open_store();
}

static inline int setup(void **state)
{
	config = (struct uz_store_config){
		.size = sizeof(struct uz_store_config),
		.codec = UZ_CODEC_LZ4,
		.level = 1,
		.reserve = 1 << 20,
		.deferred = true,
		.defer_spares = 8,
		.defer_age_ms = NEVER,
	};
	assert_int_equal(uz_arena_new(SLOTS * PAGE, &arena), 0);
	open_store();
	return 0;
}

static inline int teardown(void **state)
{
	close_store();
	uz_arena_free(arena);
	arena = NULL;
	return 0;
}

/* The page of that number, the same whenever it is made. */
static inline void make_page(enum page_kind kind, uint64_t number, void *page)
{
	struct rng rng;

	rng_init(&rng, kind, number);
	page_fill(page, kind, &rng);
}

static inline int write_page(uint64_t slot, enum page_kind kind, uint64_t number)
{
	unsigned char page[PAGE];

	make_page(kind, number, page);
	return uz_write(worker, slot * PAGE, PAGE, page);
}

static inline void put_page(uint64_t slot, enum page_kind kind, uint64_t number)
{
	assert_int_equal(write_page(slot, kind, number), 0);
}

static inline void assert_page(uint64_t slot, enum page_kind kind, uint64_t number)
{
	unsigned char page[PAGE], want[PAGE];

	make_page(kind, number, want);
	assert_int_equal(uz_read(worker, slot * PAGE, PAGE, page), 0);
	assert_memory_equal(page, want, PAGE);
}

static inline void assert_zero(uint64_t slot)
{
	assert_page(slot, PAGE_ZERO, 0);
}

static inline struct uz_store_stat get_stat(void)
{
	struct uz_store_stat st;

	uz_store_stat(store, &st);
	return st;
}

static inline uz_entry entry(uint64_t slot)
{
	return atomic_load(&uz_arena_table(arena)[slot]);
}

#endif

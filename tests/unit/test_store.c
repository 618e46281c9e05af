/* SPDX-License-Identifier: MIT
 *
 * The store through its API: arguments, contents of all kinds, statistics.
 */
#include "store_fixture.h"

#include <errno.h>
#include <unistd.h>

#include "arena/internal.h"
#include "pool/internal.h"

/* --- arguments --- */

static void test_config(void **state)
{
	static const struct {
		enum uz_codec codec;
		int level;
		unsigned spares, age;
	} bad[] = {
		{UZ_CODEC_NONE, 1, 8, 10},  {UZ_CODEC_SAME, 1, 8, 10},	{UZ_CODEC_RAW, 1, 8, 10},
		{UZ_CODEC_COUNT, 1, 8, 10}, {UZ_CODEC_LZ4, 0, 8, 10},	{UZ_CODEC_LZ4, 65, 8, 10},
		{UZ_CODEC_ZSTD, -8, 8, 10}, {UZ_CODEC_ZSTD, 20, 8, 10}, {UZ_CODEC_LZ4, 1, 0, 10},
		{UZ_CODEC_LZ4, 1, 8, 0},
	};
	struct uz_store *const untouched = (void *)&config;
	struct uz_store *s = untouched;

	put_page(3, PAGE_TEXT, 3);
	close_store();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct uz_store_config c = config;

		c.codec = bad[i].codec;
		c.level = bad[i].level;
		c.defer_spares = bad[i].spares;
		c.defer_age_ms = bad[i].age;
		assert_int_equal(uz_store_new(&c, &s), -EINVAL);
		assert_ptr_equal(s, untouched);
	}
	for (unsigned i = 0; i < 2; i++) { /* forgotten: the size, the arena */
		struct uz_store_config c = config;

		if (i)
			c.arena = NULL;
		else
			c.size = 0;
		assert_int_equal(uz_store_new(&c, &s), -EINVAL);
	}
	assert_ptr_equal(s, untouched);
	open_store();
	assert_page(3, PAGE_TEXT, 3);
	assert_int_equal(uz_store_codec(store), UZ_CODEC_LZ4);
	assert_int_equal(uz_store_disksize(store), SLOTS * PAGE);
	uz_store_free(NULL);
	uz_worker_free(NULL);
}

/* Programs that were built with the header of another version. */
static void test_other_versions(void **state)
{
	struct {
		struct uz_store_config config;
		uint64_t more;
	} new = {.config = config, .more = 1};
	struct {
		struct uz_store_stat stat;
		uint64_t more;
	} st;
	struct uz_store_config old = config;
	struct uz_store *s = NULL;

	/* One that doesn't know how frees are deferred, nor that its struct may grow. */
	put_page(3, PAGE_TEXT, 3);
	close_store();
	old.compact = old.deferred = true;
	old.size = offsetof(struct uz_store_config, deferred);
	assert_int_equal(uz_store_new(&old, &store), 0);
	assert_int_equal(uz_worker_new(store, &worker), 0);
	assert_page(3, PAGE_TEXT, 3);
	assert_int_equal(uz_discard(worker, 0, SLOTS * PAGE), 0);
	assert_int_equal(get_stat().defer_pushed, 0);
	close_store();

	new.config.size = sizeof(new);
	assert_int_equal(uz_store_new(&new.config, &s), -E2BIG);
	assert_null(s);
	new.more = 0;
	assert_int_equal(uz_store_new(&new.config, &store), 0);

	memset(&st, 0xee, sizeof(st));
	st.stat.size = offsetof(struct uz_store_stat, compr_bytes);
	uz_store_get_stat(store, &st.stat);
	assert_int_equal(st.stat.size, offsetof(struct uz_store_stat, compr_bytes));
	assert_int_equal(st.stat.pages_stored, 0);
	assert_true(st.stat.compr_bytes == UINT64_C(0xeeeeeeeeeeeeeeee)); /* not its memory */
	st.stat.size = sizeof(st);
	uz_store_get_stat(store, &st.stat);
	assert_int_equal(st.stat.size, sizeof(st.stat));
	assert_int_equal(st.stat.compr_bytes, 0);
	assert_int_equal(st.stat.mem_limit, config.mem_limit);
	assert_int_equal(st.more, 0);
}

static void test_range(void **state)
{
	const uint64_t size = SLOTS * PAGE;
	const struct {
		uint64_t off, len;
	} bad[] = {
		{size, 1},
		{size - 1, 2},
		{size - PAGE, PAGE + 1},
		{0, size + 1},
		{size + PAGE, PAGE},
		{UINT64_MAX, 1},
		{UINT64_MAX - PAGE + 1, 2 * PAGE},
		{PAGE, UINT64_MAX},
		{PAGE, UINT64_MAX - PAGE + 1},
		{UINT64_MAX, UINT64_MAX},
	};
	const size_t nbad = sizeof(bad) / sizeof(bad[0]);
	char byte = 1;

	put_page(0, PAGE_TEXT, 1);
	put_page(SLOTS - 1, PAGE_TEXT, 2);
	for (size_t i = 0; i < nbad; i++) {
		assert_int_equal(uz_read(worker, bad[i].off, bad[i].len, &byte), -EINVAL);
		assert_int_equal(uz_write(worker, bad[i].off, bad[i].len, &byte), -EINVAL);
		assert_int_equal(uz_discard(worker, bad[i].off, bad[i].len), -EINVAL);
	}
	assert_int_equal(byte, 1);
	assert_int_equal(get_stat().invalid_io, 3 * nbad);
	assert_page(0, PAGE_TEXT, 1);
	assert_page(SLOTS - 1, PAGE_TEXT, 2);

	assert_int_equal(uz_read(worker, size, 0, NULL), 0);
	assert_int_equal(uz_write(worker, 0, 0, NULL), 0);
	assert_int_equal(uz_discard(worker, size, 0), 0);
	assert_int_equal(uz_write(worker, size - 1, 1, &byte), 0);
	byte = 0;
	assert_int_equal(uz_read(worker, size - 1, 1, &byte), 0);
	assert_int_equal(byte, 1);
	assert_int_equal(get_stat().invalid_io, 3 * nbad);
}

/* --- contents --- */

static void test_empty(void **state)
{
	struct uz_store_stat st = get_stat();

	for (uint64_t slot = 0; slot < SLOTS; slot += 100)
		assert_zero(slot);
	assert_int_equal(st.pages_stored + st.compr_bytes + st.mem_used + st.mem_used_max, 0);
	assert_in_range(st.table_bytes, SLOTS * sizeof(uz_entry),
			SLOTS * sizeof(uz_entry) + 2 * PAGE);
	assert_in_range(st.mem_ready, 1, 2 * config.reserve);
	assert_int_equal(st.defer_spares, config.defer_spares);
}

/* Each kind of page, changed in a part, with the change reaching into the next page. */
static void test_part_of_page(void **state)
{
	for (enum page_kind kind = PAGE_ZERO; kind < PAGE_KINDS; kind++) {
		unsigned char want[2 * PAGE], got[2 * PAGE], change[1000];
		uint64_t slot = kind * 2;

		make_page(kind, slot, want);
		make_page(kind, slot + 1, want + PAGE);
		make_page(PAGE_RANDOM, slot, got);
		memcpy(change, got, sizeof(change));
		if (kind != PAGE_ZERO)
			assert_int_equal(uz_write(worker, slot * PAGE, 2 * PAGE, want), 0);

		assert_int_equal(uz_write(worker, slot * PAGE + 3500, sizeof(change), change), 0);
		memcpy(want + 3500, change, sizeof(change));
		assert_int_equal(uz_read(worker, slot * PAGE, 2 * PAGE, got), 0);
		assert_memory_equal(got, want, 2 * PAGE);

		assert_int_equal(uz_discard(worker, slot * PAGE + 4000, 200), 0);
		memset(want + 4000, 0, 200);
		assert_int_equal(uz_read(worker, slot * PAGE + 1, 2 * PAGE - 2, got), 0);
		assert_memory_equal(got, want + 1, 2 * PAGE - 2);
	}
}

/* Whole pages of a discarded range are freed, parts of pages are made zero. */
static void test_discard(void **state)
{
	unsigned char want[4 * PAGE], got[4 * PAGE];

	for (unsigned i = 0; i < 4; i++) {
		put_page(i, PAGE_RANDOM, i);
		make_page(PAGE_RANDOM, i, want + i * PAGE);
	}
	assert_int_equal(uz_discard(worker, 100, 3 * PAGE), 0);
	memset(want + 100, 0, 3 * PAGE);
	assert_int_equal(uz_read(worker, 0, 4 * PAGE, got), 0);
	assert_memory_equal(got, want, 4 * PAGE);
	assert_int_equal(get_stat().notify_free, 2);
	assert_int_equal(get_stat().pages_stored, 2);

	/* An empty slot is not freed again, and stays empty. */
	assert_int_equal(uz_discard(worker, 0, 4 * PAGE), 0);
	assert_int_equal(uz_discard(worker, 0, SLOTS * PAGE), 0);
	assert_int_equal(uz_discard(worker, 10, PAGE), 0);
	assert_int_equal(get_stat().notify_free, 4);
	assert_int_equal(get_stat().pages_stored, 0);
}

static void test_same_filled(void **state)
{
	static const struct {
		uint64_t word;
		bool fits;
	} words[] = {
		{0, true},
		{UINT64_MAX, true},
		{0x5a5a5a5a5a5a5a5a, true},
		{0x8000000180000001, true},
		{0x0123456789abcdef, false},
		{0xffffffff00000000, false},
		{1, false},
	};
	uint64_t nwords = sizeof(words) / sizeof(words[0]), objects = 0;
	struct uz_pool_stat pool;
	unsigned char page[PAGE];

	for (uint64_t slot = 0; slot < nwords; slot++) {
		uz_codec_fill(page, words[slot].word);
		assert_int_equal(uz_write(worker, slot * PAGE, PAGE, page), 0);
		assert_int_equal(uz_entry_codec(entry(slot)), UZ_CODEC_SAME);
		assert_int_equal(uz_entry_is_inline(entry(slot)), words[slot].fits);
		objects += !words[slot].fits;
		uz_pool_stat(store->pool, &pool);
		assert_int_equal(pool.objects, objects);
	}
	assert_int_equal(get_stat().same_pages, nwords);
	assert_int_equal(get_stat().compr_bytes, 0);
	for (int round = 0; round < 2; round++) {
		for (uint64_t slot = 0; slot < nwords; slot++) {
			unsigned char want[PAGE];

			uz_codec_fill(want, words[slot].word);
			assert_int_equal(uz_read(worker, slot * PAGE, PAGE, page), 0);
			assert_memory_equal(page, want, PAGE);
		}
		reopen_store();
	}
	assert_int_equal(get_stat().same_pages, nwords);
}

/* The page of noise number and 'n's, as long as its noise is. */
static void make_noisy(size_t noise, uint64_t number, unsigned char *page)
{
	make_page(PAGE_RANDOM, number, page);
	memset(page + noise, 'n', PAGE - noise);
}

/* Whether compressing that page wins something. */
static bool compression_wins(struct uz_codec_ctx *ctx, const unsigned char *page)
{
	unsigned char object[PAGE];
	enum uz_codec codec;
	size_t size = uz_codec_encode(ctx, page, object, PAGE, &codec) + UZ_SUM_SIZE;

	return size < uz_pool_huge_size(store->pool);
}

static void test_raw(void **state)
{
	static const enum uz_codec codecs[] = {UZ_CODEC_LZ4, UZ_CODEC_ZSTD};
	const size_t noise_min = 3500, count = PAGE - noise_min;
	unsigned char page[PAGE], got[PAGE];
	uint64_t raw = 0;

	for (size_t i = 0; i < 2 * count; i++) {
		struct uz_codec_ctx *ctx;
		bool wins;

		if (i % count == 0) {
			close_store();
			config.codec = codecs[i / count];
			open_store();
		}
		make_noisy(noise_min + i % count, i, page);
		assert_int_equal(uz_codec_ctx_new(config.codec, config.level, &ctx), 0);
		wins = compression_wins(ctx, page);
		uz_codec_ctx_free(ctx);
		raw += !wins;
		assert_int_equal(uz_write(worker, i * PAGE, PAGE, page), 0);
		assert_int_equal(uz_entry_codec(entry(i)), wins ? config.codec : UZ_CODEC_RAW);
	}
	assert_in_range(raw, count, 2 * count - 100);
	assert_int_equal(get_stat().huge_pages, raw);
	for (size_t i = 0; i < 2 * count; i++) {
		make_noisy(noise_min + i % count, i, page);
		assert_int_equal(uz_read(worker, i * PAGE, PAGE, got), 0);
		assert_memory_equal(got, page, PAGE);
	}
}

/* Pages of another codec than the store's are read all the same. */
static void test_codec_changes(void **state)
{
	for (uint64_t slot = 0; slot < 6; slot++) {
		close_store();
		config.codec = slot % 2 ? UZ_CODEC_ZSTD : UZ_CODEC_LZ4;
		config.level = slot % 2 ? 3 : 1;
		open_store();
		put_page(slot, PAGE_TEXT, slot);
		assert_int_equal(uz_entry_codec(entry(slot)), config.codec);
		for (uint64_t before = 0; before <= slot; before++)
			assert_page(before, PAGE_TEXT, before);
	}
}

/* Another store, and another process's attachment, find all there is. */
static void test_reopen(void **state)
{
	for (uint64_t slot = 0; slot < 100; slot++)
		put_page(slot, (enum page_kind)(slot % PAGE_KINDS), slot);
	for (int round = 0; round < 2; round++) {
		struct uz_arena *attached;

		reopen_store();
		for (uint64_t slot = 0; slot < 100; slot++)
			assert_page(slot, (enum page_kind)(slot % PAGE_KINDS), slot);
		assert_zero(100);
		assert_int_equal(get_stat().pages_stored, 100);
		assert_int_equal(uz_pool_check(store->pool), 0);
		close_store();
		assert_int_equal(uz_arena_attach(uz_arena_fd(arena), &attached), 0);
		uz_arena_free(arena);
		arena = attached;
		open_store();
	}
}

/* --- statistics --- */

static size_t encoded_len(enum page_kind kind, uint64_t number)
{
	unsigned char page[PAGE], object[PAGE];
	struct uz_codec_ctx *ctx;
	enum uz_codec codec;
	size_t len;

	make_page(kind, number, page);
	assert_int_equal(uz_codec_ctx_new(config.codec, config.level, &ctx), 0);
	len = uz_codec_encode(ctx, page, object, store->max_encoded, &codec);
	uz_codec_ctx_free(ctx);
	return len;
}

static void test_statistics(void **state)
{
	size_t text = encoded_len(PAGE_TEXT, 2), mixed = encoded_len(PAGE_MIXED, 3);
	struct uz_pool_stat pool;
	struct uz_store_stat st;
	char some[3 * PAGE];

	put_page(0, PAGE_INLINE, 0);
	put_page(1, PAGE_WORD, 1);
	put_page(2, PAGE_TEXT, 2);
	put_page(3, PAGE_MIXED, 3);
	put_page(4, PAGE_RANDOM, 4);
	put_page(5, PAGE_RANDOM, 5);
	assert_int_equal(uz_read(worker, 0, 3 * PAGE, some), 0);
	assert_int_equal(uz_read(worker, 3 * PAGE - 1, 2, some), 0);
	st = get_stat();
	uz_pool_stat(store->pool, &pool);
	assert_int_equal(st.pages_stored, 6);
	assert_int_equal(st.compr_bytes, text + mixed + 2 * PAGE);
	assert_int_equal(st.same_pages, 2);
	assert_int_equal(st.huge_pages, 2);
	assert_int_equal(st.huge_pages_since, 2);
	assert_int_equal(pool.objects, 5);
	assert_int_equal(st.mem_used, pool.pages * PAGE);
	assert_int_equal(st.mem_used_max, st.mem_used);
	assert_int_equal(st.writes, 6);
	assert_int_equal(st.reads, 5);
	assert_int_equal(st.failed_reads + st.failed_writes + st.corrupt + st.notify_free, 0);
	assert_int_equal(st.defer_pushed, 0);

	/* What an overwrite and a discard let go of is counted at once. */
	put_page(4, PAGE_TEXT, 2);
	put_page(3, PAGE_RANDOM, 6);
	assert_int_equal(uz_discard(worker, PAGE, 2 * PAGE), 0);
	st = get_stat();
	assert_int_equal(st.pages_stored, 4);
	assert_int_equal(st.compr_bytes, text + 2 * PAGE);
	assert_int_equal(st.same_pages, 1);
	assert_int_equal(st.huge_pages, 2);
	assert_int_equal(st.huge_pages_since, 3);
	assert_int_equal(st.writes, 8);
	assert_int_equal(st.notify_free, 2);
	assert_int_equal(st.defer_pushed, 4);

	/* Contents are counted anew by a new store, requests aren't. */
	reopen_store();
	st = get_stat();
	assert_int_equal(st.pages_stored, 4);
	assert_int_equal(st.compr_bytes, text + 2 * PAGE);
	assert_int_equal(st.same_pages, 1);
	assert_int_equal(st.huge_pages, 2);
	assert_int_equal(st.writes + st.reads + st.huge_pages_since + st.defer_pushed, 0);
	uz_pool_stat(store->pool, &pool);
	assert_int_equal(pool.objects, 3);
	assert_int_equal(st.mem_used, pool.pages * PAGE);
}

/* How many pages are stored is known without the locks that all statistics take. */
static void test_pages_stored(void **state)
{
	struct size_class *c = &store->pool->classes[0];
	struct area *area = &arena->areas[0];
	uint64_t pages;

	for (uint64_t slot = 0; slot < 10; slot++)
		put_page(slot, (enum page_kind)(slot % PAGE_KINDS), slot);
	put_page(0, PAGE_RANDOM, 0);
	assert_int_equal(uz_discard(worker, 9 * PAGE, PAGE), 0);
	uz_spin_lock(&c->lock);
	uz_spin_lock(&area->lock);
	pages = uz_store_pages_stored(store);
	uz_spin_unlock(&area->lock);
	uz_spin_unlock(&c->lock);
	assert_int_equal(pages, get_stat().pages_stored);
	assert_in_range(pages, 1, 9);
}

/* The counters of workers that are gone stay. */
static void test_statistics_of_workers(void **state)
{
	struct uz_worker *other;

	assert_int_equal(uz_worker_new(store, &other), 0);
	put_page(0, PAGE_RANDOM, 0);
	assert_int_equal(uz_discard(other, 0, PAGE), 0);
	for (int alive = 1; alive >= 0; alive--) {
		struct uz_store_stat st = get_stat();

		assert_int_equal(st.pages_stored + st.compr_bytes + st.huge_pages, 0);
		assert_int_equal(st.writes, 1);
		assert_int_equal(st.notify_free, 1);
		uz_store_flush(store);
		assert_int_equal(get_stat().defer_pending_bytes, 0);
		if (alive)
			uz_worker_free(other);
	}
}

static void test_reset_max(void **state)
{
	for (uint64_t slot = 0; slot < 10; slot++)
		put_page(slot, PAGE_RANDOM, slot);
	assert_int_equal(uz_discard(worker, 0, 9 * PAGE), 0);
	uz_store_flush(store);
	assert_int_equal(get_stat().mem_used, PAGE);
	assert_int_equal(get_stat().mem_used_max, 10 * PAGE);
	uz_store_reset_max(store);
	assert_int_equal(get_stat().mem_used_max, PAGE);
	put_page(0, PAGE_RANDOM, 0);
	assert_int_equal(get_stat().mem_used_max, 2 * PAGE);
}

static void test_compact(void **state)
{
	uint64_t before, freed;

	for (uint64_t slot = 0; slot < SLOTS; slot++)
		put_page(slot, PAGE_TEXT, slot);
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		if (slot % 8)
			assert_int_equal(uz_discard(worker, slot * PAGE, PAGE), 0);
	}
	uz_store_flush(store);
	before = get_stat().mem_used;
	freed = uz_store_compact(store);
	assert_true(freed > before / PAGE / 2);
	assert_int_equal(get_stat().mem_used, before - freed * PAGE);
	assert_int_equal(get_stat().pages_compacted, freed);
	assert_int_equal(uz_pool_check(store->pool), 0);
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		assert_page(slot, slot % 8 ? PAGE_ZERO : PAGE_TEXT, slot);
	assert_int_equal(uz_store_compact(store), 0);
}

/* One compaction ends, however much is left to do: each round takes 512 victims of a class. */
static void test_compact_is_bounded(void **state)
{
	const uint64_t slots = 20000, most = UZ_COMPACT_ROUNDS * 512;
	unsigned char page[PAGE];

	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(uz_arena_new(slots * PAGE, &arena), 0);
	open_store();
	for (uint64_t slot = 0; slot < slots; slot++) {
		make_noisy(1960, slot, page); /* two fit into a zspage of a page */
		assert_int_equal(uz_write(worker, slot * PAGE, PAGE, page), 0);
	}
	for (uint64_t slot = 0; slot < slots; slot += 2)
		assert_int_equal(uz_discard(worker, slot * PAGE, PAGE), 0);
	assert_int_equal(uz_store_compact(store), most);
	assert_in_range(uz_store_compact(store), slots / 4 - most - 10, slots / 4 - most);
	assert_int_equal(uz_store_compact(store), 0);
}

/* When a quarter of a store is left, scattered, it closes up without being told; and then it
 * rests. */
static void test_compact_by_itself(void **state)
{
	struct uz_store_stat st;
	uint64_t patience = 10000;

	close_store();
	config.compact = true;
	config.defer_age_ms = 1;
	open_store();
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		put_page(slot, PAGE_TEXT, slot);
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		if (slot % 4)
			assert_int_equal(uz_discard(worker, slot * PAGE, PAGE), 0);
	}
	do {
		usleep(1000);
		st = get_stat();
		/* It is counted at the end of a pass. */
	} while ((st.mem_used > st.compr_bytes + (512 << 10) || !st.pages_compacted) && --patience);
	assert_true(patience > 0);
	assert_true(st.moved_bytes > 0);
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		assert_page(slot, slot % 4 ? PAGE_ZERO : PAGE_TEXT, slot);
}

static void test_two_stores(void **state)
{
	struct uz_store_config other_config = config;
	struct uz_arena *other_arena;
	struct uz_store *other;
	struct uz_worker *w;
	unsigned char page[PAGE], want[PAGE];

	assert_int_equal(uz_arena_new(SLOTS / 2 * PAGE, &other_arena), 0);
	other_config.arena = other_arena;
	other_config.codec = UZ_CODEC_ZSTD;
	assert_int_equal(uz_store_new(&other_config, &other), 0);
	assert_int_equal(uz_worker_new(other, &w), 0);
	make_page(PAGE_MIXED, 1, want);
	put_page(7, PAGE_TEXT, 7);
	assert_int_equal(uz_write(w, 7 * PAGE, PAGE, want), 0);
	assert_int_equal(uz_write(w, (SLOTS - 1) * PAGE, PAGE, want), -EINVAL);
	put_page(SLOTS - 1, PAGE_TEXT, 8);
	assert_int_equal(get_stat().invalid_io, 0);
	assert_int_equal(uz_read(w, 7 * PAGE, PAGE, page), 0);
	assert_memory_equal(page, want, PAGE);
	uz_worker_free(w);
	uz_store_free(other);
	uz_arena_free(other_arena);
	assert_page(7, PAGE_TEXT, 7);
	assert_page(SLOTS - 1, PAGE_TEXT, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_range, setup, teardown),
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_part_of_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_discard, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_filled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_raw, setup, teardown),
		cmocka_unit_test_setup_teardown(test_codec_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reopen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_statistics, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages_stored, setup, teardown),
		cmocka_unit_test_setup_teardown(test_statistics_of_workers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_max, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compact, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compact_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compact_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_stores, setup, teardown),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}

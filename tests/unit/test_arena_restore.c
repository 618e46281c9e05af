/* SPDX-License-Identifier: MIT
 *
 * Taking over an arena that another process left.
 */
#include "arena_fixture.h"

#include <stdio.h>

static bool is_used(void *context, unsigned npages, uint32_t unit)
{
	struct model *m = context;

	return m->used[npages][unit];
}

/* A process dies; of the units it held only some are named by the slot table. The rest of its
 * memory is the next one's reserve, and what is too much for that goes back to the kernel. */
static void test_restore(void **state)
{
	for (unsigned keep = 0; keep <= 100; keep += 25) {
		struct uz_arena *a = started_arena(), *b;
		uint32_t end[SIZES] = {0};
		_Atomic unsigned told = 0;
		struct model m, n;
		uint64_t memory;

		model_init(&m, a);
		while (m.nheld < HELD_MAX)
			model_get(&m, 1 + below(SIZES));
		assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
		uz_arena_stop(a);
		memory = file_memory(a);

		model_init(&n, b);
		for (unsigned i = 0; i < m.nheld; i++) {
			struct unit u = m.held[i];

			if (below(100) >= keep)
				continue;
			n.used[u.npages][u.number] = true;
			n.held[n.nheld++] = u;
			n.pages += u.npages;
			if (u.number >= end[u.npages - 1])
				end[u.npages - 1] = u.number + 1;
		}
		n.max = n.pages;
		assert_int_equal(uz_arena_survey(b), 0);
		assert_int_equal(uz_arena_restore(b, end, is_used, &n), 0);
		model_check(&n);
		assert_int_equal(file_memory(b), memory);
		assert_int_equal(stat_of(b).table_bytes + (n.pages + stat_of(b).ready_pages) * PAGE,
				 memory);

		/* model_get() sees to it that none is handed out twice. */
		assert_int_equal(uz_arena_start(b, RESERVE, true, count_surplus, &told), 0);
		/* Of what the dead had ready some sizes may have more than is wanted now. */
		assert_true(told != 0 || keep == 100);
		while (n.nheld < HELD_MAX)
			model_get(&n, 1 + below(SIZES));
		while (n.nheld)
			model_put(&n, below(n.nheld));
		model_check(&n);
		model_done(&m);
		model_done(&n);
	}
}

static void set_page(struct uz_arena *a, unsigned npages, uint32_t unit, unsigned page, bool there)
{
	off_t off = (off_t)(a->sb.data_off + uz_arena_unit_off(a, npages, unit) + page * PAGE);
	int mode = there ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (there)
		assert_int_equal(pwrite(uz_arena_fd(a), "x", 1, off), 1);
	else
		assert_int_equal(fallocate(uz_arena_fd(a), mode, off, PAGE), 0);
}

static bool none_used(void *context, unsigned npages, uint32_t unit)
{
	return false;
}

static bool one_used(void *context, unsigned npages, uint32_t unit)
{
	return npages == 3 && unit == 12;
}

/* Units that were being populated or punched when the process died have memory in a part, which is
 * given back. What is used is left alone, whatever the survey finds there. */
static void test_survey_parts(void **state)
{
	static const uint32_t end[SIZES] = {[2] = 13};
	struct uz_arena *a = new_arena();
	uint64_t table = stat_of(a).table_bytes;
	uint32_t last = uz_arena_nunits(a, 8) - 1;

	for (unsigned page = 0; page < 3; page++) {
		set_page(a, 3, 4, page, true);
		set_page(a, 3, 5, page, true);
		set_page(a, 3, 9, page, true);
	}
	set_page(a, 3, 3, 2, true);  /* the end of a unit, before whole ones */
	set_page(a, 3, 6, 0, true);  /* the beginning, after them */
	set_page(a, 3, 12, 1, true); /* the middle, of the one that is used */
	set_page(a, 3, 13, 2, true); /* both ends */
	set_page(a, 3, 13, 0, true);
	set_page(a, 8, last, 7, true); /* the very last page */

	assert_int_equal(uz_arena_survey(a), 0);
	assert_int_equal(file_memory(a), table + 15 * PAGE);
	for (unsigned n = 1; n <= SIZES; n++) {
		uint32_t surveyed = n == 3 ? 14 : n == 8 ? last + 1 : 0;
		uint64_t off = uz_arena_unit_off(a, n, surveyed);

		assert_int_equal(uz_arena_surveyed(a, uz_arena_unit_off(a, n, 0)), surveyed != 0);
		if (surveyed)
			assert_true(uz_arena_surveyed(a, off - 1));
		assert_false(n != 8 && uz_arena_surveyed(a, off));
	}
	assert_false(uz_arena_surveyed(a, uz_arena_data_size(a)));
	assert_false(uz_arena_surveyed(a, UINT64_MAX));
	assert_int_equal(uz_arena_restore(a, end, one_used, NULL), 0);
	assert_int_equal(file_memory(a), table + 10 * PAGE);
	assert_int_equal(stat_of(a).ready_pages, 9);
	assert_int_equal(stat_of(a).used_pages, 3);
	uz_arena_free(a);
}

/* KiB of page tables of this process. */
static unsigned long page_tables(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kib = 0;
	char line[256];

	assert_non_null(f);
	while (!kib && fgets(line, sizeof(line), f))
		sscanf(line, "VmPTE: %lu", &kib);
	fclose(f);
	assert_true(kib > 0);
	return kib;
}

/* Without a sanitizer's shadow memory, which has page tables, too. */
__attribute__((no_sanitize("address,thread"))) static void poke(volatile char *to, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		to[i] = 2;
}

/* In another process's arena, a first touch of what has memory takes none, when that is prepared;
 * which the survey leaves to others, as it may have to wait for memory. */
static void test_prepare_tables(void **state)
{
	enum { UNITS = 4096 };
	static const uint32_t end[SIZES];
	struct uz_arena *a = new_arena(), *b;
	unsigned long before, surveyed;
	uint64_t memory;

	for (unsigned n = 1; n <= SIZES; n += 3) {
		for (uint32_t unit = 0; unit < UNITS; unit += 1 + below(64))
			memset(uz_arena_ptr(a, uz_arena_unit_off(a, n, unit)), 1, n * PAGE);
	}
	memory = file_memory(a);
	assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
	before = page_tables();
	assert_int_equal(uz_arena_survey(b), 0);
	assert_int_equal(uz_arena_restore(b, end, none_used, NULL), 0);
	surveyed = page_tables();
	assert_in_range(surveyed, before, before + 200); /* of its own memory */
	uz_arena_prepare_tables(b);
	assert_int_equal(file_memory(b), memory);
	before = page_tables();
	assert_true(before >= surveyed + 300);
	for (unsigned n = 1; n <= SIZES; n += 3) {
		const struct area *ar = uz_area_of(b, n);

		for (uint32_t unit = uz_bits_next(&ar->ready, 0); unit != UZ_BITS_NONE;
		     unit = uz_bits_next(&ar->ready, unit + 1))
			poke(uz_arena_ptr(b, uz_arena_unit_off(b, n, unit)), n * PAGE);
	}
	/* The units spread over 384 KiB of them; sanitizers need a few for themselves. */
	assert_in_range(page_tables(), before, before + 16);
	assert_int_equal(file_memory(b), memory);
	uz_arena_free(a);
	uz_arena_free(b);
}

/* On the same attachment, a pass over the surplus that was not ended is no pass of the next
 * store's. */
static void test_restore_ends_pass(void **state)
{
	static const uint32_t end[SIZES];
	struct uz_arena *a = started_arena();
	_Atomic unsigned told = 0;
	struct uz_extent e[1];
	struct model m;

	model_init(&m, a);
	for (unsigned n = 1; n <= 2; n++) {
		for (unsigned i = 0; i < 1000; i++)
			model_get(&m, n);
	}
	while (m.nheld)
		model_put(&m, m.nheld - 1);
	assert_int_equal(uz_arena_trim_begin(a, e, 1), 1);
	assert_int_equal(punch(a, e), 0);
	uz_arena_trim_end(a, e, true);
	uz_arena_stop(a);

	assert_int_equal(uz_arena_survey(a), 0);
	assert_int_equal(uz_arena_restore(a, end, none_used, NULL), 0);
	assert_int_equal(uz_arena_start(a, RESERVE, true, count_surplus, &told), 0);
	assert_true(told > 0);
	assert_int_equal(uz_arena_trim_begin(a, e, 1), 1);
	uz_arena_trim_end(a, e, false);
	model_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_survey_parts),
		cmocka_unit_test(test_prepare_tables),
		cmocka_unit_test(test_restore_ends_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * Sets of numbers against a plain array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "model/pages.h"

static struct rng rng = {.state = 1};

static uint32_t plain_next(const bool *plain, uint32_t bound, uint32_t from)
{
	while (from < bound && !plain[from])
		from++;
	return from < bound ? from : UZ_BITS_NONE;
}

static uint32_t plain_prev(const bool *plain, uint32_t from)
{
	while (from > 0 && !plain[from])
		from--;
	return plain[from] ? from : UZ_BITS_NONE;
}

/* Add and remove rows of numbers, so that whole words fill and empty. */
static void change_row(struct uz_bits *b, bool *plain, uint32_t bound)
{
	uint32_t number = (uint32_t)rng_below(&rng, bound);
	uint32_t count = (uint32_t)rng_below(&rng, rng_below(&rng, 8) ? 3 : bound);
	bool add = rng_below(&rng, 2);

	for (; count-- > 0 && number < bound; number++) {
		if (add)
			uz_bits_add(b, number);
		else
			uz_bits_remove(b, number);
		plain[number] = add;
	}
}

static void check_against_plain(uint32_t bound)
{
	bool *plain = calloc(bound, sizeof(*plain));
	struct uz_bits b = {0};

	assert_non_null(plain);
	assert_int_equal(uz_bits_init(&b, bound), 0);
	assert_int_equal(uz_bits_populate(&b, 0, bound), 0);
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t at = (uint32_t)rng_below(&rng, bound);

		change_row(&b, plain, bound);
		assert_int_equal(uz_bits_has(&b, at), plain[at]);
		assert_int_equal(uz_bits_next(&b, at), plain_next(plain, bound, at));
		assert_int_equal(uz_bits_prev(&b, at), plain_prev(plain, at));
	}
	assert_int_equal(uz_bits_next(&b, bound), UZ_BITS_NONE);
	for (uint32_t at = 0; at < bound; at++)
		assert_int_equal(uz_bits_has(&b, at), plain[at]);
	uz_bits_clear(&b);
	assert_int_equal(uz_bits_next(&b, 0), UZ_BITS_NONE);
	assert_int_equal(uz_bits_prev(&b, bound - 1), UZ_BITS_NONE);
	uz_bits_done(&b);
	free(plain);
}

static void test_against_plain(void **state)
{
	static const uint32_t bounds[] = {1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 262143, 300000};

	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
		check_against_plain(bounds[i]);
}

/* Few members, far apart; memory only where they are. */
static void test_large(void **state)
{
	const uint32_t members[] = {0, 77, 4096 * 64, 1u << 30, (1u << 31) - 1, UINT32_MAX - 1};
	const size_t n = sizeof(members) / sizeof(members[0]);
	struct uz_bits b = {0};

	assert_int_equal(uz_bits_init(&b, UINT32_MAX), 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(uz_bits_populate(&b, members[i], 1), 0);
		uz_bits_add(&b, members[i]);
	}
	for (size_t i = 0; i < n; i++) {
		uint32_t next = i + 1 < n ? members[i + 1] : UZ_BITS_NONE;

		assert_int_equal(uz_bits_next(&b, members[i]), members[i]);
		assert_int_equal(uz_bits_next(&b, members[i] + 1), next);
		if (i > 0)
			assert_int_equal(uz_bits_prev(&b, members[i] - 1), members[i - 1]);
	}
	assert_true(uz_bits_bytes(&b, 64) < uz_bits_bytes(&b, 128));
	uz_bits_done(&b);
	uz_bits_done(&b);
}

/* To look for the next number after those that are populated takes no page fault, even if they end
 * with their page: the page behind it is there, and it is the last one that is. */
static void test_next_after_populated(void **state)
{
	struct uz_bits b = {0};
	unsigned char there[2];
	char *behind;
	uint32_t count;

	assert_int_equal(uz_bits_init(&b, 1 << 20), 0);
	count = (uint32_t)(4096 * 2 - (uintptr_t)b.level[0] % 4096) * 8; /* two pages, or less */
	behind = (char *)b.level[0] + count / 8;
	assert_int_equal(uz_bits_populate(&b, 0, count), 0);
	assert_int_equal(mincore(behind, 2 * 4096, there), 0);
	assert_true(there[0] & 1);
	assert_false(there[1] & 1);
	assert_int_equal(uz_bits_next(&b, count), UZ_BITS_NONE);
	assert_int_equal(mincore(behind, 2 * 4096, there), 0);
	assert_false(there[1] & 1);
	uz_bits_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_plain),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_next_after_populated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

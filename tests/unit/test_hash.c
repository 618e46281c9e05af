/* SPDX-License-Identifier: MIT
 *
 * uz_hash() is XXH3, whatever the CPU, and takes the fast way where there is one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <xxhash.h>

/* Every call of libxxhash's function is counted, that in uz_hash() included. */
static unsigned plain_calls;
#define XXH3_64bits(data, len) (plain_calls++, XXH3_64bits(data, len))

#include "base/hash.h"

#define LEN_MAX 4096

/* XXH3 of nothing, as its specification has it; and of every length of bytes[], see fold(). */
#define OF_NOTHING UINT64_C(0x2d06800538d394c2)
#define OF_ALL	   UINT64_C(0x0dac9a8f0064b81b)

typedef uint64_t hash_function(const void *data, size_t len);

static unsigned char bytes[LEN_MAX + 8];

static uint64_t plain(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

/* One number of the hashes of all lengths, at all alignments. */
static uint64_t fold(hash_function *hash)
{
	uint64_t all = 0;

	for (size_t len = 0; len <= LEN_MAX; len++)
		all = all * 31 + hash(bytes + len % 8, len);
	return all;
}

static void expect_xxh3(hash_function *hash)
{
	assert_int_equal(hash(bytes, 0), OF_NOTHING);
	assert_int_equal(fold(hash), OF_ALL);
}

static bool has_avx2(void)
{
#ifdef __x86_64__
	return __builtin_cpu_supports("avx2");
#else
	return false;
#endif
}

static void test_plain(void **state)
{
	expect_xxh3(plain);
}

static void test_hash(void **state)
{
	expect_xxh3(uz_hash);
}

static void test_avx2(void **state)
{
	if (!has_avx2())
		skip();
#ifdef __x86_64__
	expect_xxh3(uz_hash_avx2);
#endif
}

static void test_way_taken(void **state)
{
	plain_calls = 0;
	uz_hash(bytes, LEN_MAX);
	assert_int_equal(plain_calls, has_avx2() ? 0 : 1);
}

static int setup(void **state)
{
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 167 + (i >> 8));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_avx2),
		cmocka_unit_test(test_way_taken),
	};

	return cmocka_run_group_tests_name("hash", tests, setup, NULL);
}

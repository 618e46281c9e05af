/* SPDX-License-Identifier: MIT
 *
 * uz_hash() is XXH3, whatever the CPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"

static void test_equal(void **state)
{
	unsigned char bytes[4096 + 8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 167 + (i >> 8));
	for (size_t len = 0; len <= 4096; len++)
		assert_int_equal(uz_hash(bytes + len % 8, len), XXH3_64bits(bytes + len % 8, len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal)};

	return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}

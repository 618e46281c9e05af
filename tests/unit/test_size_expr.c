/* SPDX-License-Identifier: MIT
 *
 * Expressions of sizes: their values, and for those that have none the message and its column.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "config/size_expr.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
#define RAM (8 * GIB + 1000)

static void size_values(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
		bool over_ram;
	} good[] = {
		{"0", 0, false},
		{"4096", 4096, false},
		{" \t4096 ", 4096, false},
		{"1k", KIB, false},
		{"1KiB", KIB, false},
		{"3MIB", 3 * MIB, false},
		{"8G", 8 * GIB, false},
		{"2t", 2 * TIB, false},
		{"8388607T", 8388607 * TIB, false},
		{"9223372036854775807", INT64_MAX, false},
		{"ram", RAM, true},
		{"ram/2", RAM / 2, true},
		{"ram * 3 / 4", RAM * 3 / 4, true},
		{"1G + 2G * 3", 7 * GIB, false},
		{"(1G + 2G) * 3", 9 * GIB, false},
		{"16G / 2 / 4", 2 * GIB, false},
		{"4G - 1G - 1G", 2 * GIB, false},
		{"10 / 3", 3, false},
		{"min(ram / 2, 8G)", RAM / 2, true},
		{"min(8G, 1G, 2G)", GIB, false},
		{"max(8G, 1G, 2G)", 8 * GIB, false},
		{"max(ram - 64G, 1G)", GIB, true},
		{"min(max(1, 2), 3) * 1K", 2 * KIB, false},
		{"(7 - 8) / (0 - 1)", 1, false},
		{"((((((((((1))))))))))", 1, false},
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct size_error error;
		uint64_t value = 0;
		bool over_ram;

		if (size_expr_eval(good[i].text, RAM, &value, &over_ram, &error))
			fail_msg("\"%s\", column %u: %s", good[i].text, error.column, error.what);
		if (value != good[i].value || over_ram != good[i].over_ram)
			fail_msg("\"%s\" is %ju", good[i].text, (uintmax_t)value);
	}
}

static void size_errors(void **state)
{
	static const struct {
		const char *text, *what;
		unsigned column;
	} bad[] = {
		{"", "missing number", 1},
		{"  ", "missing number", 3},
		{"G", "unknown word (there are ram, min and max)", 1},
		{"RAM / 2", "unknown word (there are ram, min and max)", 1},
		{"ram2", "unknown word (there are ram, min and max)", 1},
		{"ram_", "unknown word (there are ram, min and max)", 1},
		{"8X", "unknown unit (there are K, M, G and T)", 2},
		{"8GB", "unknown unit (there are K, M, G and T)", 3},
		{"8KiBs", "unknown unit (there are K, M, G and T)", 5},
		{"0x1000", "unknown unit (there are K, M, G and T)", 2},
		{"1.5G", "only whole numbers are possible", 2},
		{"ram * .5", "missing number", 7},
		{"8 G", "unexpected character", 3},
		{"50%", "unexpected character", 3},
		{"8G\n", "unexpected character", 3},
		{"\xc2\xbd", "missing number", 1},
		{"-1", "missing number", 1},
		{"+1", "missing number", 1},
		{"ram /", "missing number", 6},
		{"ram // 2", "missing number", 6},
		{"ram ram", "unexpected character", 5},
		{"(1", "missing \")\"", 3},
		{"1)", "unexpected character", 2},
		{"()", "missing number", 2},
		{"min", "missing \"(\"", 4},
		{"min 1", "missing \"(\"", 5},
		{"min()", "missing number", 5},
		{"min(1, )", "missing number", 8},
		{"min(1 2)", "missing \",\" or \")\"", 7},
		{"max(1, 2", "missing \",\" or \")\"", 9},
		{"1, 2", "unexpected character", 2},
		{"ram / 0", "division by zero", 5},
		{"1 / (2 - 2)", "division by zero", 3},
		{"1 / (1 / 0) + junk", "division by zero", 8},
		{"1G - 2G", "negative result", 1},
		{"9223372036854775808", "number too large", 1},
		{"1 + 99999999999999999999", "number too large", 5},
		{"8388608T", "number too large", 1},
		{"9223372036854775807 + 1", "overflow", 21},
		{"0 - 9223372036854775807 - 2", "overflow", 25},
		{"4T * 4T", "overflow", 4},
		{"(0 - 9223372036854775807 - 1) / (0 - 1)", "overflow", 31},
		{"((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))",
		 "too many open parentheses", 33},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct size_error error = {0};
		uint64_t value = 42;
		bool over_ram;

		assert_int_equal(size_expr_eval(bad[i].text, RAM, &value, &over_ram, &error),
				 -EINVAL);
		assert_int_equal(value, 42);
		if (strcmp(error.what, bad[i].what) || error.column != bad[i].column)
			fail_msg("\"%s\", column %u: %s", bad[i].text, error.column, error.what);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(size_values),
		cmocka_unit_test(size_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

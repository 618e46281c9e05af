/* SPDX-License-Identifier: MIT
 *
 * Arbitrary text as an expression of a size, on machines of several sizes.
 *
 * It has a value from 0 to INT64_MAX, or an error, which says what is wrong and in which column of
 * the text. The value is what a second evaluator makes of the text, by size_expr.h's grammar and
 * with twice as many bits; it depends on the machine only if "ram" stands in the text, and is that
 * of the same text in parentheses. What has an error has one still when something follows.
 */
#include "fuzz.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "config/size_expr.h"

#define UNTOUCHED UINT64_C(0xa5a5a5a5a5a5a5a5)
#define DEPTH_MAX 32
#define TOO_DEEP  "too many open parentheses"

static const uint64_t machines[] = {0, 2 << 20, (UINT64_C(8) << 30) + 1000, INT64_MAX};
#define MACHINES (sizeof(machines) / sizeof(machines[0]))

struct result {
	int err;
	uint64_t value;
	bool over_ram;
	struct size_error error;
};

/* --- the second evaluator, of what the first one has accepted --- */

static __int128 sum(const char **at, uint64_t ram);

static char next(const char **at)
{
	*at += strspn(*at, " \t");
	return **at;
}

/* What is next is text. */
static void take(const char **at, const char *text)
{
	next(at);
	REQUIRE(!strncmp(*at, text, strlen(text)), "\"%s\" at \"%s\"", text, *at);
	*at += strlen(text);
}

static __int128 in_range(__int128 value)
{
	REQUIRE(value >= INT64_MIN && value <= INT64_MAX, "an overflow is not noticed");
	return value;
}

static __int128 number(const char **at)
{
	static const char units[] = "KkMmGgTt";
	__int128 value = 0;
	const char *unit;

	REQUIRE(isdigit((unsigned char)**at), "a number at \"%s\"", *at);
	for (; isdigit((unsigned char)**at); ++*at)
		value = in_range(value * 10 + (**at - '0'));
	unit = **at ? strchr(units, **at) : NULL;
	if (unit) {
		++*at;
		*at += strncasecmp(*at, "iB", 2) ? 0 : 2;
		value <<= 10 * ((unit - units) / 2 + 1);
	}
	return in_range(value);
}

static __int128 extreme(const char **at, uint64_t ram, bool max)
{
	__int128 best, value;

	*at += 3;
	take(at, "(");
	best = sum(at, ram);
	while (next(at) == ',') {
		++*at;
		value = sum(at, ram);
		best = (value > best) == max ? value : best;
	}
	take(at, ")");
	return best;
}

static __int128 operand(const char **at, uint64_t ram)
{
	__int128 value;

	switch (next(at)) {
	case 'r':
		take(at, "ram");
		return ram;
	case 'm':
		return extreme(at, ram, (*at)[1] == 'a');
	case '(':
		++*at;
		value = sum(at, ram);
		take(at, ")");
		return value;
	default:
		return number(at);
	}
}

static __int128 product(const char **at, uint64_t ram)
{
	__int128 value = operand(at, ram);

	while (next(at) == '*' || next(at) == '/') {
		bool times = *(*at)++ == '*';
		__int128 by = operand(at, ram);

		REQUIRE(times || by, "division by zero");
		value = in_range(times ? value * by : value / by);
	}
	return value;
}

static __int128 sum(const char **at, uint64_t ram)
{
	static unsigned depth;
	__int128 value;

	REQUIRE(++depth <= DEPTH_MAX, "so deep that the stack may end");
	value = product(at, ram);

	while (next(at) == '+' || next(at) == '-') {
		bool plus = *(*at)++ == '+';
		__int128 by = product(at, ram);

		value = in_range(plus ? value + by : value - by);
	}
	depth--;
	return value;
}

/* --- */

static struct result eval(const char *text, uint64_t ram)
{
	struct result r = {.value = UNTOUCHED};
	size_t len = strlen(text);

	r.err = size_expr_eval(text, ram, &r.value, &r.over_ram, &r.error);
	if (r.err) {
		REQUIRE(r.err == -EINVAL, "%d", r.err);
		REQUIRE(r.value == UNTOUCHED, "an error with a value");
		REQUIRE(r.error.what && *r.error.what, "an error without a message");
		REQUIRE(r.error.column >= 1 && r.error.column <= len + 1, "column %u of %zu",
			r.error.column, len);
	} else {
		REQUIRE(r.value <= INT64_MAX, "%" PRIu64, r.value);
		REQUIRE(r.over_ram == !!strstr(text, "ram"), "over_ram is %d", r.over_ram);
	}
	return r;
}

/* text between front and back, on that machine */
static struct result eval_within(const char *front, const char *text, const char *back,
				 uint64_t ram)
{
	struct result r;
	char *longer;

	REQUIRE(asprintf(&longer, "%s%s%s", front, text, back) > 0, "no memory");
	r = eval(longer, ram);
	free(longer);
	return r;
}

static void check_value(const char *text, uint64_t ram, uint64_t value)
{
	static const char *const same[][2] = {
		{"(", ")"}, {" ", "\t"}, {"0 + ", ""}, {"1 * (", ")"}};

	const char *at = text;

	REQUIRE(sum(&at, ram) == value && !next(&at), "%" PRIu64, value);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		struct result r = eval_within(same[i][0], text, same[i][1], ram);

		REQUIRE(r.err ? !strcmp(r.error.what, TOO_DEEP) : r.value == value,
			"%" PRIu64 " is %" PRIu64 " within \"%s\" and \"%s\"", value, r.value,
			same[i][0], same[i][1]);
	}
}

static void check(const char *text)
{
	struct result first = eval(text, machines[0]);

	for (size_t i = 0; i < MACHINES; i++) {
		struct result r = eval(text, machines[i]);

		if (!r.err)
			check_value(text, machines[i], r.value);
		else
			REQUIRE(eval_within("", text, " $", machines[i]).err, "%s", r.error.what);
		if (!strstr(text, "ram"))
			REQUIRE(r.err == first.err && r.value == first.value, "without ram");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = strndup((const char *)data, len);

	REQUIRE(text, "no memory");
	check(text);
	free(text);
	return 0;
}

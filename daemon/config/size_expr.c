/* SPDX-License-Identifier: MIT
 *
 * A recursive-descent evaluator, one function per rule of the grammar in size_expr.h.
 *
 * The first error sticks: after it accept() takes nothing more, so every loop ends and the parser
 * unwinds by itself. The values it still computes are of no interest.
 */
#include "config/size_expr.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define MAX_DEPTH 32 /* of parentheses, so that no text can exhaust the stack */

struct parser {
	const char *text, *at;
	int64_t ram;
	bool over_ram;
	unsigned depth;
	struct size_error error; /* what is NULL while all is well */
};

static int64_t sum(struct parser *p);

static int64_t fail(struct parser *p, const char *where, const char *what)
{
	if (!p->error.what)
		p->error = (struct size_error){what, (unsigned)(where - p->text) + 1};
	return 0;
}

static const char *skip_blanks(struct parser *p)
{
	p->at += strspn(p->at, " \t");
	return p->at;
}

/* Where the character was, if it is one of set and next; NULL if not. */
static const char *accept(struct parser *p, const char *set)
{
	const char *at = skip_blanks(p);

	if (p->error.what || !*at || !strchr(set, *at))
		return NULL;
	p->at++;
	return at;
}

static int64_t apply(struct parser *p, const char *op, int64_t a, int64_t b)
{
	int64_t result = 0;
	bool overflow;

	switch (*op) {
	case '+':
		overflow = __builtin_add_overflow(a, b, &result);
		break;
	case '-':
		overflow = __builtin_sub_overflow(a, b, &result);
		break;
	case '*':
		overflow = __builtin_mul_overflow(a, b, &result);
		break;
	default:
		if (!b)
			return fail(p, op, "division by zero");
		overflow = a == INT64_MIN && b == -1;
		if (!overflow)
			result = a / b;
	}
	return overflow ? fail(p, op, "overflow") : result;
}

static int64_t number(struct parser *p)
{
	static const char units[] = "KMGT";
	const char *start = p->at, *unit;
	int64_t value = 0;
	bool overflow = false;

	for (; isdigit((unsigned char)*p->at); p->at++)
		overflow |= __builtin_mul_overflow(value, 10, &value) ||
			    __builtin_add_overflow(value, *p->at - '0', &value);
	if (*p->at == '.')
		return fail(p, p->at, "only whole numbers are possible");

	unit = *p->at ? strchr(units, toupper((unsigned char)*p->at)) : NULL;
	if (unit) {
		overflow |= __builtin_mul_overflow(value, INT64_C(1024) << (10 * (unit - units)),
						   &value);
		p->at++;
		if (!strncasecmp(p->at, "iB", 2))
			p->at += 2;
	}
	if (isalnum((unsigned char)*p->at))
		return fail(p, p->at, "unknown unit (there are K, M, G and T)");
	return overflow ? fail(p, start, "number too large") : value;
}

/* What follows "min" or "max". */
static int64_t extreme(struct parser *p, bool want_max)
{
	int64_t best, value;

	if (!accept(p, "("))
		return fail(p, p->at, "missing \"(\"");
	best = sum(p);
	while (accept(p, ",")) {
		value = sum(p);
		if (want_max ? value > best : value < best)
			best = value;
	}
	if (!accept(p, ")"))
		return fail(p, p->at, "missing \",\" or \")\"");
	return best;
}

static int64_t word(struct parser *p)
{
	const char *start = p->at;
	size_t len = 0;

	while (isalnum((unsigned char)start[len]) || start[len] == '_')
		len++;
	p->at += len;
	if (len == 3 && !strncmp(start, "ram", len)) {
		p->over_ram = true;
		return p->ram;
	}
	if (len == 3 && (!strncmp(start, "min", len) || !strncmp(start, "max", len)))
		return extreme(p, start[1] == 'a');
	return fail(p, start, "unknown word (there are ram, min and max)");
}

static int64_t operand(struct parser *p)
{
	const char *start = skip_blanks(p);
	int64_t value;

	if (isdigit((unsigned char)*start))
		return number(p);
	if (isalpha((unsigned char)*start))
		return word(p);
	if (!accept(p, "("))
		return fail(p, start, "missing number");
	value = sum(p);
	if (!accept(p, ")"))
		return fail(p, p->at, "missing \")\"");
	return value;
}

static int64_t product(struct parser *p)
{
	int64_t value = operand(p);
	const char *op;

	while ((op = accept(p, "*/")))
		value = apply(p, op, value, operand(p));
	return value;
}

static int64_t sum(struct parser *p)
{
	const char *op;
	int64_t value;

	if (++p->depth > MAX_DEPTH)
		return fail(p, p->at, "too many open parentheses");
	value = product(p);
	while ((op = accept(p, "+-")))
		value = apply(p, op, value, product(p));
	p->depth--;
	return value;
}

int size_expr_eval(const char *text, uint64_t ram, uint64_t *ret_bytes, bool *ret_over_ram,
		   struct size_error *ret_error)
{
	struct parser p = {.text = text, .at = text, .ram = (int64_t)ram};
	int64_t value = sum(&p);

	if (*skip_blanks(&p))
		fail(&p, p.at, "unexpected character");
	if (value < 0)
		fail(&p, text, "negative result");
	if (p.error.what) {
		*ret_error = p.error;
		return -EINVAL;
	}
	*ret_bytes = (uint64_t)value;
	*ret_over_ram = p.over_ram;
	return 0;
}

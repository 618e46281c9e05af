/* SPDX-License-Identifier: MIT
 *
 * A set of numbers below a bound, of which the next one up or down is found in a few steps however
 * large the bound: a bitmap under bitmaps of its non-empty words.
 *
 * Memory is had at uz_bits_init(), as address space; what is used of it is what uz_bits_populate()
 * was called for. Adding and removing such members neither fails nor faults. The caller sees to it
 * that one thread at a time has access.
 */
#ifndef UZ_BASE_BITS_H
#define UZ_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UZ_BITS_NONE   UINT32_MAX
#define UZ_BITS_LEVELS 6 /* 64^6 > 2^32 */

/* level[0] has a bit for each number; bit i of level[l + 1] is set if word i of level[l] is not 0.
 * The last level is one word. */
struct uz_bits {
	uint64_t *level[UZ_BITS_LEVELS];
	unsigned nlevels;
	uint32_t bound;
	size_t map_size; /* all levels are one mapping, which begins with the last */
};

/* An empty set of numbers below bound, which is at least 1. -ENOMEM. */
int uz_bits_init(struct uz_bits *bits, uint32_t bound);
/* Free its memory. A zeroed struct is allowed. */
void uz_bits_done(struct uz_bits *bits);

/* See to it that the numbers from first to first + count - 1 can be added without a page fault. 0
 * or -errno. */
int uz_bits_populate(struct uz_bits *bits, uint32_t first, uint32_t count);
/* The bytes of memory that are populated when numbers below end are. */
size_t uz_bits_bytes(const struct uz_bits *bits, uint32_t end);

/* Add or remove a number, whether it is a member or not; remove all. */
void uz_bits_add(struct uz_bits *bits, uint32_t number);
void uz_bits_remove(struct uz_bits *bits, uint32_t number);

void uz_bits_clear(struct uz_bits *bits);

static inline bool uz_bits_has(const struct uz_bits *bits, uint32_t number)
{
	return bits->level[0][number / 64] >> number % 64 & 1;
}

/* The least member >= from, or the greatest <= from, which is below the bound; UZ_BITS_NONE: there
 * is none. */
uint32_t uz_bits_next(const struct uz_bits *bits, uint32_t from);
uint32_t uz_bits_prev(const struct uz_bits *bits, uint32_t from);

#endif

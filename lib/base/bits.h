/* SPDX-License-Identifier: MIT
 *
 * A set of numbers below a bound. The next member up or down from any number is found in a few
 * steps, however large the bound is: level 0 is a bitmap of the members, and each further level
 * is a bitmap of the non-zero words of the level below it.
 *
 * uz_bits_init() reserves address space only. uz_bits_populate() gives memory to a range of
 * numbers; to add and remove numbers of such a range neither fails nor faults. There is no lock:
 * the caller lets one thread at a time use a set.
 */
#ifndef UZ_BASE_BITS_H
#define UZ_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UZ_BITS_NONE   UINT32_MAX
#define UZ_BITS_LEVELS 6 /* 64^6 > 2^32 */

/* level[0] has a bit for each number. Bit i of level[l + 1] is set if word i of level[l] is not
 * 0. The last level is one word. */
struct uz_bits {
	uint64_t *level[UZ_BITS_LEVELS];
	unsigned nlevels;
	uint32_t bound;
	size_t map_size; /* all levels are one mapping, which begins with the last level */
};

/* Make an empty set of numbers below bound, which is at least 1. 0, or -ENOMEM. */
int uz_bits_init(struct uz_bits *bits, uint32_t bound);
/* Free the memory. A zeroed struct is allowed. */
void uz_bits_done(struct uz_bits *bits);

/* Give memory to the numbers from first to first + count - 1, so that they can be added without
 * a page fault. 0 or -errno. */
int uz_bits_populate(struct uz_bits *bits, uint32_t first, uint32_t count);
/* The bytes of memory that a set has when the numbers below end are populated. */
size_t uz_bits_bytes(const struct uz_bits *bits, uint32_t end);

/* Add or remove a number, whether it is a member or not. */
void uz_bits_add(struct uz_bits *bits, uint32_t number);
void uz_bits_remove(struct uz_bits *bits, uint32_t number);
/* Remove all members. */
void uz_bits_clear(struct uz_bits *bits);

static inline bool uz_bits_has(const struct uz_bits *bits, uint32_t number)
{
	return bits->level[0][number / 64] >> number % 64 & 1;
}

/* The least member >= from, or the greatest one <= from, where from is below the bound.
 * UZ_BITS_NONE: there is none. */
uint32_t uz_bits_next(const struct uz_bits *bits, uint32_t from);
uint32_t uz_bits_prev(const struct uz_bits *bits, uint32_t from);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Random numbers that can be replayed, and page contents of every kind that a store treats in its
 * own way.
 */
#ifndef UZ_TESTS_PAGES_H
#define UZ_TESTS_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "uzram/codec.h"

/* A stream of random numbers, for one thread. */
struct rng {
	uint64_t state;
};

/* Streams of one seed are independent of each other. */
void rng_init(struct rng *r, uint64_t seed, uint64_t stream);
uint64_t rng_next(struct rng *r);
/* 0 to n - 1; n > 0 */
uint64_t rng_below(struct rng *r, uint64_t n);

enum page_kind {
	PAGE_ZERO,
	PAGE_INLINE, /* a repeated word whose halves are alike: it fits into the slot's entry */
	PAGE_WORD,   /* ... not alike: it doesn't */
	PAGE_SPARSE, /* a few bytes that aren't zero */
	PAGE_TEXT,
	PAGE_MIXED,  /* half text, half noise */
	PAGE_NEAR,   /* noise but for about as much as compression must save, or a page is raw */
	PAGE_RANDOM, /* noise: incompressible */
	PAGE_KINDS,
};

/* Fill UZ_PAGE_SIZE bytes. No page but a PAGE_ZERO is all zero, and none of PAGE_SPARSE and beyond
 * repeats one word. */
void page_fill(void *page, enum page_kind kind, struct rng *r);

#endif

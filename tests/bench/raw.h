/* SPDX-License-Identifier: MIT
 *
 * The compression libraries themselves, called as the store's codecs call them and nothing beside
 * that: what a store can at best come to. The calls are the libraries' plain public ones, contexts
 * are reused, and same-filled pages are found out as the store finds them.
 */
#ifndef UZ_BENCH_RAW_H
#define UZ_BENCH_RAW_H

#include <stddef.h>
#include <stdint.h>

#include "bench/sample.h"
#include "uzram/codec.h"

struct raw;

/* One thread's. An encoding longer than max_len makes a page incompressible. Exits on errors. */
struct raw *raw_new(enum uz_codec codec, int level, size_t max_len);
void raw_free(struct raw *r);

/* Encode the page into the codec's own buffer. Returns the length: 0 if it is same-filled,
 * UZ_PAGE_SIZE if it is incompressible. */
size_t raw_encode(struct raw *r, const void *page);

/* A sample's pages encoded, one close upon the other. Any number of threads may read it. A plain
 * loop over it doesn't prefetch, so that at random a store that does may be the faster one. */
struct raw_pages {
	unsigned char *bytes;
	uint64_t *index; /* of page i: where it is << 16 | length as raw_encode() returns it */
	uint64_t npages;
	uint64_t total;
};

void raw_pages_new(struct raw *r, const struct sample *s, struct raw_pages *ret);
void raw_pages_free(struct raw_pages *p);

/* Decode page i of them. Exits if that fails. */
void raw_decode(struct raw *r, const struct raw_pages *p, uint64_t i, void *page);

#endif

/* SPDX-License-Identifier: MIT */
#include "base/bits.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/sparse.h"

#define PAGE ((uintptr_t)4096)

static uint64_t words(uint64_t bits)
{
	return (bits + 63) / 64;
}

static int populate_words(uint64_t *from, uint64_t *to)
{
	uintptr_t start = (uintptr_t)from & ~(PAGE - 1);

	return madvise((void *)start, (uintptr_t)to - start, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

int uz_bits_init(struct uz_bits *b, uint32_t bound)
{
	uint64_t size[UZ_BITS_LEVELS], total = 0;
	unsigned n = 0;
	uint64_t *at;
	int err;

	do {
		size[n] = words(n ? size[n - 1] : bound);
		total += size[n];
	} while (size[n++] > 1);
	at = uz_sparse_new(total * sizeof(*at));
	if (!at)
		return -ENOMEM;
	b->nlevels = n;
	b->bound = bound;
	b->map_size = total * sizeof(*at);
	while (n-- > 0) {
		b->level[n] = at;
		at += size[n];
	}
	/* Populate the levels above level 0 at once: together they are a 63rd of it. */
	err = populate_words(b->level[b->nlevels - 1], b->level[0] + 1);
	if (err)
		uz_bits_done(b);
	return err;
}

void uz_bits_done(struct uz_bits *b)
{
	if (b->nlevels)
		munmap(b->level[b->nlevels - 1], b->map_size);
	b->nlevels = 0;
}

int uz_bits_populate(struct uz_bits *b, uint32_t first, uint32_t count)
{
	uint64_t end = (uint64_t)first + count;

	/* Include the word of the number after the last one: uz_bits_next() reads it when it
	 * goes on from there. */
	return populate_words(b->level[0] + first / 64,
			      b->level[0] + words(end < b->bound ? end + 1 : end));
}

size_t uz_bits_bytes(const struct uz_bits *b, uint32_t end)
{
	uint64_t *last = b->level[0] + words(end);

	return (size_t)((char *)last - (char *)b->level[b->nlevels - 1]);
}

void uz_bits_add(struct uz_bits *b, uint32_t number)
{
	uint32_t i = number;

	for (unsigned l = 0; l < b->nlevels; l++, i /= 64) {
		uint64_t *word = &b->level[l][i / 64], old = *word;

		*word = old | UINT64_C(1) << i % 64;
		if (old)
			break;
	}
}

void uz_bits_remove(struct uz_bits *b, uint32_t number)
{
	uint32_t i = number;

	for (unsigned l = 0; l < b->nlevels; l++, i /= 64) {
		uint64_t *word = &b->level[l][i / 64];

		*word &= ~(UINT64_C(1) << i % 64);
		if (*word)
			break;
	}
}

void uz_bits_clear(struct uz_bits *b)
{
	for (uint32_t n = uz_bits_next(b, 0); n != UZ_BITS_NONE; n = uz_bits_next(b, n))
		uz_bits_remove(b, n);
}

/* Both climb levels until a word has a member at or beyond `from`; then they descend to the
 * nearest one. */

uint32_t uz_bits_next(const struct uz_bits *b, uint32_t from)
{
	uint64_t i = from;

	for (unsigned l = 0; l < b->nlevels && i << 6 * l < b->bound; l++, i = i / 64 + 1) {
		uint64_t word = b->level[l][i / 64] & UINT64_MAX << i % 64;

		if (!word)
			continue;
		i = i / 64 * 64 + (unsigned)__builtin_ctzll(word);
		while (l-- > 0)
			i = i * 64 + (unsigned)__builtin_ctzll(b->level[l][i]);
		return (uint32_t)i;
	}
	return UZ_BITS_NONE;
}

uint32_t uz_bits_prev(const struct uz_bits *b, uint32_t from)
{
	uint32_t i = from;

	for (unsigned l = 0; l < b->nlevels; l++, i = i / 64 - 1) {
		uint64_t word = b->level[l][i / 64] & UINT64_MAX >> (63 - i % 64);

		if (word) {
			i = i / 64 * 64 + 63 - (unsigned)__builtin_clzll(word);
			while (l-- > 0)
				i = i * 64 + 63 - (unsigned)__builtin_clzll(b->level[l][i]);
			return i;
		}
		if (i < 64)
			break;
	}
	return UZ_BITS_NONE;
}

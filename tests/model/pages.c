/* SPDX-License-Identifier: MIT
 *
 * Contents for pages.
 */
#include "pages.h"

#include <string.h>

void rng_init(struct rng *r, uint64_t seed, uint64_t stream)
{
	r->state = seed ^ stream * UINT64_C(0xd1342543de82ef95);
	r->state = rng_next(r);
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

static void fill_word(unsigned char *page, uint64_t word)
{
	for (size_t i = 0; i < UZ_PAGE_SIZE; i += sizeof(word))
		memcpy(page + i, &word, sizeof(word));
}

static void fill_noise(unsigned char *page, size_t len, struct rng *r)
{
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t noise = rng_next(r);

		memcpy(page + i, &noise, len - i < sizeof(noise) ? len - i : sizeof(noise));
	}
}

static void fill_sparse(unsigned char *page, struct rng *r)
{
	memset(page, 0, UZ_PAGE_SIZE);
	for (unsigned i = 0; i < 20; i++)
		page[1 + rng_below(r, UZ_PAGE_SIZE - 1)] = (unsigned char)rng_next(r);
	page[0] = 1;
}

static void fill_text(unsigned char *page, size_t len, struct rng *r)
{
	static const char words[] = "a page that is written is read again, or it is not, and a "
				    "slot that is freed is written anew ";

	for (size_t i = 0; i < len;) {
		size_t from = rng_below(r, sizeof(words) - 16);
		size_t n = 4 + rng_below(r, 12);

		if (n > len - i)
			n = len - i;
		memcpy(page + i, words + from, n);
		i += n;
	}
}

void page_fill(void *to, enum page_kind kind, struct rng *r)
{
	unsigned char *page = to;
	uint64_t word = rng_next(r) | 1;

	switch (kind) {
	case PAGE_ZERO:
		memset(page, 0, UZ_PAGE_SIZE);
		break;
	case PAGE_INLINE:
		fill_word(page, word << 32 | (uint32_t)word);
		break;
	case PAGE_WORD:
		fill_word(page, (word >> 32) == (uint32_t)word ? word ^ 2 : word);
		break;
	case PAGE_SPARSE:
		fill_sparse(page, r);
		break;
	case PAGE_TEXT:
		fill_text(page, UZ_PAGE_SIZE, r);
		break;
	case PAGE_MIXED:
		fill_text(page, UZ_PAGE_SIZE / 2, r);
		fill_noise(page + UZ_PAGE_SIZE / 2, UZ_PAGE_SIZE / 2, r);
		break;
	case PAGE_NEAR: {
		/* A page is raw unless compression saves 468 bytes; the codecs spend some 20. */
		size_t saving = 440 + word % 96;

		fill_noise(page, UZ_PAGE_SIZE - saving, r);
		memset(page + UZ_PAGE_SIZE - saving, 'n', saving);
		break;
	}
	case PAGE_RANDOM:
	case PAGE_KINDS:
		fill_noise(page, UZ_PAGE_SIZE, r);
		break;
	}
}

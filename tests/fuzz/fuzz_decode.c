/* SPDX-License-Identifier: MIT
 *
 * Arbitrary bytes, and objects that were damaged a little, into every decoder.
 *
 * No byte outside the input is read, none outside the page is written (liblz4 and libzstd are not
 * built with a sanitizer: guard pages tell), and the answer is a page or -EBADMSG, the same
 * wherever the input lies. The page can be encoded and decoded again.
 */
#include "fuzz.h"

#include <errno.h>

#include "../model/pages.h"
#include "codec/codec.h"
#include "guard.h"

#define INPUT_MAX (2 * GUARD_PAGE) /* more than any object has */

static struct guard input, page;
static struct uz_codec_ctx *ctx;

static void set_up(void)
{
	guard_init(&input, INPUT_MAX);
	guard_init(&page, UZ_PAGE_SIZE);
	REQUIRE(uz_codec_ctx_new(UZ_CODEC_ZSTD, 1, &ctx) == 0, "no context");
}

/* fill: what the page holds before */
static int decode_at(char *src, int fill, enum uz_codec codec, const void *data, size_t len)
{
	int r;

	memcpy(src, data, len);
	memset(page.start, fill, UZ_PAGE_SIZE);
	r = uz_codec_decode(ctx, codec, src, len, page.start);
	REQUIRE(r == 0 || r == -EBADMSG, "an error that is none of the contract's");
	REQUIRE(memcmp(src, data, len) == 0, "the input was written to");
	return r;
}

/* A page that a decoder made is a page like any other. */
static void encode_again(void)
{
	static char copy[UZ_PAGE_SIZE], obj[UZ_PAGE_SIZE];
	enum uz_codec codec;
	size_t len;

	memcpy(copy, page.start, UZ_PAGE_SIZE);
	len = uz_codec_encode(ctx, copy, obj, sizeof(obj), &codec);
	REQUIRE(decode_at(input.start, 0, codec, codec == UZ_CODEC_RAW ? copy : obj, len) == 0,
		"a valid object was refused");
	REQUIRE(memcmp(copy, page.start, UZ_PAGE_SIZE) == 0, "a page came back changed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char first[UZ_PAGE_SIZE];

	if (!ctx)
		set_up();
	if (len > INPUT_MAX)
		return 0;

	for (enum uz_codec codec = UZ_CODEC_NONE; codec <= UZ_CODEC_COUNT; codec++) {
		int r = decode_at(guard_tail(&input, len), 0, codec, data, len);

		memcpy(first, page.start, UZ_PAGE_SIZE);
		REQUIRE(decode_at(input.start, 0xff, codec, data, len) == r, "two answers");
		REQUIRE(r || !memcmp(first, page.start, UZ_PAGE_SIZE), "a part of a page");
		if (r == 0)
			encode_again();
	}
	return 0;
}

/* --- inputs that blind mutation never arrives at --- */

static struct rng rng;

static size_t below(size_t n)
{
	return rng_below(&rng, n);
}

static size_t random_object(uint8_t *obj)
{
	static struct uz_codec_ctx *encoders[UZ_CODEC_COUNT];
	enum uz_codec codec = (enum uz_codec)(UZ_CODEC_LZ4 + below(UZ_CODEC_COUNT - UZ_CODEC_LZ4));
	char p[UZ_PAGE_SIZE];
	size_t len;

	if (!encoders[codec])
		REQUIRE(!uz_codec_ctx_new(codec, 1, &encoders[codec]), "no context");
	page_fill(p, (enum page_kind)below(PAGE_KINDS), &rng);
	len = uz_codec_encode(encoders[codec], p, obj, UZ_PAGE_SIZE, &codec);
	if (codec == UZ_CODEC_RAW)
		memcpy(obj, p, UZ_PAGE_SIZE);
	return len;
}

static size_t damage(uint8_t *obj, size_t len)
{
	for (size_t n = below(4); n && len; n--)
		obj[below(len)] = (uint8_t)below(256);
	if (below(4) == 0)
		len = below(len + 1);
	for (size_t n = below(4) ? 0 : below(below(4) ? 32 : INPUT_MAX); n && len < INPUT_MAX; n--)
		obj[len++] = (uint8_t)below(256);
	return len;
}

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t max, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t max, unsigned seed)
{
	rng_init(&rng, seed, 0);
	if (max < INPUT_MAX || below(8))
		return LLVMFuzzerMutate(bytes, len, max);
	return damage(bytes, random_object(bytes));
}

/* SPDX-License-Identifier: MIT
 *
 * Arbitrary bytes into every decoder: no byte outside the input is read, none outside the page is
 * written, and the answer is a page or -EBADMSG.
 *
 * With clang -fsanitize=fuzzer this is a libFuzzer target (use -max_len=8192; it sees further into
 * the decoders if liblz4 and libzstd are built with it, too). With -DUZ_FUZZ_MAIN it is a program:
 *   fuzz_decode [RUNS [SEED]]
 * which feeds RUNS random inputs and damaged objects; the same seed gives the same inputs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/codec.h"
#include "guard.h"

#define INPUT_MAX (2 * GUARD_PAGE) /* more than any object has */

static struct guard input, page;
static struct uz_codec_ctx *ctx;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz_decode: %s\n", what);
	abort();
}

static void set_up(void)
{
	guard_init(&input, INPUT_MAX);
	guard_init(&page, UZ_PAGE_SIZE);
	require(uz_codec_ctx_new(UZ_CODEC_ZSTD, 1, &ctx) == 0, "no context");
}

static int decode_at(char *src, enum uz_codec codec, const void *data, size_t len)
{
	int r;

	memcpy(src, data, len);
	r = uz_codec_decode(ctx, codec, src, len, page.start);
	require(r == 0 || r == -EBADMSG, "an error that is none of the contract's");
	require(memcmp(src, data, len) == 0, "the input was written to");
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
	require(decode_at(input.start, codec, codec == UZ_CODEC_RAW ? copy : obj, len) == 0,
		"a valid object was refused");
	require(memcmp(copy, page.start, UZ_PAGE_SIZE) == 0, "a page came back changed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!ctx)
		set_up();
	if (len > INPUT_MAX)
		return 0;

	for (enum uz_codec codec = UZ_CODEC_NONE; codec <= UZ_CODEC_COUNT; codec++) {
		int r = decode_at(guard_tail(&input, len), codec, data, len);

		require(decode_at(input.start, codec, data, len) == r, "two answers to one input");
		if (r == 0)
			encode_again();
	}
	return 0;
}

static uint64_t rng_state;

static uint64_t rng(void)
{
	uint64_t z = (rng_state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* Random bytes mixed with repetitions of what went before, in a proportion of its own. */
static void random_page(char *p)
{
	uint64_t fresh = 1 + rng() % 64;

	for (size_t i = 0; i < UZ_PAGE_SIZE;) {
		size_t n = 1 + rng() % 32, from = i ? rng() % i : 0;
		int copy = i && rng() % 64 >= fresh;

		for (; n && i < UZ_PAGE_SIZE; n--, i++, from++)
			p[i] = copy ? p[from] : (char)rng();
	}
}

static size_t random_object(uint8_t *obj)
{
	static struct uz_codec_ctx *encoders[UZ_CODEC_COUNT];
	enum uz_codec codec = UZ_CODEC_LZ4 + rng() % (UZ_CODEC_COUNT - UZ_CODEC_LZ4);
	char p[UZ_PAGE_SIZE];
	size_t len;

	if (!encoders[codec])
		require(uz_codec_ctx_new(codec, 1, &encoders[codec]) == 0, "no context");
	random_page(p);
	len = uz_codec_encode(encoders[codec], p, obj, UZ_PAGE_SIZE, &codec);
	if (codec == UZ_CODEC_RAW)
		memcpy(obj, p, UZ_PAGE_SIZE);
	return len;
}

static size_t damage(uint8_t *obj, size_t len)
{
	for (uint64_t n = rng() % 4; n && len; n--)
		obj[rng() % len] = (uint8_t)rng();
	if (rng() % 4 == 0)
		len = rng() % (len + 1);
	for (uint64_t n = rng() % 4 ? 0 : rng() % 32; n && len < INPUT_MAX; n--)
		obj[len++] = (uint8_t)rng();
	return len;
}

static size_t random_input(uint8_t *data)
{
	size_t len;

	if (rng() % 4)
		return damage(data, random_object(data));
	len = rng() % (rng() % 2 ? 64 : INPUT_MAX + 1);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)rng();
	return len;
}

#ifdef UZ_FUZZ_MAIN
int main(int argc, char **argv)
{
	unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
	static uint8_t data[INPUT_MAX];

	rng_state = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
	printf("fuzz_decode %lu %llu\n", runs, (unsigned long long)rng_state);
	fflush(stdout);
	while (runs--)
		LLVMFuzzerTestOneInput(data, random_input(data));
	return 0;
}
#else
size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned seed);

/* Blind mutation never arrives at a valid object by itself. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned seed)
{
	rng_state = seed;
	if (max < INPUT_MAX || rng() % 8)
		return LLVMFuzzerMutate(data, len, max);
	return random_input(data);
}
#endif

/* SPDX-License-Identifier: MIT
 *
 * The codec layer: round trips, bounds on both sides, corrupt input, the format's constancy, and
 * that nothing is allocated or faulted in once a context exists.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/resource.h>

#include "codec/codec.h"
#include "guard.h"

#define PAGE	UZ_PAGE_SIZE
#define ROOM	(2 * GUARD_PAGE)
#define CANARY	0x5a
#define LZ4_MAX 64

enum kind { ZERO, WORD, SPARSE, TEXT, HEAP, MIXED, NOISY, RANDOM, KINDS };

static uint64_t rng_state = 1;
static struct guard src_guard, page_guard;

static uint64_t rng(void)
{
	uint64_t z = (rng_state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static void fill_words(char *page, size_t len, uint64_t or, uint64_t and)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t w = or | (rng() & and);

		memcpy(page + i, &w, 8);
	}
}

static void fill_text(char *page)
{
	static const char words[] = "the pages that nobody reads now and then come back to swap a ";

	for (size_t i = 0; i < PAGE;) {
		size_t at = rng() % (sizeof(words) - 1), len = 1 + rng() % 12;

		while (len-- && i < PAGE)
			page[i++] = words[at++ % (sizeof(words) - 1)];
	}
}

static void make_page(char *page, enum kind kind)
{
	memset(page, 0, PAGE);
	switch (kind) {
	case WORD:
		uz_codec_fill(page, rng() | 1);
		break;
	case SPARSE:
		for (int i = 0; i < 20; i++)
			page[rng() % PAGE] = (char)(1 + rng() % 255);
		break;
	case TEXT:
		fill_text(page);
		break;
	case HEAP:
		fill_words(page, PAGE, 0x7f0000000000, 0xffff8);
		break;
	case MIXED:
		fill_text(page);
		fill_words(page, PAGE / 2, 0, UINT64_MAX);
		break;
	case NOISY:
		fill_words(page, PAGE - 64, 0, UINT64_MAX);
		break;
	case RANDOM:
		fill_words(page, PAGE, 0, UINT64_MAX);
		break;
	default:
		break;
	}
}

static struct uz_codec_ctx *new_ctx(enum uz_codec codec, int level)
{
	struct uz_codec_ctx *ctx = NULL;

	assert_int_equal(uz_codec_ctx_new(codec, level, &ctx), 0);
	assert_non_null(ctx);
	return ctx;
}

/* Decode with both ends of the input, and of the page, against a guard. */
static int decode(struct uz_codec_ctx *ctx, enum uz_codec codec, const void *src, size_t len)
{
	char *head = src_guard.start, *tail = guard_tail(&src_guard, len);
	int r, again;

	assert_true(len <= ROOM);
	memcpy(head, src, len);
	r = uz_codec_decode(ctx, codec, head, len, page_guard.start);
	memcpy(tail, src, len);
	again = uz_codec_decode(ctx, codec, tail, len, page_guard.start);
	assert_int_equal(r, again);
	assert_true(r == 0 || r == -EBADMSG);
	return r;
}

static void assert_decodes(struct uz_codec_ctx *ctx, enum uz_codec codec, const void *src,
			   size_t len, const char *page)
{
	memset(page_guard.start, CANARY, PAGE);
	assert_int_equal(decode(ctx, codec, src, len), 0);
	assert_memory_equal(page_guard.start, page, PAGE);
}

/* Encode into the last cap bytes before a guard, with a canary in front, and decode again. */
static size_t roundtrip(struct uz_codec_ctx *ctx, const char *page, size_t cap,
			enum uz_codec *ret_codec)
{
	static char obj[PAGE];
	char *dst = guard_tail(&src_guard, cap);
	enum uz_codec codec = UZ_CODEC_NONE;
	size_t len;

	memset(src_guard.start, CANARY, ROOM);
	len = uz_codec_encode(ctx, page, dst, cap, &codec);
	for (const char *p = src_guard.start; p < dst; p++)
		assert_int_equal(*p, CANARY);

	if (codec == UZ_CODEC_RAW) {
		assert_int_equal(len, PAGE);
		memcpy(obj, page, PAGE);
	} else {
		assert_in_range(len, 1, cap < PAGE ? cap : PAGE - 1);
		memcpy(obj, dst, len);
	}
	assert_decodes(ctx, codec, obj, len, page);
	*ret_codec = codec;
	return len;
}

static void test_info(void **state)
{
	const struct uz_codec_info *lz4 = uz_codec_info(UZ_CODEC_LZ4);
	const struct uz_codec_info *zstd = uz_codec_info(UZ_CODEC_ZSTD);

	assert_string_equal(lz4->name, "lz4");
	assert_int_equal(lz4->level_min, 1);
	assert_int_equal(lz4->level_max, LZ4_MAX);
	assert_in_range(lz4->level_default, 1, LZ4_MAX);
	assert_string_equal(zstd->name, "zstd");
	assert_int_equal(zstd->level_min, -7);
	assert_int_equal(zstd->level_max, 19);
	assert_in_range(zstd->level_default + 7, 0, 26);

	assert_null(uz_codec_info(UZ_CODEC_NONE));
	assert_null(uz_codec_info(UZ_CODEC_SAME));
	assert_null(uz_codec_info(UZ_CODEC_RAW));
	assert_null(uz_codec_info(UZ_CODEC_COUNT));
	assert_null(uz_codec_info((enum uz_codec) - 1));

	assert_int_equal(uz_codec_by_name("lz4"), UZ_CODEC_LZ4);
	assert_int_equal(uz_codec_by_name("zstd"), UZ_CODEC_ZSTD);
	assert_int_equal(uz_codec_by_name(""), -EINVAL);
	assert_int_equal(uz_codec_by_name("lz"), -EINVAL);
	assert_int_equal(uz_codec_by_name("LZ4"), -EINVAL);
	assert_int_equal(uz_codec_by_name("lzo-rle"), -EINVAL);
}

static void test_new_refuses(void **state)
{
	struct uz_codec_ctx *const untouched = (void *)&src_guard;
	struct uz_codec_ctx *ctx = untouched;
	static const struct {
		enum uz_codec codec;
		int level;
	} bad[] = {
		{UZ_CODEC_NONE, 1},  {UZ_CODEC_SAME, 1},	  {UZ_CODEC_RAW, 1},
		{UZ_CODEC_COUNT, 1}, {(enum uz_codec) - 1, 1},	  {UZ_CODEC_LZ4, 0},
		{UZ_CODEC_LZ4, -1},  {UZ_CODEC_LZ4, LZ4_MAX + 1}, {UZ_CODEC_ZSTD, -8},
		{UZ_CODEC_ZSTD, 20}, {UZ_CODEC_ZSTD, INT32_MIN},  {UZ_CODEC_ZSTD, INT32_MAX},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(uz_codec_ctx_new(bad[i].codec, bad[i].level, &ctx), -EINVAL);
		assert_ptr_equal(ctx, untouched);
	}
	uz_codec_ctx_free(NULL);
}

/* Every level, every kind of page. */
static void test_roundtrip(void **state)
{
	char page[PAGE];

	for (enum uz_codec c = UZ_CODEC_LZ4; c <= UZ_CODEC_ZSTD; c++) {
		const struct uz_codec_info *info = uz_codec_info(c);

		for (int level = info->level_min; level <= info->level_max; level++) {
			struct uz_codec_ctx *ctx = new_ctx(c, level);

			for (int i = 0; i < 12 * KINDS; i++) {
				static const enum uz_codec always[KINDS] = {
					[ZERO] = UZ_CODEC_SAME,
					[WORD] = UZ_CODEC_SAME,
					[RANDOM] = UZ_CODEC_RAW,
				};
				enum kind kind = i % KINDS;
				enum uz_codec got;

				make_page(page, kind);
				roundtrip(ctx, page, PAGE, &got);
				if (always[kind])
					assert_int_equal(got, always[kind]);
				else if (kind == SPARSE)
					assert_int_equal(got, c);
			}
			uz_codec_ctx_free(ctx);
		}
	}
}

/* The page is what one word makes it; a page that differs from that in any one bit is not. */
static void test_same(void **state)
{
	struct uz_codec_ctx *ctx = new_ctx(UZ_CODEC_LZ4, 1);
	const uint64_t word = 0x0123456789abcdef;
	enum uz_codec codec;
	char page[PAGE + 1];
	uint64_t got;

	for (int odd = 0; odd <= 1; odd++) {
		char *p = page + odd; /* no alignment is asked for */

		uz_codec_fill(p, word);
		for (size_t i = 0; i < PAGE; i += 8)
			assert_memory_equal(p + i, &word, 8);
		assert_int_equal(uz_codec_encode(ctx, p, &got, sizeof(got), &codec), 8);
		assert_int_equal(codec, UZ_CODEC_SAME);
		assert_true(got == word);

		for (size_t bit = 0; bit < PAGE * 8; bit += 7) {
			p[bit / 8] ^= (char)(1 << bit % 8);
			roundtrip(ctx, p, PAGE, &codec);
			assert_int_equal(codec, UZ_CODEC_LZ4);
			p[bit / 8] ^= (char)(1 << bit % 8);
		}
	}

	/* Repeats, but with a period that isn't a word's. */
	for (size_t i = 0; i < PAGE; i++)
		page[i] = "abc"[i % 3];
	roundtrip(ctx, page, PAGE, &codec);
	assert_int_equal(codec, UZ_CODEC_LZ4);
	uz_codec_ctx_free(ctx);
}

/* A page is compressed if and only if the result fits. */
static void test_cap(void **state)
{
	for (enum uz_codec c = UZ_CODEC_LZ4; c <= UZ_CODEC_ZSTD; c++) {
		struct uz_codec_ctx *ctx = new_ctx(c, uz_codec_info(c)->level_default);

		for (enum kind kind = SPARSE; kind <= RANDOM; kind++) {
			enum uz_codec codec;
			char page[PAGE];
			size_t len;

			make_page(page, kind);
			len = roundtrip(ctx, page, ROOM, &codec);
			for (size_t cap = 8; cap <= PAGE + 16; cap += cap % 64 ? 1 : 13) {
				enum uz_codec got;

				roundtrip(ctx, page, cap, &got);
				assert_int_equal(got, cap < len ? UZ_CODEC_RAW : codec);
			}
		}
		uz_codec_ctx_free(ctx);
	}
}

/* The level reaches the library. */
static void test_level(void **state)
{
	static const struct {
		enum uz_codec codec;
		int dense, fast;
	} pairs[] = {
		{UZ_CODEC_LZ4, 1, 8},	{UZ_CODEC_LZ4, 8, 64},	{UZ_CODEC_ZSTD, -1, -7},
		{UZ_CODEC_ZSTD, 1, -1}, {UZ_CODEC_ZSTD, 19, 1},
	};
	char page[PAGE];

	make_page(page, TEXT);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct uz_codec_ctx *dense = new_ctx(pairs[i].codec, pairs[i].dense);
		struct uz_codec_ctx *fast = new_ctx(pairs[i].codec, pairs[i].fast);
		enum uz_codec codec;

		assert_true(roundtrip(dense, page, PAGE, &codec) <
			    roundtrip(fast, page, PAGE, &codec));
		uz_codec_ctx_free(dense);
		uz_codec_ctx_free(fast);
	}
}

/* Objects of every codec damaged in every way. Whatever comes of it, the context works afterwards.
 */
static void damage(struct uz_codec_ctx *ctx, enum uz_codec codec, const char *obj, size_t len,
		   const char *page)
{
	char bad[ROOM];

	for (size_t n = 0; n < len; n++)
		assert_int_equal(decode(ctx, codec, obj, n), -EBADMSG);

	memcpy(bad, obj, len);
	memset(bad + len, 0, sizeof(bad) - len);
	for (size_t n = len + 1; n <= sizeof(bad); n += n)
		assert_int_equal(decode(ctx, codec, bad, n), -EBADMSG);

	for (size_t i = 0; i < len; i++) {
		bad[i] = (char)rng();
		decode(ctx, codec, bad, len);
		bad[i] = (char)~obj[i];
		decode(ctx, codec, bad, len);
		bad[i] = obj[i];
	}
	assert_decodes(ctx, codec, obj, len, page);
}

static void test_damage(void **state)
{
	for (enum uz_codec c = UZ_CODEC_LZ4; c <= UZ_CODEC_ZSTD; c++) {
		struct uz_codec_ctx *ctx = new_ctx(c, uz_codec_info(c)->level_default);

		for (enum kind kind = ZERO; kind <= RANDOM; kind++) {
			char page[PAGE], obj[PAGE];
			enum uz_codec codec;
			size_t len;

			make_page(page, kind);
			len = uz_codec_encode(ctx, page, obj, PAGE, &codec);
			damage(ctx, codec, codec == UZ_CODEC_RAW ? page : obj, len, page);
		}
		uz_codec_ctx_free(ctx);
	}
}

static void test_not_a_codec(void **state)
{
	struct uz_codec_ctx *ctx = new_ctx(UZ_CODEC_ZSTD, 1);
	char page[PAGE];

	make_page(page, RANDOM);
	for (size_t len = 0; len <= PAGE; len += 8) {
		assert_int_equal(decode(ctx, UZ_CODEC_NONE, page, len), -EBADMSG);
		assert_int_equal(decode(ctx, UZ_CODEC_COUNT, page, len), -EBADMSG);
		assert_int_equal(decode(ctx, (enum uz_codec)255, page, len), -EBADMSG);
	}
	for (enum uz_codec c = UZ_CODEC_NONE; c <= UZ_CODEC_COUNT; c++)
		assert_int_equal(uz_codec_decode(ctx, c, page, (size_t)-1, page_guard.start),
				 -EBADMSG);
	uz_codec_ctx_free(ctx);
}

/* The formats are part of the arena, which outlives the process that wrote it. */
static void test_format(void **state)
{
	static const unsigned char lz4[] = {
		0x6f, 'u',  'z',  'r',	'a',  'm',  ' ',  0x06, 0x00, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xf1, 0x50, ' ',  'u',  'z',  'r',	'a',
	};
	static const unsigned char zstd[] = {
		0x30, 'u', 'z', 'r', 'a', 'm', ' ', 0x01, 0x00, 0xf7, 0x8f, 0x5f, 0x8a,
	};
	struct uz_codec_ctx *ctx = new_ctx(UZ_CODEC_LZ4, 1);
	char page[PAGE];

	for (size_t i = 0; i < PAGE; i++)
		page[i] = "uzram "[i % 6];
	assert_decodes(ctx, UZ_CODEC_LZ4, lz4, sizeof(lz4), page);
	assert_decodes(ctx, UZ_CODEC_ZSTD, zstd, sizeof(zstd), page);
	assert_int_equal(decode(ctx, UZ_CODEC_ZSTD, lz4, sizeof(lz4)), -EBADMSG);
	assert_int_equal(decode(ctx, UZ_CODEC_LZ4, zstd, sizeof(zstd)), -EBADMSG);
	uz_codec_ctx_free(ctx);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* The sanitizers have their own malloc(), and fault in shadow memory as they please. */
#ifndef SANITIZED

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *mem, size_t size);
void __libc_free(void *mem);

static size_t allocations, allocation_to_fail, frees;

void *malloc(size_t size)
{
	if (++allocations == allocation_to_fail)
		return NULL;
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	allocations++;
	return __libc_calloc(n, size);
}

void *realloc(void *mem, size_t size)
{
	allocations++;
	return __libc_realloc(mem, size);
}

void free(void *mem)
{
	frees += mem != NULL;
	__libc_free(mem);
}

static void test_no_memory(void **state)
{
	struct uz_codec_ctx *ctx = NULL;

	/* The context, its encoder, zstd's decoder. */
	for (size_t nth = 1; nth <= 3; nth++) {
		const size_t freed_before = frees;
		size_t freed;
		int r;

		allocation_to_fail = allocations + nth;
		r = uz_codec_ctx_new(UZ_CODEC_ZSTD, 1, &ctx);
		freed = frees - freed_before;
		assert_int_equal(r, -ENOMEM);
		assert_null(ctx);
		assert_int_equal(allocations, allocation_to_fail);
		assert_int_equal(freed, nth - 1);
	}
	allocation_to_fail = 0;
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* No assertions here: cmocka itself may allocate. */
static void exercise(struct uz_codec_ctx *ctx, char (*pages)[PAGE])
{
	static char obj[PAGE], out[PAGE];
	enum uz_codec codec;

	for (int kind = 0; kind < KINDS; kind++) {
		size_t len = uz_codec_encode(ctx, pages[kind], obj, PAGE, &codec);

		if (codec == UZ_CODEC_RAW)
			memcpy(obj, pages[kind], PAGE);
		uz_codec_decode(ctx, codec, obj, len, out);
		uz_codec_decode(ctx, UZ_CODEC_LZ4, obj, len / 2, out);
		uz_codec_decode(ctx, UZ_CODEC_ZSTD, obj, len / 2, out);
	}
}

static void test_no_allocation(void **state)
{
	static char pages[KINDS][PAGE];

	for (int kind = 0; kind < KINDS; kind++)
		make_page(pages[kind], kind);
	/* Every context on fresh pages, so that one left untouched shows as faults. */
	mallopt(M_MMAP_THRESHOLD, 8192);

	for (enum uz_codec c = UZ_CODEC_LZ4; c <= UZ_CODEC_ZSTD; c++) {
		const struct uz_codec_info *info = uz_codec_info(c);

		for (int level = info->level_min; level <= info->level_max; level++) {
			struct uz_codec_ctx *warm = new_ctx(c, level), *ctx;
			size_t allocated = allocations;
			long faulted;

			/* Once for what isn't the context's: code, stack, our buffers. */
			exercise(warm, pages);
			ctx = new_ctx(c, level);
			assert_true(allocations > allocated);

			allocated = allocations;
			faulted = faults();
			exercise(ctx, pages);
			faulted = faults() - faulted;
			allocated = allocations - allocated;
			assert_int_equal(faulted, 0);
			assert_int_equal(allocated, 0);

			uz_codec_ctx_free(ctx);
			uz_codec_ctx_free(warm);
		}
	}
}
#endif

static int setup(void **state)
{
	guard_init(&src_guard, ROOM);
	guard_init(&page_guard, PAGE);
	return 0;
}

static int teardown(void **state)
{
	guard_done(&src_guard);
	guard_done(&page_guard);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),	  cmocka_unit_test(test_new_refuses),
		cmocka_unit_test(test_roundtrip), cmocka_unit_test(test_same),
		cmocka_unit_test(test_cap),	  cmocka_unit_test(test_level),
		cmocka_unit_test(test_damage),	  cmocka_unit_test(test_not_a_codec),
		cmocka_unit_test(test_format),
#ifndef SANITIZED
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_no_allocation),
#endif
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

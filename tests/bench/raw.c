/* SPDX-License-Identifier: MIT */
#include "bench/raw.h"

#include <lz4.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zstd.h>

#include "bench/figures.h"

struct raw {
	enum uz_codec codec;
	int level;
	size_t max_len;
	LZ4_stream_t lz4;
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	unsigned char out[ZSTD_COMPRESSBOUND(UZ_PAGE_SIZE)];
};

struct raw *raw_new(enum uz_codec codec, int level, size_t max_len)
{
	struct raw *r = calloc(1, sizeof(*r));

	if (!r)
		die("no memory");
	r->codec = codec;
	r->level = level;
	r->max_len = max_len;
	r->cctx = ZSTD_createCCtx();
	r->dctx = ZSTD_createDCtx();
	if (!r->cctx || !r->dctx ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(r->cctx, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(r->cctx, ZSTD_c_contentSizeFlag, 0)))
		die("zstd refuses");
	return r;
}

void raw_free(struct raw *r)
{
	ZSTD_freeCCtx(r->cctx);
	ZSTD_freeDCtx(r->dctx);
	free(r);
}

static bool same_filled(const unsigned char *page)
{
	return memcmp(page, page + UZ_PAGE_SIZE - 8, 8) == 0 &&
	       memcmp(page, page + 8, UZ_PAGE_SIZE - 8) == 0;
}

size_t raw_encode(struct raw *r, const void *page)
{
	size_t len;

	if (same_filled(page))
		return 0;
	if (r->codec == UZ_CODEC_LZ4)
		len = (size_t)LZ4_compress_fast_extState(&r->lz4, page, (char *)r->out,
							 UZ_PAGE_SIZE, (int)r->max_len, r->level);
	else
		len = ZSTD_compress2(r->cctx, r->out, sizeof(r->out), page, UZ_PAGE_SIZE);
	return len && len <= r->max_len ? len : UZ_PAGE_SIZE;
}

static void put(struct raw_pages *p, const void *bytes, size_t size)
{
	memcpy(p->bytes + p->total, bytes, size);
	p->total += size;
}

void raw_pages_new(struct raw *r, const struct sample *s, struct raw_pages *ret)
{
	uint64_t used;

	*ret = (struct raw_pages){
		.bytes = small_pages(s->npages * UZ_PAGE_SIZE),
		.index = calloc(s->npages, sizeof(*ret->index)),
		.npages = s->npages,
	};
	if (!ret->index)
		die("no memory");
	for (uint64_t i = 0; i < s->npages; i++) {
		const unsigned char *page = sample_page(s, i);
		size_t len = raw_encode(r, page);

		ret->index[i] = ret->total << 16 | len;
		if (!len)
			put(ret, page, 8);
		else
			put(ret, len == UZ_PAGE_SIZE ? page : r->out, len);
	}
	/* The rest is not needed: as much of it as is whole pages. */
	used = (ret->total + UZ_PAGE_SIZE - 1) & ~(uint64_t)(UZ_PAGE_SIZE - 1);
	madvise(ret->bytes + used, s->npages * UZ_PAGE_SIZE - used, MADV_DONTNEED);
}

void raw_pages_free(struct raw_pages *p)
{
	munmap(p->bytes, p->npages * UZ_PAGE_SIZE);
	free(p->index);
}

static size_t decode(struct raw *r, const unsigned char *src, size_t len, void *page)
{
	if (r->codec == UZ_CODEC_LZ4)
		return (size_t)LZ4_decompress_safe((const char *)src, page, (int)len, UZ_PAGE_SIZE);
	return ZSTD_decompressDCtx(r->dctx, page, UZ_PAGE_SIZE, src, len);
}

void raw_decode(struct raw *r, const struct raw_pages *p, uint64_t i, void *page)
{
	const unsigned char *src = p->bytes + (p->index[i] >> 16);
	size_t len = p->index[i] & 0xffff;

	if (!len) {
		for (size_t n = 0; n < UZ_PAGE_SIZE; n += 8)
			memcpy((char *)page + n, src, 8);
	} else if (len == UZ_PAGE_SIZE) {
		memcpy(page, src, UZ_PAGE_SIZE);
	} else if (decode(r, src, len, page) != UZ_PAGE_SIZE) {
		die("the raw codec can't decode what it encoded");
	}
}

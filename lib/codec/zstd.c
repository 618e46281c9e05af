/* SPDX-License-Identifier: MIT
 *
 * zstd: an object is one bare compressed block.
 *
 * The frame around a block would be the same for every page but for the block's length, which
 * the slot's entry knows. So encode strips the frame and decode puts it back. An object is 10
 * bytes shorter than the output of ZSTD_compress(), for two short copies (1 % of the time); and
 * whatever an object holds, zstd sees one block of one ordinary frame. (zstd's magicless format
 * would save 5 bytes; but libzstd 1.5.4 reads up to 3 bytes beyond an input in that format that
 * is shorter than a magic number.)
 *
 * Contexts live in static workspaces, which is zstd's way to never call an allocator: where it
 * would have to, it fails. Workspaces are sized for one page, so a level's tables are no larger
 * than they must be (72 KiB in all at level 1, 270 KiB at 19). This needs
 * ZSTD_STATIC_LINKING_ONLY, an API that zstd promises to keep only within one version. Yet
 * Debian's shared library exports it, and the functions used here have not changed since 1.3. If
 * a library differs, making a context fails: the difference does not show only later, as pages
 * that are stored raw.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include "codec/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* The magic number, no flags (no content size, no checksum), a window of 4 KiB. */
static const unsigned char frame_header[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x10};

#define BLOCK_HEADER_SIZE 3
#define HEADERS_SIZE	  (sizeof(frame_header) + BLOCK_HEADER_SIZE)

struct zstd_encoder {
	ZSTD_CCtx *cctx;
	unsigned char frame[ZSTD_COMPRESSBOUND(UZ_PAGE_SIZE)];
	_Alignas(max_align_t) unsigned char workspace[];
};

struct zstd_decoder {
	ZSTD_DCtx *dctx;
	unsigned char frame[HEADERS_SIZE + UZ_PAGE_SIZE];
	_Alignas(max_align_t) unsigned char workspace[];
};

/* Write the headers that stand before an object of that length in its frame. */
static void put_headers(unsigned char *frame, size_t len)
{
	unsigned block = (unsigned)len << 3 | 2 << 1 | 1; /* size, compressed, the last */

	memcpy(frame, frame_header, sizeof(frame_header));
	frame += sizeof(frame_header);
	frame[0] = block & 0xff;
	frame[1] = block >> 8 & 0xff;
	frame[2] = block >> 16 & 0xff;
}

static int zstd_encode(void *enc, const void *page, void *dst, size_t cap)
{
	struct zstd_encoder *e = enc;
	unsigned char headers[HEADERS_SIZE];
	size_t len = ZSTD_compress2(e->cctx, e->frame, sizeof(e->frame), page, UZ_PAGE_SIZE);

	if (ZSTD_isError(len) || len - HEADERS_SIZE > cap)
		return -E2BIG;
	len -= HEADERS_SIZE;
	/* zstd puts a page that does not compress into another type of block, which is of no use
	 * here. */
	put_headers(headers, len);
	if (memcmp(e->frame, headers, sizeof(headers)) != 0)
		return -E2BIG;
	memcpy(dst, e->frame + HEADERS_SIZE, len);
	return (int)len;
}

static int zstd_decode(void *dec, const void *src, size_t len, void *page)
{
	struct zstd_decoder *d = dec;
	size_t n;

	put_headers(d->frame, len);
	memcpy(d->frame + HEADERS_SIZE, src, len);
	n = ZSTD_decompressDCtx(d->dctx, page, UZ_PAGE_SIZE, d->frame, HEADERS_SIZE + len);
	return n == UZ_PAGE_SIZE ? 0 : -EBADMSG;
}

static int zstd_encoder_init(struct zstd_encoder *e, size_t workspace_size, int level)
{
	char page[UZ_PAGE_SIZE] = "The first frame lays the workspace out, or fails.";

	e->cctx = ZSTD_initStaticCCtx(e->workspace, workspace_size);
	if (!e->cctx ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(e->cctx, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(e->cctx, ZSTD_c_contentSizeFlag, 0)) ||
	    zstd_encode(e, page, page, sizeof(page)) < 0)
		return -ENOTSUP;
	return 0;
}

static int zstd_encoder_new(int level, void **ret_enc)
{
	/* These are the parameters that zstd picks by itself when it is given a page to
	 * compress. */
	ZSTD_compressionParameters params = ZSTD_getCParams(level, UZ_PAGE_SIZE, 0);
	size_t workspace_size = ZSTD_estimateCCtxSize_usingCParams(params);
	struct zstd_encoder *e = uz_codec_alloc(sizeof(*e) + workspace_size);
	int r;

	if (!e)
		return -ENOMEM;
	r = zstd_encoder_init(e, workspace_size, level);
	if (r) {
		free(e);
		return r;
	}
	*ret_enc = e;
	return 0;
}

static int zstd_decoder_new(void **ret_dec)
{
	size_t workspace_size = ZSTD_estimateDCtxSize();
	struct zstd_decoder *d = uz_codec_alloc(sizeof(*d) + workspace_size);

	if (!d)
		return -ENOMEM;
	d->dctx = ZSTD_initStaticDCtx(d->workspace, workspace_size);
	if (!d->dctx) {
		free(d);
		return -ENOTSUP;
	}
	*ret_dec = d;
	return 0;
}

const struct uz_codec_ops uz_codec_zstd = {
	/* Level 0 is zstd's own default, 3. */
	.info = {.name = "zstd", .level_min = -7, .level_max = 19, .level_default = -1},
	.encoder_new = zstd_encoder_new,
	.encode = zstd_encode,
	.decoder_new = zstd_decoder_new,
	.decode = zstd_decode,
};

/* SPDX-License-Identifier: MIT
 *
 * lz4: the raw block format, one block a page. The level is lz4's acceleration.
 *
 * LZ4_compress_fast_extState() clears its state of 16 KiB for every page, which takes 0.15 of
 * the 3 to 6 µs a page. The functions of the shared library that avoid this,
 * LZ4_resetStream_fast() and LZ4_compress_fast_continue(), do not use the 16-bit table that lz4
 * has for small inputs. They were up to 30 % slower on pages that compress badly.
 */
#include "codec/codec.h"

#include <errno.h>
#include <lz4.h>

struct lz4_encoder {
	int acceleration;
	LZ4_stream_t state;
};

static int lz4_encoder_new(int level, void **ret_enc)
{
	struct lz4_encoder *enc = uz_codec_alloc(sizeof(*enc));

	if (!enc)
		return -ENOMEM;
	enc->acceleration = level;
	*ret_enc = enc;
	return 0;
}

static int lz4_encode(void *enc, const void *page, void *dst, size_t cap)
{
	struct lz4_encoder *e = enc;
	int len = LZ4_compress_fast_extState(&e->state, page, dst, UZ_PAGE_SIZE, (int)cap,
					     e->acceleration);

	return len > 0 ? len : -E2BIG;
}

static int lz4_decode(void *dec, const void *src, size_t len, void *page)
{
	int n = LZ4_decompress_safe(src, page, (int)len, UZ_PAGE_SIZE);

	return n == UZ_PAGE_SIZE ? 0 : -EBADMSG;
}

const struct uz_codec_ops uz_codec_lz4 = {
	/* At 64 lz4 looks for a match only every 64 bytes: the ratio is 1.3 to 1.9 where it is
	 * 1.8 to 3.4 at 1. */
	.info = {.name = "lz4", .level_min = 1, .level_max = 64, .level_default = 1},
	.encoder_new = lz4_encoder_new,
	.encode = lz4_encode,
	.decode = lz4_decode,
};

/* SPDX-License-Identifier: MIT
 *
 * Page codecs behind one ops table.
 *
 * A codec is a pure function of one 4 KiB page: no state passes from page to page, so any thread
 * can decode what any other encoded. All memory a codec needs is in a context that is allocated,
 * and touched, when a thread starts; encode and decode allocate nothing and call nothing that
 * sleeps.
 */
#ifndef UZ_CODEC_CODEC_H
#define UZ_CODEC_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "uzram/codec.h"

/* One compressor. Encoder and decoder are apart because a thread needs one encoder but the decoders
 * of all codecs. */
struct uz_codec_ops {
	struct uz_codec_info info;

	/* Make an encoder of a level within info's range, from uz_codec_alloc(); the caller
	 * releases it with free(). -ENOMEM; -ENOTSUP if the installed library refuses what we ask
	 * of it. */
	int (*encoder_new)(int level, void **ret_enc);
	/* Encode one page to at most cap bytes at dst. Returns the bytes used (>= 1), or -E2BIG if
	 * it does not fit, in which case dst may hold anything. */
	int (*encode)(void *enc, const void *page, void *dst, size_t cap);

	/* As encoder_new. NULL if decode needs no state; its dec is then NULL too. */
	int (*decoder_new)(void **ret_dec);
	/* Decode exactly len bytes at src, len <= INT_MAX, to exactly one page. Reads nothing
	 * outside [src, src + len), writes nothing outside the page, whatever the input is. 0, or
	 * -EBADMSG when the input is not a page's encoding. */
	int (*decode)(void *dec, const void *src, size_t len, void *page);
};

extern const struct uz_codec_ops uz_codec_lz4;
extern const struct uz_codec_ops uz_codec_zstd;

/* Zeroed memory whose pages are already there: no fault when the I/O path first writes to them.
 * NULL if there is none; released with free(). */
void *uz_codec_alloc(size_t size);

/* One thread's codecs: an encoder for the configured algorithm, and decoders for all, since a store
 * may hold pages of several (recompressed ones, or ones written before an upgrade). Used by one
 * thread at a time. */
struct uz_codec_ctx;

/* -ENOMEM; -EINVAL if codec can't be chosen or the level is out of its range; -ENOTSUP if the
 * installed compression library lacks what the codec needs. */
int uz_codec_ctx_new(enum uz_codec codec, int level, struct uz_codec_ctx **ret);
void uz_codec_ctx_free(struct uz_codec_ctx *ctx);

/* Encode one page to dst, which must not overlap it. The result is, in this order of preference:
 *   UZ_CODEC_SAME: the page repeats one 64-bit word; dst holds that word (8 bytes, native order);
 *   the configured compressor, if its output fits cap and is shorter than a page;
 *   UZ_CODEC_RAW: the object is the page itself; what dst holds means nothing.
 * cap is at least 8; nothing is written beyond it. Neither buffer needs alignment.
 * Returns the object's length in bytes and stores the codec; never fails. */
size_t uz_codec_encode(struct uz_codec_ctx *ctx, const void *page, void *dst, size_t cap,
		       enum uz_codec *ret_codec);

/* Decode len bytes at src to one page. 0, or -EBADMSG (corrupt input, wrong length for the codec,
 * unknown codec); the page then holds anything. Bounded on both sides as uz_codec_ops.decode. */
int uz_codec_decode(struct uz_codec_ctx *ctx, enum uz_codec codec, const void *src, size_t len,
		    void *page);

/* The page of one repeated word. */
void uz_codec_fill(void *page, uint64_t word);

#endif

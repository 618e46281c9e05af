/* SPDX-License-Identifier: MIT
 *
 * Page codecs behind one ops table.
 *
 * A codec is a pure function of one 4 KiB page. No state passes from page to page, so any thread
 * can decode what any other has encoded. All memory that a codec needs is in a context, which is
 * allocated and touched when a thread starts: encode and decode allocate nothing and call
 * nothing that sleeps.
 */
#ifndef UZ_CODEC_CODEC_H
#define UZ_CODEC_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "uzram/codec.h"

/* One compressor. Encoder and decoder are separate objects because a thread needs one encoder,
 * but the decoders of all codecs. */
struct uz_codec_ops {
	struct uz_codec_info info;

	/* Make an encoder of a level within info's range, in memory from uz_codec_alloc(). The
	 * caller releases it with free(). 0; -ENOMEM; -ENOTSUP if the installed library refuses
	 * what we ask of it. */
	int (*encoder_new)(int level, void **ret_enc);
	/* Encode one page to at most cap bytes at dst. Returns how many bytes it used (>= 1), or
	 * -E2BIG if the page does not fit, in which case dst may hold anything. */
	int (*encode)(void *enc, const void *page, void *dst, size_t cap);

	/* As encoder_new. NULL if decode needs no state: its dec is NULL then, too. */
	int (*decoder_new)(void **ret_dec);
	/* Decode exactly len bytes at src, at most INT_MAX, to exactly one page. Reads nothing
	 * outside [src, src + len) and writes nothing outside the page, whatever the input is.
	 * 0, or -EBADMSG when the input is not the encoding of a page. */
	int (*decode)(void *dec, const void *src, size_t len, void *page);
};

extern const struct uz_codec_ops uz_codec_lz4;
extern const struct uz_codec_ops uz_codec_zstd;

/* Zeroed memory whose pages are populated, so that the first write to them, on the I/O path,
 * does not fault. Released with free(). NULL: there is none. */
void *uz_codec_alloc(size_t size);

/* The codecs of one thread at a time: an encoder of the configured algorithm, and decoders of
 * all of them, since a store may hold pages that were written with another one. */
struct uz_codec_ctx;

/* 0; -ENOMEM; -EINVAL if the codec can't be chosen or the level is out of its range; -ENOTSUP if
 * the installed compression library lacks what the codec needs. */
int uz_codec_ctx_new(enum uz_codec codec, int level, struct uz_codec_ctx **ret);
/* NULL, or half-built, is allowed. */
void uz_codec_ctx_free(struct uz_codec_ctx *ctx);

/* Encode one page to dst, which must not overlap it. The result is the first of these that
 * applies:
 *
 * - UZ_CODEC_SAME: the page repeats one 64-bit word. dst holds that word (8 bytes, native
 *   order).
 * - The configured compressor, if its output fits into cap and is shorter than a page.
 * - UZ_CODEC_RAW: the object is the page itself. dst may hold anything.
 *
 * cap is at least 8, and nothing is written beyond it. Neither buffer needs to be aligned.
 * Returns the object's length in bytes and stores the codec. Never fails. */
size_t uz_codec_encode(struct uz_codec_ctx *ctx, const void *page, void *dst, size_t cap,
		       enum uz_codec *ret_codec);

/* Decode len bytes at src to one page. 0, or -EBADMSG (corrupt input, a wrong length for the
 * codec, an unknown codec): the page then holds anything. Bounded on both sides like
 * uz_codec_ops.decode. */
int uz_codec_decode(struct uz_codec_ctx *ctx, enum uz_codec codec, const void *src, size_t len,
		    void *page);

/* Fill a page with one repeated word. */
void uz_codec_fill(void *page, uint64_t word);

#endif

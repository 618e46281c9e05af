/* SPDX-License-Identifier: MIT
 *
 * The table of codecs, and the two codecs that need no library: same-filled pages and raw ones.
 *
 * A new compressor is a number in uzram/codec.h, a file with its ops, and a row in this table.
 */
#include "codec/codec.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const struct uz_codec_ops *const codecs[UZ_CODEC_COUNT] = {
	[UZ_CODEC_LZ4] = &uz_codec_lz4,
	[UZ_CODEC_ZSTD] = &uz_codec_zstd,
};

struct uz_codec_ctx {
	enum uz_codec codec; /* whose encoder it is */
	void *encoder;
	void *decoder[UZ_CODEC_COUNT]; /* NULL where decode needs no state */
};

static const struct uz_codec_ops *codec_ops(enum uz_codec codec)
{
	return (unsigned)codec < UZ_CODEC_COUNT ? codecs[codec] : NULL;
}

const struct uz_codec_info *uz_codec_info(enum uz_codec codec)
{
	const struct uz_codec_ops *ops = codec_ops(codec);

	return ops ? &ops->info : NULL;
}

int uz_codec_by_name(const char *name)
{
	for (int i = 0; i < UZ_CODEC_COUNT; i++)
		if (codecs[i] && !strcmp(codecs[i]->info.name, name))
			return i;
	return -EINVAL;
}

static int decoders_new(struct uz_codec_ctx *ctx)
{
	for (int i = 0; i < UZ_CODEC_COUNT; i++) {
		int r = 0;

		if (codecs[i] && codecs[i]->decoder_new)
			r = codecs[i]->decoder_new(&ctx->decoder[i]);
		if (r)
			return r;
	}
	return 0;
}

int uz_codec_ctx_new(enum uz_codec codec, int level, struct uz_codec_ctx **ret)
{
	const struct uz_codec_ops *ops = codec_ops(codec);
	struct uz_codec_ctx *ctx;
	int r;

	if (!ops || level < ops->info.level_min || level > ops->info.level_max)
		return -EINVAL;

	ctx = uz_codec_alloc(sizeof(*ctx));
	if (!ctx)
		return -ENOMEM;

	ctx->codec = codec;
	r = ops->encoder_new(level, &ctx->encoder);
	if (!r)
		r = decoders_new(ctx);
	if (r) {
		uz_codec_ctx_free(ctx);
		return r;
	}
	*ret = ctx;
	return 0;
}

void uz_codec_ctx_free(struct uz_codec_ctx *ctx)
{
	if (!ctx)
		return;
	for (int i = 0; i < UZ_CODEC_COUNT; i++)
		free(ctx->decoder[i]);
	free(ctx->encoder);
	free(ctx);
}

static bool same_filled(const void *page, uint64_t *ret_word)
{
	const char *p = page;
	uint64_t first, last;

	memcpy(&first, p, sizeof(first));
	memcpy(&last, p + UZ_PAGE_SIZE - sizeof(last), sizeof(last));
	/* Many pages begin with a long run of zeroes. Few of those end in one, too, so this
	 * compare spares most of the long one below. */
	if (first != last)
		return false;
	/* A page repeats its first word if and only if it equals itself shifted by one word. */
	if (memcmp(p, p + sizeof(first), UZ_PAGE_SIZE - sizeof(first)) != 0)
		return false;
	*ret_word = first;
	return true;
}

void uz_codec_fill(void *page, uint64_t word)
{
	for (size_t i = 0; i < UZ_PAGE_SIZE; i += sizeof(word))
		memcpy((char *)page + i, &word, sizeof(word));
}

size_t uz_codec_encode(struct uz_codec_ctx *ctx, const void *page, void *dst, size_t cap,
		       enum uz_codec *ret_codec)
{
	uint64_t word;
	int len;

	if (same_filled(page, &word)) {
		memcpy(dst, &word, sizeof(word));
		*ret_codec = UZ_CODEC_SAME;
		return sizeof(word);
	}

	if (cap >= UZ_PAGE_SIZE)
		cap = UZ_PAGE_SIZE - 1;
	len = codecs[ctx->codec]->encode(ctx->encoder, page, dst, cap);
	if (len < 0) {
		*ret_codec = UZ_CODEC_RAW;
		return UZ_PAGE_SIZE;
	}
	*ret_codec = ctx->codec;
	return len;
}

static int same_decode(const void *src, size_t len, void *page)
{
	uint64_t word;

	if (len != sizeof(word))
		return -EBADMSG;
	memcpy(&word, src, sizeof(word));
	uz_codec_fill(page, word);
	return 0;
}

static int raw_decode(const void *src, size_t len, void *page)
{
	if (len != UZ_PAGE_SIZE)
		return -EBADMSG;
	memcpy(page, src, UZ_PAGE_SIZE);
	return 0;
}

int uz_codec_decode(struct uz_codec_ctx *ctx, enum uz_codec codec, const void *src, size_t len,
		    void *page)
{
	const struct uz_codec_ops *ops = codec_ops(codec);

	if (codec == UZ_CODEC_SAME)
		return same_decode(src, len, page);
	if (codec == UZ_CODEC_RAW)
		return raw_decode(src, len, page);
	if (!ops || len >= UZ_PAGE_SIZE)
		return -EBADMSG;
	return ops->decode(ctx->decoder[codec], src, len, page);
}

/* SPDX-License-Identifier: MIT
 *
 * The codecs that a store can keep pages in.
 *
 * The numbers are part of the arena's layout, as every slot's entry has one. They are never
 * reused.
 */
#ifndef UZRAM_CODEC_H
#define UZRAM_CODEC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define UZ_PAGE_SIZE  4096u
#define UZ_PAGE_SHIFT 12

enum uz_codec {
	UZ_CODEC_NONE = 0, /* no page: the slot is empty */
	UZ_CODEC_SAME = 1, /* one repeated 64-bit word */
	UZ_CODEC_RAW = 2,  /* incompressible: the page itself, which zram calls "huge" */
	UZ_CODEC_LZ4 = 3,
	UZ_CODEC_ZSTD = 4,
	UZ_CODEC_COUNT,
};

/* What a user may choose. lz4's level is its acceleration: 1 is the densest, higher ones are
 * faster. The library makes these structs; new fields are added at the end. */
struct uz_codec_info {
	const char *name;
	int level_min, level_max, level_default;
};

/* The compressor of that number. NULL if it is none that a user can choose: NONE, SAME, RAW, or
 * out of range. The result is static. Any thread. */
const struct uz_codec_info *uz_codec_info(enum uz_codec codec);

/* The number of the compressor called name. -EINVAL: there is none. Any thread. */
int uz_codec_by_name(const char *name);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

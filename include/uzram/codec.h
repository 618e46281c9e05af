/* SPDX-License-Identifier: MIT
 *
 * The codecs a store can keep pages in.
 *
 * The numbers are part of the arena's layout (they stand in every slot's entry) and are never
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
	UZ_CODEC_NONE = 0, /* an empty slot */
	UZ_CODEC_SAME = 1, /* one repeated 64-bit word */
	UZ_CODEC_RAW = 2,  /* incompressible: the page itself ("huge" in zram's terms) */
	UZ_CODEC_LZ4 = 3,
	UZ_CODEC_ZSTD = 4,
	UZ_CODEC_COUNT,
};

/* What a user may choose. For lz4 the level is the acceleration (1 is densest, higher is faster).
 */
struct uz_codec_info {
	const char *name;
	int level_min, level_max, level_default;
};

/* The compressor of that number, or NULL if it is none that a user can choose (NONE, SAME, RAW, out
 * of range). The result is static. Any thread may call it. */
const struct uz_codec_info *uz_codec_info(enum uz_codec codec);

/* The number of the compressor called name; -EINVAL if there is none. */
int uz_codec_by_name(const char *name);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

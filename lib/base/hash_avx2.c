/* SPDX-License-Identifier: MIT
 *
 * XXH3 compiled for AVX2: libxxhash's own code, inlined. This file alone is built with -mavx2,
 * since everything else must run on CPUs that lack it.
 */
#define XXH_INLINE_ALL
#include "base/hash.h"

uint64_t uz_hash_avx2(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

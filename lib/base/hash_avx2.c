/* SPDX-License-Identifier: MIT
 *
 * XXH3 compiled for AVX2, as this file alone is: libxxhash's own code, inlined.
 */
#define XXH_INLINE_ALL
#include "base/hash.h"

uint64_t uz_hash_avx2(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

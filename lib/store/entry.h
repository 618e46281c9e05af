/* SPDX-License-Identifier: MIT
 *
 * The slot table's entry: one atomic 64-bit word, which is all there is to know of a page.
 *
 * - Bit 0: lock, as in zram's table. No sum finds out that this bit was flipped. But a slot that
 *   stays locked for far longer than anything takes is treated as damaged (uz_slot_lock()).
 *   Recovery clears the bit.
 * - Bits 1-2: reserved, for whether the page is idle.
 * - Bits 3-5: codec. 0: the slot is empty, and the whole word is 0.
 *
 * The rest depends on the codec:
 *
 * - Same-filled, with bit 9 set (inline): bits 10-31 are the checksum, bits 32-63 the repeated
 *   word, both halves of which are equal. A word whose halves differ is an object of 8 bytes, as
 *   below; bit 9 is clear in its length.
 * - Raw: bits 6-31 are the page's number in area 1, bits 32-63 the checksum. The object is the
 *   page itself.
 * - Others: bits 6-17 are the encoded length - 1, bits 18-61 the offset of the object /
 *   UZ_POOL_GRANULE, bits 62-63 the number in bits 3-61 modulo 3.
 * - 7, damaged: nothing. To read such a slot is an error.
 *
 * An object, unless it is a raw page, ends in its checksum, 4 bytes. The checksum is not in the
 * table, so that a page is published by one 8-byte store, and a process can die at any instant.
 * It is the sum of the encoded bytes: a third as many as the page's, and no decoder ever sees
 * damage. It depends on the slot's number and the codec, too, so that an entry which names
 * another slot's object, or another codec, is found out.
 *
 * The checksum can't tell an older page of the same slot, whose memory is free but not used
 * again yet. The remainder can: whichever single bit of an entry is flipped, so that it names
 * the older object, the remainder is wrong, as no power of two is a multiple of 3.
 *
 * The word is also what is pushed to the deferred free. It says all that is needed to free the
 * object.
 */
#ifndef UZ_STORE_ENTRY_H
#define UZ_STORE_ENTRY_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/pool.h"
#include "uzram/codec.h"

typedef uint64_t uz_entry;

#define UZ_ENTRY_LOCK	 UINT64_C(1)
#define UZ_ENTRY_INLINE	 (UINT64_C(1) << 9) /* clear in the length of an object of 8 bytes */
#define UZ_ENTRY_DAMAGED (UINT64_C(7) << 3)
#define UZ_ENTRY_UNUSED	 (UINT64_C(3) << 1) /* must be zero */

#define UZ_INLINE_SUM_BITS 22
#define UZ_SUM_SIZE	   sizeof(uint32_t)
/* Raw pages lie below this page of area 1, within 256 GiB. */
#define UZ_RAW_PAGES (UINT64_C(1) << 26)

static_assert(UZ_CODEC_COUNT <= 7, "codecs and the damaged mark share 3 bits");

static inline unsigned uz_entry_codec(uz_entry e)
{
	return (unsigned)(e >> 3) & 7;
}

static inline bool uz_entry_damaged(uz_entry e)
{
	return uz_entry_codec(e) == 7;
}

static inline bool uz_entry_is_inline(uz_entry e)
{
	return uz_entry_codec(e) == UZ_CODEC_SAME && (e & UZ_ENTRY_INLINE);
}

/* Whether the entry names an object. */
static inline bool uz_entry_has_object(uz_entry e)
{
	return e && !uz_entry_damaged(e) && !uz_entry_is_inline(e);
}

static inline bool uz_word_fits_inline(uint64_t word)
{
	return (uint32_t)word == (uint32_t)(word >> 32);
}

/* An inline entry. It keeps only the last UZ_INLINE_SUM_BITS bits of sum. */
static inline uz_entry uz_entry_inline(uint64_t word, uint32_t sum)
{
	return (uz_entry)UZ_CODEC_SAME << 3 | UZ_ENTRY_INLINE |
	       (uint32_t)(sum << (32 - UZ_INLINE_SUM_BITS)) | (word >> 32) << 32;
}

static inline uint32_t uz_entry_inline_sum(uz_entry e)
{
	return (uint32_t)e >> (32 - UZ_INLINE_SUM_BITS);
}

static inline uint64_t uz_entry_word(uz_entry e)
{
	return e >> 32 | (e >> 32) << 32;
}

static inline uz_entry uz_entry_raw(uint64_t off, uint32_t sum)
{
	return (uz_entry)UZ_CODEC_RAW << 3 | (off >> UZ_PAGE_SHIFT) << 6 | (uint64_t)sum << 32;
}

/* What bits 62-63 must be in an entry whose object is not a raw page. */
static inline uint64_t uz_entry_check(uz_entry e)
{
	return (e << 2 >> 5) % 3;
}

static inline uz_entry uz_entry_object(enum uz_codec codec, uint64_t off, size_t len)
{
	uz_entry e = (uz_entry)codec << 3 | (uint64_t)(len - 1) << 6 | off / UZ_POOL_GRANULE << 18;

	return (e << 2 >> 2) | uz_entry_check(e) << 62;
}

static inline uint32_t uz_entry_raw_sum(uz_entry e)
{
	return (uint32_t)(e >> 32);
}

/* For an entry that has an object: its offset, its encoded length, and its size in the pool. */
static inline uint64_t uz_entry_off(uz_entry e)
{
	if (uz_entry_codec(e) == UZ_CODEC_RAW)
		return (e >> 6 & (UZ_RAW_PAGES - 1)) << UZ_PAGE_SHIFT;
	return (e << 2 >> 20) * UZ_POOL_GRANULE;
}

static inline size_t uz_entry_len(uz_entry e)
{
	return uz_entry_codec(e) == UZ_CODEC_RAW ? UZ_PAGE_SIZE : (size_t)(e >> 6 & 0xfff) + 1;
}

static inline size_t uz_entry_size(uz_entry e)
{
	return uz_entry_codec(e) == UZ_CODEC_RAW ? UZ_PAGE_SIZE : uz_entry_len(e) + UZ_SUM_SIZE;
}

/* For an entry that has an object: whether this version can have written it, as far as the word
 * alone tells. */
static inline bool uz_entry_sound(uz_entry e)
{
	return uz_entry_size(e) <= UZ_PAGE_SIZE &&
	       (uz_entry_codec(e) == UZ_CODEC_RAW || uz_entry_check(e) == e >> 62);
}

/* The same entry, with its object moved to off. */
static inline uz_entry uz_entry_moved(uz_entry e, uint64_t off)
{
	if (uz_entry_codec(e) == UZ_CODEC_RAW)
		return uz_entry_raw(off, uz_entry_raw_sum(e));
	return uz_entry_object((enum uz_codec)uz_entry_codec(e), off, uz_entry_len(e));
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * One slot: lock, read, write, change, discard.
 */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "base/crash.h"
#include "store/internal.h"

/* --- the lock bit --- */

uz_entry uz_slot_lock(struct uz_store *s, uint64_t slot)
{
	_Atomic uint64_t *e = &s->table[slot];
	unsigned round = 0;
	uz_entry old;

	/* Acquire pairs with the release in uz_slot_unlock(): what the entry names is there. */
	while ((old = atomic_fetch_or_explicit(e, UZ_ENTRY_LOCK, memory_order_acquire)) &
	       UZ_ENTRY_LOCK) {
		while (atomic_load_explicit(e, memory_order_relaxed) & UZ_ENTRY_LOCK)
			uz_spin_backoff(&round);
	}
	return old;
}

void uz_slot_unlock(struct uz_store *s, uint64_t slot, uz_entry e)
{
	atomic_store_explicit(&s->table[slot], e, memory_order_release);
}

uz_entry uz_slot_detach(struct uz_store *s, uint64_t slot)
{
	_Atomic uint64_t *e = &s->table[slot];
	uz_entry old = atomic_load_explicit(e, memory_order_relaxed);
	unsigned round = 0;

	/* Whoever holds the lock may be reading the object: wait. Acquire: its last access comes
	 * before our free; pairs with the release in uz_slot_unlock(). */
	for (;;) {
		if (old & UZ_ENTRY_LOCK) {
			uz_spin_backoff(&round);
			old = atomic_load_explicit(e, memory_order_relaxed);
		} else if (!old ||
			   atomic_compare_exchange_weak_explicit(e, &old, 0, memory_order_acq_rel,
								 memory_order_relaxed)) {
			return old;
		}
	}
}

/* --- checksums, each bound to its slot's number, so that one slot's content is wrong in another
 * --- */

static uint32_t page_sum(uint64_t slot, const void *page)
{
	/* Fibonacci hashing spreads the slot's number over all bits. */
	return (uint32_t)XXH3_64bits(page, UZ_PAGE_SIZE) ^
	       (uint32_t)(slot * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* Of an inline word: UZ_INLINE_SUM_BITS. */
static uint32_t word_sum(uint64_t slot, uint64_t word)
{
	const uint64_t both[2] = {slot, word};

	return (uint32_t)(XXH3_64bits(both, sizeof(both)) >> (64 - UZ_INLINE_SUM_BITS));
}

/* --- reading --- */

/* Decode the object of an entry that is locked, or that nothing can change. *ret_sum is the stored
 * checksum. -EBADMSG: not decodable. */
static int decode(struct uz_store *s, struct uz_codec_ctx *codec, uz_entry e, void *page,
		  uint32_t *ret_sum)
{
	uint64_t off = uz_entry_off(e);
	size_t len = uz_entry_len(e);
	const unsigned char *object;

	if (!uz_entry_sound(e) || off + uz_entry_size(e) > uz_arena_data_size(s->config.arena))
		return -EBADMSG;
	object = uz_arena_ptr(s->config.arena, off);
	if (uz_entry_codec(e) == UZ_CODEC_RAW)
		*ret_sum = uz_entry_raw_sum(e);
	else
		memcpy(ret_sum, object + len, sizeof(*ret_sum));
	return uz_codec_decode(codec, (enum uz_codec)uz_entry_codec(e), object, len, page);
}

static int corrupt(struct uz_worker *w)
{
	count(&w->counters, N_CORRUPT, 1);
	return -EIO;
}

/* The page of an entry that names no object. */
static int fill_page(struct uz_worker *w, uint64_t slot, uz_entry e, void *page)
{
	uint64_t word = 0;

	if (uz_entry_damaged(e))
		return -EIO;
	if (e) {
		word = uz_entry_word(e);
		if (uz_entry_inline_sum(e) != word_sum(slot, word))
			return corrupt(w);
	}
	uz_codec_fill(page, word);
	return 0;
}

static int check_page(struct uz_worker *w, uint64_t slot, const void *page, int err, uint32_t sum)
{
	return !err && sum == page_sum(slot, page) ? 0 : corrupt(w);
}

static int read_page(struct uz_worker *w, uint64_t slot, void *page)
{
	struct uz_store *s = w->store;
	uz_entry e = atomic_load_explicit(&s->table[slot], memory_order_acquire);
	uint32_t sum = 0;
	int err;

	if (!(e & UZ_ENTRY_LOCK) && !uz_entry_has_object(e))
		return fill_page(w, slot, e, page);
	e = uz_slot_lock(s, slot);
	if (!uz_entry_has_object(e)) {
		uz_slot_unlock(s, slot, e);
		return fill_page(w, slot, e, page);
	}
	err = decode(s, w->codec, e, page, &sum);
	uz_slot_unlock(s, slot, e);
	return check_page(w, slot, page, err, sum);
}

bool uz_slot_object_valid(struct uz_store *s, struct uz_codec_ctx *codec, uint64_t slot, uz_entry e)
{
	unsigned char page[UZ_PAGE_SIZE];
	uint32_t sum;

	return decode(s, codec, e, page, &sum) == 0 && sum == page_sum(slot, page);
}

int uz_slot_read(struct uz_worker *w, uint64_t slot, size_t from, size_t len, void *buf)
{
	bool whole = len == UZ_PAGE_SIZE;
	int err = read_page(w, slot, whole ? buf : w->page);

	count(&w->counters, err ? N_FAILED_READS : N_READS, 1);
	if (!err && !whole)
		memcpy(buf, w->page + from, len);
	return err;
}

/* --- writing --- */

/* Memory for an object; what is pending is freed before this fails. */
static int alloc(struct uz_store *s, size_t size, uint64_t *ret_off)
{
	int err = uz_pool_alloc(s->pool, size, ret_off);

	if (err && s->config.deferred) {
		uz_defer_flush(s->defer);
		err = uz_pool_alloc(s->pool, size, ret_off);
	}
	return err ? -ENOSPC : 0;
}

/* Store what the codec made of the page in an object; *ret is the entry to publish. */
static int make_entry(struct uz_worker *w, uint64_t slot, const void *page, enum uz_codec codec,
		      size_t len, uz_entry *ret)
{
	struct uz_store *s = w->store;
	uint32_t sum = page_sum(slot, page);
	unsigned char *object;
	uint64_t off;
	int err;

	if (codec == UZ_CODEC_RAW) {
		err = alloc(s, UZ_PAGE_SIZE, &off);
		if (err)
			return err;
		if (off >> UZ_PAGE_SHIFT >= UZ_RAW_PAGES) {
			uz_pool_release(s->pool, off);
			return -ENOSPC;
		}
		memcpy(uz_arena_ptr(s->config.arena, off), page, UZ_PAGE_SIZE);
		*ret = uz_entry_raw(off, sum);
		return 0;
	}
	err = alloc(s, len + UZ_SUM_SIZE, &off);
	if (err)
		return err;
	object = uz_arena_ptr(s->config.arena, off);
	memcpy(object, w->object, len);
	memcpy(object + len, &sum, sizeof(sum));
	*ret = uz_entry_object(codec, off, len);
	return 0;
}

/* Encode the page and store the outcome, not yet published. */
static int encode(struct uz_worker *w, uint64_t slot, const void *page, uz_entry *ret)
{
	enum uz_codec codec;
	size_t len = uz_codec_encode(w->codec, page, w->object, w->store->max_len, &codec);

	if (codec == UZ_CODEC_SAME) {
		uint64_t word;

		memcpy(&word, w->object, sizeof(word));
		if (uz_word_fits_inline(word)) {
			*ret = uz_entry_inline(word, word_sum(slot, word));
			return 0;
		}
	}
	return make_entry(w, slot, page, codec, len, ret);
}

/* The slot is locked and held old: publish e and let go of old. */
static void replace(struct uz_worker *w, uint64_t slot, uz_entry old, uz_entry e)
{
	UZ_CRASH(WRITE_COPIED);
	uz_slot_unlock(w->store, slot, e);
	UZ_CRASH(WRITE_PUBLISHED);
	uz_count_entry(&w->counters, e, 1);
	count(&w->counters, N_WRITES, 1);
	if (uz_entry_codec(e) == UZ_CODEC_RAW)
		count(&w->counters, N_HUGE_SINCE, 1);
	uz_dispose(w, old);
}

int uz_slot_write(struct uz_worker *w, uint64_t slot, const void *page)
{
	uz_entry e;
	int err = encode(w, slot, page, &e);

	if (err) {
		count(&w->counters, N_FAILED_WRITES, 1);
		return err;
	}
	replace(w, slot, uz_slot_lock(w->store, slot), e);
	return 0;
}

int uz_slot_update(struct uz_worker *w, uint64_t slot, size_t from, size_t len, const void *buf)
{
	uz_entry old = uz_slot_lock(w->store, slot), e;
	uint32_t sum = 0;
	int err;

	UZ_CRASH(SLOT_LOCKED);
	if (!old && !buf) { /* it is zero already */
		uz_slot_unlock(w->store, slot, old);
		return 0;
	}
	if (uz_entry_has_object(old)) {
		err = decode(w->store, w->codec, old, w->page, &sum);
		err = check_page(w, slot, w->page, err, sum);
	} else {
		err = fill_page(w, slot, old, w->page);
	}
	if (!err) {
		if (buf)
			memcpy(w->page + from, buf, len);
		else
			memset(w->page + from, 0, len);
		err = encode(w, slot, w->page, &e);
	}
	if (err) {
		uz_slot_unlock(w->store, slot, old);
		count(&w->counters, N_FAILED_WRITES, 1);
		return err;
	}
	replace(w, slot, old, e);
	return 0;
}

void uz_slot_discard(struct uz_worker *w, uint64_t slot)
{
	uz_entry old = uz_slot_detach(w->store, slot);

	if (!old)
		return;
	UZ_CRASH(DETACHED);
	count(&w->counters, N_NOTIFY_FREE, 1);
	uz_dispose(w, old);
}

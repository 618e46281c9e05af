/* SPDX-License-Identifier: MIT
 *
 * One slot: lock, read, write, change, discard.
 */
#include <errno.h>
#include <string.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/hash.h"
#include "store/internal.h"

/* --- the lock bit --- */

/* A slot is held while a page is encoded or copied, which is far below a millisecond, or until its
 * holder gets a CPU again. A bit that is set for this long was set by damage. */
#define LOCK_WAIT_NS (2 * UZ_NSEC_PER_SEC)
#define LOCK_STEP_NS (10 * UZ_NSEC_PER_MSEC)

struct lock_wait { /* zeroed at first */
	unsigned round;
	uint64_t last, waited; /* ns */
};

/* Call in every round of a wait. False: it has been long enough. A pause between two rounds counts
 * for LOCK_STEP_NS at most: when the process or the machine stands still, so does the holder. */
static bool lock_wait(struct lock_wait *w)
{
	uint64_t now, step;

	uz_spin_backoff(&w->round);
	if (w->round % 64)
		return true;
	now = uz_now_ns();
	step = w->last ? now - w->last : 0;
	w->last = now;
	w->waited += step < LOCK_STEP_NS ? step : LOCK_STEP_NS;
	return w->waited < LOCK_WAIT_NS;
}

int uz_slot_lock(struct uz_store *s, uint64_t slot, uz_entry *ret)
{
	_Atomic uint64_t *e = &s->table[slot];
	struct lock_wait wait = {0};
	uz_entry old;

	/* Acquire pairs with the release in uz_slot_unlock(): what the entry names is there. */
	while ((old = atomic_fetch_or_explicit(e, UZ_ENTRY_LOCK, memory_order_acquire)) &
	       UZ_ENTRY_LOCK) {
		while (atomic_load_explicit(e, memory_order_relaxed) & UZ_ENTRY_LOCK) {
			if (!lock_wait(&wait))
				return -EIO;
		}
	}
	*ret = old;
	return 0;
}

void uz_slot_unlock(struct uz_store *s, uint64_t slot, uz_entry e)
{
	atomic_store_explicit(&s->table[slot], e, memory_order_release);
}

int uz_slot_detach(struct uz_store *s, uint64_t slot, uz_entry *ret)
{
	_Atomic uint64_t *e = &s->table[slot];
	uz_entry old = atomic_load_explicit(e, memory_order_relaxed);
	struct lock_wait wait = {0};

	/* The holder of the lock may be reading the object: wait. Acquire: its last access comes
	 * before our free; pairs with the release in uz_slot_unlock(). */
	for (;;) {
		if (old & UZ_ENTRY_LOCK) {
			if (!lock_wait(&wait))
				return -EIO;
			old = atomic_load_explicit(e, memory_order_relaxed);
		} else if (!old ||
			   atomic_compare_exchange_weak_explicit(e, &old, 0, memory_order_acq_rel,
								 memory_order_relaxed)) {
			*ret = old;
			return 0;
		}
	}
}

/* --- checksums, each bound to its slot's number, so that one slot's content is wrong in another
 * --- */

/* Of an object, as which codec's. */
static uint32_t object_sum(uint64_t slot, enum uz_codec codec, const void *object, size_t len)
{
	/* Fibonacci hashing spreads the slot's number over all bits. */
	return (uint32_t)uz_hash(object, len) ^
	       (uint32_t)((slot << 3 | codec) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* Of an inline word: UZ_INLINE_SUM_BITS. */
static uint32_t word_sum(uint64_t slot, uint64_t word)
{
	const uint64_t both[2] = {slot, word};

	return (uint32_t)(uz_hash(both, sizeof(both)) >> (64 - UZ_INLINE_SUM_BITS));
}

/* Objects have long left the caches when they are read, and so has free memory. All lines at once,
 * so that the misses overlap. */
static void prefetch(const unsigned char *object, size_t size)
{
	for (size_t i = 0; i < size; i += 64)
		__builtin_prefetch(object + i);
}

/* --- reading --- */

/* Where the object is of an entry that has one, or NULL if there can't be one. */
static const unsigned char *find_object(struct uz_store *s, uz_entry e)
{
	uint64_t off = uz_entry_off(e);

	if (!uz_entry_sound(e) || off + uz_entry_size(e) > uz_arena_data_size(s->config.arena))
		return NULL;
	return uz_arena_ptr(s->config.arena, off);
}

static bool object_valid(uint64_t slot, uz_entry e, const unsigned char *object)
{
	enum uz_codec codec = (enum uz_codec)uz_entry_codec(e);
	size_t len = uz_entry_len(e);
	uint32_t sum;

	if (codec == UZ_CODEC_RAW)
		sum = uz_entry_raw_sum(e);
	else
		memcpy(&sum, object + len, sizeof(sum));
	return sum == object_sum(slot, codec, object, len);
}

bool uz_slot_object_valid(struct uz_store *s, uint64_t slot, uz_entry e)
{
	const unsigned char *object = find_object(s, e);

	return object && object_valid(slot, e, object);
}

static int corrupt(struct uz_worker *w)
{
	count(&w->counters, N_CORRUPT, 1);
	return -EIO;
}

/* The page of an entry that has an object, and is locked. */
static int decode_page(struct uz_worker *w, uint64_t slot, uz_entry e, void *page)
{
	const unsigned char *object = find_object(w->store, e);

	if (!object)
		return corrupt(w);
	prefetch(object, uz_entry_size(e));
	/* What is damaged is not even decoded. */
	if (!object_valid(slot, e, object) ||
	    uz_codec_decode(w->codec, (enum uz_codec)uz_entry_codec(e), object, uz_entry_len(e),
			    page))
		return corrupt(w);
	return 0;
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

static int read_page(struct uz_worker *w, uint64_t slot, void *page)
{
	struct uz_store *s = w->store;
	uz_entry e = atomic_load_explicit(&s->table[slot], memory_order_acquire);
	int err;

	if (!(e & UZ_ENTRY_LOCK) && !uz_entry_has_object(e))
		return fill_page(w, slot, e, page);
	if (uz_slot_lock(s, slot, &e))
		return corrupt(w);
	if (!uz_entry_has_object(e)) {
		uz_slot_unlock(s, slot, e);
		return fill_page(w, slot, e, page);
	}
	err = decode_page(w, slot, e, page);
	uz_slot_unlock(s, slot, e);
	return err;
}

/* Whoever reads slots in a row is likely to read this one next. */
static void expect_read(struct uz_store *s, uint64_t slot)
{
	const unsigned char *object;
	uz_entry e;

	if (slot == s->nslots)
		return;
	/* A guess, without the lock: the object may be gone, its address is still one of ours. */
	e = atomic_load_explicit(&s->table[slot], memory_order_relaxed) & ~UZ_ENTRY_LOCK;
	object = uz_entry_has_object(e) ? find_object(s, e) : NULL;
	if (object)
		prefetch(object, uz_entry_size(e));
}

int uz_slot_read(struct uz_worker *w, uint64_t slot, size_t from, size_t len, void *buf)
{
	bool whole = len == UZ_PAGE_SIZE;
	int err;

	if (slot == w->next_read)
		expect_read(w->store, slot + 1);
	w->next_read = slot + 1;
	err = read_page(w, slot, whole ? buf : w->page);
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

static int alloc_raw(struct uz_store *s, uint64_t *ret_off)
{
	uint64_t off;
	int err = alloc(s, UZ_PAGE_SIZE, &off);

	if (err)
		return err;
	if (off >> UZ_PAGE_SHIFT >= UZ_RAW_PAGES) {
		uz_pool_release(s->pool, off);
		return -ENOSPC;
	}
	*ret_off = off;
	return 0;
}

/* Encode the page, and have memory for the outcome, if it needs any. *ret is the entry to publish
 * when the object has been copied to there: the page itself if it is raw, else w->object. */
static int encode(struct uz_worker *w, uint64_t slot, const void *page, uz_entry *ret)
{
	struct uz_store *s = w->store;
	enum uz_codec codec;
	size_t len = uz_codec_encode(w->codec, page, w->object, s->max_len, &codec);
	uint64_t word, off;
	uint32_t sum;
	int err;

	if (codec == UZ_CODEC_RAW) {
		err = alloc_raw(s, &off);
		if (!err)
			*ret = uz_entry_raw(off, object_sum(slot, codec, page, len));
		return err;
	}
	memcpy(&word, w->object, sizeof(word));
	if (codec == UZ_CODEC_SAME && uz_word_fits_inline(word)) {
		*ret = uz_entry_inline(word, word_sum(slot, word));
		return 0;
	}
	err = alloc(s, len + UZ_SUM_SIZE, &off);
	if (err)
		return err;
	prefetch(uz_arena_ptr(s->config.arena, off), len + UZ_SUM_SIZE);
	sum = object_sum(slot, codec, w->object, len);
	memcpy(w->object + len, &sum, sizeof(sum));
	*ret = uz_entry_object(codec, off, len);
	return 0;
}

/* The slot is locked and held old; e is the encoded page's. Publish it, and let go of old.
 *
 * The copy comes as late as this, when the lock is taken, because most of its time is cache misses,
 * and an atomic read-modify-write would wait for them all. Publishing is a plain store. */
static void replace(struct uz_worker *w, uint64_t slot, uz_entry old, uz_entry e, const void *page)
{
	bool raw = uz_entry_codec(e) == UZ_CODEC_RAW;

	if (uz_entry_has_object(e))
		memcpy(uz_arena_ptr(w->store->config.arena, uz_entry_off(e)),
		       raw ? page : w->object, uz_entry_size(e));
	UZ_CRASH(WRITE_COPIED);
	uz_slot_unlock(w->store, slot, e);
	UZ_CRASH(WRITE_PUBLISHED);
	uz_count_entry(&w->counters, e, 1);
	count(&w->counters, N_WRITES, 1);
	if (raw)
		count(&w->counters, N_HUGE_SINCE, 1);
	uz_dispose(w, old);
}

int uz_slot_write(struct uz_worker *w, uint64_t slot, const void *page)
{
	uz_entry e, old;
	int err;

	__builtin_prefetch(&w->store->table[slot]);
	err = encode(w, slot, page, &e);
	if (!err && uz_slot_lock(w->store, slot, &old)) {
		if (uz_entry_has_object(e))
			uz_pool_release(w->store->pool, uz_entry_off(e));
		err = corrupt(w);
	}
	if (err) {
		count(&w->counters, N_FAILED_WRITES, 1);
		return err;
	}
	replace(w, slot, old, e, page);
	return 0;
}

int uz_slot_update(struct uz_worker *w, uint64_t slot, size_t from, size_t len, const void *buf)
{
	uz_entry old, e;
	int err;

	if (uz_slot_lock(w->store, slot, &old)) {
		count(&w->counters, N_FAILED_WRITES, 1);
		return corrupt(w);
	}
	UZ_CRASH(SLOT_LOCKED);
	if (!old && !buf) { /* it is zero already */
		uz_slot_unlock(w->store, slot, old);
		return 0;
	}
	err = uz_entry_has_object(old) ? decode_page(w, slot, old, w->page)
				       : fill_page(w, slot, old, w->page);
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
	replace(w, slot, old, e, w->page);
	return 0;
}

int uz_slot_discard(struct uz_worker *w, uint64_t slot)
{
	uz_entry old;

	if (uz_slot_detach(w->store, slot, &old))
		return corrupt(w);
	if (!old)
		return 0;
	UZ_CRASH(DETACHED);
	count(&w->counters, N_NOTIFY_FREE, 1);
	uz_dispose(w, old);
	return 0;
}

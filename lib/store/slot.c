/* SPDX-License-Identifier: MIT
 *
 * One slot: its lock, its checksums, and reading it.
 */
#include <errno.h>
#include <string.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/hash.h"
#include "store/internal.h"

/* --- the lock bit --- */

/* A slot is held while a page is encoded or copied, which takes far less than a millisecond, or
 * until its holder gets a CPU again. A bit that is set for this long was set by damage. */
#define LOCK_WAIT_NS (2 * UZ_NSEC_PER_SEC)
#define LOCK_STEP_NS (10 * UZ_NSEC_PER_MSEC)

struct lock_wait { /* zeroed at first */
	unsigned round;
	uint64_t last, waited; /* ns */
};

/* Call this in every round of a wait. False: the wait has been long enough. The time between two
 * rounds counts for LOCK_STEP_NS at most: when the process or the machine stands still, the
 * holder does, too. */
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

	/* Pairs with the release in uz_slot_unlock(): the object that the entry names is visible
	 * here. */
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
	/* Pairs with the acquires in uz_slot_lock(), uz_slot_detach() and read_page(). */
	atomic_store_explicit(&s->table[slot], e, memory_order_release);
}

int uz_slot_detach(struct uz_store *s, uint64_t slot, uz_entry *ret)
{
	_Atomic uint64_t *e = &s->table[slot];
	uz_entry old = atomic_load_explicit(e, memory_order_relaxed);
	struct lock_wait wait = {0};

	/* Wait while the slot is locked, as the holder may be reading the object. The acquire
	 * pairs with the release in uz_slot_unlock(): the holder's last access to the object
	 * comes before we free it. The release pairs with the acquire of the next uz_slot_lock()
	 * or read_page(), which find the slot empty. */
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

/* --- checksums --- */

uint32_t uz_object_sum(uint64_t slot, enum uz_codec codec, const void *object, size_t len)
{
	/* Fibonacci hashing spreads the slot's number over all bits. */
	return (uint32_t)uz_hash(object, len) ^
	       (uint32_t)((slot << 3 | codec) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

uint32_t uz_word_sum(uint64_t slot, uint64_t word)
{
	const uint64_t both[2] = {slot, word};

	return (uint32_t)(uz_hash(both, sizeof(both)) >> (64 - UZ_INLINE_SUM_BITS));
}

/* --- reading --- */

/* The object of an entry that has one. NULL: there can be none at that place. */
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
	return sum == uz_object_sum(slot, codec, object, len);
}

bool uz_slot_object_valid(struct uz_store *s, uint64_t slot, uz_entry e)
{
	const unsigned char *object = find_object(s, e);

	return object && object_valid(slot, e, object);
}

int uz_slot_corrupt(struct uz_worker *w)
{
	count(&w->counters, N_CORRUPT, 1);
	return -EIO;
}

/* Decode the page of an entry that has an object. The slot is locked. */
static int decode_page(struct uz_worker *w, uint64_t slot, uz_entry e, void *page)
{
	const unsigned char *object = find_object(w->store, e);

	if (!object)
		return uz_slot_corrupt(w);
	uz_prefetch(object, uz_entry_size(e));
	/* No decoder ever sees damaged bytes. */
	if (!object_valid(slot, e, object) ||
	    uz_codec_decode(w->codec, (enum uz_codec)uz_entry_codec(e), object, uz_entry_len(e),
			    page))
		return uz_slot_corrupt(w);
	return 0;
}

/* Fill in the page of an entry that has no object. */
static int fill_page(struct uz_worker *w, uint64_t slot, uz_entry e, void *page)
{
	uint64_t word = 0;

	if (uz_entry_damaged(e))
		return -EIO;
	if (e) {
		word = uz_entry_word(e);
		if (uz_entry_inline_sum(e) != uz_word_sum(slot, word))
			return uz_slot_corrupt(w);
	}
	uz_codec_fill(page, word);
	return 0;
}

int uz_slot_load(struct uz_worker *w, uint64_t slot, uz_entry e, void *page)
{
	return uz_entry_has_object(e) ? decode_page(w, slot, e, page) : fill_page(w, slot, e, page);
}

static int read_page(struct uz_worker *w, uint64_t slot, void *page)
{
	struct uz_store *s = w->store;
	/* Pairs with the release in uz_slot_unlock(). */
	uz_entry e = atomic_load_explicit(&s->table[slot], memory_order_acquire);
	int err;

	if (!(e & UZ_ENTRY_LOCK) && !uz_entry_has_object(e))
		return fill_page(w, slot, e, page);
	if (uz_slot_lock(s, slot, &e))
		return uz_slot_corrupt(w);
	if (!uz_entry_has_object(e)) {
		uz_slot_unlock(s, slot, e);
		return fill_page(w, slot, e, page);
	}
	err = decode_page(w, slot, e, page);
	uz_slot_unlock(s, slot, e);
	return err;
}

/* Slots are being read in a row, and this one is likely to be next: prefetch its object. */
static void expect_read(struct uz_store *s, uint64_t slot)
{
	const unsigned char *object;
	uz_entry e;

	if (slot == s->nslots)
		return;
	/* A guess, without the lock. The object may be freed meanwhile, but its address is still
	 * one of ours. */
	e = atomic_load_explicit(&s->table[slot], memory_order_relaxed) & ~UZ_ENTRY_LOCK;
	object = uz_entry_has_object(e) ? find_object(s, e) : NULL;
	if (object)
		uz_prefetch(object, uz_entry_size(e));
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

/* SPDX-License-Identifier: MIT
 *
 * One slot: memory for what it is to hold; writing, changing and discarding its page.
 */
#include <errno.h>
#include <string.h>

#include "base/crash.h"
#include "store/internal.h"

/* --- memory --- */

/* Whether a flush would free something. What the calling worker has pushed itself is always
 * counted. */
static bool frees_are_pending(struct uz_store *s)
{
	return s->config.deferred && uz_store_pending_bytes(s) > 0;
}

/* A raw page must lie where an entry can name it. -EFBIG: it lies beyond, and has been freed
 * again. */
static int check_reach(struct uz_store *s, size_t size, uint64_t off)
{
	if (size < UZ_PAGE_SIZE || off >> UZ_PAGE_SHIFT < UZ_RAW_PAGES)
		return 0;
	uz_pool_release(s->pool, off);
	return -EFBIG;
}

/* Allocate memory for an object, without a wait. 0; -ENOSPC: the limit is reached; -ENOMEM;
 * -EFBIG. */
static int try_alloc(struct uz_store *s, size_t size, uint64_t *ret_off)
{
	int err = uz_pool_try_alloc(s->pool, size, ret_off);

	return err ? err : check_reach(s, size, *ret_off);
}

/* The same, but before this fails it waits for memory, and for what is pending. No slot is
 * locked. */
static int alloc(struct uz_store *s, size_t size, struct uz_wait *wait, uint64_t *ret_off)
{
	int err = try_alloc(s, size, ret_off);
	bool pending;

	if (err != -ENOSPC && err != -ENOMEM)
		return err;
	pending = frees_are_pending(s);
	if (err == -ENOSPC && !pending)
		return err;
	/* Below the limit it is enough to have the drain thread begin: what it frees ends the
	 * wait for memory. */
	if (pending)
		uz_defer_flush_within(s->defer, err == -ENOSPC ? uz_arena_wait_left(wait) : 0);
	err = uz_pool_alloc(s->pool, size, wait, ret_off);
	if (err == -ENOMEM && pending) { /* it may have failed without a wait */
		uz_defer_flush_within(s->defer, uz_arena_wait_left(wait));
		err = uz_pool_try_alloc(s->pool, size, ret_off);
	}
	return err ? err : check_reach(s, size, *ret_off);
}

/* --- writing --- */

static int fail_write(struct uz_worker *w, int err)
{
	count(&w->counters, N_FAILED_WRITES, 1);
	if (err == -ENOSPC)
		count(&w->counters, N_FAILED_LIMIT, 1);
	if (err == -ENOMEM)
		count(&w->counters, N_FAILED_MEMORY, 1);
	return err == -EIO ? err : -ENOSPC;
}

/* A page as the codec has left it: in w->object; a raw one stays where it was. size is that of
 * the object; 0: it needs none. */
struct encoded {
	enum uz_codec codec;
	size_t len, size;
};

static struct encoded encode_page(struct uz_worker *w, const void *page)
{
	struct encoded e;
	uint64_t word;

	e.len = uz_codec_encode(w->codec, page, w->object, w->store->max_encoded, &e.codec);
	e.size = e.codec == UZ_CODEC_RAW ? UZ_PAGE_SIZE : e.len + UZ_SUM_SIZE;
	memcpy(&word, w->object, sizeof(word));
	if (e.codec == UZ_CODEC_SAME && uz_word_fits_inline(word))
		e.size = 0;
	return e;
}

/* Make the entry of the encoded page, whose object will lie at off. After this the object is
 * complete, with its checksum: w->object, or the page itself if it is raw. */
static uz_entry make_entry(struct uz_worker *w, uint64_t slot, const void *page, struct encoded e,
			   uint64_t off)
{
	uint64_t word;
	uint32_t sum;

	if (!e.size) {
		memcpy(&word, w->object, sizeof(word));
		return uz_entry_inline(word, uz_word_sum(slot, word));
	}
	uz_prefetch(uz_arena_ptr(w->store->config.arena, off), e.size);
	if (e.codec == UZ_CODEC_RAW)
		return uz_entry_raw(off, uz_object_sum(slot, e.codec, page, e.len));
	sum = uz_object_sum(slot, e.codec, w->object, e.len);
	memcpy(w->object + e.len, &sum, sizeof(sum));
	return uz_entry_object(e.codec, off, e.len);
}

/* Publish e, the entry of the encoded page, and dispose of old. The slot is locked, and old is
 * its entry.
 *
 * The copy comes as late as this, after the lock was taken, because most of its time is cache
 * misses, and an atomic read-modify-write would wait for all of them. To publish is a plain
 * store. */
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
	struct uz_store *s = w->store;
	struct encoded encoded;
	struct uz_wait wait = {0};
	uint64_t off = 0;
	uz_entry e, old;
	int err = 0;

	__builtin_prefetch(&s->table[slot]);
	encoded = encode_page(w, page);
	if (encoded.size)
		err = alloc(s, encoded.size, &wait, &off);
	if (err)
		return fail_write(w, err);
	e = make_entry(w, slot, page, encoded, off);
	if (uz_slot_lock(s, slot, &old)) {
		if (encoded.size)
			uz_pool_release(s->pool, off);
		return fail_write(w, uz_slot_corrupt(w));
	}
	replace(w, slot, old, e, page);
	return 0;
}

/* Memory for an object that was allocated while the slot was not locked. */
struct spare {
	uint64_t off;
	size_t size;   /* 0: there is none */
	size_t wanted; /* the size of the object for which there is none */
};

static void spare_done(struct uz_store *s, struct spare *spare)
{
	if (spare->size)
		uz_pool_release(s->pool, spare->off);
	spare->size = 0;
}

/* Load the page that the slot holds into w->page, and change it. */
static int change(struct uz_worker *w, uint64_t slot, uz_entry old, size_t from, size_t len,
		  const void *buf)
{
	int err = uz_slot_load(w, slot, old, w->page);

	if (err)
		return err;
	if (buf)
		memcpy(w->page + from, buf, len);
	else
		memset(w->page + from, 0, len);
	return 0;
}

/* Change the page if there is memory for the result: the spare, if it has the right size, or
 * what can be had without a wait. -EAGAIN: there is none for an object of spare->wanted bytes. */
static int try_update(struct uz_worker *w, uint64_t slot, size_t from, size_t len, const void *buf,
		      struct spare *spare)
{
	struct uz_store *s = w->store;
	struct encoded encoded;
	uint64_t off = 0;
	uz_entry old;
	int err;

	if (uz_slot_lock(s, slot, &old))
		return uz_slot_corrupt(w);
	UZ_CRASH(SLOT_LOCKED);
	if (!old && !buf) { /* the page is zero already */
		uz_slot_unlock(s, slot, old);
		return 0;
	}
	err = change(w, slot, old, from, len, buf);
	if (err) {
		uz_slot_unlock(s, slot, old);
		return err;
	}
	encoded = encode_page(w, w->page);
	if (encoded.size && encoded.size == spare->size) {
		off = spare->off;
		spare->size = 0;
	} else if (encoded.size && try_alloc(s, encoded.size, &off)) {
		uz_slot_unlock(s, slot, old);
		spare->wanted = encoded.size;
		return -EAGAIN;
	}
	replace(w, slot, old, make_entry(w, slot, w->page, encoded, off), w->page);
	return 0;
}

/* Wait for memory only while the slot is not locked. The page may have changed by then: start
 * over from what the slot holds. Each round but the first means that another write has changed
 * the page. */
int uz_slot_update(struct uz_worker *w, uint64_t slot, size_t from, size_t len, const void *buf)
{
	struct uz_wait wait = {0};
	struct spare spare = {0};
	int err;

	while ((err = try_update(w, slot, from, len, buf, &spare)) == -EAGAIN) {
		spare_done(w->store, &spare);
		err = alloc(w->store, spare.wanted, &wait, &spare.off);
		if (err)
			break;
		spare.size = spare.wanted;
	}
	spare_done(w->store, &spare);
	return err ? fail_write(w, err) : 0;
}

int uz_slot_discard(struct uz_worker *w, uint64_t slot)
{
	uz_entry old;

	if (uz_slot_detach(w->store, slot, &old))
		return uz_slot_corrupt(w);
	if (!old)
		return 0;
	UZ_CRASH(DETACHED);
	count(&w->counters, N_NOTIFY_FREE, 1);
	uz_dispose(w, old);
	return 0;
}

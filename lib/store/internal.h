/* SPDX-License-Identifier: MIT
 *
 * What the store's files share: stat.c (counters), slot.c (lock, checksums, reading), sweep.c
 * (compaction), free.c (what has left the table), write.c, recover.c, store.c (life) and io.c
 * (ranges). Each calls only those before it.
 */
#ifndef UZ_STORE_INTERNAL_H
#define UZ_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "arena/arena.h"
#include "arena/punch.h"
#include "base/helper.h"
#include "base/spin.h"
#include "codec/codec.h"
#include "defer/defer.h"
#include "pool/pool.h"
#include "store/entry.h"
#include "uzram/store.h"

/* The counters of a worker. The worker alone writes them, and only their sums over all workers
 * mean something: those of contents go down in the worker that detaches an entry, which need not
 * be the one that has published it. */
enum counter {
	N_PAGES,
	N_COMPR_BYTES,
	N_SAME,
	N_HUGE,
	N_HUGE_SINCE,
	N_READS,
	N_WRITES,
	N_FAILED_READS,
	N_FAILED_WRITES,
	N_FAILED_LIMIT,
	N_FAILED_MEMORY,
	N_INVALID,
	N_NOTIFY_FREE,
	N_CORRUPT,
	N_PUSHED_BYTES,
	N_COUNTERS,
};

struct counters {
	_Atomic int64_t n[N_COUNTERS];
};

struct uz_worker {
	struct uz_store *store;
	struct uz_codec_ctx *codec;
	struct uz_defer_producer *producer;
	struct uz_worker *prev, *next;
	struct counters counters;
	uint64_t next_read; /* the slot after the one that was read last */
	unsigned char page[UZ_PAGE_SIZE]
		__attribute__((aligned(64))); /* the page of which a part is changed or read */
	unsigned char object[UZ_PAGE_SIZE]
		__attribute__((aligned(64))); /* what the codec has made of a page */
};

/* What the drain thread frees at a time: several buffers' worth. The more it is, the longer are
 * the runs of objects of one class. */
#define DRAIN_BATCH 4096

struct drain_batch {
	unsigned count;
	uint64_t bytes; /* encoded length of all of them */
	uint64_t offs[DRAIN_BATCH];
	uint8_t cls[DRAIN_BATCH];
	unsigned start[UZ_POOL_CLASSES + 1];
	uint64_t sorted[DRAIN_BATCH]; /* the offsets, sorted by class */
};

static_assert(DRAIN_BATCH >= UZ_DEFER_BUF_SIZE / sizeof(uint64_t), "a buffer fits");
static_assert(UZ_POOL_CLASSES <= UINT8_MAX + 1, "cls holds any class");

struct uz_store {
	struct uz_store_config config;
	_Atomic uint64_t *table;
	uint64_t nslots;
	size_t max_encoded; /* a longer encoding wins nothing, and the page is stored raw */
	struct uz_pool *pool;
	struct uz_defer *defer;
	struct uz_punch punch; /* the drain thread's other work */

	struct uz_spin list_lock; /* guards workers and unowned_counters */
	struct uz_worker *workers;
	struct counters unowned_counters; /* of workers that have been freed, and of what recovery
					     has found */

	_Atomic uint64_t drained_bytes, bad_frees; /* the drain thread's */
	struct drain_batch batch;		   /* the drain thread's */

	pthread_mutex_t sweep_lock; /* held for a whole compaction */
	_Atomic uint64_t moved_bytes;
	struct uz_helper sweeper;
	/* See sweep.c. freed_bytes: encoded length of all that has been freed since the start.
	 * The sweeper is kicked when it reaches sweep_at. */
	_Atomic uint64_t freed_bytes, sweep_at;
};

/* Add to one of the calling worker's counters. */
static inline void count(struct counters *c, enum counter i, int64_t by)
{
	atomic_store_explicit(&c->n[i], atomic_load_explicit(&c->n[i], memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* Add what c counts to sum. */
void uz_count_all(struct counters *sum, const struct counters *c);

/* The encoded length of everything that has been pushed and not freed. What other threads push
 * at this moment may be missing. */
uint64_t uz_store_pending_bytes(struct uz_store *s);

/* --- slots --- */

/* Lock the slot. *ret is its entry, without the lock bit. 0, or -EIO: it has been locked for so
 * long that this must be damage. */
int uz_slot_lock(struct uz_store *s, uint64_t slot, uz_entry *ret);
/* Unlock the slot, with e as its entry: the old one, or a new one, which is thereby published. */
void uz_slot_unlock(struct uz_store *s, uint64_t slot, uz_entry e);
/* Empty the slot. *ret is the entry that it had. 0, or -EIO as above. */
int uz_slot_detach(struct uz_store *s, uint64_t slot, uz_entry *ret);

/* Whole pages, and parts of pages, where from + len <= UZ_PAGE_SIZE. Errors as in uzram/store.h. */
int uz_slot_read(struct uz_worker *w, uint64_t slot, size_t from, size_t len, void *buf);
int uz_slot_write(struct uz_worker *w, uint64_t slot, const void *page);
/* buf is NULL: write zeroes. */
int uz_slot_update(struct uz_worker *w, uint64_t slot, size_t from, size_t len, const void *buf);
int uz_slot_discard(struct uz_worker *w, uint64_t slot);

/* Decode the page of the entry e. If e has an object the slot is locked. 0 or -EIO. */
int uz_slot_load(struct uz_worker *w, uint64_t slot, uz_entry e, void *page);
/* Count damage. Returns -EIO. */
int uz_slot_corrupt(struct uz_worker *w);

/* Checksums: of an object, as that of a codec; and of an inline word, in UZ_INLINE_SUM_BITS
 * bits. Each depends on the slot's number, so that one slot's content is wrong in another. */
uint32_t uz_object_sum(uint64_t slot, enum uz_codec codec, const void *object, size_t len);
uint32_t uz_word_sum(uint64_t slot, uint64_t word);

/* Prefetch an object, all of its cache lines at once, so that the misses overlap. An object has
 * left the caches long before it is read, and so has free memory. */
static inline void uz_prefetch(const unsigned char *object, size_t size)
{
	for (size_t i = 0; i < size; i += 64)
		__builtin_prefetch(object + i);
}

/* Whether e names an object that was written to this slot. Nothing else uses the table. */
bool uz_slot_object_valid(struct uz_store *s, uint64_t slot, uz_entry e);

/* --- entries that come and go --- */

/* Add (by = 1) to the counters, or subtract (-1), what an entry stands for. */
void uz_count_entry(struct counters *c, uz_entry e, int by);
/* Count an entry that has been detached from its slot, and free its object; deferred, if it can
 * be. */
void uz_dispose(struct uz_worker *w, uz_entry e);

extern const struct uz_defer_ops uz_store_defer_ops;

/* How many times one compaction walks the table, at most. */
#define UZ_COMPACT_ROUNDS 8

/* --- the sweeper's thread --- */

/* Make the thread. It does nothing until s->sweeper is released. 0, -ENOMEM or -EAGAIN. */
int uz_sweeper_start(struct uz_store *s);
/* Say that objects of so many bytes have been freed. Now and then this kicks the sweeper, which
 * is a system call. It is on the I/O path only where the frees themselves are. */
void uz_sweeper_freed(struct uz_store *s, uint64_t bytes);

/* Rebuild pool and statistics from the slot table. 0 or -errno. */
int uz_store_recover(struct uz_store *s);

#endif

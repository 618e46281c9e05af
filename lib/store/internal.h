/* SPDX-License-Identifier: MIT
 *
 * The store's state, shared by stat.c (counters), slot.c (reading pages), sweep.c (compaction),
 * free.c (detached entries), write.c (writing pages), recover.c, store.c (life) and io.c (ranges).
 * A file calls only those before it.
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

/* A worker's counters. Each is written by its worker alone; sums over all workers are what counts:
 * those of contents go down on the worker that detaches an entry, which need not be the one that
 * published it. */
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
		__attribute__((aligned(64))); /* a page that is changed or read in part */
	unsigned char object[UZ_PAGE_SIZE]
		__attribute__((aligned(64))); /* what the codec makes of one */
};

/* What the drain thread frees at a time: the more, the longer the runs of one class. Several
 * buffers' worth. */
#define DRAIN_BATCH 4096

struct drain_batch {
	unsigned count;
	uint64_t bytes; /* encoded length of all */
	uint64_t offs[DRAIN_BATCH];
	uint8_t cls[DRAIN_BATCH];
	unsigned start[UZ_POOL_CLASSES + 1];
	uint64_t sorted[DRAIN_BATCH]; /* the offsets by class */
};

static_assert(DRAIN_BATCH >= UZ_DEFER_BUF_SIZE / sizeof(uint64_t), "a buffer fits");
static_assert(UZ_POOL_CLASSES <= UINT8_MAX + 1, "cls holds any class");

struct uz_store {
	struct uz_store_config config;
	_Atomic uint64_t *table;
	uint64_t nslots;
	size_t max_encoded; /* an encoding longer than this wins nothing: the page is stored raw */
	struct uz_pool *pool;
	struct uz_defer *defer;
	struct uz_punch punch; /* the drain thread's other work */

	struct uz_spin list_lock; /* guards workers and unowned_counters */
	struct uz_worker *workers;
	struct counters unowned_counters; /* of workers that are gone, and of what recovery found */

	_Atomic uint64_t drained_bytes, bad_frees; /* the drain thread's */
	struct drain_batch batch;		   /* the drain thread's */

	pthread_mutex_t sweep_lock; /* one sweep at a time */
	_Atomic uint64_t moved_bytes;
	struct uz_helper sweeper;
	_Atomic uint64_t freed_bytes; /* ... of objects, since the start */
	_Atomic uint64_t sweep_at;    /* the freed_bytes at which the sweeper is to look */
};

static inline void count(struct counters *c, enum counter i, int64_t by)
{
	atomic_store_explicit(&c->n[i], atomic_load_explicit(&c->n[i], memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* Add what c counts to sum. */
void uz_count_all(struct counters *sum, const struct counters *c);

/* Encoded length of what has been pushed and not freed. What other threads push at the time may be
 * missing. */
uint64_t uz_store_pending_bytes(struct uz_store *s);

/* --- slots --- */

/* Lock the slot; *ret is its entry, without the lock bit. -EIO: it has been locked for so long that
 * this must be damage. */
int uz_slot_lock(struct uz_store *s, uint64_t slot, uz_entry *ret);
/* Unlock the slot with e as its entry: the old one, or a new one, which is thereby published. */
void uz_slot_unlock(struct uz_store *s, uint64_t slot, uz_entry e);
/* Empty the slot; *ret is the entry it had. -EIO as above. */
int uz_slot_detach(struct uz_store *s, uint64_t slot, uz_entry *ret);

/* Whole pages and parts of pages; from + len <= UZ_PAGE_SIZE. Errors as in uzram/store.h. */
int uz_slot_read(struct uz_worker *w, uint64_t slot, size_t from, size_t len, void *buf);
int uz_slot_write(struct uz_worker *w, uint64_t slot, const void *page);
/* buf NULL: zeroes. */
int uz_slot_update(struct uz_worker *w, uint64_t slot, size_t from, size_t len, const void *buf);
int uz_slot_discard(struct uz_worker *w, uint64_t slot);

/* The page of the entry e; if that has an object the slot is locked. -EIO. */
int uz_slot_load(struct uz_worker *w, uint64_t slot, uz_entry e, void *page);
/* Count damage; returns -EIO. */
int uz_slot_corrupt(struct uz_worker *w);

/* Checksums, each bound to its slot's number, so that one slot's content is wrong in another: of an
 * object, as which codec's; of an inline word, in UZ_INLINE_SUM_BITS. */
uint32_t uz_object_sum(uint64_t slot, enum uz_codec codec, const void *object, size_t len);
uint32_t uz_word_sum(uint64_t slot, uint64_t word);

/* Objects have long left the caches when they are read, and so has free memory. All lines at once,
 * so that the misses overlap. */
static inline void uz_prefetch(const unsigned char *object, size_t size)
{
	for (size_t i = 0; i < size; i += 64)
		__builtin_prefetch(object + i);
}

/* Whether what e names is an object that was written to this slot. Where nothing else has access to
 * the table. */
bool uz_slot_object_valid(struct uz_store *s, uint64_t slot, uz_entry e);

/* --- entries that come and go --- */

/* Add (by = 1) or take away (-1) what an entry stands for in the statistics. */
void uz_count_entry(struct counters *c, uz_entry e, int by);
/* The entry has been detached from its slot: count it and free its object, deferred if it can be.
 */
void uz_dispose(struct uz_worker *w, uz_entry e);

extern const struct uz_defer_ops uz_store_defer_ops;

/* Walks of the table in one compaction, at most. */
#define UZ_COMPACT_ROUNDS 8

/* --- the sweeper's thread --- */

/* Make it; it does nothing until it is released (s->sweeper). -ENOMEM, -EAGAIN. */
int uz_sweeper_start(struct uz_store *s);
/* Objects of so many bytes have been freed. Kicks it now and then: a system call, and on the I/O
 * path only where the frees themselves are. */
void uz_sweeper_freed(struct uz_store *s, uint64_t bytes);

/* Rebuild pool and statistics from the slot table. */
int uz_store_recover(struct uz_store *s);

#endif

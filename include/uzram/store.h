/* SPDX-License-Identifier: MIT
 *
 * The store: a device of 4 KiB pages, each kept compressed in an arena.
 *
 * A page is stored from the moment its slot's entry is published, which is before a write
 * returns. The entry, in the arena, is all there is to know of the page. So uz_store_new() on an
 * arena that another process has left finds every page which that process had acknowledged, at
 * whatever instant it died.
 *
 * I/O goes through a *worker*, the context of one thread: memory for codecs, buffers, counters,
 * a deferred-free buffer. uz_worker_new() allocates all of it. Reads, writes and discards
 * allocate nothing, log nothing and touch no fresh memory.
 *
 * Any number of workers may do anything to the same bytes at once. Each page is atomic: a reader
 * gets a page as one write or another has left it, never a mixture. A range of several pages is
 * not atomic as a whole.
 */
#ifndef UZRAM_STORE_H
#define UZRAM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uzram/arena.h"
#include "uzram/codec.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct uz_store;
struct uz_worker;

struct uz_store_config {
	size_t size;		/* sizeof(struct uz_store_config): see uz_store_new() */
	struct uz_arena *arena; /* stays the caller's, outlives the store, and has no other store */
	enum uz_codec codec; /* of pages that are written from now on; pages in the arena may have
				others */
	int level;
	uint64_t mem_limit;  /* bytes of data memory that may be used; 0: no limit */
	uint64_t reserve;    /* bytes of data memory that are kept ready beyond what is used */
	unsigned populators; /* how many workers may wait in the kernel for memory at the same time,
				when the reserve stays dry. Less than there are workers that take
				any request, since the others must serve on; or 0 */
	unsigned defer_spares; /* buffers, of UZ_DEFER_BUF_SIZE bytes, >= 1 */
	unsigned defer_age_ms; /* >= 1 */
	bool deferred; /* free in the drain thread; else in the overwrite or discard itself */
	bool compact;  /* compact by itself, when there is enough to win */
};

struct uz_store_stat {
	size_t size; /* of what the library has filled in; fields behind that are 0 */
	/* Contents. */
	uint64_t pages_stored; /* slots that are not empty */
	uint64_t compr_bytes;  /* their encoded length; 0 for same-filled pages */
	uint64_t same_pages;
	uint64_t huge_pages;	   /* incompressible, stored as they are */
	uint64_t huge_pages_since; /* incompressible pages written since the start */
	/* Memory, bytes. */
	uint64_t mem_used;	  /* in zspages */
	uint64_t mem_used_max;	  /* the highest mem_used since the start, or since
				     uz_store_reset_max() */
	uint64_t mem_limit;	  /* 0: none */
	uint64_t mem_ready;	  /* the reserve: free, with memory */
	uint64_t table_bytes;	  /* slot table and superblock */
	uint64_t meta_bytes;	  /* allocator state */
	uint64_t pages_compacted; /* freed by compaction */
	uint64_t moved_bytes;	  /* bytes that compaction has copied for that */
	/* Requests, pages. */
	uint64_t reads, writes;
	uint64_t failed_reads, failed_writes;
	uint64_t failed_limit;	/* of these writes: because the limit is reached */
	uint64_t failed_memory; /* of these writes: because there was no memory */
	uint64_t invalid_io;	/* requests outside the device */
	uint64_t notify_free;	/* slots emptied by discards */
	uint64_t corrupt;	/* reads whose checksum was wrong, entries found damaged, slots that
				   stayed locked, frees of what was not there */
	uint64_t reserve_dry;	/* writes that had to wait for memory */
	uint64_t reserve_self;	/* of these writes: those that got it from the kernel themselves */
	/* Deferred free. */
	uint64_t defer_pushed, defer_drained, defer_fallbacks, defer_runs;
	uint64_t defer_pending_bytes; /* encoded length of what is pushed and not drained */
	unsigned defer_spares;
};

/* Serve the arena: scan its slot table, clear the locks that a dead process has left, and start
 * the refill and drain threads. An entry that can't be right (out of bounds, or overlapping one
 * that was found before) is marked damaged: reading its page is -EIO until the page is written
 * or discarded.
 *
 * 0; -EINVAL (the configuration); -E2BIG; -ENOMEM; or what starting the threads and the ring
 * returned.
 *
 * config->size tells the library which fields there are, as a program may have been built with
 * the header of another version. Fields that its struct lacks are 0. Fields that the library
 * does not know must be 0, or it is -E2BIG. A size that was not set is -EINVAL. */
int uz_store_new(const struct uz_store_config *config, struct uz_store **ret);

/* uz_store_new() in steps, for a process that stands by while another one serves the arena.
 *
 * uz_store_prepare() gets the memory and makes the threads. Workers can be made then, but not used.
 * Returns as uz_store_new() does. */
int uz_store_prepare(const struct uz_store_config *config, struct uz_store **ret);

/* Prepare for the pages that the other process has stored meanwhile. Call it about every second:
 * what is left to uz_store_start() takes time and memory. */
void uz_store_warm(struct uz_store *store);

/* Take over. The other process has ended. This takes next to no memory. wait: return when the
 * reserve is there, too. 0 or -errno. The thread that calls this is the one that has called
 * uz_store_warm(). */
int uz_store_start(struct uz_store *store, bool wait);

/* Stop serving. The pages stay in the arena. All workers have been freed before. NULL is
 * allowed. */
void uz_store_free(struct uz_store *store);

/* Make a worker, to be used by one thread at a time. 0; -ENOMEM; -ENOTSUP if the installed
 * compression library lacks what the codec needs. Any thread. */
int uz_worker_new(struct uz_store *store, struct uz_worker **ret);
/* NULL is allowed. */
void uz_worker_free(struct uz_worker *worker);

/* Read, write, or make zero (discard, write-zeroes, punch-hole) len bytes from byte off of the
 * device. A part of a page is read, changed and written under the slot's lock.
 *
 * - -EINVAL: the range is not within the device. Nothing was done.
 * - -EIO: a page, or the page of which a part was to be changed, is damaged.
 * - -ENOSPC: the memory limit is reached, or there is no memory. A write fails so only after
 *   everything pending has been freed, or after 200 ms.
 *
 * After -EIO and -ENOSPC the pages before the failing one have been read or changed. The rest of
 * a read's buf may hold anything. A write or discard leaves the failing page and those after it
 * as they were; but a discard goes on behind a page that is -EIO.
 *
 * For each page a write waits at most
 *
 * - 200 ms, for memory and for what is pending;
 * - at the limit, where what is pending is waited for first, 200 ms for each of the two;
 * - 2 s, where memory does come, but other writes have it first.
 *
 * (On a machine that is too busy to let the worker run it takes longer.) When a write has waited
 * in vain for memory, the next ones that find none fail at once, until some has come. A worker
 * that gets memory from the kernel itself (populators) waits for as long as the kernel makes it. */
int uz_read(struct uz_worker *worker, uint64_t off, size_t len, void *buf);
int uz_write(struct uz_worker *worker, uint64_t off, size_t len, const void *buf);
int uz_discard(struct uz_worker *worker, uint64_t off, uint64_t len);

/* Return when everything that was overwritten or discarded before this call has been freed. May
 * wait for milliseconds. */
void uz_store_flush(struct uz_store *store);

/* Flush, then move objects out of the emptiest zspages, in eight walks of the slot table at
 * most. Returns how many pages became free. Takes time in proportion to the size of the device.
 * I/O goes on meanwhile, and waits for no more than the copy of one object. */
uint64_t uz_store_compact(struct uz_store *store);

/* Change the memory limit (bytes; 0: none). What is stored beyond it stays. Any thread, also
 * before uz_store_start(). */
void uz_store_set_limit(struct uz_store *store, uint64_t bytes);

/* mem_used_max starts anew from what is used now. */
void uz_store_reset_max(struct uz_store *store);

/* How many workers wait in the kernel for memory at this moment (uz_store_config.populators).
 * The kernel may make them wait for as long as it has none. */
unsigned uz_store_populating(const struct uz_store *store);

/* Fill in ret->size bytes. Never waits. The counters of different workers are added up, not read
 * at one instant. */
void uz_store_get_stat(struct uz_store *store, struct uz_store_stat *ret);

/* The same, for a caller whose struct is that of this header. */
static inline void uz_store_stat(struct uz_store *store, struct uz_store_stat *ret)
{
	ret->size = sizeof(*ret);
	uz_store_get_stat(store, ret);
}

/* pages_stored alone. uz_store_stat() takes a lock for each size class and area; this takes one
 * in all, so that it can be called for every look at the attributes of a file. */
uint64_t uz_store_pages_stored(struct uz_store *store);

enum uz_codec uz_store_codec(const struct uz_store *store);
uint64_t uz_store_disksize(const struct uz_store *store);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

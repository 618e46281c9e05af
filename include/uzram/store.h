/* SPDX-License-Identifier: MIT
 *
 * The store: a device of 4 KiB pages, each kept compressed in an arena.
 *
 * A page is stored from the moment its slot's entry is published, which is before a write returns;
 * the entry in the arena is all there is to know of it. So uz_store_new() on an arena that another
 * process left behind, at whatever instant it died, finds every page that process had acknowledged.
 *
 * I/O goes through a *worker*, the context of one thread: codec memory, buffers, counters, its
 * deferred-free buffer. All of it is allocated by uz_worker_new(); reads, writes and discards
 * allocate nothing, log nothing and touch no fresh memory.
 *
 * Any number of workers may do anything to the same bytes at once. Each page is atomic: a reader
 * gets a page as one write or another left it, never a mixture. A range of several pages is not
 * atomic as a whole.
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
	struct uz_arena *arena; /* stays the caller's; must outlive the store, and have no other */
	enum uz_codec codec; /* of pages written from now on; those in the arena may have others */
	int level;
	uint64_t mem_limit;    /* bytes of data memory; 0: none */
	uint64_t reserve;      /* bytes of data memory kept populated beyond what is used */
	unsigned populators;   /* workers that may wait in the kernel for memory at the same time,
				  when the reserve stays dry; less than there are workers for any
				  request: the others must serve on. Or 0 */
	unsigned defer_spares; /* buffers, of UZ_DEFER_BUF_SIZE bytes, >= 1 */
	unsigned defer_age_ms; /* >= 1 */
	bool deferred; /* free through the drain thread; else on the path of the overwrite or
			  discard */
	bool compact;  /* by itself, when there is enough to win */
};

struct uz_store_stat {
	size_t size; /* of what the library has filled in; fields behind that are 0 */
	/* Contents. */
	uint64_t pages_stored; /* slots that are not empty */
	uint64_t compr_bytes;  /* their encoded length; for same-filled pages 0 */
	uint64_t same_pages;
	uint64_t huge_pages;	   /* incompressible, stored as they are */
	uint64_t huge_pages_since; /* ... ever written */
	/* Memory, bytes. */
	uint64_t mem_used;	  /* in zspages */
	uint64_t mem_used_max;	  /* the most mem_used has been */
	uint64_t mem_limit;	  /* 0: none */
	uint64_t mem_ready;	  /* the reserve: populated, free */
	uint64_t table_bytes;	  /* slot table and superblock */
	uint64_t meta_bytes;	  /* allocator state */
	uint64_t pages_compacted; /* freed by compaction */
	uint64_t moved_bytes;	  /* ... at this cost */
	/* Requests, pages. */
	uint64_t reads, writes;
	uint64_t failed_reads, failed_writes;
	uint64_t failed_limit;	/* of these writes: because the limit is reached */
	uint64_t failed_memory; /* ... because memory could not be had */
	uint64_t invalid_io;	/* requests outside the device */
	uint64_t notify_free;	/* slots emptied by discards */
	uint64_t corrupt;	/* reads whose checksum was wrong, entries found damaged, slots that
				   stayed locked, frees of what was not there */
	uint64_t reserve_dry;	/* writes that had to wait for memory */
	uint64_t reserve_self;	/* ... and then had it from the kernel themselves */
	/* Deferred free. */
	uint64_t defer_pushed, defer_drained, defer_fallbacks, defer_runs;
	uint64_t defer_pending_bytes; /* encoded length of what is pushed and not drained */
	unsigned defer_spares;
};

/* Serve the arena: scan its slot table, clear what locks a dead process left, start the refill and
 * drain threads. An entry that can't be right (out of bounds, or overlapping one found before) is
 * marked: reading it is -EIO until it is written or discarded. -EINVAL (config), -ENOMEM, or what
 * starting the threads and the ring returned.
 *
 * config->size tells the library which fields there are, as a program may have been built with the
 * header of another version. Fields that its struct lacks are 0. Fields that the library does not
 * know must be 0, or it is -E2BIG. A size that was not set is -EINVAL. */
int uz_store_new(const struct uz_store_config *config, struct uz_store **ret);

/* The same in two steps, for a process that stands by while another one serves the arena. After the
 * first the store has all its memory and threads; workers can be made, but not used. Warming it,
 * again and again, keeps it ready for what the other has stored meanwhile. When the other process
 * has ended uz_store_start() takes over, for which it needs next to no memory; wait: and waits
 * until the reserve is there. Warm and start: one thread. */
int uz_store_prepare(const struct uz_store_config *config, struct uz_store **ret);
void uz_store_warm(struct uz_store *store);
int uz_store_start(struct uz_store *store, bool wait);

/* Stop serving; the pages stay in the arena. All workers have been freed before. NULL is allowed.
 */
void uz_store_free(struct uz_store *store);

/* A worker, to be used by one thread at a time. -ENOMEM. Any thread may call it. */
int uz_worker_new(struct uz_store *store, struct uz_worker **ret);
/* NULL is allowed. */
void uz_worker_free(struct uz_worker *worker);

/* Read, write, or make zero (discard, write-zeroes, punch-hole) len bytes from byte off of the
 * device. A part of a page is read, changed and written under the slot's lock.
 * - -EINVAL: not within the device; nothing was done.
 * - -EIO: a page (or the page of which a part was to be changed) is damaged.
 * - -ENOSPC: the memory limit is reached, or there is no memory; only after everything pending has
 *   been freed, or after 200 ms.
 * On -EIO and -ENOSPC the pages before the failing one have been read or changed; of a read, the
 * rest of buf holds anything; of a write or discard, the failing page and those after it are as
 * before. But a discard goes on behind a page that is -EIO.
 *
 * A page that is written waits 200 ms at most, for memory and for what is pending; or at the limit,
 * where what is pending is waited for first, 200 ms for each; or where memory does come, but other
 * writes have it first, 2 s. (A machine too busy to let the worker run makes that longer.) When it
 * was in vain for want of memory, the next writes that find none fail at once, until some has come.
 * A worker that gets memory from the kernel itself (populators) waits for that as long as the
 * kernel makes it. */
int uz_read(struct uz_worker *worker, uint64_t off, size_t len, void *buf);
int uz_write(struct uz_worker *worker, uint64_t off, size_t len, const void *buf);
int uz_discard(struct uz_worker *worker, uint64_t off, uint64_t len);

/* Return when everything that was detached before this call has been freed. May wait for
 * milliseconds. */
void uz_store_flush(struct uz_store *store);

/* Flush, then move objects out of the emptiest zspages, in eight walks of the slot table at
 * most. Returns the pages that were freed. Takes time in proportion to the device's size; I/O
 * goes on meanwhile, and waits for no more than the copy of one object. */
uint64_t uz_store_compact(struct uz_store *store);

/* Change the memory limit (bytes; 0: none). What is stored beyond it stays. */
void uz_store_set_limit(struct uz_store *store, uint64_t bytes);

/* mem_used_max starts anew from what is used now. */
void uz_store_reset_max(struct uz_store *store);

/* How many workers wait in the kernel for memory at this moment (uz_store_config.populators): for
 * as long as it has none. */
unsigned uz_store_populating(const struct uz_store *store);

/* Never waits. Counters are added up over the workers, not read at one instant. Fills in ret->size
 * bytes. */
void uz_store_get_stat(struct uz_store *store, struct uz_store_stat *ret);

/* The same, for a caller in C, whose struct is that of this header. */
static inline void uz_store_stat(struct uz_store *store, struct uz_store_stat *ret)
{
	ret->size = sizeof(*ret);
	uz_store_get_stat(store, ret);
}

/* The pages_stored of uz_store_stat() alone, which takes a lock for each size class and area. This
 * takes one, and may be called for each look at a file's attributes. */
uint64_t uz_store_pages_stored(struct uz_store *store);

enum uz_codec uz_store_codec(const struct uz_store *store);
uint64_t uz_store_disksize(const struct uz_store *store);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

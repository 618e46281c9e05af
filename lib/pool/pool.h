/* SPDX-License-Identifier: MIT
 *
 * A zsmalloc-style allocator of small objects in the arena.
 *
 * An object belongs to a *size class*. A *zspage* is a unit of 1 to 8 contiguous pages, cut into
 * objects of one class. Sizes that pack alike share a class, and a class's zspage has the number
 * of pages that wastes least (both as in Linux's mm/zsmalloc.c). Nearly every size has two
 * classes, a coarse and a fine one (pool/classes.c). Partly filled zspages are grouped by
 * fullness, and objects are allocated from the fullest first, so that emptier ones drain.
 *
 * Unlike in zsmalloc, a zspage's pages are contiguous, so that an object can be decoded where it
 * lies; objects have no header and no handle; and a bitmap in private memory tells which objects
 * are free, not links in the objects themselves. The name of an object is its offset in the
 * arena's data. That is all that is needed to free it; with its size, it is all that is needed
 * to rebuild the pool. Nothing of the pool's own state is in the arena.
 *
 * Any thread may call any function, except where it says otherwise. Lock order: a class's lock,
 * then an area's. Nothing waits but uz_pool_alloc().
 */
#ifndef UZ_POOL_POOL_H
#define UZ_POOL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uz_arena;
struct uz_pool;

#define UZ_POOL_GRANULE	   8u
#define UZ_POOL_CLASSES	   256 /* at most; the last number means no class */
#define UZ_POOL_CLASS_NONE 255

struct uz_pool_stat {
	uint64_t objects;      /* allocated */
	uint64_t object_bytes; /* bytes of these, counted in the sizes of their classes */
	uint64_t zspages;
	uint64_t pages;		  /* pages in zspages */
	uint64_t slack_pages;	  /* pages of these that compaction can free */
	uint64_t pages_compacted; /* pages freed by compaction since the start */
};

/* Make an empty pool on an arena of which no unit is used. 0 or -ENOMEM. */
int uz_pool_new(struct uz_arena *arena, struct uz_pool **ret);

/* Free the pool's own state. The objects in the arena are not touched. NULL is allowed. */
void uz_pool_free(struct uz_pool *pool);

/* Objects of this size or more take a page each, so that nothing is won by storing them
 * compressed. */
size_t uz_pool_huge_size(const struct uz_pool *pool);

/* The number of the class of the object at off, of size bytes (1 to UZ_PAGE_SIZE).
 * UZ_POOL_CLASS_NONE: there can be no such object there. */
unsigned uz_pool_class_number(const struct uz_pool *pool, uint64_t off, size_t size);

/* Allocate an object of size bytes, 1 to UZ_PAGE_SIZE. *ret_off is a multiple of
 * UZ_POOL_GRANULE; for an object of a page, of UZ_PAGE_SIZE. Looks for room in the fine class of
 * the size, then for a ready unit for that class, and then for the same in the coarse class.
 * Takes the locks of the two classes, each for a few dozen instructions. 0; -ENOSPC: the memory
 * limit is reached; -ENOMEM: there is neither room nor a ready unit. Never waits. */
int uz_pool_try_alloc(struct uz_pool *pool, size_t size, uint64_t *ret_off);

/* The same, but where uz_pool_try_alloc() finds nothing this waits for whatever comes first, as
 * uz_arena_wait() says. The caller holds no lock and no slot. -ENOMEM: no memory can be had. */
struct uz_wait;
int uz_pool_alloc(struct uz_pool *pool, size_t size, struct uz_wait *wait, uint64_t *ret_off);

/* Free the object at off. 0, or -EINVAL if there is none: nothing is changed then. */
int uz_pool_release(struct uz_pool *pool, uint64_t off);

/* Free count objects, all of the class cls, many of them under one lock. Empty zspages go back
 * to the arena after the lock is dropped. Returns how many of the offsets named no such object. */
size_t uz_pool_release_run(struct uz_pool *pool, unsigned cls, const uint64_t *offs, size_t count);

/* --- compaction --- */

/* The caller walks all objects between begin and end, as it knows where they are named. */

/* Choose victims: the emptiest zspages, as many as have objects that fit into the other zspages
 * of their class. Nothing is allocated from victims. Returns how many there are; 0: there is
 * nothing to do, and uz_pool_compact_end() is not needed. One thread at a time. */
size_t uz_pool_compact_begin(struct uz_pool *pool);
/* Whether the live object at off should move. */
bool uz_pool_is_victim(struct uz_pool *pool, uint64_t off);
/* Allocate the place where the live object at off can move to: in another zspage of its class.
 * Takes no new memory. 0, or -ENOSPC: no other zspage has room. */
int uz_pool_alloc_dense(struct uz_pool *pool, uint64_t off, uint64_t *ret_off);
/* Victims that have not become empty are ordinary zspages again. Returns how many pages were
 * freed since uz_pool_compact_begin(). */
size_t uz_pool_compact_end(struct uz_pool *pool);

/* --- rebuilding: on a new pool, by one thread, before anything is allocated --- */

/* Say that there is a live object of size bytes at off. 0; -EINVAL: none can be there (bounds,
 * alignment); -EEXIST: this contradicts a claim before it: there is an object already, or the
 * zspage is of another class. */
int uz_pool_claim(struct uz_pool *pool, uint64_t off, size_t size);
/* Forget all claims, to begin anew. Takes no memory. */
void uz_pool_reset(struct uz_pool *pool);

/* All objects have been claimed: sort the zspages into their groups, and give the arena all
 * other units. 0, or what uz_arena_restore() returned. */
int uz_pool_claim_end(struct uz_pool *pool);

/* --- looking in --- */

void uz_pool_stat(struct uz_pool *pool, struct uz_pool_stat *ret);

/* For tests. -EUCLEAN: an invariant does not hold. No other thread may use the pool. */
int uz_pool_check(struct uz_pool *pool);
/* For tests. Whether two pools hold the same objects in the same zspages. */
bool uz_pool_equal(const struct uz_pool *a, const struct uz_pool *b);

#endif

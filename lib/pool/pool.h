/* SPDX-License-Identifier: MIT
 *
 * A zsmalloc-style allocator of small objects in the arena.
 *
 * An object belongs to a *size class*; a *zspage* is a unit of 1 to 8 contiguous pages cut into
 * objects of one class. Classes that pack alike are merged, and a class's zspage has the number of
 * pages that wastes least (both as in Linux's mm/zsmalloc.c). Nearly every size has two classes, a
 * coarse and a fine one (pool/classes.c).
 * Partly filled zspages are kept in groups by fullness and the fullest is allocated from first, so
 * that emptier ones drain.
 *
 * Unlike zsmalloc's, a zspage's pages are contiguous (an object can be decoded where it lies),
 * objects carry no header and have no handle, and free objects are known by a bitmap in private
 * memory, not by links in themselves. An object is named by its offset in the arena's data. That
 * name is all that is needed to free it, and it and the size are all that is needed to rebuild the
 * pool: nothing of the pool's own state is in the arena.
 *
 * Every function may be called by any thread, except where it says otherwise. Lock order: a class's
 * lock, then an area's. Nothing waits but uz_pool_alloc().
 */
#ifndef UZ_POOL_POOL_H
#define UZ_POOL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uz_arena;
struct uz_pool;

#define UZ_POOL_GRANULE	   8u
#define UZ_POOL_CLASSES	   256 /* at most, and one that is none */
#define UZ_POOL_CLASS_NONE 255

struct uz_pool_stat {
	uint64_t objects;      /* allocated */
	uint64_t object_bytes; /* ... in bytes of their classes */
	uint64_t zspages;
	uint64_t pages;		  /* in zspages */
	uint64_t slack_pages;	  /* ... of which compaction can free so many */
	uint64_t pages_compacted; /* pages freed by compaction since the start */
};

/* An empty pool on an arena of which no unit is in use. -ENOMEM. */
int uz_pool_new(struct uz_arena *arena, struct uz_pool **ret);

/* Forget the pool's state. The objects in the arena are not touched. NULL is allowed. */
void uz_pool_free(struct uz_pool *pool);

/* Sizes from this one up to a page take a page each: storing such an object compressed wins
 * nothing. */
size_t uz_pool_huge_size(const struct uz_pool *pool);

/* The class of the object of size bytes, 1 to UZ_PAGE_SIZE, at off: a number below UZ_POOL_CLASSES;
 * UZ_POOL_CLASS_NONE if there can be no such object. */
unsigned uz_pool_class_number(const struct uz_pool *pool, uint64_t off, size_t size);

/* Allocate size bytes, 1 to UZ_PAGE_SIZE: *ret_off is a multiple of UZ_POOL_GRANULE; for an object
 * of a page, of UZ_PAGE_SIZE. Looks for room in the size's fine class, for a ready unit for that,
 * and then for the same in the coarse class; takes the locks of the classes, each for a few dozen
 * instructions. -ENOSPC: the memory limit; -ENOMEM: no room, and no unit is ready. Never waits. */
int uz_pool_try_alloc(struct uz_pool *pool, size_t size, uint64_t *ret_off);

/* The same, but where there is nothing it waits for whatever comes first of all that, as described
 * for uz_arena_wait(). The caller holds no lock and no slot. -ENOMEM: memory can't be had. */
struct uz_wait;
int uz_pool_alloc(struct uz_pool *pool, size_t size, struct uz_wait *wait, uint64_t *ret_off);

/* Free the object at off. -EINVAL if there is none: nothing is changed then. */
int uz_pool_release(struct uz_pool *pool, uint64_t off);

/* Free count objects that are all of the class cls, many under one lock. Empty zspages go back to
 * the arena after the lock is dropped. Returns how many of the offsets named no such object. */
size_t uz_pool_release_run(struct uz_pool *pool, unsigned cls, const uint64_t *offs, size_t count);

/* --- compaction: the caller walks all objects (it knows where they are) between begin and end ---
 */

/* Choose victims: the emptiest zspages whose objects fit into the other zspages of their class.
 * Nothing is allocated from victims. Returns how many there are; 0: nothing to do, and no end is
 * needed. One thread at a time. */
size_t uz_pool_compact_begin(struct uz_pool *pool);
/* Whether the (live) object at off should move. */
bool uz_pool_is_victim(struct uz_pool *pool, uint64_t off);
/* Allocate where the (live) object at off can move to: in another zspage of its class. Takes no new
 * memory: -ENOSPC if none has room. */
int uz_pool_alloc_dense(struct uz_pool *pool, uint64_t off, uint64_t *ret_off);
/* Victims that did not become empty are ordinary zspages again. Returns the pages that were freed
 * since begin. */
size_t uz_pool_compact_end(struct uz_pool *pool);

/* --- rebuilding: on a new pool, by one thread, before anything is allocated --- */

/* There is a live object of size bytes at off. -EINVAL if none can be there (bounds, alignment);
 * -EEXIST if that contradicts what has been claimed before: there is an object already, or the
 * zspage is of another class. */
int uz_pool_claim(struct uz_pool *pool, uint64_t off, size_t size);
/* Forget all claims, and begin rebuilding anew. Takes no memory. */
void uz_pool_reset(struct uz_pool *pool);

/* All have been claimed: sort the zspages, give the arena the rest. 0, or what uz_arena_restore()
 * returned. */
int uz_pool_claim_end(struct uz_pool *pool);

/* --- looking in --- */

void uz_pool_stat(struct uz_pool *pool, struct uz_pool_stat *ret);

/* For tests: -EUCLEAN if an invariant does not hold; no other thread may be using the pool. */
int uz_pool_check(struct uz_pool *pool);
/* For tests: whether two pools hold the same objects in the same zspages. */
bool uz_pool_equal(const struct uz_pool *a, const struct uz_pool *b);

#endif

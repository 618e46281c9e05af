/* SPDX-License-Identifier: MIT
 *
 * Inside the arena: the layout of the file, and the allocator of its data memory.
 *
 * The allocator hands out *units* of 1 to UZ_UNIT_PAGES_MAX contiguous pages. The units of each
 * size have an *area* of address space of their own, wide enough for the whole device. Address
 * space costs nothing, since the file is sparse. So units of one size can never fragment the
 * space of another, and a free unit can always be used again or be given back to the kernel,
 * whatever its neighbours do.
 *
 * A unit is
 *
 * - used: uz_arena_try_get() or uz_arena_wait() has handed it out;
 * - ready: free, with memory. Ready units are the reserve, from which units are handed out;
 * - cold: free, without memory: it has never been used, or has been punched out;
 * - in transit: the refill thread or a getter populates it, or the drain thread's ring punches
 *   it out.
 *
 * For each area, used + ready + cold + in transit == its number of units.
 *
 * The file does not store which units are used. The pool derives that from the slot table
 * (uz_arena_restore()).
 */
#ifndef UZ_ARENA_ARENA_H
#define UZ_ARENA_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uzram/arena.h"
#include "uzram/codec.h"

#define UZ_UNIT_PAGES_MAX 8

/* The first page of the file. It never changes once the arena has been made. */
struct uz_superblock {
	uint64_t magic;
	uint32_t version; /* of this layout, of slot entries, and of the size classes */
	uint32_t page_size;
	uint64_t disksize;  /* bytes */
	uint64_t table_off; /* of the slot table, which has disksize / page_size entries of 8 bytes
			     */
	uint64_t data_off;  /* of area 1 */
	uint64_t area_span; /* bytes of address space of each area: a power of two */
	uint64_t sum;	    /* XXH3 of all before it */
};

/* Consecutive units. */
struct uz_extent {
	uint32_t npages; /* unit size */
	uint32_t first;
	uint32_t count;
};

struct uz_arena_stat {
	uint64_t used_pages;  /* in units that are handed out */
	uint64_t used_max;    /* the highest used_pages since the last uz_arena_reset_max() */
	uint64_t limit;	      /* uz_arena_set_limit(), bytes; 0: none */
	uint64_t ready_pages; /* populated and free */
	uint64_t table_bytes; /* superblock and slot table */
	uint64_t
		meta_bytes; /* private memory of the allocator's state, as far as it is populated */
	uint64_t dry;	    /* requests that had to wait for memory */
	uint64_t self;	    /* units that getters populated for themselves */
	uint64_t failed;    /* requests that gave up, or failed without a wait */
};

_Atomic uint64_t *uz_arena_table(struct uz_arena *arena);
uint64_t uz_arena_nslots(const struct uz_arena *arena);

/* The size of the data's address space in bytes. Each offset below is smaller. */
uint64_t uz_arena_data_size(const struct uz_arena *arena);

/* The address of the data byte at off. */
void *uz_arena_ptr(const struct uz_arena *arena, uint64_t off);

/* Find the unit that off lies in: its size in pages, its number, and the distance of off from its
 * first byte. False: off lies in no unit. */
bool uz_arena_locate(const struct uz_arena *arena, uint64_t off, unsigned *ret_npages,
		     uint32_t *ret_unit, uint32_t *ret_within);

/* The size in pages of the units among which off lies. 0: off is outside of the data. */
unsigned uz_arena_unit_pages(const struct uz_arena *arena, uint64_t off);

/* The offset of the first byte of a unit; and how many units of that size there are. */
uint64_t uz_arena_unit_off(const struct uz_arena *arena, unsigned npages, uint32_t unit);
uint32_t uz_arena_nunits(const struct uz_arena *arena, unsigned npages);

/* Allocate private, zeroed memory for the units of npages pages, size bytes for each: that of
 * unit u begins u * size bytes from the address returned. It is populated together with the
 * unit, and stays so. NULL: no memory. The arena frees it. Call this before uz_arena_start(). A
 * second call, for the next pool on the same arena, frees what the first one has returned. */
void *uz_arena_alloc_unit_meta(struct uz_arena *arena, unsigned npages, size_t size);

/* Find the units that have memory, and have page tables for it, so that no later touch of it
 * takes memory. One thread; before uz_arena_restore(). 0, or -ENOMEM: none for the allocator's
 * state. */
int uz_arena_survey(struct uz_arena *arena);
/* After uz_arena_survey(): false if the data byte at off lies beyond all memory of its area, so
 * that no used unit can hold it. */
bool uz_arena_surveyed(const struct uz_arena *arena, uint64_t off);

/* Rebuild the allocator from the survey. Of the units of n pages, those below end[n - 1] for
 * which used() returns true are used. Of all others, those that the survey has found to have
 * memory are ready, and the rest is cold. What is ready beyond the reserve is surplus, and
 * uz_arena_start() sees to it. 0 or -ENOMEM. */
typedef bool uz_unit_used(void *context, unsigned npages, uint32_t unit);
int uz_arena_restore(struct uz_arena *arena, const uint32_t end[UZ_UNIT_PAGES_MAX],
		     uz_unit_used *used, void *context);

/* Make the refill thread. It does nothing before uz_arena_start(). 0, -ENOMEM or -EAGAIN. */
int uz_arena_prepare(struct uz_arena *arena);

/* For a process that stands by while another one serves the arena: have page tables for the data
 * there is, and private memory for the units there are, so that taking the arena over will take
 * next to no memory. Call it again and again: a call costs little, and covers what has come
 * since the last one. One thread, between uz_arena_prepare() and uz_arena_survey(). */
void uz_arena_warm(struct uz_arena *arena);

/* Have page tables for all memory that there is, so that the first touch of a page costs a page
 * fault, but no memory. That may wait for memory, and a process that serves swap could wait for
 * ever if it did so before it serves: so it is for a thread in the background, after
 * uz_arena_start(). A failure is no harm: the page tables are allocated later. */
void uz_arena_prepare_tables(struct uz_arena *arena);

/* Keep reserve bytes ready from now on. wait: return when they are. surplus(context) will be
 * called each time that free units beyond the reserve pile up: there is work for
 * uz_arena_trim_begin() then. It is called by any thread, under no lock. Makes the refill thread
 * if uz_arena_prepare() has not been called. 0, -ENOMEM or -EAGAIN. */
int uz_arena_start(struct uz_arena *arena, uint64_t reserve, bool wait,
		   void (*surplus)(void *context), void *context);

/* Stop and join the refill thread. The ready units stay as they are. */
void uz_arena_stop(struct uz_arena *arena);

/* Take a ready unit of npages pages, whose memory may hold anything. Returns its number;
 * -ENOSPC: the limit is reached; -ENOMEM: no unit is ready. Takes one spin lock and never waits. */
int64_t uz_arena_try_get(struct uz_arena *arena, unsigned npages);

/* A wait for memory, when no unit is ready. A *getter*, a request that waits, looks again and
 * again:
 *
 *	uz_arena_wait_begin(arena, &wait);
 *	while (nothing is found && uz_arena_wait(arena, &wait, npages) == -EAGAIN)
 *		look again;
 *	uz_arena_wait_end(arena, &wait);
 *
 * uz_arena_wait() sleeps until it is worthwhile to look again: a unit of any size has become
 * ready or has been put back, or uz_arena_wake_getters() was called. It returns
 *
 * - -EAGAIN: look again;
 * - the number of a unit of npages pages, as uz_arena_try_get() does: the refill thread has not
 *   found memory for UZ_ARENA_SELF_MS, and the caller has populated the unit itself;
 * - -ENOMEM: there is no memory. The kernel has refused it, or no getter has had any for
 *   UZ_ARENA_WAIT_MS, or UZ_ARENA_WAIT_POPULATING_MS while another getter populates. From then on
 *   it returns -ENOMEM at once, until a unit has become ready, has been put back, or the limit
 *   was changed;
 * - -ENOSPC: the limit is reached.
 *
 * So it sleeps at most that long. Where memory does come, but other getters have it first, it
 * sleeps at most UZ_ARENA_WAIT_MAX_MS, in all the waits that a request makes with the same struct
 * uz_wait. Time in which the machine is too busy to let the getter run does not count. To populate
 * a unit takes as long as the kernel looks for memory (uz_arena_set_populators()). The caller
 * holds no lock. */
#define UZ_ARENA_WAIT_MS	    200
#define UZ_ARENA_WAIT_POPULATING_MS 800
#define UZ_ARENA_WAIT_MAX_MS	    2000
#define UZ_ARENA_SELF_MS	    20
struct uz_wait {	 /* zeroed before the first wait */
	uint64_t began;	 /* when the first wait began, ns; 0: there was none yet */
	uint64_t napped; /* how long it has slept in all, ns */
	uint64_t vain;	 /* how long it has slept since memory has come, ns */
	uint32_t looked_for, came;
};
void uz_arena_wait_begin(struct uz_arena *arena, struct uz_wait *wait);
int64_t uz_arena_wait(struct uz_arena *arena, struct uz_wait *wait, unsigned npages);
void uz_arena_wait_end(struct uz_arena *arena, struct uz_wait *wait);

/* How much of UZ_ARENA_WAIT_MS is left, in ms, rounded up, since the request began to wait: for
 * waits of another kind that it makes. It begins to wait with this call, if it has not yet. */
unsigned uz_arena_wait_left(struct uz_wait *wait);

/* How many getters may populate units for themselves at the same time: 0 at first. Other threads
 * must be left, which serve meanwhile: see get.c. Call this before uz_arena_start(). */
void uz_arena_set_populators(struct uz_arena *arena, unsigned count);
/* How many getters do so at this moment. */
unsigned uz_arena_populating(const struct uz_arena *arena);

/* Wake the getters: something else that they may wait for has come, namely room in a zspage. The
 * caller has added that under a lock that a getter takes to look for it, and has released the
 * lock. Any thread; costs next to nothing while nobody waits. */
void uz_arena_wake_getters(struct uz_arena *arena);

/* Give back count units of npages pages. Any thread. */
void uz_arena_put(struct uz_arena *arena, unsigned npages, const uint32_t *units, uint32_t count);

/* Set the most bytes that may be in used units; 0: no limit. What is used beyond a lowered limit
 * stays. Any thread. */
void uz_arena_set_limit(struct uz_arena *arena, uint64_t bytes);

/* Take up to max extents of surplus units. The caller punches them out of the file
 * (uz_arena_extent_range()), and then returns each with uz_arena_trim_end(), saying whether that
 * has worked: if not, the units are what they were. Returns how many extents there are.
 *
 * A return of 0 ends a *pass*, which has offered each surplus unit once, from the highest down.
 * A call of surplus() that comes after a pass has begun is for the next pass. One thread, the
 * drain thread. */
unsigned uz_arena_trim_begin(struct uz_arena *arena, struct uz_extent *ret, unsigned max);
void uz_arena_extent_range(const struct uz_arena *arena, const struct uz_extent *e,
			   uint64_t *ret_off, uint64_t *ret_len);
void uz_arena_trim_end(struct uz_arena *arena, const struct uz_extent *e, bool punched);

void uz_arena_stat(struct uz_arena *arena, struct uz_arena_stat *ret);
/* used_max starts anew from what is used now. */
void uz_arena_reset_max(struct uz_arena *arena);

#endif

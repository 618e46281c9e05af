/* SPDX-License-Identifier: MIT
 *
 * Inside the arena: the layout of the file, and the allocator of its data memory.
 *
 * Data memory is handed out in *units* of 1 to UZ_UNIT_PAGES_MAX contiguous pages. Each unit size
 * has an *area* of address space of its own, wide enough for the whole device. Address space costs
 * nothing (the file is sparse), and units of one size can never fragment the space of another, so a
 * unit that is free can always be given back to the kernel or used again, whatever its neighbours
 * do.
 *
 * A unit is
 * - used: handed out by uz_arena_try_get() or uz_arena_wait();
 * - ready: free and populated; the reserve, from which units are handed out;
 * - cold: free and without memory: never used yet, or punched out;
 * - in transit, while the refill thread or a getter populates it, or the drain thread's ring
 * punches it out. For each area, used + ready + cold + in transit == its number of units.
 *
 * Which units are used is not stored in the file: the pool derives it from the slot table
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

/* The first page of the file. Everything in it is fixed when the arena is made. */
struct uz_superblock {
	uint64_t magic;
	uint32_t version; /* of this layout, the slot entries' and the size classes' */
	uint32_t page_size;
	uint64_t disksize;  /* bytes */
	uint64_t table_off; /* of the slot table: disksize / page_size entries of 8 bytes */
	uint64_t data_off;  /* of area 1 */
	uint64_t area_span; /* bytes of address space an area: a power of two */
	uint64_t sum;	    /* XXH3 of all before it */
};

/* A count of units in a row. */
struct uz_extent {
	uint32_t npages; /* unit size */
	uint32_t first;
	uint32_t count;
};

struct uz_arena_stat {
	uint64_t used_pages;  /* in units that are handed out */
	uint64_t used_max;    /* the most used_pages has been since the last reset */
	uint64_t limit;	      /* uz_arena_set_limit(), bytes; 0: none */
	uint64_t ready_pages; /* populated and free */
	uint64_t table_bytes; /* superblock and slot table */
	uint64_t meta_bytes;  /* private memory of allocator state, as far as it is populated */
	uint64_t dry;	      /* requests that had to wait for memory */
	uint64_t self;	      /* units that getters populated for themselves */
	uint64_t failed;      /* times that a getter gave up, or did not even wait */
};

_Atomic uint64_t *uz_arena_table(struct uz_arena *arena);
uint64_t uz_arena_nslots(const struct uz_arena *arena);

/* Address space of the data, in bytes: offsets below are less than this. */
uint64_t uz_arena_data_size(const struct uz_arena *arena);

/* The address of the data byte at off; and whether off lies in a unit of some area: if so, its size
 * in pages, its number, and off within it. */
void *uz_arena_ptr(const struct uz_arena *arena, uint64_t off);
bool uz_arena_locate(const struct uz_arena *arena, uint64_t off, unsigned *ret_npages,
		     uint32_t *ret_unit, uint32_t *ret_within);

/* How many pages the units have that off lies among; 0: off is outside of the data. */
unsigned uz_arena_unit_pages(const struct uz_arena *arena, uint64_t off);

/* The offset of a unit's first byte, and how many units of that size there are. */
uint64_t uz_arena_unit_off(const struct uz_arena *arena, unsigned npages, uint32_t unit);
uint32_t uz_arena_nunits(const struct uz_arena *arena, unsigned npages);

/* Have size bytes of private, zeroed memory for each unit of npages pages, at the address returned:
 * unit u's is at u * size. It is populated together with the unit and stays so. Before
 * uz_arena_start(); a second call replaces the first one's. NULL: no memory. The arena frees it. */
void *uz_arena_alloc_unit_meta(struct uz_arena *arena, unsigned npages, size_t size);

/* Find the units that have memory, and see to it that touching them takes no more memory (page
 * tables). By one thread, before uz_arena_restore(). -ENOMEM: none for the allocator's state. */
int uz_arena_survey(struct uz_arena *arena);
/* After that: false if the data byte at off lies beyond all memory of its area, and so in no used
 * unit. */
bool uz_arena_surveyed(const struct uz_arena *arena, uint64_t off);

/* Rebuild the allocator: of the units of n pages, those below end[n - 1] for which used() says so
 * are used; of the others, those in which the survey found memory are ready and the rest is cold.
 * Before uz_arena_start(), which sees to what is more than the reserve. -ENOMEM. */
typedef bool uz_unit_used(void *context, unsigned npages, uint32_t unit);
int uz_arena_restore(struct uz_arena *arena, const uint32_t end[UZ_UNIT_PAGES_MAX],
		     uz_unit_used *used, void *context);

/* Make the refill thread, which has nothing to do until uz_arena_start(). -ENOMEM, -EAGAIN. */
int uz_arena_prepare(struct uz_arena *arena);

/* On an arena that another process serves: see to it that taking it over will take next to no
 * memory, by having page tables for the data there is and private memory for the units there are.
 * For what has come since, at little cost, if it is called again and again. By one thread, between
 * uz_arena_prepare() and uz_arena_survey(). */
void uz_arena_warm(struct uz_arena *arena);

/* Keep reserve bytes ready from now on; wait: and wait until they are. surplus(context) will be
 * called, from any thread, under no lock, each time that free units beyond the reserve pile up: the
 * drain thread then has work for uz_arena_trim_begin(). Prepares if that was not done. -ENOMEM,
 * -EAGAIN. */
int uz_arena_start(struct uz_arena *arena, uint64_t reserve, bool wait,
		   void (*surplus)(void *context), void *context);

/* Stop and join the refill thread. The ready units stay as they are. */
void uz_arena_stop(struct uz_arena *arena);

/* Take a ready unit of npages pages. Its memory holds anything. Takes one spin lock and never
 * waits. -ENOSPC: the limit is reached; -ENOMEM: no unit is ready. */
int64_t uz_arena_try_get(struct uz_arena *arena, unsigned npages);

/* Waiting for memory when there is none ready. A request that finds none looks again and again:
 *
 *	uz_arena_wait_begin(arena, &wait);
 *	while (nothing is found && uz_arena_wait(arena, &wait, npages) == -EAGAIN)
 *		look again;
 *	uz_arena_wait_end(arena, &wait);
 *
 * uz_arena_wait() sleeps until it is worthwhile to look again: a unit of any size has become ready
 * or has been put back, or uz_arena_wake_getters() was called. It returns
 * - -EAGAIN: look again;
 * - a unit of npages pages, as uz_arena_try_get() does: the refill thread has not come up with
 *   memory in UZ_ARENA_SELF_MS, and the caller has populated the unit itself;
 * - -ENOMEM: memory can't be had: the kernel has refused it, or none has come to any getter in
 *   UZ_ARENA_WAIT_MS. From then on it returns that at once, until a unit has become ready, has been
 *   put back, or the limit was changed;
 * - -ENOSPC: the limit is reached.
 * So it sleeps UZ_ARENA_WAIT_MS at most; where memory does come, but other getters have it first,
 * UZ_ARENA_WAIT_MAX_MS, in all the waits that a request has with the same struct. (Time in which
 *the machine is too busy to let the getter run is not counted.) To populate takes as long as the
 *kernel looks for memory: uz_arena_set_populators(). The caller holds no lock. */
#define UZ_ARENA_WAIT_MS     200
#define UZ_ARENA_WAIT_MAX_MS 2000
#define UZ_ARENA_SELF_MS     20
struct uz_wait {	 /* zeroed before the first wait */
	uint64_t began;	 /* ns; 0: not yet */
	uint64_t napped; /* ns in all */
	uint64_t vain;	 /* ... since memory came the last time */
	uint32_t looked_for, came;
};
void uz_arena_wait_begin(struct uz_arena *arena, struct uz_wait *wait);
int64_t uz_arena_wait(struct uz_arena *arena, struct uz_wait *wait, unsigned npages);
void uz_arena_wait_end(struct uz_arena *arena, struct uz_wait *wait);

/* What is left of UZ_ARENA_WAIT_MS since the request began to wait, in ms, rounded up: for waits of
 * its own. It begins here, if it hasn't. */
unsigned uz_arena_wait_left(struct uz_wait *wait);

/* How many getters may populate for themselves at the same time: 0 at first. Before
 * uz_arena_start(). There must be others, which serve meanwhile: see get.c. */
void uz_arena_set_populators(struct uz_arena *arena, unsigned count);
/* How many do at this moment. */
unsigned uz_arena_populating(const struct uz_arena *arena);

/* Something else that a getter may be waiting for has come: room in a zspage. The caller has held a
 * lock since under which a getter looks for that. Any thread; costs next to nothing while none
 * waits. */
void uz_arena_wake_getters(struct uz_arena *arena);

/* Give count units of npages pages back. Any thread. */
void uz_arena_put(struct uz_arena *arena, unsigned npages, const uint32_t *units, uint32_t count);

/* The most bytes that may be in used units; 0: no limit. Any thread. What is used beyond a lowered
 * limit stays. */
void uz_arena_set_limit(struct uz_arena *arena, uint64_t bytes);

/* Take up to max extents of surplus units, which the caller punches out of the file
 * (uz_arena_extent_range()) and then returns with uz_arena_trim_end(), telling whether that worked:
 * if not, they are what they were. One thread, the drain's. Returns how many extents there are; 0
 * ends a pass, which has offered each surplus unit once, in descending order. What surplus() is
 * called for after its beginning is for the next. */
unsigned uz_arena_trim_begin(struct uz_arena *arena, struct uz_extent *ret, unsigned max);
void uz_arena_extent_range(const struct uz_arena *arena, const struct uz_extent *e,
			   uint64_t *ret_off, uint64_t *ret_len);
void uz_arena_trim_end(struct uz_arena *arena, const struct uz_extent *e, bool punched);

void uz_arena_stat(struct uz_arena *arena, struct uz_arena_stat *ret);
void uz_arena_reset_max(struct uz_arena *arena);

#endif

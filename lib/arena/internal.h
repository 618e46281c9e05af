/* SPDX-License-Identifier: MIT
 *
 * What the arena's files share: units.c (areas and addresses), arena.c (the file and its
 * mapping), wake.c (the wake-ups), populate.c (memory from the kernel), get.c (handing it out),
 * refill.c (having it in time), trim.c (choosing what to give back), punch.c (giving it back)
 * and restore.c (taking over what another process had). Each calls only those before it.
 */
#ifndef UZ_ARENA_INTERNAL_H
#define UZ_ARENA_INTERNAL_H

#include "arena/arena.h"
#include "base/bits.h"
#include "base/helper.h"
#include "base/spin.h"

/* The units of one size. lock guards everything that changes. It is a leaf, and nothing that can
 * sleep or fault runs under it: populating and punching happen to units in transit, which are in
 * no set. */
struct area {
	struct uz_spin lock;
	uint32_t npages;
	uint32_t nunits;
	uint64_t base; /* offset of unit 0 in the data */
	/* The sets of units. In a take-over, uz_arena_survey() fills them with the units that
	 * have memory, and uz_arena_restore() makes of that what the rest of the allocator
	 * knows. */
	union {
		struct uz_bits ready;	    /* free, with memory */
		struct uz_bits survey_full; /* have memory for all of their pages */
	};
	union {
		struct uz_bits cold;	    /* free, without memory, below first_untouched */
		struct uz_bits survey_part; /* have memory for some of their pages */
	};
	uint32_t first_untouched; /* units from here on have never been used: they are cold, and in
				     no set */
	uint32_t nready;
	uint32_t target; /* ready units that are wanted; uz_area_target() has what the limit allows
			    of them */
	uint64_t got_pages; /* pages handed out since the demand was updated */
	uint64_t demand;    /* pages handed out before that; the longer ago, the less they count */
	bool surplus_told;  /* surplus() has been called, and no pass has begun since */
	uint32_t trim_cursor; /* this pass over the surplus has done with the units from here on; 0:
				 there is no pass */
	uint32_t populated_meta; /* units below this one have private memory; >= first_untouched */
	void *meta;		 /* from uz_arena_alloc_unit_meta(); NULL: none */
	size_t meta_size;
} __attribute__((aligned(64)));

struct uz_arena {
	int fd;
	int root; /* uz_arena_root() */
	/* The superblock as it was checked. Another process could change the one in the file. */
	struct uz_superblock sb;
	void *map; /* the mapping of the whole file */
	size_t map_size;
	_Atomic uint64_t *table;
	char *data;
	struct area areas[UZ_UNIT_PAGES_MAX]; /* [n - 1]: units of n pages */

	_Atomic uint64_t limit; /* bytes; UINT64_MAX: none */
	_Atomic uint64_t used_pages;
	_Atomic uint64_t used_max;
	_Atomic bool at_limit; /* a getter was refused, and no unit has been put back since */
	_Atomic uint64_t dry, self, failed;

	void (*surplus)(void *context);
	void *surplus_context;

	struct uz_helper refill; /* the refill thread */

	/* Getters that found nothing sleep on `looked_for`, which changes when it is worthwhile
	 * to look again. `came` changes when memory has come. wake.c changes both and get.c
	 * reads them, sequentially consistent: what was added before the change is found by a
	 * look after the read. `vain_at` is the value of `came` at which a getter has waited in
	 * vain: while the two are equal, no memory has come since. */
	_Atomic uint32_t looked_for, came, vain_at;
	_Atomic uint32_t waiters; /* getters between wait_begin and wait_end */
	uint32_t populators;	  /* how many getters may populate units for themselves at a time */
	_Atomic uint32_t populating; /* how many do so at this moment */

	uint64_t reserve_pages; /* the size of the reserve */
	bool trimming;		/* a pass is under way; of the thread that trims */
};

static inline struct area *uz_area_of(struct uz_arena *a, unsigned npages)
{
	return &a->areas[npages - 1];
}

static inline size_t uz_unit_bytes(const struct area *ar)
{
	return (size_t)ar->npages * UZ_PAGE_SIZE;
}

/* --- targets; the area's lock is held --- */

/* The most pages that may be used. Needs no lock. */
static inline uint64_t uz_arena_limit_pages(const struct uz_arena *a)
{
	return atomic_load_explicit(&a->limit, memory_order_relaxed) >> UZ_PAGE_SHIFT;
}

/* The pages that the limit still allows. Needs no lock. */
static inline uint64_t uz_arena_left(const struct uz_arena *a)
{
	uint64_t used = atomic_load_explicit(&a->used_pages, memory_order_relaxed);
	uint64_t limit = uz_arena_limit_pages(a);

	return limit > used ? limit - used : 0;
}

/* How many ready units are wanted. What the limit would not let out is not kept ready. */
static inline uint32_t uz_area_target(const struct uz_arena *a, const struct area *ar)
{
	uint64_t most = uz_arena_left(a) / ar->npages;

	return most < ar->target ? (uint32_t)most : ar->target;
}

/* Surplus begins well above the target, so that a store whose size goes up and down a little
 * does not populate and punch in turns. */
static inline uint32_t uz_area_high_mark(const struct uz_arena *a, const struct area *ar)
{
	uint32_t target = uz_area_target(a, ar);

	return target + target / 2 + 1;
}

/* Whether the caller must call uz_arena_tell_surplus() when it has dropped the lock: once for
 * each time that surplus piles up, until a pass begins. */
static inline bool uz_area_must_tell(const struct uz_arena *a, struct area *ar)
{
	if (ar->surplus_told || ar->nready < uz_area_high_mark(a, ar))
		return false;
	ar->surplus_told = true;
	return true;
}

/* --- what the files offer each other --- */

/* Wake the refill thread. */
void uz_arena_kick_refill(struct uz_arena *a);

/* Call the surplus() of uz_arena_start(), if there is one: uz_area_must_tell() has found
 * surplus. No lock is held. */
void uz_arena_tell_surplus(struct uz_arena *a);

/* Whether a getter has waited in vain at this value of `came`, so that it would be in vain to
 * wait, too. Relaxed: getters compare values that they have read from `came`, and a late answer
 * costs them one nap at most. */
static inline bool uz_arena_in_vain(const struct uz_arena *a, uint32_t came)
{
	return atomic_load_explicit(&a->vain_at, memory_order_relaxed) == came;
}

/* Units have become ready: it is not in vain to wait for memory, and getters that do shall look.
 * The caller has added the units under an area's lock, and has dropped it. */
void uz_arena_memory_came(struct uz_arena *a);

/* Populate up to want cold units and make them ready. want is at most UZ_POPULATE_BATCH, what an
 * area gets in a row before it is the next one's turn. Returns how many; 0: there are no cold
 * ones; -errno if not all could be had. */
#define UZ_POPULATE_BATCH 32
int uz_populate_batch(struct uz_arena *a, struct area *ar, uint32_t want);

/* Populate one cold unit. It belongs to the caller then. Returns its number or -errno. */
int64_t uz_populate_one(struct uz_arena *a, struct area *ar);

/* Populate the private memory of count units. 0 or -errno. */
int uz_units_populate_private(struct area *ar, uint32_t first, uint32_t count);

int uz_areas_init(struct uz_arena *arena);
void uz_areas_done(struct uz_arena *arena);

#endif

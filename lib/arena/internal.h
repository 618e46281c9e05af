/* SPDX-License-Identifier: MIT
 *
 * What units.c (the memory and its addresses), arena.c (the file and its mapping), wake.c (who
 * tells whom), populate.c (having memory from the kernel), get.c (handing it out), refill.c (having
 * it in time), trim.c (giving it back) and restore.c (taking over what another process had) share.
 * A file calls only those before it.
 */
#ifndef UZ_ARENA_INTERNAL_H
#define UZ_ARENA_INTERNAL_H

#include "arena/arena.h"
#include "base/bits.h"
#include "base/helper.h"
#include "base/spin.h"

/* The units of one size. lock guards all that changes; it is a leaf, and nothing that can sleep or
 * fault runs under it: populating and punching happen to units in transit, which are in no set. */
struct area {
	struct uz_spin lock;
	uint32_t npages;
	uint32_t nunits;
	uint64_t base; /* offset of unit 0 in the data */
	/* The sets of units. uz_arena_survey() fills them by what memory it finds, and
	 * uz_arena_restore() turns that into what the rest of the allocator knows. */
	union {
		struct uz_bits ready;	    /* free, with memory */
		struct uz_bits survey_full; /* have memory for all of their pages */
	};
	union {
		struct uz_bits cold;	    /* free, without memory, below first_untouched */
		struct uz_bits survey_part; /* have memory for some of their pages */
	};
	uint32_t first_untouched; /* units from here on have never been used: cold, and in no set */
	uint32_t nready;
	uint32_t target;      /* ready units wanted, as far as the limit allows: uz_area_target() */
	uint64_t got_pages;   /* handed out since the targets were set the last time */
	uint64_t demand;      /* pages handed out before that, the longer ago the less they count */
	bool surplus_told;    /* the drain thread knows of the surplus */
	uint32_t trim_cursor; /* in a pass over the surplus: units from here on have had it; or 0 */
	uint32_t populated_meta; /* units below this one have private memory; >= fresh */
	void *meta;		 /* uz_arena_alloc_unit_meta() */
	size_t meta_size;
} __attribute__((aligned(64)));

struct uz_arena {
	int fd;
	int root; /* uz_arena_root() */
	/* A copy, as it was checked: another process could change the one in the file. */
	struct uz_superblock sb;
	void *map; /* the whole file */
	size_t map_size;
	_Atomic uint64_t *table;
	char *data;
	struct area areas[UZ_UNIT_PAGES_MAX]; /* [n - 1]: units of n pages */

	_Atomic uint64_t limit; /* bytes; UINT64_MAX: none */
	_Atomic uint64_t used_pages;
	_Atomic uint64_t used_max;
	_Atomic bool at_limit; /* a getter was refused, and nothing has been put back since */
	_Atomic uint64_t dry, self, failed;

	void (*surplus)(void *context);
	void *surplus_context;

	struct uz_helper refill; /* the refill thread */

	/* Getters that found nothing sleep on looked_for, which changes when it is time to look
	 * again. came changes when memory has come; while vain_at is the same, none has come since
	 * a getter waited in vain. */
	_Atomic uint32_t looked_for, came, vain_at;
	_Atomic uint32_t waiters;    /* getters that sleep, or are about to */
	uint32_t populators;	     /* how many getters may populate for themselves at a time */
	_Atomic uint32_t populating; /* ... and do */

	uint64_t reserve_pages; /* the refill thread's */
	bool trimming;		/* the drain thread's: a pass is under way */
};

static inline struct area *uz_area_of(struct uz_arena *a, unsigned npages)
{
	return &a->areas[npages - 1];
}

static inline size_t uz_unit_bytes(const struct area *ar)
{
	return (size_t)ar->npages * UZ_PAGE_SIZE;
}

/* --- the area's lock is held --- */

/* The most pages that may be used; no lock is needed. */
static inline uint64_t uz_arena_limit_pages(const struct uz_arena *a)
{
	return atomic_load_explicit(&a->limit, memory_order_relaxed) >> UZ_PAGE_SHIFT;
}

/* Pages that the limit still lets out; no lock is needed. */
static inline uint64_t uz_arena_left(const struct uz_arena *a)
{
	uint64_t used = atomic_load_explicit(&a->used_pages, memory_order_relaxed);
	uint64_t limit = uz_arena_limit_pages(a);

	return limit > used ? limit - used : 0;
}

/* Ready units that are wanted: no more than the limit would let out. */
static inline uint32_t uz_area_target(const struct uz_arena *a, const struct area *ar)
{
	uint64_t most = uz_arena_left(a) / ar->npages;

	return most < ar->target ? (uint32_t)most : ar->target;
}

/* Surplus begins well above the target, so that a store that breathes does not populate and punch
 * in turns. */
static inline uint32_t uz_area_high_mark(const struct uz_arena *a, const struct area *ar)
{
	uint32_t target = uz_area_target(a, ar);

	return target + target / 2 + 1;
}

/* Whether the drain thread is to be told of surplus: once, until it has come to look. The area's
 * lock is held. */
static inline bool uz_area_must_tell(const struct uz_arena *a, struct area *ar)
{
	if (ar->surplus_told || ar->nready < uz_area_high_mark(a, ar))
		return false;
	ar->surplus_told = true;
	return true;
}

/* --- */

/* Wake the refill thread. */
void uz_arena_kick_refill(struct uz_arena *a);

/* There is surplus, as uz_area_must_tell() has found. No lock is held. */
void uz_arena_tell_surplus(struct uz_arena *a);

/* Whether no memory has come since a getter that had read came so waited in vain. */
static inline bool uz_arena_in_vain(const struct uz_arena *a, uint32_t came)
{
	return atomic_load_explicit(&a->vain_at, memory_order_relaxed) == came;
}

/* Units have become ready: waiting for memory is not in vain, and getters that do shall look. The
 * caller has held an area's lock since. */
void uz_arena_memory_came(struct uz_arena *a);

/* Make up to want (at most UZ_POPULATE_BATCH: what an area has in a row, before the next one's
 * turn) cold units ready. Returns how many, 0 if there are none, or -errno if not all. */
#define UZ_POPULATE_BATCH 32
int uz_populate_batch(struct uz_arena *a, struct area *ar, uint32_t want);

/* Populate one cold unit, which is the caller's from then on. Returns its number or -errno. */
int64_t uz_populate_one(struct uz_arena *a, struct area *ar);

/* Populate the private memory that goes with count units. */
int uz_units_populate_private(struct area *ar, uint32_t first, uint32_t count);

int uz_areas_init(struct uz_arena *arena);
void uz_areas_done(struct uz_arena *arena);

#endif

/* SPDX-License-Identifier: MIT
 *
 * What arena.c (the file and its mapping) and units.c (the memory in it) share.
 */
#ifndef UZ_ARENA_INTERNAL_H
#define UZ_ARENA_INTERNAL_H

#include <pthread.h>

#include "arena/arena.h"
#include "base/spin.h"

#define UNIT_NONE UINT32_MAX

/* The units of one size. lock guards all that changes. */
struct area {
	struct uz_spin lock;
	uint32_t npages;
	uint32_t nunits;
	uint64_t base;	/* offset of unit 0 in the data */
	uint32_t *next; /* links of the two lists; nunits of them */
	uint32_t ready; /* list of ready units */
	uint32_t cold;	/* list of units that were used once and have no memory now */
	uint32_t fresh; /* units from here on have never been used: cold, and on no list */
	uint32_t nready;
	uint32_t target;	 /* ready units wanted */
	bool told;		 /* the drain thread knows of the surplus */
	uint32_t populated_meta; /* units whose private memory is populated: fresh's high-water mark
				  */
	void *meta;		 /* uz_arena_unit_meta() */
	size_t meta_size;
} __attribute__((aligned(64)));

struct uz_arena {
	int fd;
	struct uz_superblock *sb; /* the whole file, mapped */
	size_t map_size;
	_Atomic uint64_t *table;
	char *data;
	struct area areas[UZ_UNIT_PAGES_MAX]; /* [n - 1]: units of n pages */

	_Atomic uint64_t limit_pages; /* UINT64_MAX: none */
	_Atomic uint64_t used_pages;
	_Atomic uint64_t used_max;
	_Atomic uint64_t dry, failed;

	void (*surplus)(void *private);
	void *surplus_private;

	/* The refill thread sleeps on refill_kick and adds one to refill_done after every batch. */
	pthread_t refill_thread;
	bool refill_running;
	atomic_bool refill_stop;
	_Atomic uint32_t refill_kick, refill_done;
	uint32_t *trim_units; /* the drain thread's: where it sorts what it takes */
};

int uz_areas_init(struct uz_arena *arena);
void uz_areas_done(struct uz_arena *arena);

#endif

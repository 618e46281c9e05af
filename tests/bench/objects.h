/* SPDX-License-Identifier: MIT
 *
 * Objects to free: those of a full store, detached from its slots.
 */
#ifndef UZ_BENCH_OBJECTS_H
#define UZ_BENCH_OBJECTS_H

#include <stdint.h>

#include "store/internal.h"

#define OBJECTS_WORKERS 8

struct objects {
	uint64_t count;
	struct uz_arena *arena;
	struct uz_store *store;
	struct uz_worker *workers[OBJECTS_WORKERS];
	uint64_t *order;   /* the slots, shuffled */
	uz_entry *by_slot; /* what was detached from them */
	uz_entry *entries; /* the same, in the order in which they are to be freed */
	uint64_t bytes;	   /* encoded, together */
};

/* Of a store of size bytes, which never runs out of buffers and never gives memory back. */
void objects_open(struct objects *o, uint64_t size);
void objects_close(struct objects *o);

/* All have been freed: allocate and fill objects of the same sizes anew. */
void objects_renew(struct objects *o);

#endif

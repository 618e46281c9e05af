/* SPDX-License-Identifier: MIT
 *
 * What the pool's files share: classes.c, pool.c (allocation and release), compact.c and
 * restore.c. Each calls only those before it.
 */
#ifndef UZ_POOL_INTERNAL_H
#define UZ_POOL_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena/arena.h"
#include "base/spin.h"
#include "pool/pool.h"

/* Fullness groups, as in zsmalloc: 0 is empty (such a zspage is on its way back to the arena), 1
 * to 10 are tenths, 11 is full. And the victims of a compaction, whatever their fullness is. */
enum {
	GROUP_EMPTY = 0,
	GROUP_FULL = 11,
	GROUP_VICTIM = 12,
	GROUPS = 13,
};

#define ZSPAGE_NONE UINT32_MAX

/* The two kinds of classes: see classes.c. */
enum {
	COARSE, /* few classes, with zspages of up to COARSE_PAGES pages */
	FINE,	/* many classes, with larger zspages */
};
#define COARSE_PAGES 4

/* What the pool knows of a unit that is a zspage. The lock of its class guards everything. Two
 * fields can be read without it: the class does not change while an object in the zspage is
 * live, so that a thread which owns one may read it; and any thread may read the two atomics as
 * a guess. inuse == number of bits set in used[] <= objects in a zspage of the class. */
struct zspage {
	uint32_t prev, next; /* units: the neighbours in the list of its group, which is a ring */
	_Atomic uint16_t cls_plus_1; /* 0, as in fresh memory: the unit is no zspage */
	uint16_t inuse;
	_Atomic uint8_t group;
	uint64_t used[];
};

struct size_class {
	struct uz_spin lock;
	uint16_t size;		   /* bytes of an object, a multiple of UZ_POOL_GRANULE */
	uint16_t bytes_per_object; /* the same, with the object's share of what a zspage wastes */
	uint16_t objects;	   /* in a zspage */
	uint8_t npages;		   /* of a zspage */
	uint32_t inv_size;	   /* 2^32 / size, rounded up: to divide by it */
	uint32_t inv_objects;	   /* 2^24 / objects, likewise */
	uint32_t bytes_missed;	   /* of a fine class without zspages: the bytes that it would have
				      saved so far */
	uint16_t nonempty;	   /* bit g: list[g] is not empty */
	uint32_t list[GROUPS];
	uint64_t zspages;
	uint64_t inuse;		/* objects */
	uint64_t victims_freed; /* victims that have become empty since uz_pool_compact_begin() */
} __attribute__((aligned(64)));

struct uz_pool {
	struct uz_arena *arena;
	char *meta[UZ_UNIT_PAGES_MAX];	 /* [n - 1]: struct zspage for each unit of n pages */
	uint32_t end[UZ_UNIT_PAGES_MAX]; /* while rebuilding: one past the last unit with a claimed
					    object */
	unsigned nclasses;
	size_t huge_size;
	uint8_t class_of[2][UZ_PAGE_SIZE / UZ_POOL_GRANULE + 1]; /* [size in granules, rounded up]
								  */
	_Atomic uint64_t pages_compacted;
	struct size_class classes[UZ_POOL_CLASSES];
};

/* How many words the bitmap of a zspage of n pages has: enough for objects of 200 bytes. */
static inline unsigned zspage_words(unsigned npages)
{
	return npages / 3 + 1;
}

static inline size_t zspage_stride(unsigned npages)
{
	return sizeof(struct zspage) + zspage_words(npages) * sizeof(uint64_t);
}

static inline struct zspage *zspage_of(const struct uz_pool *p, unsigned npages, uint32_t unit)
{
	return (struct zspage *)(p->meta[npages - 1] + unit * zspage_stride(npages));
}

/* The class of a kind for objects of that size. NULL: there is no fine one. */
static inline struct size_class *uz_pool_class_for(struct uz_pool *p, unsigned kind, size_t size)
{
	unsigned cls = p->class_of[kind][(size + UZ_POOL_GRANULE - 1) / UZ_POOL_GRANULE];

	return cls == UZ_POOL_CLASS_NONE ? NULL : &p->classes[cls];
}

/* Make the classes of a new pool. */
void uz_pool_make_classes(struct uz_pool *p);

/* Where an object lies. */
struct place {
	struct zspage *zs;
	struct size_class *c;
	uint32_t unit;
	uint32_t index; /* its number in the zspage */
};

/* Find the place that off names. False: it names none. True does not mean that the place is
 * allocated; and if it is not, the zspage may change its class at any time. */
bool uz_pool_locate(struct uz_pool *p, uint64_t off, struct place *ret);

/* The class's lock is held. */
unsigned uz_zspage_fullness(const struct size_class *c, const struct zspage *zs);
void uz_zspage_link(struct uz_pool *p, struct size_class *c, uint32_t unit, unsigned group);
void uz_zspage_unlink(struct uz_pool *p, struct size_class *c, uint32_t unit);

#endif

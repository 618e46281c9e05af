/* SPDX-License-Identifier: MIT
 *
 * What the parts of bench_store share: the sample of pages, and a store to measure.
 */
#ifndef UZ_BENCH_STORE_H
#define UZ_BENCH_STORE_H

#include <stdbool.h>

#include "bench/figures.h"
#include "bench/sample.h"
#include "uzram/store.h"

struct bench {
	struct sample sample;
	enum uz_codec codec;
	int level;
	char codec_name[16]; /* with its level */
	bool quick;
	unsigned rounds; /* that count; one more comes before them */
};

/* A store as the daemon's defaults make it. */
struct device {
	struct uz_arena *arena;
	struct uz_store *store;
	struct uz_worker *worker;
	uint64_t nslots;
};

void device_open(const struct bench *b, uint64_t nslots, struct device *ret);
void device_close(struct device *d);

/* One page. Exits on errors. */
void device_write(struct uz_worker *w, uint64_t slot, const void *page);
void device_read(struct uz_worker *w, uint64_t slot, void *page);
/* Everything, until all has been freed. */
void device_discard(struct device *d);

/* Wait until all has been freed and the memory in use and in the reserve hasn't changed for some
 * time, at most half a minute. */
void device_settle(struct device *d, unsigned ms, struct uz_store_stat *ret);
/* What the kernel has allocated of the arena's file, bytes. */
uint64_t device_blocks(const struct device *d);

/* 0 to n - 1, shuffled. */
uint64_t *shuffled(uint64_t n, uint64_t seed);

void bench_speed(const struct bench *b);   /* write and read, one thread */
void bench_threads(const struct bench *b); /* ... two against one */
void bench_memory(const struct bench *b);  /* memory over compressed bytes */
void bench_back(const struct bench *b);	   /* how fast memory goes back to the kernel */

#endif

/* SPDX-License-Identifier: MIT
 *
 * What a free costs whom: the caller of a deferred free (push), the drain thread, and a caller that
 * frees by itself, object by object or in runs of one class under one lock.
 *
 *   bench_free [MIB]   of pages to store (default 256)
 *
 * The arms take turns, a round each; each frees all objects in the same random order, so that every
 * free meets memory that is not in the cache, as frees in reality do. Figures are nanoseconds an
 * object: the median over the rounds, the lowest and the highest. The last line is the same as
 * JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/pages.h"
#include "store/internal.h"

#define ROUNDS 7
#define BATCH  512 /* objects in a run: what a buffer of the deferred free holds */

enum arm { PUSH, DRAIN, SYNC, SYNC_RUNS, ARMS };

static const char *const names[ARMS] = {
	[PUSH] = "push",
	[DRAIN] = "drain",
	[SYNC] = "synchronous",
	[SYNC_RUNS] = "synchronous, in runs",
};

struct bench {
	uint64_t nslots;
	struct uz_arena *arena;
	struct uz_store *store;
	struct uz_worker *worker;
	uint64_t *order;   /* the slots, shuffled */
	uz_entry *entries; /* what was detached from them, in that order */
	double ns[ARMS][ROUNDS];
};

static double cpu_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "bench_free: %s\n", what);
	exit(EXIT_FAILURE);
}

static void fill(struct bench *b)
{
	static unsigned char page[UZ_PAGE_SIZE];
	struct rng rng;

	rng_init(&rng, 1, 0);
	for (uint64_t slot = 0; slot < b->nslots; slot++) {
		page_fill(page, rng_below(&rng, 4) ? PAGE_TEXT : PAGE_MIXED, &rng);
		if (uz_write(b->worker, slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page))
			die("a write failed");
	}
	for (uint64_t i = 0; i < b->nslots; i++)
		b->entries[i] = uz_slot_detach(b->store, b->order[i]);
}

/* Time of the drain thread: that of the process less ours. Nothing else runs. */
static void round_deferred(struct bench *b, unsigned round)
{
	double process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID), self = cpu_ns(CLOCK_THREAD_CPUTIME_ID),
	       pushed;

	for (uint64_t i = 0; i < b->nslots; i++) {
		if (!uz_defer_push(b->worker->producer, b->entries[i]))
			die("the pool of buffers is too small");
	}
	pushed = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - self;
	uz_store_flush(b->store);
	self = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - self;
	process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - process;
	b->ns[PUSH][round] = pushed / (double)b->nslots;
	b->ns[DRAIN][round] = (process - self) / (double)b->nslots;
}

static void round_sync(struct bench *b, unsigned round)
{
	double start = cpu_ns(CLOCK_THREAD_CPUTIME_ID);

	for (uint64_t i = 0; i < b->nslots; i++) {
		if (uz_pool_release(b->store->pool, uz_entry_off(b->entries[i])))
			die("a free failed");
	}
	b->ns[SYNC][round] = (cpu_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)b->nslots;
}

static void round_runs(struct bench *b, unsigned round)
{
	double start = cpu_ns(CLOCK_THREAD_CPUTIME_ID);

	for (uint64_t i = 0; i < b->nslots; i += BATCH) {
		uint64_t n = b->nslots - i < BATCH ? b->nslots - i : BATCH;

		uz_store_defer_ops.drain(b->store, b->entries + i, 0, (unsigned)n);
	}
	b->ns[SYNC_RUNS][round] = (cpu_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)b->nslots;
}

static int compare(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return a < b ? -1 : a > b;
}

static void report(struct bench *b)
{
	double *sync = b->ns[SYNC];

	for (enum arm arm = 0; arm < ARMS; arm++)
		qsort(b->ns[arm], ROUNDS, sizeof(double), compare);
	printf("%-22s %8s %8s %8s   %s\n", "ns an object", "median", "lowest", "highest",
	       "synchronous / this");
	for (enum arm arm = 0; arm < ARMS; arm++) {
		double *ns = b->ns[arm];

		printf("%-22s %8.1f %8.1f %8.1f   %.2f\n", names[arm], ns[ROUNDS / 2], ns[0],
		       ns[ROUNDS - 1], sync[ROUNDS / 2] / ns[ROUNDS / 2]);
	}
	printf("{\"objects\": %llu, \"push_ns\": %.1f, \"drain_ns\": %.1f, \"sync_ns\": %.1f, "
	       "\"sync_runs_ns\": %.1f}\n",
	       (unsigned long long)b->nslots, b->ns[PUSH][ROUNDS / 2], b->ns[DRAIN][ROUNDS / 2],
	       sync[ROUNDS / 2], b->ns[SYNC_RUNS][ROUNDS / 2]);
}

static void open_bench(struct bench *b, uint64_t size)
{
	struct uz_store_config config = {
		.codec = UZ_CODEC_LZ4,
		.level = 1,
		.reserve = 4 * size, /* so that nothing is given back in between, and timed */
		.deferred = true,
		.defer_spares = (unsigned)(size / UZ_PAGE_SIZE / BATCH) + 1,
		.defer_age_ms = 1000,
	};
	struct rng rng;

	if (uz_arena_new(size, &config.arena) || uz_store_new(&config, &b->store) ||
	    uz_worker_new(b->store, &b->worker))
		die("can't make a store");
	b->arena = config.arena;
	b->nslots = size / UZ_PAGE_SIZE;
	b->order = calloc(b->nslots, sizeof(*b->order));
	b->entries = calloc(b->nslots, sizeof(*b->entries));
	if (!b->order || !b->entries)
		die("no memory");
	rng_init(&rng, 2, 0);
	for (uint64_t i = 0; i < b->nslots; i++) {
		uint64_t j = rng_below(&rng, i + 1);

		b->order[i] = b->order[j];
		b->order[j] = i;
	}
}

int main(int argc, char **argv)
{
	static struct bench b;

	open_bench(&b, (uint64_t)(argc > 1 ? atoi(argv[1]) : 256) << 20);
	for (unsigned round = 0; round < ROUNDS; round++) {
		fill(&b);
		round_deferred(&b, round);
		fill(&b);
		round_sync(&b, round);
		fill(&b);
		round_runs(&b, round);
	}
	report(&b);
	uz_worker_free(b.worker);
	uz_store_free(b.store);
	uz_arena_free(b.arena);
	free(b.order);
	free(b.entries);
	return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT
 *
 * What a free costs whom: the caller of a deferred free (push), a caller that frees by himself,
 * object by object or in runs of one class under one lock, and the drain thread.
 *
 *   bench_free [MIB]   of pages to store (default 256)
 *
 * The arms take turns, a round each, in changing order. Each frees all objects of a store in the
 * same random order: in lots of 512, what a buffer of the deferred free holds; one by one, each
 * call timed, for the slowest ones; and in lots before each of which other work has filled the
 * caches, as it has when frees come now and then. Then all of it in several threads. Figures are
 * nanoseconds an object. The last line is the same as JSON.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/futex.h"
#include "model/pages.h"
#include "store/internal.h"

#define ROUNDS	    9
#define LOT	    512 /* objects */
#define COLD_LOTS   16	/* a round */
#define SINGLES	    (16 * LOT)
#define CACHE_BYTES (64u << 20) /* more than there is cache */
#define THREADS_MAX 8

enum arm { PUSH, SYNC, SYNC_RUNS, ARMS };

static const char *const arm_names[ARMS] = {"push", "synchronous", "synchronous, runs"};

/* Times of one kind. */
struct series {
	double *ns;
	size_t count, room;
};

struct bench {
	uint64_t nslots;
	struct uz_arena *arena;
	struct uz_store *store;
	struct uz_worker *workers[THREADS_MAX];
	uint64_t *order;	  /* the slots, shuffled */
	uz_entry *by_slot;	  /* what was detached from them */
	uz_entry *entries;	  /* the same, in the order in which they are freed */
	unsigned char *cache;	  /* memory of other work */
	double tick_ns, timer_ns; /* of a tick; what it costs to read them twice */
	struct series lot[ARMS], single[ARMS], cold[ARMS], drain, wake;
	struct series threads[ARMS][4]; /* 1, 2, 4 and 8 */
};

static void die(const char *what)
{
	fprintf(stderr, "bench_free: %s\n", what);
	exit(EXIT_FAILURE);
}

/* --- time --- */

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * UZ_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t ticks(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return uz_now_ns();
#endif
}

static void add(struct series *s, double ns)
{
	if (s->count == s->room) {
		s->room = s->room ? 2 * s->room : 1024;
		s->ns = realloc(s->ns, s->room * sizeof(*s->ns));
		if (!s->ns)
			die("no memory");
	}
	s->ns[s->count++] = ns;
}

static int compare(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return a < b ? -1 : a > b;
}

static double quantile(struct series *s, double q)
{
	qsort(s->ns, s->count, sizeof(*s->ns), compare);
	return s->count ? s->ns[(size_t)(q * (double)(s->count - 1))] : 0;
}

static void calibrate(struct bench *b)
{
	struct series empty = {0};
	uint64_t t0 = ticks(), ns0 = uz_now_ns();

	while (uz_now_ns() - ns0 < 50 * UZ_NSEC_PER_MSEC)
		;
	b->tick_ns = (double)(uz_now_ns() - ns0) / (double)(ticks() - t0);
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t t = ticks();

		add(&empty, (double)(ticks() - t) * b->tick_ns);
	}
	b->timer_ns = quantile(&empty, 0.5);
	free(empty.ns);
}

/* --- the store --- */

static void open_bench(struct bench *b, uint64_t size)
{
	struct uz_store_config config = {
		.codec = UZ_CODEC_LZ4,
		.level = 1,
		.reserve = 4 * size, /* so that nothing is given back in between, and timed */
		.deferred = true,
		.defer_spares = (unsigned)(size / UZ_PAGE_SIZE / LOT) + THREADS_MAX,
		.defer_age_ms = 1000,
	};

	if (uz_arena_new(size, &config.arena) || uz_store_new(&config, &b->store))
		die("can't make a store");
	for (unsigned i = 0; i < THREADS_MAX; i++) {
		if (uz_worker_new(b->store, &b->workers[i]))
			die("can't make a worker");
	}
	b->arena = config.arena;
	b->nslots = size / UZ_PAGE_SIZE;
	b->order = calloc(b->nslots, sizeof(*b->order));
	b->by_slot = calloc(b->nslots, sizeof(*b->by_slot));
	b->entries = calloc(b->nslots, sizeof(*b->entries));
	b->cache = malloc(CACHE_BYTES);
	if (!b->order || !b->by_slot || !b->entries || !b->cache)
		die("no memory");
	memset(b->cache, 1, CACHE_BYTES);
}

/* What lz4 makes 600 to 2200 bytes of: 3 to 1, in many size classes. */
static void fill_page(unsigned char *page, struct rng *rng)
{
	size_t noise = 600 + rng_below(rng, 1600);

	page_fill(page, PAGE_RANDOM, rng);
	memset(page + noise, 0, UZ_PAGE_SIZE - noise);
}

/* Write all pages and detach them. Returns their bytes. */
static uint64_t write_pages(struct bench *b)
{
	static unsigned char page[UZ_PAGE_SIZE];
	struct rng rng;
	struct uz_store_stat st;

	rng_init(&rng, 1, 0);
	for (uint64_t i = 0; i < b->nslots; i++) {
		uint64_t j = rng_below(&rng, i + 1);

		b->order[i] = b->order[j];
		b->order[j] = i;
	}
	for (uint64_t slot = 0; slot < b->nslots; slot++) {
		fill_page(page, &rng);
		if (uz_write(b->workers[0], slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page))
			die("a write failed");
	}
	uz_store_stat(b->store, &st);
	for (uint64_t slot = 0; slot < b->nslots; slot++)
		b->by_slot[slot] = uz_slot_detach(b->store, slot);
	for (uint64_t i = 0; i < b->nslots; i++)
		b->entries[i] = b->by_slot[b->order[i]];
	return st.compr_bytes;
}

/* Everything has been freed: allocate and fill objects of the same sizes anew. */
static void refill(struct bench *b)
{
	struct uz_pool_stat st;

	uz_store_flush(b->store);
	uz_pool_stat(b->store->pool, &st);
	if (st.objects)
		die("objects are left");
	for (uint64_t slot = 0; slot < b->nslots; slot++) {
		uint64_t off;
		uz_entry *e = &b->by_slot[slot];

		if (uz_pool_alloc(b->store->pool, uz_entry_size(*e), &off))
			die("no memory for an object");
		memset(uz_arena_ptr(b->arena, off), 1, uz_entry_size(*e));
		*e = uz_entry_moved(*e, off);
	}
	for (uint64_t i = 0; i < b->nslots; i++)
		b->entries[i] = b->by_slot[b->order[i]];
}

/* --- the arms --- */

static unsigned class_of(const struct uz_store *s, uz_entry e)
{
	return uz_pool_class(s->pool, uz_entry_off(e), uz_entry_size(e));
}

static void free_runs(struct uz_store *s, const uz_entry *e, unsigned n)
{
	unsigned start[UZ_POOL_CLASSES + 1] = {0}, from = 0;
	uint64_t offs[LOT];

	for (unsigned i = 0; i < n; i++)
		start[class_of(s, e[i]) + 1]++;
	for (unsigned cls = 0; cls < UZ_POOL_CLASSES; cls++)
		start[cls + 1] += start[cls];
	for (unsigned i = 0; i < n; i++)
		offs[start[class_of(s, e[i])]++] = uz_entry_off(e[i]);
	for (unsigned cls = 0; from < n; from = start[cls++]) {
		if (start[cls] > from &&
		    uz_pool_release_run(s->pool, cls, offs + from, start[cls] - from))
			die("a free failed");
	}
}

/* Free n <= LOT objects. */
static void free_some(enum arm arm, struct uz_worker *w, const uz_entry *e, unsigned n)
{
	if (arm == SYNC_RUNS) {
		free_runs(w->store, e, n);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		if (arm == SYNC && uz_pool_release(w->store->pool, uz_entry_off(e[i])))
			die("a free failed");
		if (arm == PUSH && !uz_defer_push(w->producer, e[i]))
			die("the pool of buffers is too small");
	}
}

static void time_lot(struct bench *b, enum arm arm, const uz_entry *e, struct series *s)
{
	uint64_t start = ticks();

	free_some(arm, b->workers[0], e, LOT);
	add(s, (double)(ticks() - start) * b->tick_ns / LOT);
}

static void time_single(struct bench *b, enum arm arm, const uz_entry *e)
{
	uint64_t start = ticks();
	double ns;

	free_some(arm, b->workers[0], e, 1);
	ns = (double)(ticks() - start) * b->tick_ns - b->timer_ns;
	add(&b->single[arm], ns > 0 ? ns : 0);
}

static void fill_caches(struct bench *b)
{
	for (size_t i = 0; i < CACHE_BYTES; i += 64)
		b->cache[i]++;
}

/* Time of the drain thread: that of the process less ours. Nothing else runs. */
static void run_arm(struct bench *b, enum arm arm)
{
	uint64_t process, self, i = 0;

	refill(b);
	process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	self = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	for (; i < COLD_LOTS * LOT; i += LOT) {
		fill_caches(b);
		time_lot(b, arm, b->entries + i, &b->cold[arm]);
	}
	for (unsigned n = 0; arm != SYNC_RUNS && n < SINGLES; n++)
		time_single(b, arm, b->entries + i++);
	for (; i + LOT <= b->nslots; i += LOT)
		time_lot(b, arm, b->entries + i, &b->lot[arm]);
	for (; i < b->nslots; i++)
		free_some(arm, b->workers[0], b->entries + i, 1);
	if (arm != PUSH)
		return;
	uz_store_flush(b->store);
	self = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - self;
	process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - process;
	add(&b->drain, (double)(process - self) / (double)b->nslots);
}

static void drain_nothing(void *context, const void *buf, unsigned first, unsigned count)
{
}

/* Pushes that find the drain thread asleep without a timer. */
static void time_wakes(struct bench *b)
{
	const struct uz_defer_ops ops = {.push = uz_store_defer_ops.push, .drain = drain_nothing};
	struct uz_defer_config config = {.ops = &ops, .spares = 1, .max_age_ms = 1};
	struct uz_defer_producer *p;
	struct uz_defer *d;

	if (uz_defer_new(&config, &d) || uz_defer_producer_new(d, &p))
		die("can't start a drain");
	for (unsigned i = 0; i < 200; i++) {
		uint64_t start;

		usleep(5000);
		start = ticks();
		uz_defer_push(p, i);
		add(&b->wake, (double)(ticks() - start) * b->tick_ns);
	}
	uz_defer_producer_free(p);
	uz_defer_free(d);
}

/* --- threads --- */

struct part {
	enum arm arm;
	struct uz_worker *worker;
	const uz_entry *entries;
	uint64_t count;
	uint64_t cpu_ns;
	pthread_barrier_t *start;
};

static void *free_part(void *arg)
{
	struct part *p = arg;

	pthread_barrier_wait(p->start);
	p->cpu_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	for (uint64_t i = 0; i < p->count; i += LOT)
		free_some(p->arm, p->worker, p->entries + i,
			  p->count - i < LOT ? (unsigned)(p->count - i) : LOT);
	p->cpu_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - p->cpu_ns;
	return NULL;
}

/* CPU time, not wall time: there may be fewer CPUs than threads. */
static void run_threads(struct bench *b, enum arm arm, unsigned nthreads, struct series *s)
{
	pthread_t threads[THREADS_MAX];
	struct part parts[THREADS_MAX];
	pthread_barrier_t start;
	uint64_t total = 0;

	refill(b);
	pthread_barrier_init(&start, NULL, nthreads);
	for (unsigned i = 0; i < nthreads; i++) {
		uint64_t from = b->nslots * i / nthreads;

		parts[i] = (struct part){arm,
					 b->workers[i],
					 b->entries + from,
					 b->nslots * (i + 1) / nthreads - from,
					 0,
					 &start};
		if (pthread_create(&threads[i], NULL, free_part, &parts[i]))
			die("can't start a thread");
	}
	for (unsigned i = 0; i < nthreads; i++) {
		pthread_join(threads[i], NULL);
		total += parts[i].cpu_ns;
	}
	pthread_barrier_destroy(&start);
	add(s, (double)total / (double)b->nslots);
}

/* --- the outcome --- */

static void report(struct bench *b, uint64_t bytes)
{
	double sync = quantile(&b->lot[SYNC], 0.5);

	printf("%llu objects, %llu MiB; ns an object\n\n", (unsigned long long)b->nslots,
	       (unsigned long long)bytes >> 20);
	printf("%-18s %8s %8s %8s %8s %8s %8s %8s\n", "one thread", "median", "p10", "p90",
	       "sync/it", "cold", "p99", "p99.9");
	for (enum arm arm = 0; arm < ARMS; arm++) {
		struct series *s = &b->lot[arm];

		printf("%-18s %8.1f %8.1f %8.1f %8.2f %8.1f", arm_names[arm], quantile(s, 0.5),
		       quantile(s, 0.1), quantile(s, 0.9), sync / quantile(s, 0.5),
		       quantile(&b->cold[arm], 0.5));
		if (b->single[arm].count)
			printf(" %8.1f %8.1f", quantile(&b->single[arm], 0.99),
			       quantile(&b->single[arm], 0.999));
		printf("\n");
	}
	printf("%-18s %8.1f %8.1f %8.1f   once, when all was idle\n", "push that wakes",
	       quantile(&b->wake, 0.5), quantile(&b->wake, 0.1), quantile(&b->wake, 0.9));
	printf("%-18s %8.1f %8.1f %8.1f   CPU time, cold ones included\n", "drain",
	       quantile(&b->drain, 0.5), quantile(&b->drain, 0.1), quantile(&b->drain, 0.9));

	printf("\n%-18s %8u %8u %8u %8u   CPU time of the callers\n", "threads", 1, 2, 4, 8);
	for (enum arm arm = 0; arm < ARMS; arm++) {
		printf("%-18s", arm_names[arm]);
		for (unsigned i = 0; i < 4; i++)
			printf(" %8.1f", quantile(&b->threads[arm][i], 0.5));
		printf("\n");
	}
}

static void report_json(struct bench *b)
{
	static const char *const keys[ARMS] = {"push", "sync", "sync_runs"};

	printf("\n{\"objects\": %llu, \"drain_ns\": %.1f, \"wake_ns\": %.1f",
	       (unsigned long long)b->nslots, quantile(&b->drain, 0.5), quantile(&b->wake, 0.5));
	for (enum arm arm = 0; arm < ARMS; arm++) {
		printf(", \"%s_ns\": %.1f, \"%s_cold_ns\": %.1f", keys[arm],
		       quantile(&b->lot[arm], 0.5), keys[arm], quantile(&b->cold[arm], 0.5));
		if (b->single[arm].count)
			printf(", \"%s_p99_ns\": %.1f", keys[arm], quantile(&b->single[arm], 0.99));
		printf(", \"%s_threads_ns\": [", keys[arm]);
		for (unsigned i = 0; i < 4; i++)
			printf("%s%.1f", i ? ", " : "", quantile(&b->threads[arm][i], 0.5));
		printf("]");
	}
	printf("}\n");
}

int main(int argc, char **argv)
{
	static struct bench b;
	uint64_t mib = argc > 1 ? (uint64_t)atoi(argv[1]) : 256, bytes;

	if (mib * 256 < COLD_LOTS * LOT + SINGLES + LOT)
		die("too small a store");
	calibrate(&b);
	open_bench(&b, mib << 20);
	bytes = write_pages(&b);
	for (uint64_t i = 0; i < b.nslots; i += LOT)
		free_some(SYNC, b.workers[0], b.entries + i, LOT);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < ARMS; i++)
			run_arm(&b, (round + i) % ARMS);
		for (unsigned i = 0; i < 4 * ARMS; i++)
			run_threads(&b, (round + i) % ARMS, 1u << i / ARMS,
				    &b.threads[(round + i) % ARMS][i / ARMS]);
	}
	time_wakes(&b);
	report(&b, bytes);
	report_json(&b);
	for (unsigned i = 0; i < THREADS_MAX; i++)
		uz_worker_free(b.workers[i]);
	uz_store_free(b.store);
	uz_arena_free(b.arena);
	return EXIT_SUCCESS;
}

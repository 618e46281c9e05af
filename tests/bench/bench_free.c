/* SPDX-License-Identifier: MIT
 *
 * What a free costs whom: a caller that frees by himself, object by object or in runs of one class
 * under one lock; the caller of a deferred free (push); and the drain thread.
 *
 *   bench_free [--quick]
 *
 * The arms take turns, a few milliseconds each, in changing order. Each frees all objects of a
 * store in the same random order: in lots of 512, what a buffer of the deferred free holds; in lots
 * before each of which other work has filled the caches, as it has when frees come now and then;
 * and one by one, for the slowest ones, whose wall time counts. Else it is CPU time, for all is
 * done in several threads, too, and there may be fewer CPUs. A value is a round's median, quantile
 * or mean (of threads). Output: figures.h.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "bench/figures.h"
#include "bench/objects.h"

#define ROUNDS	     9 /* that count; one more comes before them */
#define STORE_MIB    256
#define QUICK_ROUNDS 5
#define QUICK_MIB    128
#define LOT	     512 /* objects */
#define COLD_LOTS    8	 /* a round */
#define SINGLES	     (16 * LOT)
#define CACHE_BYTES  (64u << 20) /* more than there is cache */
#define WAKES	     20		 /* a round */

enum arm { SYNC, SYNC_RUNS, PUSH, ARMS };

static const char *const arm_names[ARMS] = {"synchronous", "synchronous, runs", "push"};

/* Times of one kind, of one round. */
struct series {
	double *ns;
	size_t count, room;
};

struct bench {
	struct objects o;
	unsigned char *cache;	  /* memory of other work */
	double tick_ns, timer_ns; /* of a tick; what it costs to read them twice */
	double stopwatch_ns;	  /* what a stopwatch costs */
	bool warm;		  /* the warm-up round is over */
};

/* --- time --- */

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
	return s->ns[(size_t)(q * (double)(s->count - 1))];
}

static void calibrate(struct bench *b)
{
	struct series timer = {0}, stopwatch = {0};
	uint64_t t0 = ticks(), ns0 = uz_now_ns();

	while (uz_now_ns() - ns0 < 50 * UZ_NSEC_PER_MSEC)
		;
	b->tick_ns = (double)(uz_now_ns() - ns0) / (double)(ticks() - t0);
	for (unsigned i = 0; i < 10000; i++) {
		struct stopwatch start = stopwatch_now(), sum = {0};
		uint64_t t = ticks();

		add(&timer, (double)(ticks() - t) * b->tick_ns);
		stopwatch_add(&sum, &start);
		add(&stopwatch, (double)sum.cpu_ns);
	}
	b->timer_ns = quantile(&timer, 0.5);
	b->stopwatch_ns = quantile(&stopwatch, 0.5) - b->timer_ns;
	free(timer.ns);
	free(stopwatch.ns);
}

/* --- the arms --- */

static unsigned class_of(const struct uz_store *s, uz_entry e)
{
	return uz_pool_class_number(s->pool, uz_entry_off(e), uz_entry_size(e));
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

/* CPU time: on a busy machine the drain thread, when it is woken, may run at once and in our place.
 */
static double time_lot(struct bench *b, enum arm arm, const uz_entry *e)
{
	struct stopwatch start = stopwatch_now(), sum = {0};

	free_some(arm, b->o.workers[0], e, LOT);
	stopwatch_add(&sum, &start);
	return ((double)sum.cpu_ns - b->stopwatch_ns) / LOT;
}

static double time_single(struct bench *b, enum arm arm, const uz_entry *e)
{
	uint64_t start = ticks();
	double ns;

	free_some(arm, b->o.workers[0], e, 1);
	ns = (double)(ticks() - start) * b->tick_ns - b->timer_ns;
	return ns > 0 ? ns : 0;
}

static void fill_caches(struct bench *b)
{
	for (size_t i = 0; i < CACHE_BYTES; i += 64)
		b->cache[i]++;
}

static void figure(struct bench *b, const char *arm, double ns, const char *what)
{
	if (b->warm)
		figure_add(arm, "ns/object", LOWER, ns, "free, %s", what);
}

static void run_arm(struct bench *b, enum arm arm)
{
	struct series cold = {0}, single = {0}, lot = {0};
	const char *name = arm_names[arm];
	uint64_t i = 0;

	objects_renew(&b->o);
	for (; i < COLD_LOTS * LOT; i += LOT) {
		fill_caches(b);
		add(&cold, time_lot(b, arm, b->o.entries + i));
	}
	for (unsigned n = 0; arm != SYNC_RUNS && n < SINGLES; n++)
		add(&single, time_single(b, arm, b->o.entries + i++));
	for (; i + LOT <= b->o.count; i += LOT)
		add(&lot, time_lot(b, arm, b->o.entries + i));
	for (; i < b->o.count; i++)
		free_some(arm, b->o.workers[0], b->o.entries + i, 1);
	figure(b, name, quantile(&lot, 0.5), "median, CPU time");
	figure(b, name, quantile(&cold, 0.5), "median, caches cold, CPU time");
	if (single.count) {
		figure(b, name, quantile(&single, 0.99),
		       "99th percentile of single calls, wall time");
		figure(b, name, quantile(&single, 0.999),
		       "99.9th percentile of single calls, wall time");
	}
	free(lot.ns);
	free(cold.ns);
	free(single.ns);
}

static void drain_nothing(void *context, const void *buf, unsigned first, unsigned count)
{
}

/* Pushes that find the drain thread asleep without a timer. */
static void time_wakes(struct bench *b)
{
	const struct uz_defer_ops ops = {
		.size = sizeof(ops), .push = uz_store_defer_ops.push, .drain = drain_nothing};
	struct uz_defer_config config = {
		.size = sizeof(config), .ops = &ops, .spares = 1, .max_age_ms = 1};
	struct uz_defer_producer *p;
	struct series wakes = {0};
	struct uz_defer *d;

	if (uz_defer_new(&config, &d) || uz_defer_producer_new(d, &p))
		die("can't start a drain");
	for (unsigned i = 0; i < WAKES; i++) {
		uint64_t start;

		usleep(5000);
		start = ticks();
		uz_defer_push(p, i);
		add(&wakes, (double)(ticks() - start) * b->tick_ns);
	}
	figure(b, "push", quantile(&wakes, 0.5), "push that wakes the drain thread, wall time");
	free(wakes.ns);
	uz_defer_producer_free(p);
	uz_defer_free(d);
}

/* --- threads --- */

struct part {
	enum arm arm;
	struct uz_worker *worker;
	const uz_entry *entries;
	uint64_t count;
	struct stopwatch sum;
	pthread_barrier_t *start;
};

static void *free_part(void *arg)
{
	struct part *p = arg;
	struct stopwatch start;

	pthread_barrier_wait(p->start);
	start = stopwatch_now();
	for (uint64_t i = 0; i < p->count; i += LOT)
		free_some(p->arm, p->worker, p->entries + i,
			  p->count - i < LOT ? (unsigned)(p->count - i) : LOT);
	stopwatch_add(&p->sum, &start);
	return NULL;
}

/* CPU time of the callers together. */
static uint64_t run_parts(struct bench *b, enum arm arm, unsigned nthreads)
{
	pthread_t threads[OBJECTS_WORKERS];
	struct part parts[OBJECTS_WORKERS];
	pthread_barrier_t start;
	uint64_t total = 0;

	pthread_barrier_init(&start, NULL, nthreads);
	for (unsigned i = 0; i < nthreads; i++) {
		uint64_t from = b->o.count * i / nthreads;

		parts[i] = (struct part){
			.arm = arm,
			.worker = b->o.workers[i],
			.entries = b->o.entries + from,
			.count = b->o.count * (i + 1) / nthreads - from,
			.start = &start,
		};
		if (pthread_create(&threads[i], NULL, free_part, &parts[i]))
			die("can't start a thread");
	}
	for (unsigned i = 0; i < nthreads; i++) {
		pthread_join(threads[i], NULL);
		total += parts[i].sum.cpu_ns;
	}
	pthread_barrier_destroy(&start);
	return total;
}

/* The drain thread's time is that of the process less the callers' and ours: nothing else runs. */
static void run_threads(struct bench *b, enum arm arm, unsigned nthreads)
{
	struct stopwatch self = {0}, start;
	uint64_t process, callers;
	char what[64];

	objects_renew(&b->o);
	snprintf(what, sizeof(what), "CPU time, %u thread%s", nthreads, nthreads > 1 ? "s" : "");
	start = stopwatch_now();
	process = process_cpu_ns();
	callers = run_parts(b, arm, nthreads);
	uz_store_flush(b->o.store);
	process = process_cpu_ns() - process;
	stopwatch_add(&self, &start);
	figure(b, arm_names[arm], (double)callers / (double)b->o.count, what);
	if (arm == PUSH)
		figure(b, "drain", (double)(process - callers - self.cpu_ns) / (double)b->o.count,
		       what);
}

static void run_round(struct bench *b, unsigned round)
{
	unsigned first = (round + ARMS - 1) % ARMS; /* SYNC in the first round that counts */

	b->warm = round > 0;
	for (unsigned i = 0; i < ARMS; i++)
		run_arm(b, (first + i) % ARMS);
	for (unsigned n = 1; n <= OBJECTS_WORKERS; n *= 2) {
		for (unsigned i = 0; i < ARMS; i++)
			run_threads(b, (first + i) % ARMS, n);
	}
	time_wakes(b);
}

int main(int argc, char **argv)
{
	bool quick = argc == 2 && strcmp(argv[1], "--quick") == 0;
	static struct bench b;

	if (argc > 1 && !quick) {
		fprintf(stderr, "usage: bench_free [--quick]\n");
		return 2;
	}
	calibrate(&b);
	b.cache = malloc(CACHE_BYTES);
	if (!b.cache)
		die("no memory");
	memset(b.cache, 1, CACHE_BYTES);
	objects_open(&b.o, (uint64_t)(quick ? QUICK_MIB : STORE_MIB) << 20);
	printf("{\"corpus\":\"random\", \"pages\":%llu}\n", (unsigned long long)b.o.count);
	progress("%llu objects, %llu MiB", (unsigned long long)b.o.count,
		 (unsigned long long)b.o.bytes >> 20);
	for (uint64_t i = 0; i < b.o.count; i += LOT)
		free_some(SYNC, b.o.workers[0], b.o.entries + i, LOT);
	for (unsigned round = 0; round <= (quick ? QUICK_ROUNDS : ROUNDS); round++)
		run_round(&b, round);
	figures_print();
	objects_close(&b.o);
	free(b.cache);
	return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT
 *
 * Two threads on two CPUs against one: pages a second and what becomes of the CPU time of a page,
 * for the store and for the bare codec, whose scaling is the machine's.
 *
 * Each thread has a half of the slots to itself, in random order, and a worker of its own. One
 * thread does what the first of two does. The four arms take turns every SLICE pages a thread. The
 * library's own threads run wherever the kernel puts them, which is beside one thread, but in the
 * way of two, if there are two CPUs only; CPU time doesn't see that, nor what else the machine
 * does.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "bench/bench_store.h"
#include "bench/raw.h"
#include "store/internal.h"

#define THREADS 2
#define SLICE	4096

enum kind { READ, REWRITE, KINDS };
enum arm { RAW_1, RAW_2, STORE_1, STORE_2, ARMS };

static const char *const kind_names[KINDS] = {"read", "rewrite"};

struct threads;

struct runner {
	struct threads *t;
	unsigned number;
	int cpu;
	pthread_t thread;
	struct uz_worker *worker;
	struct raw *raw;
	uint64_t first;	      /* slot */
	uint64_t *order;      /* of n slots from there */
	struct stopwatch sum; /* of this slice */
	unsigned char page[UZ_PAGE_SIZE] __attribute__((aligned(64)));
};

struct threads {
	const struct bench *b;
	struct device dev;
	struct raw_pages encoded;
	struct runner runners[THREADS];
	pthread_barrier_t start, end;
	uint64_t n; /* slots a thread */
	/* The slice. */
	enum arm arm;
	enum kind kind;
	uint64_t from, to;
	uint64_t shift; /* when rewriting: slot i gets page i + shift */
	bool stop;
};

static unsigned threads_of(enum arm arm)
{
	return arm == RAW_2 || arm == STORE_2 ? 2 : 1;
}

static void one_page(struct runner *r, uint64_t slot)
{
	const struct threads *t = r->t;
	const struct sample *sample = &t->b->sample;

	if (t->arm >= STORE_1) {
		if (t->kind == READ)
			device_read(r->worker, slot, r->page);
		else
			device_write(r->worker, slot, sample_page(sample, slot + t->shift));
	} else {
		if (t->kind == READ)
			raw_decode(r->raw, &t->encoded, slot, r->page);
		else
			raw_encode(r->raw, sample_page(sample, slot + t->shift));
	}
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		die("can't be pinned to CPU %d", cpu);
}

static void *run(void *arg)
{
	struct runner *r = arg;
	struct threads *t = r->t;

	pin(r->cpu);
	for (;;) {
		struct stopwatch start;

		pthread_barrier_wait(&t->start);
		if (t->stop)
			return NULL;
		if (r->number < threads_of(t->arm)) {
			r->sum = (struct stopwatch){0};
			start = stopwatch_now();
			for (uint64_t i = t->from; i < t->to; i++)
				one_page(r, r->first + r->order[i]);
			stopwatch_add(&r->sum, &start);
		}
		pthread_barrier_wait(&t->end);
	}
}

/* Add the slice's times: the longer of the wall times, all CPU time. */
static void run_slice(struct threads *t, enum arm arm, struct stopwatch *sum)
{
	uint64_t longest = 0;

	t->arm = arm;
	pthread_barrier_wait(&t->start);
	pthread_barrier_wait(&t->end);
	for (unsigned i = 0; i < threads_of(arm); i++) {
		const struct stopwatch *s = &t->runners[i].sum;

		sum->cpu_ns += s->cpu_ns;
		if (s->wall_ns > longest)
			longest = s->wall_ns;
	}
	sum->wall_ns += longest;
}

static void add_figures(struct threads *t, enum kind kind, const struct stopwatch sum[ARMS])
{
	static const char *const arms[ARMS] = {"raw codec, 1 thread", "raw codec, 2 threads",
					       "uzram, 1 thread", "uzram, 2 threads"};
	const char *what = kind_names[kind], *codec = t->b->codec_name;
	double rate[ARMS], cpu[ARMS];

	for (enum arm arm = 0; arm < ARMS; arm++) {
		double pages = (double)t->n * threads_of(arm);

		rate[arm] = pages * 1e9 / (double)sum[arm].wall_ns;
		cpu[arm] = (double)sum[arm].cpu_ns / 1e3 / pages;
		figure_add(arms[arm], "pages/s", HIGHER, rate[arm], "%s, threads, %s", what, codec);
		figure_add(arms[arm], "us/page", LOWER, cpu[arm], "%s, threads, %s, CPU time", what,
			   codec);
	}
	for (enum arm arm = RAW_1; arm < ARMS; arm += 2) {
		const char *name = arm == RAW_1 ? "raw codec" : "uzram";

		figure_add(name, "x", HIGHER, rate[arm + 1] / rate[arm], "%s, 2 threads over 1, %s",
			   what, codec);
		figure_add(name, "x", HIGHER, 2 * cpu[arm] / cpu[arm + 1],
			   "%s, 2 threads over 1, %s, CPU time", what, codec);
	}
}

static void run_kind(struct threads *t, enum kind kind, unsigned round)
{
	struct stopwatch sum[ARMS] = {{0}};
	unsigned turn = round;

	t->kind = kind;
	for (t->from = 0; t->from < t->n; t->from = t->to) {
		t->to = t->from + SLICE < t->n ? t->from + SLICE : t->n;
		for (unsigned i = 0; i < ARMS; i++)
			run_slice(t, (turn + i) % ARMS, &sum[(turn + i) % ARMS]);
		turn++;
	}
	uz_store_flush(t->dev.store);
	if (round)
		add_figures(t, kind, sum);
}

static void run_round(struct threads *t, unsigned round)
{
	for (uint64_t slot = 0; slot < t->dev.nslots; slot++)
		device_write(t->dev.worker, slot, sample_page(&t->b->sample, slot));
	uz_store_flush(t->dev.store);
	run_kind(t, READ, round);
	t->shift += t->dev.nslots / 3 + 1;
	run_kind(t, REWRITE, round);
}

/* The first CPUs that this process may run on. False if there are too few. */
static bool pick_cpus(struct threads *t)
{
	cpu_set_t set;
	unsigned n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		die("what CPUs there are can't be told");
	for (int cpu = 0; cpu < CPU_SETSIZE && n < THREADS; cpu++) {
		if (CPU_ISSET(cpu, &set))
			t->runners[n++].cpu = cpu;
	}
	return n == THREADS;
}

static void start(struct threads *t, unsigned i)
{
	struct runner *r = &t->runners[i];

	r->t = t;
	r->number = i;
	r->first = i * t->n;
	r->order = shuffled(t->n, i);
	r->raw = raw_new(t->b->codec, t->b->level, t->dev.store->max_encoded);
	if (uz_worker_new(t->dev.store, &r->worker) || pthread_create(&r->thread, NULL, run, r))
		die("can't start a thread");
}

static void stop(struct threads *t)
{
	t->stop = true;
	pthread_barrier_wait(&t->start);
	for (unsigned i = 0; i < THREADS; i++) {
		struct runner *r = &t->runners[i];

		pthread_join(r->thread, NULL);
		uz_worker_free(r->worker);
		raw_free(r->raw);
		free(r->order);
	}
}

void bench_threads(const struct bench *b)
{
	struct threads t = {.b = b, .n = b->sample.npages / THREADS};

	if (!pick_cpus(&t)) {
		progress("there is one CPU only");
		return;
	}
	device_open(b, b->sample.npages, &t.dev);
	pthread_barrier_init(&t.start, NULL, THREADS + 1);
	pthread_barrier_init(&t.end, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++)
		start(&t, i);
	raw_pages_new(t.runners[0].raw, &b->sample, &t.encoded);
	for (unsigned round = 0; round <= b->rounds; round++)
		run_round(&t, round);
	stop(&t);
	pthread_barrier_destroy(&t.start);
	pthread_barrier_destroy(&t.end);
	raw_pages_free(&t.encoded);
	device_close(&t.dev);
}

/* SPDX-License-Identifier: MIT
 *
 * The model test's main program: options, threads, epochs.
 */
#include "model.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/crash.h"
#include "store/internal.h"

#ifdef UZ_TEST_HOOKS
#define PROGRAM "model_hooks"
#else
#define PROGRAM "model"
#endif

#define STREAM_MODEL 1000 /* the random streams: threads have their own number's */

static struct options options = {
	.seconds = 5,
	.threads = 4,
	.codec = UZ_CODEC_LZ4,
	.deferred = true,
};

static void print_options(FILE *f)
{
	fprintf(f, "%s%s --seed %llu --seconds %u --threads %u --algorithm %s --deferred %d\n",
		PROGRAM,
		options.crash  ? " --crash"
		: options.kill ? " --kill"
			       : "",
		(unsigned long long)options.seed, options.seconds, options.threads,
		uz_codec_info(options.codec)->name, options.deferred);
}

void failed(const char *file, int line, const char *cond, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s:%d: false: %s: ", file, line, cond);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nto see it again: ");
	print_options(stderr);
	abort();
}

/* --- what others need --- */

struct uz_arena *arena_attach(int fd)
{
	struct uz_arena *arena = NULL;
	int err = uz_arena_attach(fd, &arena);

	CHECK(!err, "%s", strerror(-err));
	return arena;
}

/* Little of everything, so that reserve, spares and buffers run out now and then. */
struct uz_store *store_new(const struct options *o, struct uz_arena *arena)
{
	struct uz_store_config config = {
		.size = sizeof(config),
		.arena = arena,
		.codec = o->codec,
		.level = uz_codec_info(o->codec)->level_default,
		.reserve = 1 << 20,
		.populators = o->threads > 1,
		.deferred = o->deferred,
		.defer_spares = 2,
		.defer_age_ms = 5,
	};
	struct uz_store *store = NULL;
	int err = uz_store_new(&config, &store);

	CHECK(!err, "%s", strerror(-err));
	return store;
}

struct uz_worker *worker_new(struct uz_store *store)
{
	struct uz_worker *w = NULL;
	int err = uz_worker_new(store, &w);

	CHECK(!err, "%s", strerror(-err));
	return w;
}

uint64_t shared_slot(const struct model *m, unsigned i)
{
	return (uint64_t)m->options->threads * OWNED + i;
}

uint64_t striped_slot(const struct model *m, unsigned i)
{
	return shared_slot(m, SHARED) + i;
}

/* Besides the limit there is one reason to refuse a write: that the kernel was too slow, or too
 * short of memory, to fill the reserve. */
static bool may_refuse(const struct model *m)
{
	struct uz_arena_stat st;

	uz_arena_stat(m->arena, &st);
	return m->limited || st.failed;
}

bool accepted(struct thread *t, int err)
{
	if (!err)
		return true;
	CHECK(err == -ENOSPC, "thread %u: %s", t->id, strerror(-err));
	CHECK(may_refuse(t->m), "thread %u was refused memory", t->id);
	t->refused++;
	return false;
}

/* --- threads --- */

static void change_limit(struct thread *t)
{
	uint64_t percent = 50 + rng_below(&t->rng, 100), what = rng_below(&t->rng, 3);
	struct uz_store_stat st;

	if (!t->m->limited)
		return;
	uz_store_stat(t->m->store, &st);
	uz_store_set_limit(t->m->store, what ? st.mem_used * percent / 100 : 0);
}

static void look(struct model *m)
{
	struct uz_store_stat st;

	uz_store_stat(m->store, &st);
	CHECK(st.defer_drained <= st.defer_pushed, "%llu drained, %llu pushed",
	      (unsigned long long)st.defer_drained, (unsigned long long)st.defer_pushed);
	CHECK(!st.corrupt && !st.failed_reads && !st.invalid_io, "%llu corrupt",
	      (unsigned long long)st.corrupt);
}

static void step(struct thread *t)
{
	uint64_t what = rng_below(&t->rng, 1024);

	if (what < 640)
		owned_step(t);
	else if (what < 880)
		shared_step(t);
	else if (what < 1010)
		striped_step(t);
	else if (what < 1016)
		look(t->m);
	else if (what < 1020)
		change_limit(t);
	else if (what < 1022)
		uz_store_reset_max(t->m->store);
	else
		uz_store_flush(t->m->store);
	t->steps++;
}

static void *work(void *arg)
{
	struct thread *t = arg;

	t->worker = worker_new(t->m->store);
	for (unsigned i = 0; i < t->m->epoch_steps; i++)
		step(t);
	uz_worker_free(t->worker);
	return NULL;
}

static void *compact(void *arg)
{
	struct model *m = arg;
	struct timespec pause = {.tv_nsec = 2000000};

	while (!atomic_load(&m->epoch_over)) {
		m->compacted += uz_store_compact(m->store);
		look(m);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void run_epoch(struct model *m)
{
	pthread_t workers[THREADS_MAX], compactor;

	/* Short ones are as likely as long ones. */
	m->epoch_steps = 1u << (5 + rng_below(&m->rng, 9));
	m->limited = rng_below(&m->rng, 3) == 0;
	atomic_store(&m->epoch_over, false);
	CHECK(!pthread_create(&compactor, NULL, compact, m), "no thread");
	CHECK(!uz_sweeper_start(m->store), "no sweeper");
	uz_helper_release(&m->store->sweeper);
	for (unsigned i = 0; i < m->options->threads; i++)
		CHECK(!pthread_create(&workers[i], NULL, work, &m->threads[i]), "no thread");
	for (unsigned i = 0; i < m->options->threads; i++)
		pthread_join(workers[i], NULL);
	atomic_store(&m->epoch_over, true);
	pthread_join(compactor, NULL);
	uz_helper_stop(&m->store->sweeper);
	uz_store_set_limit(m->store, 0);
}

/* --- the whole --- */

static void threads_init(struct model *m)
{
	m->threads = calloc(m->options->threads, sizeof(*m->threads));
	CHECK(m->threads, "no memory");
	for (unsigned i = 0; i < m->options->threads; i++) {
		struct thread *t = &m->threads[i];

		t->m = m;
		t->id = i;
		rng_init(&t->rng, m->options->seed, i);
		t->want = calloc(OWNED, UZ_PAGE_SIZE);
		CHECK(t->want, "no memory");
		guard_init(&t->data, RANGE_MAX + UZ_PAGE_SIZE);
	}
}

static void threads_done(struct model *m)
{
	for (unsigned i = 0; i < m->options->threads; i++) {
		guard_done(&m->threads[i].data);
		free(m->threads[i].want);
	}
	free(m->threads);
}

static void print_summary(const struct model *m, unsigned epochs)
{
	uint64_t steps = 0, refused = 0;

	for (unsigned i = 0; i < m->options->threads; i++) {
		steps += m->threads[i].steps;
		refused += m->threads[i].refused;
	}
	printf("%u epochs, %llu steps, %llu writes refused, %llu pages compacted, %llu rebuilds\n",
	       epochs, (unsigned long long)steps, (unsigned long long)refused,
	       (unsigned long long)m->compacted, (unsigned long long)m->rebuilds);
}

static void model_test(const struct options *o)
{
	struct model m = {.options = o};
	time_t end = time(NULL) + o->seconds;
	unsigned epochs = 0;

	uz_crash_yield(o->seed);
	rng_init(&m.rng, o->seed, STREAM_MODEL);
	m.nslots = striped_slot(&m, STRIPED);
	CHECK(!uz_arena_new(m.nslots * UZ_PAGE_SIZE, &m.arena), "no arena");
	m.store = store_new(o, m.arena);
	threads_init(&m);
	do {
		run_epoch(&m);
		quiet_verify(&m);
		if (rng_below(&m.rng, 2))
			quiet_rebuild(&m);
		epochs++;
	} while (time(NULL) < end);
	quiet_finish(&m);
	print_summary(&m, epochs);
	threads_done(&m);
	uz_store_free(m.store);
	uz_arena_free(m.arena);
}

static int usage(void)
{
	fprintf(stderr,
		"usage: model [--seed N] [--seconds S] [--threads 1..%d] [--algorithm lz4|zstd]\n"
		"             [--deferred 0|1] [--kill|--crash]\n",
		THREADS_MAX);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{"seed", required_argument, NULL, 's'},
		{"seconds", required_argument, NULL, 'n'},
		{"threads", required_argument, NULL, 't'},
		{"algorithm", required_argument, NULL, 'a'},
		{"deferred", required_argument, NULL, 'd'},
		{"kill", no_argument, NULL, 'k'},
#ifdef UZ_TEST_HOOKS
		{"crash", no_argument, NULL, 'c'},
#endif
		{0},
	};
	int opt, codec = options.codec;

	if (getrandom(&options.seed, sizeof(options.seed), 0) < 0)
		return 1;
	while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (opt == 's')
			options.seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			options.seconds = (unsigned)strtoul(optarg, NULL, 0);
		else if (opt == 't')
			options.threads = (unsigned)strtoul(optarg, NULL, 0);
		else if (opt == 'a')
			codec = uz_codec_by_name(optarg);
		else if (opt == 'd')
			options.deferred = strtoul(optarg, NULL, 0) != 0;
		else if (opt == 'k')
			options.kill = true;
		else if (opt == 'c')
			options.crash = true;
		else
			return usage();
	}
	if (optind < argc || codec < 0 || !options.threads || options.threads > THREADS_MAX)
		return usage();
	options.codec = (enum uz_codec)codec;
	print_options(stdout);
	fflush(stdout);
#ifdef UZ_TEST_HOOKS
	if (options.crash) {
		crash_test(&options);
		return 0;
	}
#endif
	if (options.kill)
		kill_test(&options);
	else
		model_test(&options);
	return 0;
}

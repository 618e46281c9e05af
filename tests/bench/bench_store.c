/* SPDX-License-Identifier: MIT
 *
 * What the store costs on pages of real programs, beside the bare codec on the same pages.
 *
 *   bench_store [--corpus DIR] [--quick] [--codec lz4|zstd] [--level N] [--only PART[,PART...]]
 *
 * The parts are speed, threads, memory and back; what each measures stands at the beginning of its
 * file, what the figures mean in README.md. --quick takes 64 MiB of the corpus, runs of pages of
 * all its programs, and leaves out the large store. Output: figures.h, after a first line that
 * names the corpus.
 */
#include "bench/bench_store.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/futex.h"
#include "model/pages.h"

#define QUICK_PAGES   16384 /* 64 MiB */
#define ALL_PAGES     (UZ_DISKSIZE_MAX / UZ_PAGE_SIZE)
#define SETTLE_MS     200 /* without a change */
#define SETTLE_MAX_MS 30000

static const struct {
	const char *name;
	void (*run)(const struct bench *b);
} parts[] = {
	{"speed", bench_speed},
	{"threads", bench_threads},
	{"memory", bench_memory},
	{"back", bench_back},
};

#define NPARTS (sizeof(parts) / sizeof(parts[0]))

/* --- a store --- */

void device_open(const struct bench *b, uint64_t nslots, struct device *ret)
{
	struct uz_store_config config = {
		.size = sizeof(config),
		.codec = b->codec,
		.level = b->level,
		.reserve = 16 << 20,
		.compact = true,
		.deferred = true,
		.defer_spares = 64,
		.defer_age_ms = 10,
	};

	if (uz_arena_new(nslots * UZ_PAGE_SIZE, &config.arena))
		die("can't make an arena");
	ret->arena = config.arena;
	ret->nslots = nslots;
	if (uz_store_new(&config, &ret->store) || uz_worker_new(ret->store, &ret->worker))
		die("can't make a store");
}

void device_close(struct device *d)
{
	uz_worker_free(d->worker);
	uz_store_free(d->store);
	uz_arena_free(d->arena);
}

void device_write(struct uz_worker *w, uint64_t slot, const void *page)
{
	if (uz_write(w, slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page))
		die("a write failed");
}

void device_read(struct uz_worker *w, uint64_t slot, void *page)
{
	if (uz_read(w, slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page))
		die("a read failed");
}

void device_discard(struct device *d)
{
	if (uz_discard(d->worker, 0, d->nslots * UZ_PAGE_SIZE))
		die("a discard failed");
	uz_store_flush(d->store);
}

void device_settle(struct device *d, unsigned ms, struct uz_store_stat *ret)
{
	uint64_t used = 0, start = uz_now_ns(), since = start, now = start;

	uz_store_flush(d->store);
	for (;;) {
		uz_store_stat(d->store, ret);
		if (ret->mem_used + ret->mem_ready != used)
			since = now;
		used = ret->mem_used + ret->mem_ready;
		if (now - since >= ms * UZ_NSEC_PER_MSEC ||
		    now - start >= SETTLE_MAX_MS * UZ_NSEC_PER_MSEC)
			return;
		usleep(10000);
		now = uz_now_ns();
	}
}

uint64_t device_blocks(const struct device *d)
{
	struct stat st;

	if (fstat(uz_arena_fd(d->arena), &st) < 0)
		die("fstat of the arena: %s", strerror(errno));
	return (uint64_t)st.st_blocks * 512;
}

uint64_t *shuffled(uint64_t n, uint64_t seed)
{
	uint64_t *order = calloc(n, sizeof(*order));
	struct rng rng;

	if (!order)
		die("no memory");
	rng_init(&rng, seed, 0);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t j = rng_below(&rng, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	return order;
}

/* --- options --- */

static __attribute__((noreturn)) void usage(void)
{
	fprintf(stderr, "usage: bench_store [--corpus DIR] [--quick] [--codec NAME] [--level N] "
			"[--only PART,...]\n");
	exit(2);
}

static bool chosen(const char *only, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = only; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
		if (strncmp(p, name, len) == 0 && (!p[len] || p[len] == ','))
			return true;
	}
	return !only;
}

static void set_codec(struct bench *b, const char *name, const char *level)
{
	const struct uz_codec_info *info;
	int codec = uz_codec_by_name(name);

	if (codec < 0)
		die("there is no codec %s", name);
	info = uz_codec_info((enum uz_codec)codec);
	b->codec = (enum uz_codec)codec;
	b->level = level ? atoi(level) : info->level_default;
	if (b->level < info->level_min || b->level > info->level_max)
		die("%s has levels %d to %d", name, info->level_min, info->level_max);
	if (b->level == info->level_default)
		snprintf(b->codec_name, sizeof(b->codec_name), "%s", name);
	else
		snprintf(b->codec_name, sizeof(b->codec_name), "%s %d", name, b->level);
}

static char *default_corpus(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *dir;

	if ((cache ? asprintf(&dir, "%s/uzram/corpus", cache)
		   : asprintf(&dir, "%s/.cache/uzram/corpus", home ? home : "")) < 0)
		die("no memory");
	return dir;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"corpus", required_argument, NULL, 'c'}, {"quick", no_argument, NULL, 'q'},
		{"codec", required_argument, NULL, 'a'},  {"level", required_argument, NULL, 'l'},
		{"only", required_argument, NULL, 'o'},	  {0},
	};
	const char *codec = "lz4", *level = NULL, *only = NULL;
	char *corpus = default_corpus();
	struct bench b = {.rounds = 5};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (opt) {
		case 'c':
			free(corpus);
			corpus = strdup(optarg);
			break;
		case 'q':
			b.quick = true;
			break;
		case 'a':
			codec = optarg;
			break;
		case 'l':
			level = optarg;
			break;
		case 'o':
			only = optarg;
			break;
		default:
			usage();
		}
	}
	if (optind < argc)
		usage();
	set_codec(&b, codec, level);
	sample_load(&b.sample, corpus, b.quick ? QUICK_PAGES : ALL_PAGES);
	free(corpus);
	printf("{\"corpus\":\"%s\", \"pages\":%llu, \"codec\":\"%s\", \"quick\":%s}\n",
	       b.sample.name, (unsigned long long)b.sample.npages, b.codec_name,
	       b.quick ? "true" : "false");
	for (unsigned i = 0; i < NPARTS; i++) {
		if (!chosen(only, parts[i].name))
			continue;
		progress("%s, %s, %llu MiB of %s", parts[i].name, b.codec_name,
			 (unsigned long long)b.sample.npages >> 8, b.sample.name);
		parts[i].run(&b);
		figures_print();
	}
	sample_free(&b.sample);
	return EXIT_SUCCESS;
}

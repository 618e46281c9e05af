/* SPDX-License-Identifier: MIT
 *
 * How fast memory goes back to the kernel: all slots but a few are discarded at once, while another
 * thread reads and rewrites those few. What is back is what the arena's file has fewer blocks of,
 * over those that the discarded pages took.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/futex.h"
#include "bench/bench_store.h"
#include "model/pages.h"

#define SERVED_SHARE 16 /* one slot of so many, the first ones, is served */
#define ROUNDS	     3
#define GOAL	     0.98
#define WAIT_MS	     3000
#define SETTLE_MS    200
#define POLL_US	     2000

struct back {
	const struct bench *b;
	struct device dev;
	uint64_t served; /* slots */
	atomic_bool stop;
};

static void write_range(struct back *k, uint64_t from, uint64_t to)
{
	for (uint64_t slot = from; slot < to; slot++)
		device_write(k->dev.worker, slot, sample_page(&k->b->sample, slot));
}

static void *serve(void *arg)
{
	static unsigned char page[UZ_PAGE_SIZE];
	struct back *k = arg;
	struct uz_worker *w;
	struct rng rng;

	if (uz_worker_new(k->dev.store, &w))
		die("can't make a worker");
	rng_init(&rng, 1, 1);
	while (!atomic_load_explicit(&k->stop, memory_order_relaxed)) {
		device_read(w, rng_below(&rng, k->served), page);
		/* Their own pages, so that they don't come to take more. */
		device_write(w, rng_below(&rng, k->served),
			     sample_page(&k->b->sample, rng_below(&rng, k->served)));
	}
	uz_worker_free(w);
	return NULL;
}

/* Discard, and see how the blocks become fewer: from before down to before - all. */
static void watch(struct back *k, uint64_t before, uint64_t all)
{
	const char *codec = k->b->codec_name;
	unsigned long long mib = (k->dev.nslots * UZ_PAGE_SIZE) >> 20;
	uint64_t slots = k->dev.nslots - k->served, end, now;
	struct stopwatch start = stopwatch_now(), sum = {0};
	double share, after_1s = 0, ms = WAIT_MS;

	if (uz_discard(k->dev.worker, k->served * UZ_PAGE_SIZE, slots * UZ_PAGE_SIZE))
		die("a discard failed");
	stopwatch_add(&sum, &start);
	end = uz_now_ns();
	figure_add("uzram", "us/page", LOWER, (double)sum.cpu_ns / 1e3 / (double)slots,
		   "discard of all, %s", codec);
	do {
		usleep(POLL_US);
		now = uz_now_ns();
		share = ((double)before - (double)device_blocks(&k->dev)) / (double)all;
		if (share >= GOAL && ms == WAIT_MS)
			ms = (double)(now - end) / 1e6;
		if (now - end < UZ_NSEC_PER_SEC)
			after_1s = share;
	} while (now - end < UZ_NSEC_PER_SEC ||
		 (share < GOAL && now - end < WAIT_MS * UZ_NSEC_PER_MSEC));
	figure_add("uzram", "%", HIGHER, 100 * after_1s,
		   "back to the kernel 1 s after a discard, %llu MiB, %s", mib, codec);
	figure_add("uzram", "ms", LOWER, ms, "until 98 %% are back, at most %d ms, %llu MiB, %s",
		   WAIT_MS, mib, codec);
}

static void run(struct back *k, uint64_t mib)
{
	struct uz_store_stat st;
	uint64_t served, full;
	pthread_t server;

	device_open(k->b, (mib << 20) / UZ_PAGE_SIZE, &k->dev);
	k->served = k->dev.nslots / SERVED_SHARE;
	write_range(k, 0, k->served);
	device_settle(&k->dev, SETTLE_MS, &st);
	served = device_blocks(&k->dev);
	write_range(k, k->served, k->dev.nslots);
	device_settle(&k->dev, SETTLE_MS, &st);
	full = device_blocks(&k->dev);
	atomic_store(&k->stop, false);
	if (pthread_create(&server, NULL, serve, k))
		die("can't start a thread");
	usleep(100000);
	watch(k, full, full - served);
	atomic_store(&k->stop, true);
	pthread_join(server, NULL);
	device_close(&k->dev);
}

void bench_back(const struct bench *b)
{
	struct back k = {.b = b};

	for (unsigned i = 0; i < ROUNDS; i++)
		run(&k, b->quick ? 256 : 1024);
}

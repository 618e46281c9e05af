/* SPDX-License-Identifier: MIT
 *
 * Write and read in one thread, the store beside the bare codec.
 *
 * The arms take turns every CHUNK pages, a few milliseconds, so that whatever else the machine does
 * befalls both. In each turn they work on different halves of the pages, so that none finds in the
 * caches what the other has just had there; after a pass both have had every page once. Pages are
 * written from where the sample lies, which is out of the caches if it is larger than they are, and
 * read into one buffer. Writes of the bare codec end in one buffer, too.
 *
 * Rewriting puts another page into each slot: the old objects go through the deferred free. What
 * the drain and refill threads need for that is a figure of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/bench_store.h"
#include "bench/raw.h"
#include "store/internal.h"

#define CHUNK 512

struct speed {
	const struct bench *b;
	struct device dev;
	struct raw *raw;
	struct raw_pages encoded;
	uint64_t n;
	uint64_t *random;      /* slots */
	const uint64_t *order; /* of this pass; NULL: as they come */
	uint64_t shift;	       /* slot i holds page i + shift */
	unsigned char page[UZ_PAGE_SIZE] __attribute__((aligned(64)));
};

enum kind { WRITE, READ };

static uint64_t slot_at(const struct speed *s, uint64_t i)
{
	return s->order ? s->order[i] : i;
}

static uint64_t page_of(const struct speed *s, uint64_t slot)
{
	uint64_t i = slot + s->shift;

	return i < s->n ? i : i - s->n;
}

static void store_chunk(struct speed *s, enum kind kind, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		uint64_t slot = slot_at(s, i);

		if (kind == WRITE)
			device_write(s->dev.worker, slot,
				     sample_page(&s->b->sample, page_of(s, slot)));
		else
			device_read(s->dev.worker, slot, s->page);
	}
}

static void raw_chunk(struct speed *s, enum kind kind, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		uint64_t page = page_of(s, slot_at(s, i));

		if (kind == WRITE)
			raw_encode(s->raw, sample_page(&s->b->sample, page));
		else
			raw_decode(s->raw, &s->encoded, page, s->page);
	}
}

static void run_chunk(struct speed *s, enum kind kind, bool store, uint64_t chunk,
		      struct stopwatch *sum)
{
	uint64_t from = chunk * CHUNK, to = from + CHUNK < s->n ? from + CHUNK : s->n;
	struct stopwatch start = stopwatch_now();

	if (store)
		store_chunk(s, kind, from, to);
	else
		raw_chunk(s, kind, from, to);
	stopwatch_add(sum, &start);
}

static void add_figures(struct speed *s, const char *what, const struct stopwatch sum[2],
			uint64_t background_ns)
{
	static const char *const arms[2] = {"raw codec", "uzram"};
	double n = (double)s->n * 1e3;
	const char *order = s->order ? "random" : "sequential", *codec = s->b->codec_name;

	for (unsigned i = 0; i < 2; i++)
		figure_add(arms[i], "us/page", LOWER, (double)sum[i].cpu_ns / n,
			   "%s, 1 thread, %s, %s", what, codec, order);
	for (unsigned i = 0; i < 2; i++)
		figure_add(arms[i], "us/page", LOWER, (double)sum[i].wall_ns / n,
			   "%s, 1 thread, %s, %s, wall time", what, codec, order);
	if (background_ns)
		figure_add("uzram", "us/page", LOWER, (double)background_ns / n,
			   "%s, 1 thread, %s, %s, CPU of the threads behind", what, codec, order);
}

/* All pages once, by both. The first round only warms up. */
static void pass(struct speed *s, enum kind kind, const uint64_t *order, unsigned round,
		 const char *what)
{
	uint64_t chunks = (s->n + CHUNK - 1) / CHUNK;
	uint64_t process = process_cpu_ns();
	struct stopwatch sum[2] = {{0}}, self = stopwatch_now(), all = {0};

	s->order = order;
	for (uint64_t i = 0; i < 2 * chunks; i++) {
		/* Store, raw, raw, store, ...: what comes second changes. */
		bool store = (i ^ i >> 1) & 1;

		run_chunk(s, kind, store, (i / 2 + (store ? chunks / 2 : 0)) % chunks, &sum[store]);
	}
	uz_store_flush(s->dev.store);
	stopwatch_add(&all, &self);
	if (round)
		add_figures(s, what, sum,
			    kind == WRITE ? process_cpu_ns() - process - all.cpu_ns : 0);
}

/* Not timed. */
static void check(struct speed *s)
{
	for (uint64_t slot = 0; slot < s->n; slot++) {
		const unsigned char *want = sample_page(&s->b->sample, page_of(s, slot));

		device_read(s->dev.worker, slot, s->page);
		if (memcmp(s->page, want, UZ_PAGE_SIZE) != 0)
			die("slot %llu holds another page than was written",
			    (unsigned long long)slot);
		raw_decode(s->raw, &s->encoded, page_of(s, slot), s->page);
		if (memcmp(s->page, want, UZ_PAGE_SIZE) != 0)
			die("the raw codec doesn't decode to the page");
	}
}

/* Another page for each slot, of another program. */
static void next_shift(struct speed *s)
{
	s->shift = (s->shift + s->n / 3 + 1) % s->n;
}

static void run_round(struct speed *s, unsigned round)
{
	pass(s, WRITE, NULL, round, "first write");
	pass(s, READ, NULL, round, "read");
	pass(s, READ, s->random, round, "read");
	next_shift(s);
	pass(s, WRITE, s->random, round, "rewrite");
	pass(s, READ, NULL, round, "read of what was rewritten at random");
	if (!round)
		check(s);
	next_shift(s);
	pass(s, WRITE, NULL, round, "rewrite");
	device_discard(&s->dev);
	pass(s, WRITE, s->random, round, "first write");
	if (round == s->b->rounds)
		check(s);
	device_discard(&s->dev);
}

void bench_speed(const struct bench *b)
{
	struct uz_store_stat st;
	struct speed s = {.b = b, .n = b->sample.npages};

	device_open(b, s.n, &s.dev);
	s.raw = raw_new(b->codec, b->level, s.dev.store->max_encoded);
	raw_pages_new(s.raw, &b->sample, &s.encoded);
	s.random = shuffled(s.n, 1);
	for (unsigned round = 0; round <= b->rounds; round++)
		run_round(&s, round);
	uz_store_stat(s.dev.store, &st);
	progress("the reserve was dry %llu times, the pool of buffers %llu times",
		 (unsigned long long)st.reserve_dry, (unsigned long long)st.defer_fallbacks);
	raw_pages_free(&s.encoded);
	raw_free(s.raw);
	free(s.random);
	device_close(&s.dev);
}

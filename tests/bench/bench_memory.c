/* SPDX-License-Identifier: MIT
 *
 * How much memory a full store takes, over the bytes that the codec made of its pages: when it has
 * just been filled; after churn (ten times half of the pages, at random, are discarded or
 * overwritten by others, and the holes filled); when half of the pages have then been overwritten
 * by those of one program, whose sizes are others; and when half of all pages, at random, are
 * discarded. A store that is left to itself, which compacts when it thinks that worth while, and
 * one that is told to compact after each of these.
 *
 * "uzram" counts everything but the reserve: zspages, slot table, allocator state, buffers of the
 * deferred free. The table's size is the device's, which here is just as large as what is stored.
 * "kernel's view" is what the reserve is part of, too: blocks of the arena's file, and the growth
 * of the process's private memory and page tables.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_store.h"
#include "bench/raw.h"
#include "model/pages.h"
#include "store/internal.h"

#define CHURNS	     10
#define ROUNDS	     3
#define QUICK_ROUNDS 1
/* Without a change, until a store has done what it does by itself: compaction rests between walks,
 * the longer, the larger the store is. */
#define SETTLE_MS(mib) (2500 + 4 * (unsigned)(mib))

struct memory {
	const struct bench *b;
	struct device dev;
	struct rng rng;
	bool compact;
	uint64_t private_before;
	uint64_t mib;	  /* stored when full */
	unsigned program; /* number of the sample's file, whose pages' sizes are the least common */
};

/* Private memory and page tables of this process, bytes. */
static uint64_t private_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	uint64_t kib = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "RssAnon:", 8) == 0 || strncmp(line, "VmPTE:", 6) == 0)
			kib += strtoull(strchr(line, ':') + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return kib << 10;
}

static void add(struct memory *m, const char *arm, uint64_t bytes, const struct uz_store_stat *st,
		const char *stage)
{
	const char *codec = m->b->codec_name;

	figure_add(arm, "bytes/compressed byte", LOWER, (double)bytes / (double)st->compr_bytes,
		   "memory, %llu MiB, %s, %s", (unsigned long long)m->mib, codec, stage);
	figure_add(arm, "bytes/page", LOWER, (double)bytes / (double)st->pages_stored,
		   "memory per page, %llu MiB, %s, %s", (unsigned long long)m->mib, codec, stage);
}

static void measure(struct memory *m, const char *stage)
{
	struct uz_store_stat st;
	uint64_t all;

	if (m->compact)
		uz_store_compact(m->dev.store);
	device_settle(&m->dev, m->compact ? 0 : SETTLE_MS(m->mib), &st);
	all = st.mem_used + st.table_bytes + st.meta_bytes +
	      (m->dev.store->config.defer_spares + 1) * UZ_DEFER_BUF_SIZE;
	if (m->compact) {
		add(m, "uzram, compacted", all, &st, stage);
		return;
	}
	add(m, "compressed bytes", st.compr_bytes, &st, stage);
	add(m, "uzram", all, &st, stage);
	add(m, "uzram, zspages alone", st.mem_used, &st, stage);
	add(m, "uzram, with the reserve", all + st.mem_ready, &st, stage);
	add(m, "uzram, kernel's view", device_blocks(&m->dev) + private_bytes() - m->private_before,
	    &st, stage);
}

/* Pages of all programs, however small the store is. */
static void fill(struct memory *m)
{
	uint64_t step = m->b->sample.npages / m->dev.nslots;

	for (uint64_t slot = 0; slot < m->dev.nslots; slot++)
		device_write(m->dev.worker, slot,
			     sample_page(&m->b->sample, step ? slot * step : slot));
}

static void write_any(struct memory *m, uint64_t slot)
{
	device_write(m->dev.worker, slot, sample_page(&m->b->sample, rng_next(&m->rng)));
}

static void discard(struct memory *m, uint64_t slot)
{
	if (uz_discard(m->dev.worker, slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE))
		die("a discard failed");
}

/* Half of all slots, chosen at random, are discarded or overwritten; then the holes are filled. */
static void churn(struct memory *m)
{
	uint64_t *order = shuffled(m->dev.nslots, rng_next(&m->rng)), half = m->dev.nslots / 2;

	for (uint64_t i = 0; i < half; i++) {
		if (i % 2)
			discard(m, order[i]);
		else
			write_any(m, order[i]);
	}
	for (uint64_t i = 1; i < half; i += 2)
		write_any(m, order[i]);
	free(order);
}

static void shift(struct memory *m)
{
	uint64_t *order = shuffled(m->dev.nslots, rng_next(&m->rng));
	const struct sample *s = &m->b->sample;
	uint64_t first = s->first[m->program], count = s->first[m->program + 1] - first;

	for (uint64_t i = 0; i < m->dev.nslots / 2; i++)
		device_write(m->dev.worker, order[i], sample_page(s, first + i % count));
	free(order);
}

static void halve(struct memory *m)
{
	uint64_t *order = shuffled(m->dev.nslots, rng_next(&m->rng));

	for (uint64_t i = 0; i < m->dev.nslots / 2; i++)
		discard(m, order[i]);
	free(order);
}

/* What all the compacting has cost, of a store that is left to itself. */
static void add_cost(struct memory *m)
{
	struct uz_store_stat st;

	uz_store_stat(m->dev.store, &st);
	if (!m->compact && st.pages_compacted)
		figure_add("uzram", "bytes moved/byte won", LOWER,
			   (double)st.moved_bytes / (double)(st.pages_compacted << UZ_PAGE_SHIFT),
			   "compaction, %llu MiB, %s, all of the above", (unsigned long long)m->mib,
			   m->b->codec_name);
}

static void run(struct memory *m, unsigned round, bool compact)
{
	m->compact = compact;
	m->private_before = private_bytes();
	rng_init(&m->rng, 1, round);
	device_open(m->b, (m->mib << 20) / UZ_PAGE_SIZE, &m->dev);
	fill(m);
	measure(m, "fresh");
	for (unsigned i = 0; i < CHURNS; i++)
		churn(m);
	measure(m, "churned");
	shift(m);
	measure(m, "sizes shifted");
	halve(m);
	measure(m, "half discarded");
	add_cost(m);
	device_close(&m->dev);
}

/* The file whose pages' mean encoded length is farthest from that of all. */
static unsigned odd_program(const struct bench *b)
{
	const struct sample *s = &b->sample;
	struct raw *raw = raw_new(b->codec, b->level, UZ_PAGE_SIZE - 1);
	double means[SAMPLE_FILES_MAX], all = 0, farthest = -1;
	unsigned odd = 0;

	for (unsigned f = 0; f < s->nfiles; f++) {
		uint64_t step = (s->first[f + 1] - s->first[f]) / 1024 + 1, bytes = 0, n = 0;

		for (uint64_t i = s->first[f]; i < s->first[f + 1]; i += step, n++)
			bytes += raw_encode(raw, sample_page(s, i));
		means[f] = n ? (double)bytes / (double)n : 0;
		all += means[f] * (double)(s->first[f + 1] - s->first[f]) / (double)s->npages;
	}
	for (unsigned f = 0; f < s->nfiles; f++) {
		double distance = means[f] > all ? means[f] - all : all - means[f];

		if (s->first[f + 1] > s->first[f] && distance > farthest) {
			farthest = distance;
			odd = f;
		}
	}
	raw_free(raw);
	return odd;
}

void bench_memory(const struct bench *b)
{
	static const uint64_t sizes[] = {100, 1024};
	struct memory m = {.b = b, .program = odd_program(b)};

	for (unsigned i = 0; i < (b->quick ? 1 : 2); i++) {
		m.mib = sizes[i];
		for (unsigned round = 0; round < (b->quick ? QUICK_ROUNDS : ROUNDS); round++) {
			run(&m, round, false);
			run(&m, round, true);
		}
		figures_print();
	}
}

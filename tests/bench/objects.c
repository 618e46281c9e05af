/* SPDX-License-Identifier: MIT */
#include "bench/objects.h"

#include <stdlib.h>
#include <string.h>

#include "bench/figures.h"
#include "model/pages.h"

/* What lz4 makes 600 to 2200 bytes of: 3 to 1, in many size classes. */
static void fill_page(unsigned char *page, struct rng *rng)
{
	size_t noise = 600 + rng_below(rng, 1600);

	page_fill(page, PAGE_RANDOM, rng);
	memset(page + noise, 0, UZ_PAGE_SIZE - noise);
}

/* Write all pages and detach them. */
static void detach_pages(struct objects *o)
{
	static unsigned char page[UZ_PAGE_SIZE];
	struct rng rng;
	struct uz_store_stat st;

	rng_init(&rng, 1, 0);
	for (uint64_t i = 0; i < o->count; i++) {
		uint64_t j = rng_below(&rng, i + 1);

		o->order[i] = o->order[j];
		o->order[j] = i;
	}
	for (uint64_t slot = 0; slot < o->count; slot++) {
		fill_page(page, &rng);
		if (uz_write(o->workers[0], slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page))
			die("a write failed");
	}
	uz_store_stat(o->store, &st);
	for (uint64_t slot = 0; slot < o->count; slot++) {
		if (uz_slot_detach(o->store, slot, &o->by_slot[slot]))
			die("a slot is locked");
	}
	for (uint64_t i = 0; i < o->count; i++)
		o->entries[i] = o->by_slot[o->order[i]];
	o->bytes = st.compr_bytes;
}

void objects_open(struct objects *o, uint64_t size)
{
	struct uz_store_config config = {
		.size = sizeof(config),
		.codec = UZ_CODEC_LZ4,
		.level = 1,
		.reserve = 4 * size,
		.deferred = true,
		.defer_spares =
			(unsigned)(size * sizeof(uz_entry) / UZ_PAGE_SIZE / UZ_DEFER_BUF_SIZE) +
			OBJECTS_WORKERS,
		.defer_age_ms = 1000,
	};

	if (uz_arena_new(size, &config.arena) || uz_store_new(&config, &o->store))
		die("can't make a store");
	for (unsigned i = 0; i < OBJECTS_WORKERS; i++) {
		if (uz_worker_new(o->store, &o->workers[i]))
			die("can't make a worker");
	}
	o->arena = config.arena;
	o->count = size / UZ_PAGE_SIZE;
	o->order = calloc(o->count, sizeof(*o->order));
	o->by_slot = calloc(o->count, sizeof(*o->by_slot));
	o->entries = calloc(o->count, sizeof(*o->entries));
	if (!o->order || !o->by_slot || !o->entries)
		die("no memory");
	detach_pages(o);
}

void objects_close(struct objects *o)
{
	for (unsigned i = 0; i < OBJECTS_WORKERS; i++)
		uz_worker_free(o->workers[i]);
	uz_store_free(o->store);
	uz_arena_free(o->arena);
	free(o->order);
	free(o->by_slot);
	free(o->entries);
}

void objects_renew(struct objects *o)
{
	struct uz_pool_stat st;

	uz_store_flush(o->store);
	uz_pool_stat(o->store->pool, &st);
	if (st.objects)
		die("objects are left");
	for (uint64_t slot = 0; slot < o->count; slot++) {
		struct uz_wait wait = {0};
		uz_entry *e = &o->by_slot[slot];
		uint64_t off;

		if (uz_pool_alloc(o->store->pool, uz_entry_size(*e), &wait, &off))
			die("no memory for an object");
		memset(uz_arena_ptr(o->arena, off), 1, uz_entry_size(*e));
		*e = uz_entry_moved(*e, off);
	}
	for (uint64_t i = 0; i < o->count; i++)
		o->entries[i] = o->by_slot[o->order[i]];
}

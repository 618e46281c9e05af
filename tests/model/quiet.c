/* SPDX-License-Identifier: MIT
 *
 * Between epochs, when nothing moves: is everything where it should be, also in a store that has to
 * find it all in the arena?
 */
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "model.h"
#include "store/internal.h"

/* What the slot table adds up to. */
struct contents {
	uint64_t pages, bytes, same, huge, objects;
};

static struct contents add_up(struct uz_arena *arena)
{
	_Atomic uint64_t *table = uz_arena_table(arena);
	struct contents sum = {0};

	for (uint64_t slot = 0; slot < uz_arena_nslots(arena); slot++) {
		uz_entry e = atomic_load(&table[slot]);

		CHECK(!(e & UZ_ENTRY_LOCK) && !uz_entry_damaged(e), "slot %llu: %llx",
		      (unsigned long long)slot, (unsigned long long)e);
		sum.pages += e != 0;
		sum.same += uz_entry_codec(e) == UZ_CODEC_SAME;
		sum.huge += uz_entry_codec(e) == UZ_CODEC_RAW;
		if (!uz_entry_has_object(e))
			continue;
		sum.objects++;
		if (uz_entry_codec(e) != UZ_CODEC_SAME)
			sum.bytes += uz_entry_len(e);
	}
	return sum;
}

void check_state(struct uz_store *store)
{
	struct contents sum = add_up(store->config.arena);
	struct uz_store_stat st;
	struct uz_pool_stat pool;

	uz_store_flush(store);
	uz_store_stat(store, &st);
	uz_pool_stat(store->pool, &pool);
	CHECK(!uz_pool_check(store->pool), "the pool's invariants");
	CHECK(pool.objects == sum.objects, "%llu objects, %llu in the slot table",
	      (unsigned long long)pool.objects, (unsigned long long)sum.objects);
	CHECK(st.mem_used == pool.pages * UZ_PAGE_SIZE, "%llu bytes used",
	      (unsigned long long)st.mem_used);
	CHECK(st.mem_used <= st.mem_used_max, "%llu bytes used at most",
	      (unsigned long long)st.mem_used_max);
	CHECK(st.pages_stored == sum.pages, "%llu pages stored",
	      (unsigned long long)st.pages_stored);
	CHECK(st.compr_bytes == sum.bytes, "%llu bytes stored, %llu in the slot table",
	      (unsigned long long)st.compr_bytes, (unsigned long long)sum.bytes);
	CHECK(st.same_pages == sum.same && st.huge_pages == sum.huge, "%llu same, %llu huge pages",
	      (unsigned long long)st.same_pages, (unsigned long long)st.huge_pages);
	CHECK(st.defer_pushed == st.defer_drained && !st.defer_pending_bytes,
	      "%llu bytes pending after a flush", (unsigned long long)st.defer_pending_bytes);
	CHECK(!st.corrupt, "%llu corrupt", (unsigned long long)st.corrupt);
}

void quiet_verify(struct model *m)
{
	struct uz_worker *w = worker_new(m->store);

	for (unsigned i = 0; i < m->options->threads; i++) {
		owned_verify(&m->threads[i], w);
		shared_verify(&m->threads[i], w);
		striped_verify(&m->threads[i], w);
	}
	uz_worker_free(w);
	check_state(m->store);
}

/* Throw the store away and go on with one rebuilt from the arena: either on the same attachment,
 * or, as another process would, on another one. A twin of the store, never used, is there to
 * compare pools with, since an attachment has only one at a time. */
void quiet_rebuild(struct model *m)
{
	struct uz_arena *twin_arena = arena_attach(uz_arena_fd(m->arena));
	struct uz_store *twin = store_new(m->options, twin_arena);
	bool same = rng_below(&m->rng, 2);

	check_state(twin);
	CHECK(uz_pool_equal(m->store->pool, twin->pool), "rebuilt on another attachment");
	uz_store_free(m->store);
	if (same) {
		m->store = store_new(m->options, m->arena);
		CHECK(uz_pool_equal(m->store->pool, twin->pool), "rebuilt on the same attachment");
		uz_store_free(twin);
		uz_arena_free(twin_arena);
	} else {
		uz_arena_free(m->arena);
		m->arena = twin_arena;
		m->store = twin;
	}
	m->rebuilds++;
	quiet_verify(m);
}

static uint64_t file_bytes(const struct uz_arena *arena)
{
	struct stat st;

	CHECK(!fstat(uz_arena_fd(arena), &st), "fstat");
	return (uint64_t)st.st_blocks * 512;
}

void check_memory(struct uz_store *store, uint64_t transit)
{
	struct timespec pause = {.tv_nsec = 1000000};
	struct uz_store_stat st;
	uint64_t bytes;

	for (unsigned i = 0; i < 5000; i++) {
		uz_store_stat(store, &st);
		bytes = file_bytes(store->config.arena);
		if (bytes <= st.table_bytes + st.mem_used + st.mem_ready + transit &&
		    st.mem_ready <= 2 * store->config.reserve)
			return;
		nanosleep(&pause, NULL);
	}
	CHECK(false, "the arena has %llu bytes: %llu table, %llu used, %llu ready",
	      (unsigned long long)bytes, (unsigned long long)st.table_bytes,
	      (unsigned long long)st.mem_used, (unsigned long long)st.mem_ready);
}

void quiet_finish(struct model *m)
{
	struct uz_worker *w = worker_new(m->store);
	struct uz_store_stat st;

	CHECK(!uz_discard(w, 0, m->nslots * UZ_PAGE_SIZE), "discard of the whole device");
	uz_worker_free(w);
	check_state(m->store);
	uz_store_stat(m->store, &st);
	CHECK(!st.pages_stored && !st.compr_bytes && !st.mem_used, "%llu pages, %llu bytes left",
	      (unsigned long long)st.pages_stored, (unsigned long long)st.mem_used);
	check_memory(m->store, 0);
}

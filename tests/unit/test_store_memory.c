/* SPDX-License-Identifier: MIT
 *
 * The store's memory: limit, deferred free, what goes back to the kernel, workers that come and go.
 */
#include "store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/futex.h"
#include "pool/internal.h"

#define PER_BUFFER (UZ_DEFER_BUF_SIZE / sizeof(uz_entry))

static void open_store_with(bool deferred, unsigned spares, unsigned age_ms, uint64_t limit)
{
	close_store();
	config.deferred = deferred;
	config.defer_spares = spares;
	config.defer_age_ms = age_ms;
	config.mem_limit = limit;
	open_store();
}

/* --- limit --- */

/* Write incompressible pages, each of which takes a page, until one is refused. Returns how many
 * were not. */
static uint64_t fill(uint64_t slot)
{
	for (uint64_t n = 0;; n++) {
		int err = write_page(slot + n, PAGE_RANDOM, slot + n);

		if (err) {
			assert_int_equal(err, -ENOSPC);
			return n;
		}
	}
}

static void check_limit(bool deferred)
{
	open_store_with(deferred, 8, NEVER, 64 * PAGE);
	assert_int_equal(get_stat().mem_limit, 64 * PAGE);
	assert_int_equal(fill(0), 64);
	assert_int_equal(get_stat().failed_writes, 1);
	assert_zero(64);

	/* A page that can't be changed stays as it was. What takes no memory can be written. */
	assert_int_equal(write_page(0, PAGE_RANDOM, 1000), -ENOSPC);
	assert_int_equal(uz_write(worker, 10, 5, "other"), -ENOSPC);
	assert_int_equal(uz_discard(worker, 10, 5), -ENOSPC);
	assert_page(0, PAGE_RANDOM, 0);
	put_page(64, PAGE_ZERO, 0);
	put_page(0, PAGE_INLINE, 0);

	/* What is pending is not out of reach. */
	assert_int_equal(get_stat().mem_used, (deferred ? 64 : 63) * PAGE);
	assert_int_equal(fill(100), 1);
	assert_int_equal(get_stat().mem_used, 64 * PAGE);
	assert_int_equal(uz_discard(worker, PAGE, 10 * PAGE), 0);
	assert_int_equal(fill(200), 10);
	assert_int_equal(get_stat().mem_used_max, 64 * PAGE);
	assert_int_equal(get_stat().defer_pending_bytes, 0);
	for (uint64_t slot = 11; slot < 64; slot++)
		assert_page(slot, PAGE_RANDOM, slot);
	assert_int_equal(uz_discard(worker, 0, SLOTS * PAGE), 0);
}

static void test_limit(void **state)
{
	check_limit(true);
	check_limit(false);
}

/* What is stored beyond a lowered limit stays. */
static void test_limit_changes(void **state)
{
	for (uint64_t slot = 0; slot < 20; slot++)
		put_page(slot, PAGE_RANDOM, slot);
	uz_store_set_limit(store, 10 * PAGE);
	assert_int_equal(fill(20), 0);
	put_page(20, PAGE_INLINE, 20);
	assert_int_equal(uz_discard(worker, 0, 9 * PAGE), 0);
	assert_int_equal(fill(21), 0);
	assert_int_equal(uz_discard(worker, 9 * PAGE, 2 * PAGE), 0);
	assert_int_equal(fill(21), 1);
	uz_store_set_limit(store, 1);
	assert_int_equal(get_stat().mem_limit, 1);
	assert_int_equal(fill(30), 0);
	for (uint64_t slot = 11; slot < 20; slot++)
		assert_page(slot, PAGE_RANDOM, slot);
	uz_store_set_limit(store, 0);
	for (uint64_t slot = 100; slot < 200; slot++)
		put_page(slot, PAGE_RANDOM, slot);
}

/* The limit that has been set last holds, also when that was before the store serves. */
static void test_limit_before_start(void **state)
{
	close_store();
	config.mem_limit = 64 * PAGE;
	assert_int_equal(uz_store_prepare(&config, &store), 0);
	uz_store_set_limit(store, 32 * PAGE);
	assert_int_equal(uz_store_start(store, true), 0);
	assert_int_equal(uz_worker_new(store, &worker), 0);
	assert_int_equal(get_stat().mem_limit, 32 * PAGE);
	assert_int_equal(fill(0), 32);
}

/* The pages before the one that was refused are new, it and those after it are old. */
static void test_refused_range(void **state)
{
	unsigned char pages[8 * PAGE];

	open_store_with(true, 8, NEVER, 20 * PAGE);
	for (unsigned i = 0; i < 8; i++) {
		make_page(PAGE_RANDOM, i, pages + i * PAGE);
		put_page(100 + i, PAGE_INLINE, i);
	}
	for (uint64_t slot = 0; slot < 17; slot++)
		put_page(slot, PAGE_RANDOM, slot);
	assert_int_equal(uz_write(worker, 100 * PAGE, sizeof(pages), pages), -ENOSPC);
	for (unsigned i = 0; i < 8; i++)
		assert_page(100 + i, i < 3 ? PAGE_RANDOM : PAGE_INLINE, i);
	assert_int_equal(get_stat().failed_writes, 1);
}

/* --- deferred free --- */

static void test_pending(void **state)
{
	for (uint64_t slot = 0; slot < 10; slot++)
		put_page(slot, PAGE_RANDOM, slot);
	put_page(10, PAGE_INLINE, 10);
	assert_int_equal(uz_discard(worker, 0, 8 * PAGE), 0);
	put_page(8, PAGE_ZERO, 0);
	put_page(10, PAGE_ZERO, 0); /* no object, nothing to push */
	for (int flushed = 0; flushed < 2; flushed++) {
		struct uz_store_stat st = get_stat();

		assert_int_equal(st.pages_stored, 3);
		assert_int_equal(st.compr_bytes, PAGE);
		assert_int_equal(st.defer_pushed, 9);
		assert_int_equal(st.defer_drained, flushed ? 9 : 0);
		assert_int_equal(st.defer_pending_bytes, flushed ? 0 : 9 * PAGE);
		assert_int_equal(st.mem_used, flushed ? PAGE : 10 * PAGE);
		uz_store_flush(store);
	}
	assert_int_equal(get_stat().defer_fallbacks, 0);
}

static void test_age(void **state)
{
	uint64_t deadline = uz_now_ns() + 10 * UZ_NSEC_PER_SEC;

	open_store_with(true, 8, 5, 0);
	put_page(0, PAGE_RANDOM, 0);
	assert_int_equal(uz_discard(worker, 0, PAGE), 0);
	while (get_stat().mem_used) {
		assert_true(uz_now_ns() < deadline);
		usleep(1000);
	}
	uz_store_flush(store);
	assert_int_equal(get_stat().defer_drained, 1);
	assert_int_equal(get_stat().defer_pending_bytes, 0);
}

static void test_not_deferred(void **state)
{
	open_store_with(false, 8, NEVER, 0);
	put_page(0, PAGE_RANDOM, 0);
	put_page(1, PAGE_RANDOM, 1);
	put_page(1, PAGE_ZERO, 0);
	assert_int_equal(get_stat().mem_used, PAGE);
	assert_int_equal(uz_discard(worker, 0, PAGE), 0);
	assert_int_equal(get_stat().mem_used, 0);
	assert_int_equal(get_stat().defer_pushed, 0);
}

static struct size_class *class_of_entry(uz_entry e)
{
	return &store->pool->classes[uz_pool_class_number(store->pool, uz_entry_off(e),
							  uz_entry_size(e))];
}

/* While the drain thread can't go on and all buffers are full, frees happen where they are asked
 * for. */
static void test_fallback(void **state)
{
	struct size_class *raw, *text;
	struct uz_defer_stat st;

	open_store_with(true, 1, NEVER, 0);
	for (uint64_t slot = 0; slot < 3 * PER_BUFFER; slot++)
		put_page(slot, PAGE_RANDOM, slot);
	put_page(3 * PER_BUFFER, PAGE_TEXT, 0);
	raw = class_of_entry(entry(0));
	text = class_of_entry(entry(3 * PER_BUFFER));
	uz_spin_lock(&raw->lock);
	/* It takes the first buffer, and no other before that one's objects are free. */
	assert_int_equal(uz_discard(worker, 0, (PER_BUFFER + 1) * PAGE), 0);
	do {
		usleep(1000);
		uz_defer_stat(store->defer, &st); /* get_stat() takes the lock */
	} while (st.drained < PER_BUFFER || st.spares < 1);
	assert_int_equal(uz_discard(worker, (PER_BUFFER + 1) * PAGE, (2 * PER_BUFFER - 1) * PAGE),
			 0);
	assert_int_equal(text->inuse, 1);
	assert_int_equal(uz_discard(worker, 3 * PER_BUFFER * PAGE, PAGE), 0);
	assert_int_equal(text->inuse, 0);
	uz_spin_unlock(&raw->lock);
	uz_store_flush(store);
	assert_int_equal(get_stat().defer_fallbacks, 1);
	assert_int_equal(get_stat().defer_pushed, 3 * PER_BUFFER);
	assert_int_equal(get_stat().defer_drained, 3 * PER_BUFFER);
	assert_int_equal(get_stat().defer_pending_bytes, 0);
	assert_int_equal(get_stat().mem_used, 0);
	assert_int_equal(get_stat().corrupt, 0);
}

/* --- the kernel's memory --- */

static uint64_t arena_bytes(void)
{
	struct stat st;

	assert_int_equal(fstat(uz_arena_fd(arena), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void await_returned(void)
{
	uint64_t most = get_stat().table_bytes + 2 * config.reserve;
	uint64_t deadline = uz_now_ns() + 10 * UZ_NSEC_PER_SEC;

	while (arena_bytes() > most) {
		assert_true(uz_now_ns() < deadline);
		usleep(10000);
	}
}

/* Far more than what is given back at a time. */
static void check_large_discard(bool deferred)
{
	const uint64_t slots = 24576;

	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(uz_arena_new(slots * PAGE, &arena), 0);
	config.deferred = deferred;
	config.defer_spares = 64;
	config.defer_age_ms = 10;
	open_store();
	for (uint64_t slot = 0; slot < slots; slot++)
		put_page(slot, PAGE_RANDOM, slot);
	assert_true(arena_bytes() > slots * PAGE);
	assert_int_equal(uz_discard(worker, 0, slots * PAGE), 0);
	uz_store_flush(store);
	assert_int_equal(get_stat().pages_stored, 0);
	assert_int_equal(get_stat().mem_used, 0);
	assert_int_equal(get_stat().notify_free, slots);
	await_returned();
}

static void test_large_discard(void **state)
{
	check_large_discard(true);
	check_large_discard(false);
}

/* What a store leaves in the arena beyond its pages, the next one gives back. */
static void test_reserve_of_the_dead(void **state)
{
	put_page(0, PAGE_RANDOM, 0);
	close_store();
	config.reserve = 4 << 20;
	open_store();
	assert_true(get_stat().mem_ready > 3 << 20);
	assert_true(arena_bytes() > 3 << 20);
	close_store();
	config.reserve = 1 << 20;
	open_store();
	await_returned();
	assert_page(0, PAGE_RANDOM, 0);
}

/* Resident memory of this process, bytes: what it has of its own, and page tables. */
static uint64_t own_memory(void)
{
	unsigned long kib, sum = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "RssAnon: %lu", &kib) == 1 ||
		    sscanf(line, "VmPTE: %lu", &kib) == 1)
			sum += kib;
	}
	fclose(f);
	return (uint64_t)sum << 10;
}

/* A store that stands by while another one serves takes over what that one has stored by then, and
 * next to no memory. */
static void test_stand_by(void **state)
{
	struct uz_store_config other = config;
	struct uz_store *spare;
	struct uz_worker *w;
	uint64_t before;

	assert_int_equal(uz_arena_attach(uz_arena_fd(arena), &other.arena), 0);
	assert_int_equal(uz_store_prepare(&other, &spare), 0);
	assert_int_equal(uz_worker_new(spare, &w), 0);
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		put_page(slot, slot % 3 ? PAGE_TEXT : PAGE_RANDOM, slot);
	uz_store_warm(spare);
	for (uint64_t slot = 0; slot < SLOTS; slot += 2)
		put_page(slot, PAGE_TEXT, slot + 1);
	uz_store_warm(spare);
	close_store();
	uz_arena_free(arena);

	arena = other.arena;
	store = spare;
	worker = w;

	before = own_memory();
	assert_int_equal(uz_store_start(spare, false), 0);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* which take some for all */
	assert_in_range(own_memory(), 0, before + (64 << 10));
#else
	assert_in_range(before, 0, own_memory());
#endif
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		if (slot % 2 == 0)
			assert_page(slot, PAGE_TEXT, slot + 1);
		else
			assert_page(slot, slot % 3 ? PAGE_TEXT : PAGE_RANDOM, slot);
	}
	put_page(0, PAGE_RANDOM, 7);
	assert_page(0, PAGE_RANDOM, 7);
}

/* --- workers --- */

#define CHURNERS 8
#define CHURNS	 50

static void *churn(void *arg)
{
	uint64_t first = *(uint64_t *)arg;
	unsigned char page[PAGE], got[PAGE];

	make_page(PAGE_TEXT, first, page);
	for (unsigned i = 0; i < CHURNS; i++) {
		struct uz_worker *w;

		if (uz_worker_new(store, &w) || uz_write(w, first * PAGE, PAGE, page) ||
		    uz_write(w, (first + 1) * PAGE, PAGE, page) ||
		    uz_read(w, first * PAGE, PAGE, got) || memcmp(got, page, PAGE) != 0 ||
		    uz_discard(w, first * PAGE, PAGE))
			return arg;
		uz_worker_free(w);
	}
	return NULL;
}

static void test_worker_churn(void **state)
{
	pthread_t threads[CHURNERS];
	uint64_t slots[CHURNERS];
	struct uz_store_stat st;

	for (unsigned i = 0; i < CHURNERS; i++) {
		slots[i] = 2 * i;
		assert_int_equal(pthread_create(&threads[i], NULL, churn, &slots[i]), 0);
	}
	for (unsigned i = 0; i < CHURNERS; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	uz_store_flush(store);
	st = get_stat();
	assert_int_equal(st.writes, 2 * CHURNERS * CHURNS);
	assert_int_equal(st.reads, CHURNERS * CHURNS);
	assert_int_equal(st.notify_free, CHURNERS * CHURNS);
	assert_int_equal(st.pages_stored, CHURNERS);
	/* Each discard, and each overwrite of the slots that are not discarded. */
	assert_int_equal(st.defer_pushed, CHURNERS * (2 * CHURNS - 1));
	assert_int_equal(st.defer_drained, st.defer_pushed);
	assert_int_equal(st.defer_pending_bytes, 0);
	for (unsigned i = 0; i < CHURNERS; i++)
		assert_page(slots[i] + 1, PAGE_TEXT, slots[i]);
}

/* The buffers of workers that are gone serve others. */
static void test_worker_buffers(void **state)
{
	uz_worker_free(worker);
	uz_store_flush(store);
	for (unsigned i = 0; i < 500; i++) {
		assert_int_equal(uz_worker_new(store, &worker), 0);
		put_page(i, PAGE_TEXT, i);
		assert_int_equal(uz_discard(worker, i * PAGE, PAGE), 0);
		uz_worker_free(worker);
		worker = NULL;
		uz_store_flush(store);
		assert_int_equal(get_stat().defer_spares, config.defer_spares + 1);
	}
	assert_int_equal(get_stat().defer_drained, 500);
	assert_int_equal(get_stat().mem_used, 0);
}

/* --- what is promised to the process --- */

/* KiB of private, writable mappings. With vm.overcommit_memory=2 the kernel counts all of them as
 * used; MAP_NORESERVE has no meaning there. */
static unsigned long committed_kib(void)
{
	unsigned long from = 0, to = 0, sum = 0;
	char line[512], permissions[5];
	FILE *f = fopen("/proc/self/maps", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		assert_int_equal(sscanf(line, "%lx-%lx %4s", &from, &to, permissions), 3);
		if (permissions[1] == 'w' && permissions[3] == 'p')
			sum += (to - from) >> 10;
	}
	fclose(f);
	return sum;
}

/* A store's own memory follows what is stored, not the size of the device; but for the stacks of
 * its three threads, and the heap. */
static void test_commitment(void **state)
{
	struct uz_store_config big = config;
	unsigned long before = committed_kib();
	struct uz_store *s;

	assert_int_equal(uz_arena_new(UINT64_C(8) << 30, &big.arena), 0);
	assert_int_equal(uz_store_new(&big, &s), 0);
	assert_in_range(committed_kib() - before, 0, 3 * (8 << 10) + (8 << 10));
	uz_store_free(s);
	uz_arena_free(big.arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit_before_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_range, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_age, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_deferred, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fallback, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_discard, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reserve_of_the_dead, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stand_by, setup, teardown),
		cmocka_unit_test_setup_teardown(test_worker_churn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_worker_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_commitment, setup, teardown),
	};

	return cmocka_run_group_tests_name("store, memory", tests, NULL, NULL);
}

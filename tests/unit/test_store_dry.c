/* SPDX-License-Identifier: MIT
 *
 * A store without memory: what writes do at the limit, and where the kernel is late with memory, or
 * has none.
 */
#include "store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "arena/internal.h"
#include "base/futex.h"
#include "kernel_memory.h"
#include "pool/internal.h"

#define MS UZ_NSEC_PER_MSEC

static int setup_dry(void **state)
{
	kernel_memory_reset();
	return setup(state);
}

static void reopen_with(uint64_t limit, unsigned populators)
{
	close_store();
	config.mem_limit = limit;
	config.populators = populators;
	open_store();
}

static uint64_t ms_since(uint64_t start)
{
	return (uz_now_ns() - start) / MS;
}

/* Write random pages, each of which takes a page, from a slot on, until one is refused. Returns how
 * many were not. */
static uint64_t fill(uint64_t slot)
{
	uint64_t n = 0;

	while (write_page(slot + n, PAGE_RANDOM, slot + n) == 0)
		n++;
	return n;
}

/* --- the limit --- */

static void test_limit_at_once(void **state)
{
	uint64_t start, dry;

	reopen_with(64 * PAGE, 0);
	fill(0);
	dry = get_stat().reserve_dry;
	start = uz_now_ns();
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(write_page(100, PAGE_RANDOM, i), -ENOSPC);
	assert_in_range(ms_since(start), 0, 2000);
	assert_int_equal(get_stat().failed_writes, 101);
	assert_int_equal(get_stat().failed_limit, 101);
	assert_int_equal(get_stat().failed_memory, 0);
	assert_int_equal(get_stat().reserve_dry, dry);
}

/* A drain thread that can't go on does not hold up a write for longer than the wait. */
static void test_flush_is_bounded(void **state)
{
	struct size_class *text;
	uint64_t start, took;
	int err;

	reopen_with(64 * PAGE, 0);
	put_page(500, PAGE_TEXT, 0);
	text = &store->pool->classes[uz_pool_class_number(store->pool, uz_entry_off(entry(500)),
							  uz_entry_size(entry(500)))];
	fill(0);
	uz_spin_lock(&text->lock); /* where the drain thread stops, and no write of random pages */
	assert_int_equal(uz_discard(worker, 500 * PAGE, PAGE), 0);
	start = uz_now_ns();
	err = write_page(100, PAGE_RANDOM, 0);
	took = ms_since(start);
	uz_spin_unlock(&text->lock);
	assert_int_equal(err, -ENOSPC);
	assert_in_range(took, UZ_ARENA_WAIT_MS, UZ_ARENA_WAIT_MS + 2000);
	put_page(100, PAGE_RANDOM, 0);
}

/* What a discard has freed can be had at once, however full the store is. */
static void test_limit_after_discard(void **state)
{
	reopen_with(64 * PAGE, 0);
	fill(0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(uz_discard(worker, i % 64 * PAGE, PAGE), 0);
		put_page(i % 64, PAGE_RANDOM, i);
	}
	assert_int_equal(get_stat().failed_limit, 1);
	assert_int_equal(get_stat().failed_writes, 1);
}

/* --- memory --- */

static void test_refused(void **state)
{
	uint64_t start, failed;

	atomic_store(&kernel_memory.refuse, ENOMEM);
	fill(0); /* with one vain wait */
	start = uz_now_ns();
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(write_page(SLOTS - 1, PAGE_RANDOM, i), -ENOSPC);
	assert_in_range(ms_since(start), 0, 2000);
	failed = get_stat().failed_memory;
	assert_int_equal(failed, 101);
	assert_int_equal(get_stat().failed_writes, 101);
	assert_int_equal(get_stat().failed_limit, 0);
	assert_int_equal(get_stat().reserve_dry, 1);
	/* What is freed is used, without a wait. */
	assert_int_equal(uz_discard(worker, 0, 3 * PAGE), 0);
	for (uint64_t slot = 0; slot < 3; slot++)
		put_page(slot, PAGE_RANDOM, 7);
	atomic_store(&kernel_memory.refuse, 0);
	for (unsigned ms = 0; write_page(SLOTS - 1, PAGE_RANDOM, 0); ms++) {
		assert_true(ms < 5000);
		usleep(1000);
	}
}

/* While there is memory no write fails, whatever has become of the refill thread. */
static void test_no_refill(void **state)
{
	const uint64_t beyond = 20;
	uint64_t slot = 0;

	reopen_with(0, 1);
	uz_arena_stop(arena);
	while (arena->areas[0].nready)
		put_page(slot++, PAGE_RANDOM, 0);
	for (uint64_t end = slot + beyond; slot < end; slot++)
		put_page(slot, PAGE_RANDOM, 0);
	assert_int_equal(get_stat().reserve_self, beyond);
	assert_int_equal(get_stat().reserve_dry, beyond);
	assert_int_equal(get_stat().failed_writes, 0);
}

/* All ready units; and the same back. */
static struct {
	unsigned npages;
	uint32_t unit;
} taken[4096];
static unsigned ntaken;

static void take_reserve(void)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		int64_t unit;

		while ((unit = uz_arena_try_get(arena, n)) >= 0) {
			assert_true(ntaken < 4096);
			taken[ntaken].npages = n;
			taken[ntaken++].unit = (uint32_t)unit;
		}
	}
}

static void give_reserve_back(void)
{
	while (ntaken--)
		uz_arena_put(arena, taken[ntaken].npages, &taken[ntaken].unit, 1);
	ntaken = 0;
}

static atomic_bool hold, inside;
static pthread_t held;

static void stay_inside(void)
{
	if (!pthread_equal(pthread_self(), held))
		return;
	atomic_store(&inside, true);
	while (atomic_load(&hold))
		usleep(1000);
}

static void *change_part(void *arg)
{
	static const char change[3000] = "changed"; /* the rest is zero */
	struct uz_worker *w;
	int err;

	held = pthread_self();
	assert_int_equal(uz_worker_new(store, &w), 0);
	err = uz_write(w, 0, sizeof(change), change);
	uz_worker_free(w);
	return err ? arg : NULL;
}

/* A partial write that waits for memory leaves the slot to others, and changes what it finds then.
 */
static void test_update_holds_no_slot(void **state)
{
	unsigned char want[PAGE], page[PAGE];
	uint64_t slot = 1;
	pthread_t thread;
	void *failed;

	for (unsigned round = 0; round < 2; round++) {
		kernel_memory_reset();
		reopen_with(0, 1);
		put_page(0, PAGE_RANDOM, 1);
		uz_arena_stop(arena);
		take_reserve();
		atomic_store(&hold, true);
		atomic_store(&inside, false);
		atomic_store(&kernel_memory.before, stay_inside);
		assert_int_equal(pthread_create(&thread, NULL, change_part, &slot), 0);
		while (!atomic_load(&inside))
			usleep(1000);
		/* Read it, replace it, while the other has got no memory. */
		assert_page(0, PAGE_RANDOM, 1);
		make_page(PAGE_RANDOM, 1, want);
		if (round == 1) {
			put_page(0, PAGE_INLINE, 5);
			make_page(PAGE_INLINE, 5, want);
		}
		atomic_store(&hold, false);
		pthread_join(thread, &failed);
		assert_null(failed);
		memset(want, 0, 3000);
		memcpy(want, "changed", 7);
		assert_int_equal(uz_read(worker, 0, PAGE, page), 0);
		assert_memory_equal(page, want, PAGE);
		give_reserve_back();
		uz_store_flush(store);
		assert_int_equal(uz_pool_check(store->pool), 0);
		assert_int_equal(get_stat().failed_writes, 0);
		assert_true(get_stat().reserve_self > 0);
		reopen_store(); /* each object is where its size belongs */
		assert_int_equal(get_stat().corrupt, 0);
		assert_int_equal(uz_discard(worker, 0, SLOTS * PAGE), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limit_at_once, setup_dry, teardown),
		cmocka_unit_test_setup_teardown(test_flush_is_bounded, setup_dry, teardown),
		cmocka_unit_test_setup_teardown(test_limit_after_discard, setup_dry, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup_dry, teardown),
		cmocka_unit_test_setup_teardown(test_no_refill, setup_dry, teardown),
		cmocka_unit_test_setup_teardown(test_update_holds_no_slot, setup_dry, teardown),
	};

	return cmocka_run_group_tests_name("store, dry", tests, NULL, NULL);
}

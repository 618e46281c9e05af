/* SPDX-License-Identifier: MIT
 *
 * A dry reserve: waits for memory that is late, that is refused, that is had by the getter itself.
 * While there is memory no getter goes without; while there is none, none waits for long, and no
 * thread spins.
 */
#include "arena_fixture.h"

#include <pthread.h>
#include <sys/resource.h>

#include "kernel_memory.h"

#define MS UZ_NSEC_PER_MSEC

static int reset(void **state)
{
	kernel_memory_reset();
	return 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * UZ_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Take all ready units of a size. */
static void empty(struct uz_arena *a, unsigned npages)
{
	while (uz_arena_try_get(a, npages) >= 0)
		;
}

/* A thread that gets one unit. */
struct getter {
	struct uz_arena *arena;
	unsigned npages;
	pthread_t thread;
	int64_t got;
	uint64_t ms;
	atomic_bool done;
};

static void *get_one(void *arg)
{
	struct getter *g = arg;
	uint64_t start = uz_now_ns();

	g->got = get_waiting(g->arena, g->npages);
	g->ms = (uz_now_ns() - start) / MS;
	atomic_store(&g->done, true);
	return NULL;
}

static void start(struct getter *g, struct uz_arena *a, unsigned npages)
{
	*g = (struct getter){.arena = a, .npages = npages};
	assert_int_equal(pthread_create(&g->thread, NULL, get_one, g), 0);
}

static void await_waiters(struct uz_arena *a, unsigned n)
{
	while (atomic_load(&a->waiters) != n)
		usleep(100);
}

/* An arena whose single pages are gone, and from where no more are to be had. (Their private memory
 * is there.) */
static struct uz_arena *refused_arena(unsigned populators)
{
	struct uz_arena *a = new_arena();

	uz_arena_warm(a);
	uz_arena_set_populators(a, populators);
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	atomic_store(&kernel_memory.refuse, ENOMEM);
	empty(a, 1);
	return a;
}

/* --- never waits --- */

static void test_try_get(void **state)
{
	struct uz_arena *a = refused_arena(1);
	uint32_t unit;

	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(uz_arena_try_get(a, 1), -ENOMEM);
	assert_int_equal(stat_of(a).dry + stat_of(a).failed, 0);
	unit = (uint32_t)uz_arena_try_get(a, 2);
	uz_arena_set_limit(a, (stat_of(a).used_pages + 1) * PAGE);
	assert_int_equal(uz_arena_try_get(a, 2), -ENOSPC);
	uz_arena_put(a, 2, &unit, 1);
	assert_int_equal(uz_arena_try_get(a, 2), unit);
	stop_and_free(a);
}

/* --- memory is refused --- */

/* The next process has none for the state of the units that it finds: it says so, and touches none
 * of it. */
static void test_survey(void **state)
{
	struct uz_arena *a = new_arena(), *b;

	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
	atomic_store(&kernel_memory.refuse, ENOMEM);
	assert_int_equal(uz_arena_survey(b), -ENOMEM);
	atomic_store(&kernel_memory.refuse, 0);
	assert_int_equal(uz_arena_survey(b), 0);
	uz_arena_free(b);
	stop_and_free(a);
}

/* Getters that don't wait don't make the refill thread try more often. */
static void test_kicks(void **state)
{
	struct uz_arena *a = refused_arena(0);
	uint64_t start = uz_now_ns(), ms;
	unsigned refused = atomic_load(&kernel_memory.refused);

	do {
		assert_int_equal(uz_arena_try_get(a, 1), -ENOMEM);
		ms = (uz_now_ns() - start) / MS;
	} while (ms < 200);
	assert_in_range(atomic_load(&kernel_memory.refused) - refused, 1, 8 * (ms / 20));
	stop_and_free(a);
}

/* Neither the refill thread nor those that wait for it are busy while memory is refused. */
static void test_nobody_spins(void **state)
{
	for (unsigned n = 1; n <= 2; n++) {
		struct uz_arena *a = refused_arena(0);
		struct getter g[2];
		unsigned refused;
		uint64_t cpu;

		usleep(50000); /* the refill thread has seen it */
		cpu = cpu_ns();
		refused = atomic_load(&kernel_memory.refused);
		for (unsigned i = 0; i < n; i++)
			start(&g[i], a, 1);
		for (unsigned i = 0; i < n; i++) {
			pthread_join(g[i].thread, NULL);
			assert_int_equal(g[i].got, -ENOMEM);
		}
		/* One each 20 ms; and more time has passed on a busy machine. */
		assert_in_range(atomic_load(&kernel_memory.refused) - refused, 0,
				8 * (g[0].ms / 20));
		assert_in_range(cpu_ns() - cpu, 0, 100 * MS);
		stop_and_free(a);
		kernel_memory_reset();
	}
}

static uint64_t ms_to_fail(struct uz_arena *a)
{
	struct getter g = {.arena = a, .npages = 1};

	get_one(&g);
	assert_int_equal(g.got, -ENOMEM);
	return g.ms;
}

/* One wait in vain, and then none until memory has come. */
static void test_vain(void **state)
{
	struct uz_arena *a = refused_arena(0);
	uint32_t unit = (uint32_t)uz_arena_try_get(a, 8);
	uint64_t sum = 0;

	for (unsigned round = 0; round < 3; round++) {
		assert_in_range(ms_to_fail(a), UZ_ARENA_WAIT_MS, UZ_ARENA_WAIT_MS + 2000);
		for (unsigned i = 0; i < 100; i++)
			sum += ms_to_fail(a);
		assert_in_range(sum, 0, 2000); /* not 20000 */
		assert_int_equal(stat_of(a).failed, (round + 1) * 101);
		assert_int_equal(stat_of(a).dry, round + 1);
		if (round == 0) /* another size's will do: there may be more */
			uz_arena_put(a, 8, &unit, 1);
		else
			uz_arena_set_limit(a, 0);
	}
	/* The refill thread tries on by itself. */
	atomic_store(&kernel_memory.refuse, 0);
	for (unsigned ms = 0; uz_arena_try_get(a, 1) < 0; ms++) {
		assert_true(ms < 5000);
		usleep(1000);
	}
	empty(a, 1);
	assert_true(get_waiting(a, 1) >= 0);
	stop_and_free(a);
}

/* --- a refill thread that is late --- */

/* A getter that waits for one size can't keep another thread from what the limit allows. */
static void test_wait_holds_no_charge(void **state)
{
	struct uz_arena *a = refused_arena(0);
	struct getter g;

	empty(a, 8);
	uz_arena_set_limit(a, (stat_of(a).used_pages + 8) * PAGE);
	start(&g, a, 8);
	await_waiters(a, 1);
	for (unsigned i = 0; i < 2; i++)
		assert_true(uz_arena_try_get(a, 4) >= 0);
	pthread_join(g.thread, NULL);
	stop_and_free(a);
}

/* Without the refill thread: every getter has what there is, by itself. */
static void test_stopped(void **state)
{
	struct uz_arena *a = new_arena();
	struct model m;

	uz_arena_set_populators(a, 1);
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	uz_arena_stop(a);
	model_init(&m, a);
	for (unsigned n = 1; n <= SIZES; n++) {
		while (a->areas[n - 1].nready)
			model_get(&m, n);
		for (unsigned i = 0; i < 5; i++) {
			int64_t got = get_waiting(a, n);

			assert_true(got >= 0);
			model_took(&m, (struct unit){n, (uint32_t)got});
		}
	}
	model_check(&m);
	assert_int_equal(stat_of(a).self, 5 * SIZES);
	assert_int_equal(stat_of(a).failed, 0);
	/* Those that are free again are used first. */
	model_put(&m, m.nheld - 1);
	model_get(&m, SIZES);
	assert_int_equal(stat_of(a).self, 5 * SIZES);
	model_done(&m);
}

static struct uz_arena *slow_arena;

static void be_slow(void)
{
	if (pthread_equal(pthread_self(), slow_arena->refill.thread))
		usleep(300000);
}

#define BUSY	  12
#define STARVED	  2
#define EACH	  1500
#define EACH_SLOW 30

static atomic_bool busy_end;

static void *be_busy(void *arg)
{
	while (!atomic_load(&busy_end))
		;
	return NULL;
}

static void be_nice(void)
{
	if (pthread_equal(pthread_self(), slow_arena->refill.thread))
		setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
}

static void *get_many(void *arg)
{
	struct getter *g = arg;

	for (unsigned i = 0; i < g->npages && g->got >= 0; i++)
		g->got = get_waiting(g->arena, 1 + i % 4);
	return NULL;
}

static void check_nobody_fails(void (*hinder)(void), unsigned each)
{
	struct getter g[STARVED];

	slow_arena = new_arena();
	uz_arena_set_populators(slow_arena, 1);
	assert_int_equal(uz_arena_start(slow_arena, RESERVE, true, NULL, NULL), 0);
	for (unsigned n = 1; n <= 4; n++)
		empty(slow_arena, n);
	atomic_store(&kernel_memory.before, hinder);
	for (unsigned i = 0; i < STARVED; i++) {
		g[i] = (struct getter){.arena = slow_arena, .npages = each};
		assert_int_equal(pthread_create(&g[i].thread, NULL, get_many, &g[i]), 0);
	}
	for (unsigned i = 0; i < STARVED; i++) {
		pthread_join(g[i].thread, NULL);
	}
	assert_int_equal(stat_of(slow_arena).failed, 0);
	stop_and_free(slow_arena);
}

/* The refill thread takes more than a wait's time for each call. */
static void test_slow(void **state)
{
	check_nobody_fails(be_slow, EACH_SLOW);
}

/* ... or gets hardly any CPU: for each there are six threads more, and it is the last of all. */
static void test_starved(void **state)
{
	pthread_t threads[BUSY];

	atomic_store(&busy_end, false);
	for (unsigned i = 0; i < BUSY; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, be_busy, NULL), 0);
	check_nobody_fails(be_nice, EACH);
	atomic_store(&busy_end, true);
	for (unsigned i = 0; i < BUSY; i++)
		pthread_join(threads[i], NULL);
}

/* --- populating for oneself --- */

/* What is refused to one getter is known to all, at once. */
static void test_self_refused(void **state)
{
	struct uz_arena *a = refused_arena(1);

	assert_in_range(ms_to_fail(a), UZ_ARENA_SELF_MS, UZ_ARENA_SELF_MS + 2000);
	assert_int_equal(stat_of(a).dry, 1);
	for (unsigned i = 0; i < 100; i++)
		ms_to_fail(a);
	assert_int_equal(stat_of(a).dry, 1); /* so these did not wait */
	assert_int_equal(stat_of(a).self, 0);
	stop_and_free(a);
}

static _Atomic unsigned inside, inside_max;
static atomic_bool hold;

/* The kernel looks for memory for as long as the test says. */
static void stay_inside(void)
{
	unsigned now = atomic_fetch_add(&inside, 1) + 1;

	if (now > atomic_load(&inside_max))
		atomic_store(&inside_max, now);
	while (atomic_load(&hold))
		usleep(1000);
	atomic_fetch_sub(&inside, 1);
}

/* Getters that are stuck in the kernel leave the others, which are told after their wait. */
static void test_populators(void **state)
{
	for (unsigned max = 0; max <= 2; max++) {
		struct uz_arena *a = new_arena();
		unsigned failed = 0, got = 0;
		struct getter g[4];

		uz_arena_set_populators(a, max);
		assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
		uz_arena_stop(a);
		empty(a, 1);
		atomic_store(&inside_max, 0);
		atomic_store(&hold, true);
		atomic_store(&kernel_memory.before, stay_inside);
		for (unsigned i = 0; i < 4; i++)
			start(&g[i], a, 1);
		while (atomic_load(&inside) < max || stat_of(a).failed < 4 - max)
			usleep(1000);
		assert_int_equal(atomic_load(&inside), max);
		assert_int_equal(stat_of(a).failed, 4 - max);
		atomic_store(&hold, false);
		for (unsigned i = 0; i < 4; i++) {
			pthread_join(g[i].thread, NULL);
			failed += g[i].got == -ENOMEM;
			got += g[i].got >= 0;
		}
		assert_int_equal(got, max);
		assert_int_equal(failed, 4 - max);
		assert_int_equal(atomic_load(&inside_max), max);
		/* Those that came out make room for others. */
		if (max)
			assert_true(get_waiting(a, 1) >= 0);
		stop_and_free(a);
		kernel_memory_reset();
	}
}

/* --- what the reserve is --- */

static struct uz_arena *busy_arena;
static uint64_t taken;

/* As fast as units of a page come, they are taken. */
static void take_pages(void)
{
	while (taken < 4 * RESERVE / PAGE && uz_arena_try_get(busy_arena, 1) >= 0)
		taken++;
}

static uint64_t target_pages(struct uz_arena *a, unsigned n)
{
	struct area *area = &a->areas[n - 1];
	uint64_t pages;

	uz_spin_lock(&area->lock);
	pages = (uint64_t)area->target * n;
	uz_spin_unlock(&area->lock);
	return pages;
}

/* The reserve follows demand while demand lasts: in a refill that has no end. */
static void test_demand_lasts(void **state)
{
	busy_arena = new_arena();
	taken = 0;
	atomic_store(&kernel_memory.before, take_pages);
	/* By this thread, until the taking ends. */
	assert_int_equal(uz_arena_start(busy_arena, RESERVE, true, NULL, NULL), 0);
	assert_int_equal(taken, 4 * RESERVE / PAGE);
	assert_true(target_pages(busy_arena, 1) > RESERVE / PAGE / 2);
	stop_and_free(busy_arena);
}

/* What the limit won't let out is not kept ready; what it lets out is. */
static void test_reserve_within_limit(void **state)
{
	const uint64_t limit = RESERVE / PAGE / 2;
	_Atomic unsigned calls = 0;
	struct uz_arena *a = new_arena();
	struct model m;

	uz_arena_set_limit(a, limit * PAGE);
	assert_int_equal(uz_arena_start(a, RESERVE, true, count_surplus, &calls), 0);
	model_init(&m, a);
	/* The few units of each size are more than an even share. */
	assert_in_range(stat_of(a).ready_pages, limit / 2, limit + 4 * 36);
	while (m.pages < limit)
		model_get(&m, 1);
	assert_int_equal(uz_arena_try_get(a, 1), -ENOSPC);
	for (unsigned ms = 0; stat_of(a).ready_pages; ms++) {
		assert_true(ms < 5000);
		/* A call that comes in the middle of a pass is for the next one. */
		if (atomic_exchange(&calls, 0)) {
			while (model_trim(&m, 64, 0))
				;
		}
		usleep(1000);
	}
	/* What comes back stays, for it may be let out again; and a higher limit is used. */
	for (unsigned i = 0; i < 10; i++)
		model_put(&m, 0);
	assert_true(stat_of(a).ready_pages >= 10);
	uz_arena_set_limit(a, 0);
	await_settled(a, RESERVE);
	model_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_try_get, reset),
		cmocka_unit_test_setup(test_survey, reset),
		cmocka_unit_test_setup(test_kicks, reset),
		cmocka_unit_test_setup(test_nobody_spins, reset),
		cmocka_unit_test_setup(test_vain, reset),
		cmocka_unit_test_setup(test_wait_holds_no_charge, reset),
		cmocka_unit_test_setup(test_stopped, reset),
		cmocka_unit_test_setup(test_slow, reset),
		cmocka_unit_test_setup(test_starved, reset),
		cmocka_unit_test_setup(test_self_refused, reset),
		cmocka_unit_test_setup(test_populators, reset),
		cmocka_unit_test_setup(test_demand_lasts, reset),
		cmocka_unit_test_setup(test_reserve_within_limit, reset),
	};

	return cmocka_run_group_tests_name("arena, dry", tests, NULL, NULL);
}

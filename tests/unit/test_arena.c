/* SPDX-License-Identifier: MIT
 *
 * The arena: units, the reserve and the limit; what goes back to the kernel.
 *
 * Only the main thread may use cmocka's assertions; the others count their complaints.
 */
#include "arena_fixture.h"

#include <pthread.h>
#include <sys/mount.h>

/* --- get, put and trim against a model --- */

static void test_units(void **state)
{
	struct uz_arena *a = started_arena();
	struct model m;

	model_init(&m, a);
	await_settled(a, RESERVE);
	for (unsigned round = 0; round < 40; round++) {
		unsigned puts = round % 2 ? 70 : 30; /* in a hundred: shrink and grow in turns */

		for (unsigned i = 0; i < 1000; i++) {
			if (m.nheld && (below(100) < puts || m.nheld == HELD_MAX))
				model_put(&m, below(m.nheld));
			else
				model_get(&m, 1 + below(SIZES));
			if (below(50) == 0)
				model_trim(&m, below(65), below(2) * 50);
			model_check(&m);
		}
		if (below(4) == 0) {
			uz_arena_reset_max(a);
			m.max = m.pages;
		}
		await_settled(a, RESERVE);
	}
	for (unsigned i = 0; i < m.nheld; i++)
		assert_true(stamped(a, m.held[i]));
	model_done(&m);
}

/* All that was used goes back to the kernel, down to the reserve; what it will not have stays
 * ready. */
static void test_trim(void **state)
{
	_Atomic unsigned calls = 0;
	struct uz_arena *a = new_arena();
	struct model m;
	uint64_t before;

	assert_int_equal(uz_arena_start(a, RESERVE, true, count_surplus, &calls), 0);
	model_init(&m, a);
	for (unsigned round = 0; round < 3; round++) {
		while (m.nheld < HELD_MAX)
			model_get(&m, 1 + m.nheld % SIZES);
		calls = 0; /* as some sizes were more in demand than others */
		while (m.nheld)
			model_put(&m, below(m.nheld));
		assert_true(calls > 0);
		await_settled(a, RESERVE);

		before = stat_of(a).ready_pages;
		while (model_trim(&m, 64, 100))
			;
		assert_true(stat_of(a).ready_pages >= before);
		await_settled(a, RESERVE);

		for (unsigned n = 1; n <= SIZES; n++) {
			model_get(&m, n);
			model_put(&m, 0);
		}
		while (model_trim(&m, 64, 0))
			;
		await_settled(a, RESERVE);
		/* Surplus begins above 3/2 of the reserve. */
		assert_in_range(stat_of(a).ready_pages, 0, RESERVE / PAGE * 3 / 2 + SIZES * SIZES);
		calls = 0;
	}
	model_done(&m);
}

static void put_number(struct model *m, unsigned n, uint32_t number)
{
	unsigned i = 0;

	while (m->held[i].npages != n || m->held[i].number != number)
		assert_true(++i < m->nheld);
	model_put(m, i);
}

static void put_row(struct model *m, unsigned n, uint32_t from, uint32_t to, uint32_t step)
{
	for (uint32_t number = from; number < to; number += step)
		put_number(m, n, number);
}

/* Take all that is surplus, which is this, from the top down. */
static void assert_trims(struct model *m, const struct uz_extent *expected, unsigned count)
{
	struct uz_extent e[64];

	assert_in_range(uz_arena_trim_begin(m->arena, e, 64), count, count);
	for (unsigned i = 0; i < count; i++) {
		assert_memory_equal(&e[i], &expected[i], sizeof(e[i]));
		assert_int_equal(punch(m->arena, &e[i]), 0);
		uz_arena_trim_end(m->arena, &e[i], true);
	}
	assert_int_equal(uz_arena_trim_begin(m->arena, e, 64), 0);
}

/* Neighbours leave in one extent, but not those that are neighbours only by number. What has left
 * before is no obstacle between those that leave now. */
static void test_trim_extents(void **state)
{
	enum { FIRST = 600, ALL = 1000 }; /* the reserve is below the first */
	struct uz_extent fifth[50];
	struct model m;

	model_init(&m, new_arena());
	assert_int_equal(uz_arena_start(m.arena, RESERVE, true, NULL, NULL), 0);
	for (unsigned n = 1; n <= 3; n++) {
		for (unsigned i = 0; i < ALL; i++)
			model_get(&m, n);
	}
	uz_arena_stop(m.arena); /* no refill comes between */
	while (model_trim(&m, 64, 0))
		; /* of sizes that have not been asked for */
	for (unsigned n = 1; n <= 3; n++) {
		while (m.arena->areas[n - 1].nready > 0)
			model_get(&m, n);
		put_row(&m, n, 0, m.arena->areas[n - 1].target, 1);
	}
	for (unsigned n = 1; n <= 3; n++)
		put_row(&m, n, FIRST + n * 50, FIRST + n * 50 + 250, 1);
	assert_trims(&m,
		     (struct uz_extent[]){
			     {1, FIRST + 50, 250}, {2, FIRST + 100, 250}, {3, FIRST + 150, 250}},
		     3);
	for (unsigned n = 1; n <= 3; n++)
		assert_int_equal(m.arena->areas[n - 1].nready, m.arena->areas[n - 1].target);
	model_done(&m);

	/* 250 units once more, every fifth of them first. */
	model_init(&m, new_arena());
	assert_int_equal(uz_arena_start(m.arena, MIB / 4, true, NULL, NULL), 0);
	for (unsigned i = 0; i < ALL; i++)
		model_get(&m, 1);
	uz_arena_stop(m.arena);
	while (model_trim(&m, 64, 0))
		;
	while (m.arena->areas[0].nready > 0)
		model_get(&m, 1);
	put_row(&m, 1, 0, m.arena->areas[0].target, 1);
	put_row(&m, 1, FIRST, FIRST + 250, 5);
	for (unsigned i = 0; i < 50; i++)
		fifth[i] = (struct uz_extent){1, FIRST + 245 - 5 * i, 1};
	assert_trims(&m, fifth, 50);
	for (unsigned i = 1; i < 5; i++)
		put_row(&m, 1, FIRST + i, FIRST + 250, 5);
	assert_trims(&m, &(struct uz_extent){1, FIRST + 1, 249}, 1);
	model_done(&m);
}

/* However refilling and putting interleave, surplus is not left without anyone's being told. */
static void test_surplus_is_told(void **state)
{
	const uint64_t reserve = 16 * MIB; /* refilled in large, slow batches */
	uint64_t end = uz_now_ns() + 2 * UZ_NSEC_PER_SEC;
	_Atomic unsigned calls = 0;
	struct uz_arena *a = new_arena();
	struct model m;

	assert_int_equal(uz_arena_start(a, reserve, true, count_surplus, &calls), 0);
	model_init(&m, a);
	while (uz_now_ns() < end) {
		for (unsigned i = 40 + below(60); i > 0; i--)
			model_get(&m, 8);
		/* Meet the refill thread at one point or another of its work. */
		for (uint64_t from = uz_now_ns(), ns = below(100000); uz_now_ns() - from < ns;)
			;
		while (m.nheld)
			model_put(&m, m.nheld - 1);
		if (!calls) {
			await_settled(a, reserve);
			usleep(2000); /* the refill thread may have it on its tongue */
		}
		if (!calls) {
			assert_int_equal(model_trim(&m, 64, 0), 0);
		}
		/* Told once is told until the next look. */
		calls = 0;
		while (model_trim(&m, 64, 0))
			;
	}
	model_done(&m);
}

/* --- the limit --- */

static void test_limit(void **state)
{
	struct uz_arena *a = started_arena();
	struct model m;

	model_init(&m, a);
	uz_arena_set_limit(a, 100 * PAGE + PAGE - 1);
	while (m.pages < 96)
		model_get(&m, 8);
	assert_int_equal(get_waiting(a, 5), -ENOSPC);
	model_get(&m, 3);
	assert_int_equal(get_waiting(a, 2), -ENOSPC);
	model_get(&m, 1);
	for (unsigned n = 1; n <= SIZES; n++)
		assert_int_equal(get_waiting(a, n), -ENOSPC);
	model_check(&m);

	uz_arena_set_limit(a, 50 * PAGE); /* lowered: what is used stays */
	model_check(&m);
	while (m.pages > 50) {
		assert_int_equal(get_waiting(a, 1), -ENOSPC);
		model_put(&m, 0);
	}
	while (m.pages < 50)
		model_get(&m, 1);
	assert_int_equal(get_waiting(a, 1), -ENOSPC);

	uz_arena_set_limit(a, 0);
	while (m.pages < 2000)
		model_get(&m, 1 + below(SIZES));
	model_check(&m);
	model_done(&m);
}

struct too_much {
	struct uz_arena *arena;
	atomic_bool stop;
	_Atomic unsigned complaints;
};

static void *ask_too_much(void *arg)
{
	struct too_much *t = arg;

	while (!atomic_load(&t->stop)) {
		if (get_waiting(t->arena, 8) != -ENOSPC)
			atomic_fetch_add(&t->complaints, 1);
	}
	return NULL;
}

/* What one thread is refused does not count against another. */
static void test_limit_is_exact(void **state)
{
	struct too_much t = {.arena = started_arena()};
	uint64_t end = uz_now_ns() + UZ_NSEC_PER_SEC / 2;
	pthread_t threads[2];
	struct model m;

	model_init(&m, t.arena);
	uz_arena_set_limit(t.arena, 100 * PAGE);
	while (m.pages < 95)
		model_get(&m, 5);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_too_much, &t), 0);
	for (int64_t unit = 0; unit >= 0 && uz_now_ns() < end;) {
		unit = get_waiting(t.arena, 1);
		if (unit >= 0)
			uz_arena_put(t.arena, 1, &(uint32_t){(uint32_t)unit}, 1);
		else
			atomic_fetch_add(&t.complaints, 1);
	}
	atomic_store(&t.stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(t.complaints, 0);
	model_done(&m);
}

/* --- a dry reserve --- */

#define GETTERS	    6
#define GETTER_KEEP 1500 /* units */

struct getter {
	struct uz_arena *arena;
	struct rng rng;
	unsigned npages; /* 0: any */
	unsigned failed, complaints;
	struct unit held[GETTER_KEEP];
	unsigned nheld;
};

static void *get_and_keep(void *arg)
{
	struct getter *g = arg;

	while (g->nheld + g->failed < GETTER_KEEP) {
		unsigned n = g->npages ? g->npages : 1 + rng_next(&g->rng) % SIZES;
		int64_t got = get_waiting(g->arena, n);
		struct unit u = {n, (uint32_t)got};

		if (got >= 0) {
			stamp(g->arena, u);
			g->held[g->nheld++] = u;
		} else if (got == -ENOMEM) {
			g->failed++;
		} else {
			g->complaints++;
			break;
		}
	}
	return NULL;
}

static void *check_and_put(void *arg)
{
	struct getter *g = arg;

	while (g->nheld) {
		struct unit u = g->held[--g->nheld];

		if (!stamped(g->arena, u))
			g->complaints++;
		uz_arena_put(g->arena, u.npages, &u.number, 1);
	}
	return NULL;
}

static void run_getters(struct getter *getters, void *(*fn)(void *arg))
{
	pthread_t threads[GETTERS];

	for (unsigned i = 0; i < GETTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, &getters[i]), 0);
	for (unsigned i = 0; i < GETTERS; i++)
		pthread_join(threads[i], NULL);
}

/* Faster than the refill thread: everyone gets units of his own. */
static void test_dry(void **state)
{
	static struct getter getters[GETTERS];
	struct uz_arena *a = started_arena();
	uint64_t pages = 0;
	unsigned failed = 0;

	for (unsigned i = 0; i < GETTERS; i++)
		getters[i] = (struct getter){.arena = a, .rng = {.state = i}, .npages = i % 3 * 4};
	run_getters(getters, get_and_keep);
	for (unsigned i = 0; i < GETTERS; i++) {
		failed += getters[i].failed;
		for (unsigned k = 0; k < getters[i].nheld; k++)
			pages += getters[i].held[k].npages;
	}
	assert_int_equal(stat_of(a).used_pages, pages);
	assert_in_range(failed, 0, GETTERS * GETTER_KEEP / 100); /* there is memory for all */
	assert_true(stat_of(a).dry > 0);
	assert_int_equal(stat_of(a).failed, failed);
	await_settled(a, RESERVE);

	run_getters(getters, check_and_put);
	for (unsigned i = 0; i < GETTERS; i++)
		assert_int_equal(getters[i].complaints, 0);
	assert_int_equal(stat_of(a).used_pages, 0);
	stop_and_free(a);
}

struct glutton {
	struct uz_arena *arena;
	atomic_bool sated;
};

static void *take_single_pages(void *arg)
{
	struct glutton *g = arg;

	for (unsigned i = 0; i < 15000 && !atomic_load(&g->sated); i++)
		get_waiting(g->arena, 1);
	atomic_store(&g->sated, true);
	return NULL;
}

/* Units of one size that are taken as fast as they are refilled do not hold up those of another. */
static void test_dry_elsewhere(void **state)
{
	struct glutton g = {.arena = new_arena()};
	pthread_t threads[2];
	unsigned got = 0;

	assert_int_equal(uz_arena_start(g.arena, 8 * RESERVE, true, NULL, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_single_pages, &g), 0);
	while (got < 1000 && !atomic_load(&g.sated))
		got += get_waiting(g.arena, SIZES) >= 0;
	atomic_store(&g.sated, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(got, 1000);
	stop_and_free(g.arena);
}

/* An arena on a tmpfs that holds no more than size bytes; NULL: no right to mount one. */
static struct uz_arena *cramped_arena(const char *size)
{
	struct uz_arena *a = new_arena(), *b = NULL;
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), mnt = -1, fd = -1;
	struct uz_superblock sb;
	struct stat st;

	if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) == 0 &&
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mnt >= 0)
		fd = openat(mnt, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0) {
		assert_int_equal(pread(uz_arena_fd(a), &sb, sizeof(sb), 0), sizeof(sb));
		assert_int_equal(pwrite(fd, &sb, sizeof(sb), 0), sizeof(sb));
		assert_int_equal(fstat(uz_arena_fd(a), &st), 0);
		assert_int_equal(ftruncate(fd, st.st_size), 0);
		assert_int_equal(uz_arena_attach(fd, &b), 0);
	}
	close(fd);
	close(mnt);
	close(fs);
	uz_arena_free(a);
	return b;
}

static void test_no_memory(void **state)
{
	struct uz_arena *a = cramped_arena("8m");
	struct model m;
	uint64_t start, took;
	int64_t got;

	if (!a)
		skip(); /* no CAP_SYS_ADMIN */
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	model_init(&m, a);
	while (m.pages < 3 * MIB / PAGE)
		model_get(&m, 4);
	for (;;) {
		start = uz_now_ns();
		got = get_waiting(a, 4);
		took = (uz_now_ns() - start) / UZ_NSEC_PER_MSEC;
		if (got < 0)
			break;
		model_took(&m, (struct unit){4, (uint32_t)got});
	}
	assert_int_equal(got, -ENOMEM);
	assert_in_range(took, UZ_ARENA_WAIT_MS, UZ_ARENA_WAIT_MS + 500);
	assert_int_equal(stat_of(a).failed, 1);
	assert_int_equal(stat_of(a).used_pages, m.pages);
	assert_true(file_memory(a) >= 7 * MIB);

	/* Memory that comes back is found again, by hand and through the kernel. */
	model_put(&m, 0);
	model_get(&m, 4);
	while (m.nheld)
		model_put(&m, 0);
	while (model_trim(&m, 64, 0))
		;
	while (m.pages < 3 * MIB / PAGE)
		model_get(&m, 8);
	assert_int_equal(stat_of(a).failed, 1);
	model_done(&m);
}

static void *get_one(void *arg)
{
	struct getter *g = arg;
	uint64_t start = uz_now_ns();
	int64_t got = get_waiting(g->arena, 4);

	g->failed = (unsigned)((uz_now_ns() - start) / UZ_NSEC_PER_MSEC);
	if (got >= 0)
		g->held[g->nheld++] = (struct unit){4, (uint32_t)got};
	return NULL;
}

/* A getter that waits for a unit has the next that is put back, at once. */
static void test_put_wakes(void **state)
{
	static struct getter g;
	struct uz_arena *a = cramped_arena("8m");
	struct model m;
	pthread_t thread;
	int64_t got;

	if (!a)
		skip(); /* no CAP_SYS_ADMIN */
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	model_init(&m, a);
	while ((got = get_waiting(a, 4)) >= 0)
		model_took(&m, (struct unit){4, (uint32_t)got});
	g.arena = a;
	/* A busy machine may take its time; not every time. */
	for (unsigned i = 0, ms = UZ_ARENA_WAIT_MS; ms > UZ_ARENA_WAIT_MS / 2; i++) {
		assert_true(i < 10);
		model_put(&m, 0); /* memory comes: the next getter waits again */
		model_get(&m, 4);
		assert_int_equal(pthread_create(&thread, NULL, get_one, &g), 0);
		usleep(UZ_ARENA_WAIT_MS / 10 * 1000);
		model_put(&m, 0);
		pthread_join(thread, NULL);
		assert_int_equal(g.nheld, 1);
		model_took(&m, g.held[--g.nheld]);
		ms = g.failed;
	}
	m.max = stat_of(a).used_max;
	model_done(&m);
}

/* --- the reserve, shared out by demand --- */

static uint64_t wanted_pages(struct uz_arena *a, unsigned n)
{
	struct area *ar = uz_area_of(a, n);
	uint64_t pages;

	uz_spin_lock(&ar->lock);
	pages = (uint64_t)ar->target * n;
	uz_spin_unlock(&ar->lock);
	return pages;
}

/* Most of the reserve is of the size that has been asked for lately. */
static void test_demand(void **state)
{
	static const unsigned sizes[] = {1, 8, 3};
	const uint64_t reserve = 4 * MIB;
	struct uz_arena *a;
	struct model m;

	assert_int_equal(uz_arena_new(1024 * MIB, &a), 0);
	assert_int_equal(uz_arena_start(a, reserve, true, NULL, NULL), 0);
	model_init(&m, a);
	for (unsigned n = 1; n <= SIZES; n++)
		assert_in_range(wanted_pages(a, n), reserve / PAGE / SIZES - 2 * SIZES,
				reserve / PAGE / SIZES + 2 * SIZES);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t sum = 0;

		/* The more often the thread looks, the sooner it knows. */
		for (unsigned ms = 0; wanted_pages(a, sizes[i]) < reserve / PAGE / 2; ms++) {
			assert_true(ms < 5000);
			for (uint64_t pages = 0; pages < reserve / PAGE; pages += sizes[i])
				model_get(&m, sizes[i]);
			while (m.nheld)
				model_put(&m, 0);
			uz_arena_kick_refill(a);
			usleep(1000);
		}
		for (unsigned n = 1; n <= SIZES; n++) {
			assert_true(wanted_pages(a, n) >= 4 * n);
			sum += wanted_pages(a, n);
		}
		assert_in_range(sum, 0, reserve / PAGE);
		while (model_trim(&m, 64, 0))
			;
		await_settled(a, reserve);
	}
	model_done(&m);
}

/* Private memory of units: zeroed, populated with them, the second call's in place of the first's.
 */
static void test_unit_meta(void **state)
{
	struct uz_arena *a = new_arena();
	uint32_t nunits = uz_arena_nunits(a, 3);
	uint64_t before = stat_of(a).meta_bytes;
	unsigned char *meta = uz_arena_alloc_unit_meta(a, 3, 24);

	assert_non_null(meta);
	memset(meta, 0xff, (size_t)nunits * 24);
	meta = uz_arena_alloc_unit_meta(a, 3, 48);
	assert_non_null(meta);
	for (size_t i = 0; i < (size_t)nunits * 48; i += 48)
		assert_int_equal(meta[i] | meta[i + 47], 0);
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	assert_true(stat_of(a).meta_bytes > before);
	stop_and_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_units),	     cmocka_unit_test(test_trim),
		cmocka_unit_test(test_trim_extents), cmocka_unit_test(test_surplus_is_told),
		cmocka_unit_test(test_limit),	     cmocka_unit_test(test_limit_is_exact),
		cmocka_unit_test(test_dry),	     cmocka_unit_test(test_dry_elsewhere),
		cmocka_unit_test(test_no_memory),    cmocka_unit_test(test_put_wakes),
		cmocka_unit_test(test_demand),	     cmocka_unit_test(test_unit_meta),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

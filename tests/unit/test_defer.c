/* SPDX-License-Identifier: MIT
 *
 * The deferred free: that each value is drained exactly once whatever buffers, producers and the
 * drain thread do.
 *
 * Only the main thread may use cmocka's assertions; the others count their complaints.
 */
#include "defer_fixture.h"

#include <malloc.h>
#include <pthread.h>

/* --- the simple things --- */

static void test_new_refuses(void **state)
{
	struct uz_defer *const untouched = (struct uz_defer *)0x1, *d = untouched;
	struct uz_defer_config good = {.size = sizeof(good),
				       .ops = &ops,
				       .spares = 1,
				       .max_age_ms = 1},
			       c;

	c = good;
	c.ops = NULL;
	assert_int_equal(uz_defer_new(&c, &d), -EINVAL);
	c = good;
	c.spares = 0;
	assert_int_equal(uz_defer_new(&c, &d), -EINVAL);
	c = good;
	c.max_age_ms = 0;
	assert_int_equal(uz_defer_new(&c, &d), -EINVAL);
	c = good;
	c.size = 0; /* forgotten */
	assert_int_equal(uz_defer_new(&c, &d), -EINVAL);
	c = good;
	c.ops = &(struct uz_defer_ops){.push = push, .drain = drain};
	assert_int_equal(uz_defer_new(&c, &d), -EINVAL);
	assert_ptr_equal(d, untouched);
	uz_defer_free(NULL);
	uz_defer_producer_free(NULL);
}

/* --- programs that were built with another version's headers --- */

static void finish_never(void *context)
{
	atomic_fetch_add(&books.complaints, 1);
}

/* One that doesn't know of the last fields. */
static void test_older_program(void **state)
{
	const struct uz_defer_ops old_ops = {.size = offsetof(struct uz_defer_ops, finish),
					     .push = push,
					     .drain = drain,
					     .finish = finish_never};
	struct uz_defer_config old = {.size = sizeof(old),
				      .ops = &old_ops,
				      .context = &books,
				      .spares = 2,
				      .max_age_ms = 10};
	struct uz_defer_stat st;
	struct uz_defer_producer *p;
	struct uz_defer *d;

	open_books(PER_PAGE, false);
	assert_int_equal(uz_defer_new(&old, &d), 0);
	p = new_producer(d);
	assert_true(uz_defer_push(p, 0));
	uz_defer_flush(d);
	memset(&st, 0xee, sizeof(st));
	st.size = offsetof(struct uz_defer_stat, fallbacks);
	uz_defer_get_stat(d, &st);
	assert_int_equal(st.size, offsetof(struct uz_defer_stat, fallbacks));
	assert_int_equal(st.drained, 1);
	assert_true(st.fallbacks == UINT64_C(0xeeeeeeeeeeeeeeee)); /* not its memory */
	uz_defer_producer_free(p);
	uz_defer_free(d);
	close_books(1);

	/* A field that it lacks is 0, also where that can't be. */
	old.size = offsetof(struct uz_defer_config, max_age_ms);
	assert_int_equal(uz_defer_new(&old, &d), -EINVAL);
}

/* One that knows of more fields: they may be there, but not be used. */
static void test_newer_program(void **state)
{
	struct {
		struct uz_defer_ops ops;
		void *more;
	} new_ops = {.ops = ops};
	struct {
		struct uz_defer_config config;
		uint64_t more[2];
	} new = {.config = {.ops = &new_ops.ops, .spares = 1, .max_age_ms = 1}};
	struct {
		struct uz_defer_stat stat;
		uint64_t more[2];
	} st;
	struct uz_defer *const untouched = (struct uz_defer *)0x1, *d = untouched;

	new_ops.ops.size = sizeof(new_ops);
	new.config.size = sizeof(new);
	new.more[1] = 1;
	assert_int_equal(uz_defer_new(&new.config, &d), -E2BIG);
	new.more[1] = 0;
	new_ops.more = &st;
	assert_int_equal(uz_defer_new(&new.config, &d), -E2BIG);
	new_ops.more = NULL;
	assert_ptr_equal(d, untouched);
	assert_int_equal(uz_defer_new(&new.config, &d), 0);
	memset(&st, 0xee, sizeof(st));
	st.stat.size = sizeof(st);
	uz_defer_get_stat(d, &st.stat);
	assert_int_equal(st.stat.size, sizeof(st.stat));
	assert_int_equal(st.stat.spares, 1);
	assert_int_equal(st.more[0] | st.more[1], 0);
	uz_defer_free(d);
}

/* --- buffers --- */

/* Every capacity of a buffer, and both ways of saying that it is full. */
static void test_capacities(void **state)
{
	static const unsigned capacities[] = {1, 2, 3, 7, 64, PER_PAGE - 1, PER_PAGE};

	for (unsigned i = 0; i < 2 * sizeof(capacities) / sizeof(capacities[0]); i++) {
		struct uz_defer_producer *p;
		uint64_t value = 0, refused = 0;
		struct uz_defer *d;

		open_books(capacities[i / 2], i % 2);
		d = new_defer(2, 10);
		p = new_producer(d);
		while (value < 3000) {
			if (uz_defer_push(p, value))
				value++;
			else
				refused++;
			if (value % 700 == 0)
				uz_defer_flush(d);
		}
		uz_defer_flush(d);
		assert_int_equal(stat_of(d).pushed, 3000);
		assert_int_equal(stat_of(d).drained, 3000);
		assert_int_equal(stat_of(d).fallbacks, refused);
		assert_int_equal(stat_of(d).producers, 1);
		assert_int_equal(stat_of(d).spares, 2);
		uz_defer_producer_free(p);
		uz_defer_free(d);
		close_books(3000);
	}
}

static void test_free_drains(void **state)
{
	struct uz_defer_producer *p[5];
	struct uz_defer *d;

	open_books(PER_PAGE, false);
	d = new_defer(16, 1000000);
	for (unsigned i = 0; i < 5; i++)
		p[i] = new_producer(d);
	for (uint64_t v = 0; v < 5000; v++)
		assert_true(uz_defer_push(p[v % 5], v));
	for (unsigned i = 0; i < 5; i++)
		uz_defer_producer_free(p[i]);
	uz_defer_free(d);
	close_books(5000);
}

/* --- many producers --- */

struct worker {
	struct uz_defer *d;
	_Atomic uint64_t *next; /* value */
	uint64_t end;
	uint64_t refused;
};

/* Values are drawn in small lots, so that every buffer has a mixture. */
static void *push_values(void *arg)
{
	struct worker *w = arg;
	struct uz_defer_producer *p;
	uint64_t lot;

	if (uz_defer_producer_new(w->d, &p))
		return w;
	while ((lot = atomic_fetch_add(w->next, 16)) < w->end) {
		for (uint64_t v = lot; v < lot + 16; v++) {
			while (!uz_defer_push(p, v)) {
				w->refused++;
				sched_yield();
			}
		}
	}
	uz_defer_producer_free(p);
	return NULL;
}

static void test_many_producers(void **state)
{
	enum { THREADS = 8 };
	static const struct {
		unsigned capacity, spares;
		bool queued;
		uint64_t values;
	} cases[] = {
		{PER_PAGE, 64, false, VALUES / 2}, {PER_PAGE, 1, false, VALUES / 8},
		{3, 8, true, VALUES / 32},	   {1, 2, true, VALUES / 64},
		{1, 1, false, VALUES / 64},
	};

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		uint64_t values = SANITIZED ? cases[c].values / 8 : cases[c].values, refused = 0;
		struct worker workers[THREADS];
		_Atomic uint64_t next = 0;
		pthread_t threads[THREADS];
		struct uz_defer_stat st;
		struct uz_defer *d;
		void *failed;

		open_books(cases[c].capacity, cases[c].queued);
		d = new_defer(cases[c].spares, 1);
		for (unsigned i = 0; i < THREADS; i++) {
			workers[i] = (struct worker){.d = d, .next = &next, .end = values};
			assert_int_equal(
				pthread_create(&threads[i], NULL, push_values, &workers[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++) {
			pthread_join(threads[i], &failed);
			assert_null(failed);
			refused += workers[i].refused;
		}
		uz_defer_flush(d);
		st = stat_of(d);
		assert_int_equal(st.pushed, values);
		assert_int_equal(st.drained, values);
		assert_int_equal(st.fallbacks, refused);
		assert_int_equal(st.producers, 0);
		assert_in_range(st.runs, values / PER_PAGE, values);
		uz_defer_free(d);
		close_books(values);
	}
}

/* --- ageing --- */

static int by_value(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return a < b ? -1 : a > b;
}

/* The machine may be busy with other things: each wait is generous, their median is not. */
static void check_age(unsigned max_age_ms)
{
	enum { TIMES = 15 };
	uint64_t waits[TIMES], value = 0;
	struct uz_defer *d;
	struct uz_defer_producer *p;

	open_books(PER_PAGE, false);
	d = new_defer(4, max_age_ms);
	p = new_producer(d);
	for (unsigned i = 0; i < TIMES; i++) {
		uint64_t start;

		/* Asleep without a timer, about to be, or still ticking. */
		usleep(max_age_ms * 1000 * (i % 3));
		start = uz_now_ns();
		assert_true(uz_defer_push(p, value++));
		assert_true(await_total(value, max_age_ms + 1000));
		waits[i] = uz_now_ns() - start;
	}
	qsort(waits, TIMES, sizeof(waits[0]), by_value);
	assert_true(waits[TIMES / 2] < (max_age_ms + 10) * UZ_NSEC_PER_MSEC);
	uz_defer_producer_free(p);
	uz_defer_free(d);
	close_books(TIMES);
}

static void test_age(void **state)
{
	check_age(1);
	check_age(10);
	check_age(30);
}

/* Nobody's full buffers keep another's value from growing old. */
static void test_age_while_busy(void **state)
{
	struct uz_defer_producer *quiet, *busy;
	struct uz_defer *d;
	uint64_t value = 1, end;

	open_books(16, false);
	d = new_defer(64, 20);
	quiet = new_producer(d);
	busy = new_producer(d);
	assert_true(uz_defer_push(quiet, 0));
	end = uz_now_ns() + UZ_NSEC_PER_SEC;
	while (!books.seen[0] && uz_now_ns() < end && value < VALUES)
		value += uz_defer_push(busy, value);
	assert_int_equal(books.seen[0], 1);
	uz_defer_flush(d);
	uz_defer_producer_free(quiet);
	uz_defer_producer_free(busy);
	uz_defer_free(d);
	close_books(value);
}

/* With nothing pending the drain thread sleeps and is not woken, not even by a timer. */
static void test_idle(void **state)
{
	struct uz_defer *d;
	struct uz_defer_producer *p;

	open_books(PER_PAGE, false);
	d = new_defer(4, 10);
	p = new_producer(d);
	for (uint64_t v = 0; v < 3; v++) {
		unsigned long before;

		assert_true(uz_defer_push(p, v));
		if (v % 2)
			uz_defer_flush(d);
		assert_true(await_total(v + 1, 1000));
		await_sleep(d);
		before = run_time(books.tid);
		assert_true(before > 0);
		usleep(300 * 1000);
		assert_int_equal(run_time(books.tid), before);
	}
	uz_defer_producer_free(p);
	uz_defer_free(d);
	close_books(3);
}

/* Wait for the moment at which the drain thread goes to sleep without a timer: until it says so, or
 * about as long as that takes, and a bit longer. */
static void await_idle(struct uz_defer *d, bool until_said, uint64_t then_ns)
{
	uint64_t end = uz_now_ns() + (DRAIN_LINGER + 1) * UZ_NSEC_PER_MSEC;

	while (atomic_load(&d->state) != DRAIN_IDLE && (until_said || uz_now_ns() < end))
		;
	for (uint64_t from = uz_now_ns(); uz_now_ns() - from < then_ns;)
		;
}

/* A push at the moment the thread falls asleep without a timer is not missed. The thread takes a
 * while for its last look round, as it has many producers to look at, the latest first. With every
 * other push a buffer is full, and leaves its producer at that very moment. */
static void test_push_against_idle(void **state)
{
	enum { IDLERS = 2000 };
	static struct uz_defer_producer *idlers[IDLERS];
	uint64_t end = uz_now_ns() + 4 * UZ_NSEC_PER_SEC, value = 0;
	struct uz_defer_producer *p;
	struct uz_defer *d;

	open_books(2, true);
	d = new_defer(8, 1);
	for (unsigned i = 0; i < IDLERS; i++)
		idlers[i] = new_producer(d);
	p = new_producer(d);
	for (uint64_t now = uz_now_ns(); now < end; now = uz_now_ns()) {
		while (!uz_defer_push(p, value))
			;
		value++;
		while (books.total < value) {
			if (uz_now_ns() - now > 5 * UZ_NSEC_PER_SEC)
				fail_msg("value %" PRIu64 " is forgotten", value - 1);
		}
		await_idle(d, value % 4 < 2, value * 7919 % 300000);
	}
	for (unsigned i = 0; i < IDLERS; i++)
		uz_defer_producer_free(idlers[i]);
	uz_defer_producer_free(p);
	uz_defer_free(d);
	close_books(value);
}

/* A full buffer wakes nobody as long as half of the spare ones are left; then it does. */
static void test_wakes_when_low(void **state)
{
	enum { SPARES = 8, CAPACITY = 16 };
	struct uz_defer_producer *p;
	struct uz_defer *d;
	uint64_t value = 0;

	open_books(CAPACITY, false);
	d = new_defer(SPARES, 1000000);
	p = new_producer(d);
	assert_true(uz_defer_push(p, value++)); /* it has its timer from here on */
	while (atomic_load(&d->state) != DRAIN_TICKING)
		usleep(100);
	while (stat_of(d).spares > SPARES / 2 + 1)
		assert_true(uz_defer_push(p, value++));
	usleep(50 * 1000);
	assert_int_equal(books.total, 0);
	while (stat_of(d).spares > SPARES / 2)
		assert_true(uz_defer_push(p, value++));
	assert_true(await_total(value - 1, 1000));
	uz_defer_producer_free(p);
	uz_defer_free(d);
	close_books(value);
}

/* --- interruptions --- */

static void stay_on_cpu0(void)
{
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	pthread_setaffinity_np(pthread_self(), sizeof(cpu), &cpu);
}

/* Take CPU 0 from those who stay on it, between any two instructions, until the time at arg. */
static void *interrupt(void *arg)
{
	uint64_t end_ns = *(uint64_t *)arg;

	stay_on_cpu0();
	while (uz_now_ns() < end_ns) {
		uint64_t end = uz_now_ns() + 100 * 1000;

		while (uz_now_ns() < end)
			;
		usleep(50);
	}
	return NULL;
}

/* --- flush --- */

#define FLUSH_PRODUCERS 3
#define WINDOW		(1u << 18) /* more than can be pending of one producer */

/* A producer that says, after each push, how far it is; and how far the drain is without a gap. */
struct track {
	struct uz_defer *d;
	unsigned id;
	uint64_t end_ns;
	_Atomic uint64_t pushed;
	_Atomic uint64_t drained;
	uint8_t done[WINDOW];
	_Atomic unsigned complaints;
};

static struct track tracks[FLUSH_PRODUCERS];

/* What has been drained, and waits for finish. */
static uint64_t put_off[WINDOW];
static unsigned nput_off;

static void drain_track(void *context, const void *buf, unsigned first, unsigned count)
{
	memcpy(put_off + nput_off, (const uint64_t *)buf + first, count * sizeof(*put_off));
	nput_off += count;
}

static void finish_track(void *context)
{
	for (unsigned i = 0; i < nput_off; i++) {
		uint64_t value = put_off[i];
		struct track *t = &tracks[value >> 56];
		uint64_t n = value << 8 >> 8, next = atomic_load(&t->drained);

		if (n < next || n - next >= WINDOW || t->done[n % WINDOW]) {
			atomic_fetch_add(&t->complaints, 1);
			continue;
		}
		t->done[n % WINDOW] = 1;
		for (; t->done[next % WINDOW]; next++)
			t->done[next % WINDOW] = 0;
		atomic_store(&t->drained, next);
	}
	nput_off = 0;
}

static void *push_track(void *arg)
{
	struct track *t = arg;
	struct uz_defer_producer *p;
	uint64_t n = 0;

	stay_on_cpu0();
	if (uz_defer_producer_new(t->d, &p))
		atomic_fetch_add(&t->complaints, 1);
	else {
		do {
			/* Bursts between which the drain thread may fall asleep. */
			for (unsigned i = 1 + n * 7 % 1000; i > 0; i--) {
				if (uz_defer_push(p, (uint64_t)t->id << 56 | n))
					atomic_store(&t->pushed, ++n);
			}
			if (n % 3 == 0)
				usleep(n % 2000);
		} while (uz_now_ns() < t->end_ns);
		uz_defer_producer_free(p);
	}
	return NULL;
}

static void *flush_tracks(void *arg)
{
	struct track *all = arg;
	unsigned flushes = 0;

	while (uz_now_ns() < all[0].end_ns) {
		uint64_t before[FLUSH_PRODUCERS];

		for (unsigned i = 0; i < FLUSH_PRODUCERS; i++)
			before[i] = atomic_load(&all[i].pushed);
		uz_defer_flush(all[0].d);
		for (unsigned i = 0; i < FLUSH_PRODUCERS; i++) {
			if (atomic_load(&all[i].drained) < before[i])
				atomic_fetch_add(&all[i].complaints, 1);
		}
		if (++flushes % 64 == 0)
			usleep(500);
	}
	return NULL;
}

static void check_flush(unsigned capacity, bool queued)
{
	static const struct uz_defer_ops track_ops = {.size = sizeof(track_ops),
						      .push = push,
						      .drain = drain_track,
						      .finish = finish_track};
	struct uz_defer_config config = {
		.size = sizeof(config), .ops = &track_ops, .spares = 16, .max_age_ms = 1};
	pthread_t threads[FLUSH_PRODUCERS + 2], noise;
	uint64_t end_ns = uz_now_ns() + UZ_NSEC_PER_SEC / 2;
	struct uz_defer *d;

	open_books(capacity, queued);
	assert_int_equal(uz_defer_new(&config, &d), 0);
	memset(tracks, 0, sizeof(tracks));
	for (unsigned i = 0; i < FLUSH_PRODUCERS; i++) {
		tracks[i].d = d;
		tracks[i].id = i;
		tracks[i].end_ns = end_ns;
	}
	assert_int_equal(pthread_create(&noise, NULL, interrupt, &end_ns), 0);
	for (unsigned i = 0; i < FLUSH_PRODUCERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, push_track, &tracks[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[FLUSH_PRODUCERS + i], NULL, flush_tracks,
						tracks),
				 0);
	pthread_join(noise, NULL);
	for (unsigned i = 0; i < FLUSH_PRODUCERS + 2; i++)
		pthread_join(threads[i], NULL);
	uz_defer_flush(d);
	for (unsigned i = 0; i < FLUSH_PRODUCERS; i++) {
		assert_int_equal(tracks[i].complaints, 0);
		assert_int_equal(tracks[i].drained, tracks[i].pushed);
		assert_true(tracks[i].pushed > 0);
	}
	uz_defer_free(d);
	assert_int_equal(nput_off, 0);
	assert_int_equal(books.complaints, 0);
}

static void test_flush_is_a_barrier(void **state)
{
	check_flush(PER_PAGE, false);
	check_flush(2, false);
	check_flush(1, true);
	check_flush(3, true);
}

/* A flush with a bound gives up; what it asked for is done all the same. */
static void test_flush_within(void **state)
{
	struct uz_defer_producer *blocker;
	struct uz_defer *d;
	uint64_t start;

	open_books(PER_PAGE, false);
	d = new_defer(2, 60000);
	blocker = new_producer(d);
	shut_gate();
	assert_true(uz_defer_push(blocker, 0));
	assert_false(uz_defer_flush_within(d, 0)); /* or the value would wait for its age */
	while (!books.waiting)
		usleep(100);
	assert_true(uz_defer_push(blocker, 1));
	start = uz_now_ns();
	assert_false(uz_defer_flush_within(d, 0));
	assert_false(uz_defer_flush_within(d, 50));
	assert_true(uz_now_ns() - start >= 50 * UZ_NSEC_PER_MSEC);
	open_gate();
	while (stat_of(d).drained < 2)
		usleep(1000);
	assert_true(uz_defer_flush_within(d, 60000));
	uz_defer_producer_free(blocker);
	uz_defer_free(d);
	close_books(2);
}

/* --- an exhausted pool --- */

/* Each producer has a buffer, however many there are and however few spares. */
static void test_own_buffers(void **state)
{
	enum { PRODUCERS = 200 };
	struct uz_defer_producer *p[PRODUCERS], *blocker;
	struct uz_defer *d;
	uint64_t value = 0;

	open_books(PER_PAGE, false);
	d = new_defer(1, 5);
	blocker = new_producer(d);
	for (unsigned i = 0; i < PRODUCERS; i++)
		p[i] = new_producer(d);
	block_drain(blocker, value++);
	for (unsigned i = 0; i < PRODUCERS * PER_PAGE; i++)
		assert_true(uz_defer_push(p[i % PRODUCERS], value++));
	assert_int_equal(stat_of(d).spares, 1);
	open_gate();
	for (unsigned i = 0; i < PRODUCERS; i++)
		uz_defer_producer_free(p[i]);
	uz_defer_producer_free(blocker);
	uz_defer_free(d);
	close_books(value);
}

static void test_exhausted(void **state)
{
	enum { SPARES = 3 };
	struct uz_defer_producer *p, *blocker;
	struct uz_defer *d;
	uint64_t value = 0;

	open_books(PER_PAGE, false);
	d = new_defer(SPARES, 5);
	p = new_producer(d);
	blocker = new_producer(d);
	for (unsigned round = 1; round <= 3; round++) {
		uint64_t start;

		block_drain(blocker, value++);
		start = value;
		while (uz_defer_push(p, value))
			value++;
		/* The producer's own buffer is drained, but not always empty. */
		assert_in_range(value - start, SPARES * PER_PAGE, (SPARES + 1) * PER_PAGE);
		for (unsigned i = 1; i < 100; i++)
			assert_false(uz_defer_push(p, value));
		assert_int_equal(stat_of(d).fallbacks, 100 * round);
		assert_int_equal(stat_of(d).pushed, value);
		assert_int_equal(stat_of(d).spares, 0);
		open_gate();
		uz_defer_flush(d);
		assert_int_equal(books.total, value);
		assert_int_equal(stat_of(d).drained, value);
		assert_int_equal(stat_of(d).spares, SPARES);
		/* And it goes on as before. */
		for (unsigned i = 0; i < SPARES * PER_PAGE; i++)
			assert_true(uz_defer_push(p, value++));
		uz_defer_flush(d);
	}
	uz_defer_producer_free(p);
	uz_defer_producer_free(blocker);
	uz_defer_free(d);
	close_books(value);
}

/* A buffer that became full with UZ_PUSH_FULL_QUEUED when there was no spare: what is in it is
 * drained by a flush, by the timer, or when the next push hands it over. */
enum way { BY_FLUSH, BY_TIMER, BY_PUSH, WAYS };

static void check_stranded(enum way way)
{
	enum { CAPACITY = 4 };
	struct uz_defer_producer *p, *blocker;
	struct uz_defer *d;
	uint64_t value = 0;

	open_books(CAPACITY, true);
	d = new_defer(1, way == BY_TIMER ? 20 : 1000000);
	p = new_producer(d);
	blocker = new_producer(d);
	shut_gate();
	for (unsigned i = 0; i < CAPACITY; i++) /* takes the spare, and blocks the drain */
		assert_true(uz_defer_push(blocker, value++));
	while (!books.waiting)
		usleep(100);
	for (unsigned i = 0; i < CAPACITY; i++)
		assert_true(uz_defer_push(p, value++));
	assert_false(uz_defer_push(p, value));
	assert_int_equal(stat_of(d).pushed, 2 * CAPACITY);
	assert_int_equal(stat_of(d).fallbacks, 1);
	open_gate();

	if (way == BY_FLUSH)
		uz_defer_flush(d);
	if (way == BY_PUSH) {
		while (!uz_defer_push(p, value))
			usleep(100);
		value++;
	}
	assert_true(await_total(2 * CAPACITY, 1000));
	if (way != BY_PUSH)
		assert_true(uz_defer_push(p, value++));
	uz_defer_producer_free(p);
	uz_defer_producer_free(blocker);
	uz_defer_free(d);
	close_books(value);
}

static void test_stranded(void **state)
{
	for (unsigned i = 0; i < 10 * WAYS; i++)
		check_stranded(i % WAYS);
}

/* --- coming and going --- */

/* At once, not when it has aged. */
static void test_producer_free_hands_over(void **state)
{
	struct uz_defer *d;
	uint64_t value = 0;

	open_books(PER_PAGE, false);
	d = new_defer(4, 1000000);
	for (unsigned round = 0; round < 10; round++) {
		struct uz_defer_producer *p = new_producer(d);

		for (unsigned i = 0; i < 3 + round * 100; i++)
			assert_true(uz_defer_push(p, value++));
		uz_defer_producer_free(p);
		assert_true(await_total(value, 1000));
	}
	assert_int_equal(stat_of(d).pushed, value);
	assert_int_equal(stat_of(d).producers, 0);
	uz_defer_free(d);
	close_books(value);
}

static void *come_and_go(void *arg)
{
	struct worker *w = arg;
	struct uz_defer_producer *p;
	uint64_t first = atomic_load(w->next), count = first % 97 * 15;

	if (uz_defer_producer_new(w->d, &p))
		return w;
	first = atomic_fetch_add(w->next, count);
	for (uint64_t v = first; v < first + count; v++) {
		while (!uz_defer_push(p, v))
			sched_yield();
	}
	uz_defer_producer_free(p);
	return NULL;
}

static void test_churn(void **state)
{
	enum { WAVE = 50, SPARES = 16 };
	unsigned waves = SANITIZED ? 30 : 100;
	_Atomic uint64_t next = 1;
	struct worker w = {.next = &next};
	struct mallinfo2 before, after;
	pthread_t threads[WAVE];
	void *failed;

	open_books(PER_PAGE, false);
	before = mallinfo2();
	w.d = new_defer(SPARES, 2);
	for (unsigned wave = 0; wave < waves; wave++) {
		for (unsigned i = 0; i < WAVE; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &w), 0);
		for (unsigned i = 0; i < WAVE; i++) {
			pthread_join(threads[i], &failed);
			assert_null(failed);
		}
		assert_int_equal(stat_of(w.d).producers, 0);
	}
	uz_defer_flush(w.d);
	assert_int_equal(stat_of(w.d).pushed, next - 1);
	/* The buffers of those gone are used again, except while they wait for the drain. */
	assert_in_range(stat_of(w.d).spares, SPARES, SPARES + waves * WAVE / 5);
	uz_defer_free(w.d);
	after = mallinfo2();
	if (!SANITIZED)
		assert_in_range(after.uordblks, 0, before.uordblks + WAVE * 1024);
	atomic_store(&books.seen[0], 1); /* the value that was not used */
	atomic_fetch_add(&books.total, 1);
	close_books(next);
}

/* --- statistics --- */

struct hammer {
	struct uz_defer *d;
	uint64_t end_ns;
	uint64_t pushed;
};

static void drain_nothing(void *context, const void *buf, unsigned first, unsigned count)
{
}

static void *push_all_the_time(void *arg)
{
	struct hammer *h = arg;
	struct uz_defer_producer *p;

	stay_on_cpu0();
	if (uz_defer_producer_new(h->d, &p))
		return h;
	while (uz_now_ns() < h->end_ns) {
		for (unsigned i = 0; i < 64; i++)
			h->pushed += uz_defer_push(p, 0);
	}
	uz_defer_producer_free(p);
	return NULL;
}

/* Whoever looks never sees more drained than pushed, nor a counter that goes back. */
static void test_stat(void **state)
{
	static const struct uz_defer_ops hammer_ops = {
		.size = sizeof(hammer_ops), .push = push, .drain = drain_nothing};
	struct uz_defer_config config = {
		.size = sizeof(config), .ops = &hammer_ops, .spares = 8, .max_age_ms = 1};
	struct hammer h = {.end_ns = uz_now_ns() + UZ_NSEC_PER_SEC};
	struct uz_defer_stat last = {0}, st = {0};
	pthread_t producer, noise;
	unsigned complaints = 0;
	void *failed;

	open_books(PER_PAGE, false);
	assert_int_equal(uz_defer_new(&config, &h.d), 0);
	assert_int_equal(pthread_create(&producer, NULL, push_all_the_time, &h), 0);
	assert_int_equal(pthread_create(&noise, NULL, interrupt, &h.end_ns), 0);
	while (uz_now_ns() < h.end_ns) {
		uz_defer_flush(h.d);
		st = stat_of(h.d);
		complaints += st.drained > st.pushed || st.pushed < last.pushed ||
			      st.drained < last.drained || st.runs < last.runs ||
			      st.fallbacks < last.fallbacks;
		last = st;
	}
	pthread_join(noise, NULL);
	pthread_join(producer, &failed);
	assert_null(failed);
	assert_int_equal(complaints, 0);
	uz_defer_flush(h.d);
	st = stat_of(h.d);
	assert_int_equal(st.pushed, h.pushed);
	assert_int_equal(st.drained, h.pushed);
	uz_defer_free(h.d);
}

/* --- other work for the drain thread --- */

struct chore {
	_Atomic unsigned calls, calls_to_stop;
	_Atomic bool wanted;	   /* the next call is to see this, and to clear it */
	_Atomic uint64_t deadline; /* what the calls return */
	unsigned in_flight;	   /* how often to put off the end */
	unsigned again;		   /* how often to kick while at work */
	struct uz_defer *d;
};

static uint64_t do_chore(void *context, bool stop)
{
	struct chore *c = context;

	atomic_fetch_add(&c->calls, 1);
	if (atomic_exchange(&c->wanted, false))
		atomic_store(&c->deadline, UZ_DRAIN_NEVER);
	if (c->again) {
		c->again--;
		uz_defer_kick(c->d);
	}
	if (!stop)
		return atomic_load(&c->deadline);
	atomic_fetch_add(&c->calls_to_stop, 1);
	return c->in_flight-- ? uz_now_ns() + UZ_NSEC_PER_MSEC : UZ_DRAIN_NEVER;
}

static struct uz_defer *defer_with_chore(struct chore *c, unsigned max_age_ms)
{
	struct uz_defer_config config = {.size = sizeof(config),
					 .ops = &ops,
					 .context = &books,
					 .spares = 4,
					 .max_age_ms = max_age_ms};
	struct uz_defer *d;

	open_books(PER_PAGE, false);
	assert_int_equal(uz_defer_prepare(&config, &d), 0);
	c->d = d;
	assert_true(uz_defer_event_fd(d) >= 0);
	assert_int_equal(uz_defer_start(d, do_chore, c), 0);
	return d;
}

static void await_calls(struct chore *c, unsigned calls)
{
	for (unsigned ms = 0; atomic_load(&c->calls) < calls; ms++) {
		assert_true(ms < 60000);
		usleep(1000);
	}
}

/* A kick is not missed when it comes while the thread is at work; ... */
static void test_work_is_kicked_meanwhile(void **state)
{
	struct chore c = {.deadline = UZ_DRAIN_NEVER, .again = 1000};
	struct uz_defer *d = defer_with_chore(&c, 1000000);

	await_calls(&c, 1001);
	uz_defer_free(d);
}

/* ... nor when it sleeps, or is about to. */
static void test_work_is_kicked(void **state)
{
	struct chore c = {.deadline = UZ_DRAIN_NEVER};
	struct uz_defer *d = defer_with_chore(&c, 1);

	for (unsigned i = 0; i < 2000; i++) {
		uint64_t end = uz_now_ns() + 60 * UZ_NSEC_PER_SEC;

		if (i % 100 == 0)
			await_sleep(d);
		atomic_store(&c.wanted, true);
		uz_defer_kick(d);
		while (atomic_load(&c.wanted))
			assert_true(uz_now_ns() < end);
	}
	uz_defer_free(d);
}

/* It is called at the time it has asked for, although nothing else wakes the thread; and never
 * again when it has asked for nothing. */
static void test_work_has_a_deadline(void **state)
{
	struct chore c = {.deadline = UZ_DRAIN_NEVER};
	struct uz_defer *d = defer_with_chore(&c, 1);
	unsigned before;

	await_sleep(d);
	before = c.calls;
	usleep(100 * 1000);
	assert_int_equal(c.calls, before);
	atomic_store(&c.deadline, uz_now_ns() + 300 * UZ_NSEC_PER_MSEC);
	uz_defer_kick(d);
	await_calls(&c, before + 1);
	while (uz_now_ns() < atomic_load(&c.deadline))
		usleep(1000);
	before = c.calls;
	await_calls(&c, before + 1);
	atomic_store(&c.wanted, true);
	uz_defer_kick(d);
	await_sleep(d);
	uz_defer_free(d);
}

/* What is in flight is waited for. */
static void test_work_is_ended(void **state)
{
	struct chore c = {.deadline = UZ_DRAIN_NEVER, .in_flight = 20};
	struct uz_defer *d = defer_with_chore(&c, 1);

	uz_defer_free(d);
	assert_int_equal(c.calls_to_stop, 21);

	/* Prepared, and never started. */
	assert_int_equal(
		uz_defer_prepare(&(struct uz_defer_config){.size = sizeof(struct uz_defer_config),
							   .ops = &ops,
							   .context = &books,
							   .spares = 4,
							   .max_age_ms = 1},
				 &d),
		0);
	uz_defer_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_refuses),
		cmocka_unit_test(test_older_program),
		cmocka_unit_test(test_newer_program),
		cmocka_unit_test(test_capacities),
		cmocka_unit_test(test_free_drains),
		cmocka_unit_test(test_many_producers),
		cmocka_unit_test(test_age),
		cmocka_unit_test(test_age_while_busy),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_push_against_idle),
		cmocka_unit_test(test_wakes_when_low),
		cmocka_unit_test(test_flush_is_a_barrier),
		cmocka_unit_test(test_flush_within),
		cmocka_unit_test(test_own_buffers),
		cmocka_unit_test(test_exhausted),
		cmocka_unit_test(test_stranded),
		cmocka_unit_test(test_producer_free_hands_over),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_work_is_kicked_meanwhile),
		cmocka_unit_test(test_work_is_kicked),
		cmocka_unit_test(test_work_has_a_deadline),
		cmocka_unit_test(test_work_is_ended),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

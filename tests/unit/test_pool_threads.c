/* SPDX-License-Identifier: MIT
 *
 * The pool among threads: everything at once, and what may happen while one of them waits.
 */
#include "pool_fixture.h"

#include <pthread.h>
#include <unistd.h>

#include "arena/internal.h"

#define THREADS	   4
#define THREAD_MAX 600 /* objects of a thread */

struct player {
	struct model *m;
	struct rng rng;
	uint64_t end_ns;
	struct object live[THREAD_MAX];
	unsigned nlive, complaints;
};

static void player_alloc(struct player *p)
{
	struct object *o = &p->live[p->nlive];

	/* Few classes: the threads meet. */
	o->size = 1000 + (uint32_t)(rng_next(&p->rng) % 4) * 700;
	o->salt = (uint32_t)rng_next(&p->rng);
	if (alloc_patiently(p->m->pool, o->size, &o->off)) {
		p->complaints++;
		return;
	}
	fill(p->m->arena, o);
	p->nlive++;
}

static void player_release(struct player *p)
{
	unsigned i = (unsigned)(rng_next(&p->rng) % p->nlive);

	if (!intact(p->m->arena, &p->live[i]) || uz_pool_release(p->m->pool, p->live[i].off))
		p->complaints++;
	p->live[i] = p->live[--p->nlive];
}

static void player_release_run(struct player *p)
{
	unsigned cls = uz_pool_class_number(p->m->pool, p->live[0].off, p->live[0].size);
	unsigned n = 0, kept = 0;
	uint64_t offs[THREAD_MAX];

	for (unsigned i = 0; i < p->nlive; i++) {
		if (uz_pool_class_number(p->m->pool, p->live[i].off, p->live[i].size) != cls)
			p->live[kept++] = p->live[i];
		else if (intact(p->m->arena, &p->live[i]))
			offs[n++] = p->live[i].off;
	}
	if (kept + n != p->nlive || uz_pool_release_run(p->m->pool, cls, offs, n))
		p->complaints++;
	p->nlive = kept;
}

static void *play(void *arg)
{
	struct player *p = arg;

	while (uz_now_ns() < p->end_ns) {
		unsigned want = (unsigned)(rng_next(&p->rng) % THREAD_MAX);

		while (p->nlive < want && !p->complaints)
			player_alloc(p);
		while (p->nlive > want)
			player_release(p);
		if (p->nlive && want % 4 == 0)
			player_release_run(p);
	}
	return NULL;
}

/* Compact the objects of this thread's model while others play, of whose objects nobody knows. */
static void compact_meanwhile(struct model *m, uint64_t end_ns)
{
	while (uz_now_ns() < end_ns) {
		struct object *o;

		if (!uz_pool_compact_begin(m->pool))
			continue;
		for (o = m->live; o < m->live + m->nlive; o++) {
			uint64_t from = o->off;

			/* What room there was others may have taken. */
			if (!uz_pool_is_victim(m->pool, from) ||
			    uz_pool_alloc_dense(m->pool, from, &o->off))
				continue;
			memcpy(uz_arena_ptr(m->arena, o->off), uz_arena_ptr(m->arena, from),
			       o->size);
			assert_int_equal(uz_pool_release(m->pool, from), 0);
		}
		uz_pool_compact_end(m->pool);
	}
}

static void run_players(struct player *players, struct model *m, uint64_t ns)
{
	uint64_t end_ns = uz_now_ns() + ns;
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		players[i].m = m;
		players[i].end_ns = end_ns;
		assert_int_equal(pthread_create(&threads[i], NULL, play, &players[i]), 0);
	}
	compact_meanwhile(m, end_ns);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(players[i].complaints, 0);
	}
}

static void test_threads(void **state)
{
	static struct player players[THREADS];
	struct model m, rebuilt;

	model_init(&m);
	for (unsigned i = 0; i < THREADS; i++)
		players[i] = (struct player){.rng = {.state = i}};
	for (unsigned i = 0; i < 1000; i++)
		model_alloc(&m, 1000 + i % 4 * 700);
	for (unsigned i = 0; i < 600; i++)
		model_release(&m, below(m.nlive));
	for (unsigned round = 0; round < 10; round++) {
		run_players(players, &m, UZ_NSEC_PER_SEC / 5);
		assert_int_equal(uz_pool_check(m.pool), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		memcpy(m.live + m.nlive, players[i].live, players[i].nlive * sizeof(struct object));
		m.nlive += players[i].nlive;
	}
	model_check(&m);
	check_layout(&m);
	model_rebuild(&m, &rebuilt);
	assert_true(uz_pool_equal(m.pool, rebuilt.pool));
	model_done(&rebuilt);
	model_done(&m);
}

struct waiter {
	struct model *m;
	uint64_t off;
	int err;
};

static void *wait_and_alloc(void *arg)
{
	struct waiter *w = arg;

	w->err = pool_alloc(w->m->pool, 1000, &w->off);
	return NULL;
}

static uint64_t times_dry(struct uz_arena *a)
{
	struct uz_arena_stat st;

	uz_arena_stat(a, &st);
	return st.dry;
}

/* While a thread waits for a new zspage, room appears in an old one, which ends the wait; or, at
 * the same time, a unit is put back: no empty zspage may stay. */
static void check_room_meanwhile(bool put)
{
	struct model m;
	struct waiter w = {.m = &m};
	uint32_t held[1024], n = 0;
	uint32_t looked_for;
	unsigned npages;
	pthread_t thread;
	uint64_t dry;
	int64_t unit;

	model_init(&m);
	model_alloc(&m, 1000);
	npages = class_of_object(&m, &m.live[0])->npages;
	while (m.nlive < class_of_object(&m, &m.live[0])->objects)
		model_alloc(&m, 1000);
	uz_arena_stop(m.arena);
	while ((unit = get_waiting(m.arena, npages)) >= 0 && n < 1024)
		held[n++] = (uint32_t)unit;
	assert_int_equal(unit, -ENOMEM);
	/* Memory comes and goes: waiting is not in vain. */
	uz_arena_put(m.arena, npages, &held[0], 1);
	held[0] = (uint32_t)get_waiting(m.arena, npages);

	dry = times_dry(m.arena);
	assert_int_equal(pthread_create(&thread, NULL, wait_and_alloc, &w), 0);
	while (times_dry(m.arena) == dry)
		usleep(100);
	looked_for = atomic_load(&m.arena->looked_for);
	model_release(&m, 0);
	assert_int_not_equal(atomic_load(&m.arena->looked_for), looked_for);
	while (put && n)
		uz_arena_put(m.arena, npages, &held[--n], 1);
	pthread_join(thread, NULL);
	while (n)
		uz_arena_put(m.arena, npages, &held[--n], 1);
	assert_int_equal(w.err, 0);
	assert_int_equal(uz_pool_check(m.pool), 0);
	assert_int_equal(uz_pool_release(m.pool, w.off), 0);
	while (m.nlive)
		model_release(&m, 0);
	model_check(&m);
	model_done(&m);
}

static void test_room_meanwhile(void **state)
{
	check_room_meanwhile(false);
	check_room_meanwhile(true);
}

/* An offset at which never an object was, but which some class could have one at. Meanwhile its
 * zspage is of that class at one moment and of another at the next. */
struct intruder {
	struct model *m;
	uint64_t off;
	atomic_bool stop;
	unsigned complaints;
};

static void *release_nothing(void *arg)
{
	struct intruder *t = arg;

	while (!atomic_load(&t->stop))
		t->complaints += uz_pool_release(t->m->pool, t->off) != -EINVAL;
	return NULL;
}

static void test_release_nothing_meanwhile(void **state)
{
	enum { LARGE = 1024, SMALL = 64 };
	uint64_t end_ns = uz_now_ns() + UZ_NSEC_PER_SEC;
	static struct model m; /* outlive a failed assertion, as the thread does */
	static struct intruder t = {.m = &m};
	pthread_t thread;

	model_init(&m);
	assert_int_equal(uz_pool_class_for(m.pool, COARSE, LARGE)->npages,
			 uz_pool_class_for(m.pool, COARSE, SMALL)->npages);
	t.off = model_alloc(&m, LARGE)->off + LARGE; /* object 1 of LARGE, 16 of SMALL */
	model_release(&m, 0);
	assert_int_equal(pthread_create(&thread, NULL, release_nothing, &t), 0);
	while (uz_now_ns() < end_ns) {
		model_alloc(&m, LARGE);
		model_release(&m, 0);
		for (unsigned i = 0; i < 4; i++)
			model_alloc(&m, SMALL);
		while (m.nlive)
			model_release(&m, 0);
	}
	atomic_store(&t.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(t.complaints, 0);
	model_check(&m);
	model_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_room_meanwhile),
		cmocka_unit_test(test_release_nothing_meanwhile),
	};

	return cmocka_run_group_tests_name("pool, threads", tests, NULL, NULL);
}

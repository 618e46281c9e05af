/* SPDX-License-Identifier: MIT
 *
 * model --kill: a child serves the arena and is killed at any moment, also while it recovers from
 * the last time.
 *
 * What has been acknowledged stands in memory that parent and child share. It is kept for each half
 * of a page, so that updates of a part are there, too. No page may be half of two states.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena/arena.h"
#include "base/crash.h"
#include "kill.h"

#define SLOTS	      256u /* of each thread */
#define HALF	      (UZ_PAGE_SIZE / 2)
#define ROUNDS_MIN    50
#define TRANSIT_MAX   (32u * UZ_UNIT_PAGES_MAX * UZ_PAGE_SIZE) /* what refill has in its hands */
#define DELAY_MAX     60000				       /* microseconds from fork to kill */
#define CRASH_SECONDS 30 /* till a crash point must have been reached, or SIGALRM ends it */

/* A half page's content follows from its slot and the number of the request that wrote it; 0: none
 * did. Only the slot's thread changes its log, in this order: begun, the request, acked. */
struct slot_log {
	_Atomic uint32_t begun[2], acked[2];
};

struct log {
	_Atomic uint32_t requests[THREADS_MAX]; /* of each thread, so far */
	struct slot_log slots[THREADS_MAX * SLOTS];
};

static struct log *kill_log;

static bool is_discard(uint32_t request)
{
	return request % 4 == 0;
}

static void make_page(const struct options *o, uint64_t slot, uint32_t request, unsigned char *page)
{
	struct rng rng;

	rng_init(&rng, o->seed, slot << 32 | request);
	page_fill(page,
		  is_discard(request) ? PAGE_ZERO : (enum page_kind)rng_below(&rng, PAGE_KINDS),
		  &rng);
}

/* --- the child --- */

struct client {
	const struct options *options;
	struct uz_store *store;
	unsigned id;
};

struct request {
	uint32_t number;
	uint64_t slot; /* the first */
	unsigned count;
	unsigned half, halves; /* of each slot; a half only of one slot */
};

static struct request pick_request(const struct client *c, struct rng *rng)
{
	struct request r = {
		.number = atomic_fetch_add(&kill_log->requests[c->id], 1) + 1,
		.slot = rng_below(rng, SLOTS),
		.count = 1 + (unsigned)rng_below(rng, RANGE_PAGES),
		.halves = 2,
	};
	uint64_t shape = rng_below(rng, 64);

	if (shape < 24)
		r.count = 1;
	if (shape < 8) {
		r.half = shape % 2;
		r.halves = 1;
	}
	/* So much that memory goes back to the kernel. */
	if (shape == 63 && is_discard(r.number))
		r.count = SLOTS;
	if (r.count > SLOTS - r.slot)
		r.count = SLOTS - (unsigned)r.slot;
	r.slot += c->id * SLOTS;
	return r;
}

static int do_request(const struct client *c, struct uz_worker *w, const struct request *r)
{
	static _Thread_local unsigned char data[RANGE_MAX];
	uint64_t off = r->slot * UZ_PAGE_SIZE + r->half * HALF;
	uint64_t len = r->count * r->halves * HALF;
	int err;

	if (!is_discard(r->number)) {
		for (unsigned i = 0; i < r->count; i++)
			make_page(c->options, r->slot + i, r->number, data + i * UZ_PAGE_SIZE);
	}
	/* There is no limit: memory is short for a moment at most. */
	do {
		err = is_discard(r->number) ? uz_discard(w, off, len)
					    : uz_write(w, off, len, data + r->half * HALF);
	} while (err == -ENOSPC);
	return err;
}

static void *serve(void *arg)
{
	const struct client *c = arg;
	struct uz_worker *w = worker_new(c->store);
	struct rng rng;

	rng_init(&rng, c->options->seed, UINT64_MAX - atomic_load(&kill_log->requests[c->id]));
	for (;;) {
		struct request r = pick_request(c, &rng);
		struct slot_log *log = &kill_log->slots[r.slot];

		for (unsigned i = 0; i < r.count * r.halves; i++)
			atomic_store(&log[i / r.halves].begun[r.half + i % r.halves], r.number);
		CHECK(!do_request(c, w, &r), "slot %llu", (unsigned long long)r.slot);
		for (unsigned i = 0; i < r.count * r.halves; i++)
			atomic_store(&log[i / r.halves].acked[r.half + i % r.halves], r.number);
	}
	return NULL;
}

__attribute__((noreturn)) static void child(const struct options *o, int fd, const char *crash)
{
	struct client clients[THREADS_MAX];
	struct uz_store *store;
	struct uz_arena *arena;
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (crash) {
		alarm(CRASH_SECONDS);
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no core files */
		CHECK(!setenv("UZ_CRASH", crash, 1) && !uz_crash_arm(), "%s", crash);
	}
	arena = arena_attach(fd);
	store = store_new(o, arena);
	for (unsigned i = 0; i < o->threads; i++) {
		clients[i] = (struct client){.options = o, .store = store, .id = i};
		CHECK(!pthread_create(&thread, NULL, serve, &clients[i]), "no thread");
	}
	for (;;) {
		uz_store_compact(store);
		usleep(1000);
	}
}

/* --- the parent --- */

static void compose(const struct options *o, uint64_t slot, const _Atomic uint32_t halves[2],
		    unsigned char *page)
{
	unsigned char second[UZ_PAGE_SIZE];

	make_page(o, slot, atomic_load(&halves[0]), page);
	make_page(o, slot, atomic_load(&halves[1]), second);
	memcpy(page + HALF, second + HALF, HALF);
}

/* Returns whether the slot has the page of a request that was begun and not acknowledged. */
static bool check_slot(const struct options *o, struct uz_worker *w, uint64_t slot)
{
	struct slot_log *log = &kill_log->slots[slot];
	unsigned char page[UZ_PAGE_SIZE], acked[UZ_PAGE_SIZE], begun[UZ_PAGE_SIZE];
	bool old, new;

	CHECK(!uz_read(w, slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page), "slot %llu",
	      (unsigned long long)slot);
	compose(o, slot, log->acked, acked);
	compose(o, slot, log->begun, begun);
	old = memcmp(page, acked, UZ_PAGE_SIZE) == 0;
	new = memcmp(page, begun, UZ_PAGE_SIZE) == 0;
	CHECK(old || new, "slot %llu is neither %u/%u, which was acknowledged, nor %u/%u",
	      (unsigned long long)slot, log->acked[0], log->acked[1], log->begun[0], log->begun[1]);
	for (unsigned half = 0; half < 2; half++) {
		if (new)
			atomic_store(&log->acked[half], atomic_load(&log->begun[half]));
		else
			atomic_store(&log->begun[half], atomic_load(&log->acked[half]));
	}
	return new && !old;
}

unsigned kill_check(const struct options *o, int fd)
{
	struct uz_arena *arena = arena_attach(fd);
	struct uz_store *store = store_new(o, arena);
	struct uz_worker *w = worker_new(store);
	unsigned ahead = 0;

	check_state(store);
	for (uint64_t slot = 0; slot < o->threads * SLOTS; slot++)
		ahead += check_slot(o, w, slot);
	check_memory(store, TRANSIT_MAX);
	uz_worker_free(w);
	uz_store_free(store);
	uz_arena_free(arena);
	return ahead;
}

pid_t kill_serve(const struct options *o, int fd, const char *crash)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		child(o, fd, crash);
	return pid;
}

struct uz_arena *kill_begin(const struct options *o)
{
	struct uz_arena *arena;

	kill_log = mmap(NULL, sizeof(*kill_log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	CHECK(kill_log != MAP_FAILED, "no memory");
	CHECK(!uz_arena_new((uint64_t)o->threads * SLOTS * UZ_PAGE_SIZE, &arena), "no arena");
	return arena;
}

void kill_end(struct uz_arena *arena)
{
	uz_arena_free(arena);
	munmap(kill_log, sizeof(*kill_log));
}

uint64_t kill_requests(const struct options *o)
{
	uint64_t requests = 0;

	for (unsigned i = 0; i < o->threads; i++)
		requests += atomic_load(&kill_log->requests[i]);
	return requests;
}

/* --- model --kill --- */

static void run_and_kill(const struct options *o, int fd, unsigned delay)
{
	pid_t pid = kill_serve(o, fd, NULL);
	int status;

	usleep(delay);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child failed by itself");
}

void kill_test(const struct options *o)
{
	struct uz_arena *arena = kill_begin(o);
	time_t end = time(NULL) + o->seconds;
	unsigned rounds = 0, ahead = 0;
	struct rng rng;

	rng_init(&rng, o->seed, UINT64_MAX);
	while (rounds < ROUNDS_MIN || time(NULL) < end) {
		/* A third is killed while it starts. */
		bool early = rng_below(&rng, 3) == 0;

		run_and_kill(o, uz_arena_fd(arena),
			     (unsigned)rng_below(&rng, early ? DELAY_MAX / 20 : DELAY_MAX));
		ahead += kill_check(o, uz_arena_fd(arena));
		rounds++;
	}
	CHECK(kill_requests(o) > rounds, "%llu requests", (unsigned long long)kill_requests(o));
	printf("%u kills, %llu requests, %u pages were ahead of their acknowledgement\n", rounds,
	       (unsigned long long)kill_requests(o), ahead);
	kill_end(arena);
}

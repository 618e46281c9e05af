/* SPDX-License-Identifier: MIT */
#include "server/latency.h"

#include <time.h>

#include "shared/latency_request.h"
#include "shared/shared.h"

/* Reads one after the other come every 50 us or so where CPUs sleep lightly, and must be noticed
 * where each of their four wake-ups takes 100 us. Where they come at greater distances there is
 * little to win. */
#define SOON_NS UINT64_C(500000)

/* So many such reads in a row take the hold. With fewer, reads that come now and then, a thousand a
 * second, would take it by chance again and again; with more, short rows would be over before. */
#define ROW 3

/* The hold lasts so long after the last such read, so that it bridges the pauses of a process that
 * computes between its reads. The price of each row is that CPUs poll for so long. */
#define IDLE_NS UINT64_C(2000000)

static void take(struct latency *l)
{
	latency_request(l->fd, LATENCY_HOLD);
	atomic_fetch_add_explicit(&l->holds, 1, memory_order_relaxed);
}

/* Return when no read that counts has come for IDLE_NS. */
static void await_idle(struct latency *l)
{
	for (;;) {
		uint64_t now = now_ns();
		uint64_t until = atomic_load_explicit(&l->next_ns, memory_order_relaxed) + IDLE_NS;
		struct timespec rest;

		if (now >= until || atomic_load(&l->stop))
			return;
		rest = (struct timespec){.tv_nsec = (long)(until - now)};
		nanosleep(&rest, NULL);
	}
}

static void *latency_main(void *arg)
{
	struct latency *l = arg;

	pthread_setname_np(pthread_self(), "uz-latency");
	for (;;) {
		uint64_t since;

		while (sem_wait(&l->taken) < 0)
			;
		if (atomic_load(&l->stop))
			return NULL;
		since = now_ns();
		await_idle(l);
		latency_request(l->fd, LATENCY_DROP);
		atomic_fetch_add_explicit(&l->held_ns, now_ns() - since, memory_order_relaxed);
		atomic_store_explicit(&l->row, 0, memory_order_relaxed);
		/* Pairs with the exchange in latency_end(): the next holder writes to the device
		 * after this thread has. */
		atomic_store_explicit(&l->held, false, memory_order_release);
	}
}

int latency_init(struct latency *l, int fd, enum latency_hold hold)
{
	*l = (struct latency){.fd = fd, .hold = fd < 0 ? LATENCY_HOLD_NEVER : hold};
	if (l->hold != LATENCY_HOLD_AUTO)
		return 0;
	sem_init(&l->taken, 0, 0);
	return -pthread_create(&l->thread, NULL, latency_main, l);
}

void latency_start(struct latency *l)
{
	if (l->hold == LATENCY_HOLD_ALWAYS)
		take(l);
	else if (l->hold == LATENCY_HOLD_AUTO)
		latency_request(l->fd, LATENCY_DROP); /* the last server may have died holding it */
}

bool latency_begin(struct latency *l)
{
	return l->hold == LATENCY_HOLD_AUTO &&
	       atomic_fetch_add_explicit(&l->reading, 1, memory_order_relaxed) == 0;
}

void latency_end(struct latency *l, bool alone)
{
	uint64_t now, last;

	if (l->hold != LATENCY_HOLD_AUTO)
		return;
	atomic_fetch_sub_explicit(&l->reading, 1, memory_order_relaxed);
	now = now_ns();
	last = atomic_exchange_explicit(&l->last_ns, now, memory_order_relaxed);
	if (now - last > SOON_NS) {
		atomic_store_explicit(&l->row, 0, memory_order_relaxed);
		return;
	}
	if (!alone)
		return;
	atomic_store_explicit(&l->next_ns, now, memory_order_relaxed);
	if (atomic_load_explicit(&l->held, memory_order_relaxed) ||
	    atomic_fetch_add_explicit(&l->row, 1, memory_order_relaxed) + 1 < ROW ||
	    /* Pairs with the release in latency_main(). */
	    atomic_exchange_explicit(&l->held, true, memory_order_acquire))
		return;
	take(l);
	sem_post(&l->taken);
}

void latency_stop(struct latency *l)
{
	if (l->hold == LATENCY_HOLD_AUTO) {
		atomic_store(&l->stop, true);
		sem_post(&l->taken);
		pthread_join(l->thread, NULL);
	}
	if (l->hold != LATENCY_HOLD_NEVER)
		latency_request(l->fd, LATENCY_DROP);
}

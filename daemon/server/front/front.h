/* SPDX-License-Identifier: MIT
 *
 * What the front ends have in common, seen from the server: threads that take requests from the
 * kernel and hand them to the store. Neither side knows anything else of the other: to a front end
 * the store is bytes, and how they got here is nothing to the store.
 *
 * FUSE is always there, as it shows the control files; where the device is a ublk one, that is the
 * second.
 */
#ifndef UZD_FRONT_H
#define UZD_FRONT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct control;
struct front;
struct latency;
struct state;
struct status;
struct uz_store;

/* What a front end serves with. Outlives it. */
struct front_context {
	const struct state *state;
	struct status *status;
	struct uz_store *store;
	struct control *control;
	struct latency *latency;
	int socket;	/* to the supervisor */
	uint64_t since; /* when the last server had ended; 0: there was none */
	atomic_flag answered;
};

struct front_ops {
	/* Make all threads, which wait, each with a worker of the store of its own. Everything they
	 * will need is allocated and touched. 0 or -errno; then the process is to end. */
	int (*prepare)(struct front_context *context, struct front **ret);

	/* The last server has ended, and with it some memory has become free, which whoever is
	 * first will have: ask the kernel for what takes any. The store is not open yet. 0 or
	 * -errno; then the process is to end. NULL: nothing does. */
	int (*connect)(struct front *front);

	/* Take requests, those that the last server has left unanswered first; without taking
	 * memory. 0 or -errno; then the process is to end. */
	int (*start)(struct front *front);

	/* How many threads have been busy with the same step of the same request since the last
	 * call. One thread. */
	unsigned (*stuck)(struct front *front);

	/* Whether all threads have ended by themselves: there is nothing left to serve. */
	bool (*ended)(struct front *front);

	/* Answer the requests that have been begun and end all threads. */
	void (*stop)(struct front *front);
};

/* Each front end's own struct begins with this. */
struct front {
	const struct front_ops *ops;
};

/* --- for front ends --- */

/* This server takes requests from now on: for the times in status. The first call counts. */
void front_serves(struct front_context *context);

/* It has answered one; the first call counts. Any thread. */
void front_answered(struct front_context *context);

/* One thread of a front end. */
struct front_thread {
	pthread_t thread;
	_Atomic bool running;
	_Atomic uint64_t steps; /* odd while it is in a request; it alone writes this */
	uint64_t seen;		/* steps, by front_thread_stuck() */
	void *(*main)(void *arg);
	void *arg;
	const char *name;
};

/* Start it, with a small stack that is touched, such that JAIL_SIGNAL interrupts its system calls.
 * t stays where it is until the thread has ended. 0 or -errno. */
int front_thread_start(struct front_thread *t, const char *name, void *(*main)(void *arg),
		       void *arg);

/* Interrupt what it is waiting for in the kernel, until it has ended. */
void front_thread_end(struct front_thread *t);

/* A request, or a step of it, begins or ends. That thread. */
static inline void front_thread_step(struct front_thread *t)
{
	uint64_t n = atomic_load_explicit(&t->steps, memory_order_relaxed);

	atomic_store_explicit(&t->steps, n + 1, memory_order_relaxed);
}

/* Whether it has not moved since the last call, though it has something to do. */
bool front_thread_stuck(struct front_thread *t);

#endif

/* SPDX-License-Identifier: MIT
 *
 * What the front ends have in common, seen from the server: threads that take requests from the
 * kernel and hand them to the store. To a front end the store is bytes at offsets; the store does
 * not know of front ends. For the server alone.
 *
 * The FUSE front end is always there, since it shows the control files. A ublk device has the ublk
 * front end besides.
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

/* What a front end serves with. It outlives the front end. */
struct front_context {
	const struct state *state;
	struct status *status;
	struct uz_store *store;
	struct control *control;
	struct latency *latency;
	int socket;	/* to the supervisor */
	uint64_t since; /* when the last server ended, CLOCK_MONOTONIC; 0: there was none */
	atomic_flag answered;
};

struct front_ops {
	/* Make all threads, which wait, each with a worker of the store of its own. Allocate and
	 * touch everything that they will need. 0 or -errno; then the process is to end. */
	int (*prepare)(struct front_context *context, struct front **ret);

	/* The last server has ended, and its memory has become free, which other processes will
	 * have in a moment: do what makes the kernel allocate. The store is not open yet. 0 or
	 * -errno; then the process is to end. NULL: there is nothing to do. */
	int (*connect)(struct front *front);

	/* Take requests, first those that the last server has left unanswered, without allocating.
	 * 0 or -errno; then the process is to end. */
	int (*start)(struct front *front);

	/* How many threads have been busy with the same step of the same request since the last
	 * call. The main thread calls it. */
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

/* This server takes requests from now on: note the time in status. Only the first call counts. */
void front_serves(struct front_context *context);

/* This server has answered a request: note the time. Only the first call counts. Any thread. */
void front_answered(struct front_context *context);

/* One thread of a front end. */
struct front_thread {
	pthread_t thread;
	_Atomic bool running;
	_Atomic uint64_t steps; /* odd while it is in a request; only this thread writes it */
	uint64_t seen;		/* steps, when front_thread_stuck() looked the last time */
	void *(*main)(void *arg);
	void *arg;
	const char *name;
};

/* Start it, with its stack touched, such that JAIL_SIGNAL interrupts its system calls. t must stay
 * where it is until the thread has ended. 0 or -errno. */
int front_thread_start(struct front_thread *t, const char *name, void *(*main)(void *arg),
		       void *arg);

/* Interrupt its waits in the kernel until it has ended. */
void front_thread_end(struct front_thread *t);

/* A request, or a step of it, begins or ends. Only that thread calls it. */
static inline void front_thread_step(struct front_thread *t)
{
	uint64_t n = atomic_load_explicit(&t->steps, memory_order_relaxed);

	atomic_store_explicit(&t->steps, n + 1, memory_order_relaxed);
}

/* Whether it is in a request and has made no step since the last call. */
bool front_thread_stuck(struct front_thread *t);

#endif

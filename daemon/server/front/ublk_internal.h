/* SPDX-License-Identifier: MIT
 *
 * What the ublk front end's files share: ublk.c (life, and what a request does to the store),
 * ublk_queue.c (the queue thread and its ring), ublk_helpers.c (helpers, and how work gets to
 * them).
 */
#ifndef UZD_UBLK_INTERNAL_H
#define UZD_UBLK_INTERNAL_H

#include <liburing.h>
#include <pthread.h>
#include <semaphore.h>

#include "server/front/front.h"
#include "shared/ublk_uapi.h"

#define UBLK_SECTOR_SHIFT 9

_Static_assert(UBLK_TAGS == 64, "a word has a bit for each tag");

struct front_ublk;

/* The first one is the queue's, the others are helpers. */
struct ublk_thread {
	struct front_thread thread;
	struct front_ublk *front;
	struct uz_worker *worker;
};

/* A request is in one of the three words, or in a thread's hands. */
struct front_ublk {
	struct front front;
	struct front_context *context;

	/* The queue thread's. */
	struct io_uring ring;
	int device;	  /* /dev/ublkcN; -1: not yet */
	uint64_t fetched; /* tags the kernel may still give us requests with */
	uint64_t own;	  /* to be done by this thread */
	pthread_barrier_t step;
	int err; /* of its last step */

	const struct ublksrv_io_desc *descriptors; /* one a tag, written by the kernel */
	char *buffers;				   /* UBLK_IO_MAX bytes a tag */

	/* To be done by helpers, those that sleep, and what wakes them. */
	_Atomic uint64_t todo;
	_Atomic unsigned next; /* the tag whose turn it is */
	_Atomic unsigned idle;
	sem_t more;

	/* Done by helpers, with what result. */
	_Atomic uint64_t done;
	int32_t results[UBLK_TAGS];

	/* The queue thread sleeps in a read of this eventfd. The ring signals it for whatever
	 * completes, and helpers do if they find the thread asleep. */
	int wake;
	_Atomic bool asleep;

	atomic_bool stop;
	unsigned nthreads;
	struct ublk_thread threads[];
};

/* ublk.c: carry out a request, and put down its result. The thread that has it. */
void ublk_serve(struct ublk_thread *t, unsigned tag);

/* ublk_helpers.c: a helper's main function; hand requests over to helpers, of which the queue
 * thread wakes as many as that many pages are work for. */
void *ublk_helper_main(void *arg);
void ublk_hand_out(struct front_ublk *f, uint64_t tags);

/* How many pages those requests are of. */
unsigned ublk_pages_of(const struct front_ublk *f, uint64_t tags);

/* A helper is woken for so many pages that wait: 100 us of compression, or 50 of the contrary,
 * which is about what it takes. */
#define UBLK_PAGES_A_HELPER 12

/* ublk_queue.c: make the ring, which signals f->wake for whatever completes; the queue thread's
 * main function. 0 or -errno. */
int ublk_make_ring(struct front_ublk *f);
void *ublk_queue_main(void *arg);

#endif

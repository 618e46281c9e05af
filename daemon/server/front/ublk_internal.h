/* SPDX-License-Identifier: MIT
 *
 * What the ublk front end's files share: ublk.c (its life, and what a request does to the store),
 * ublk_queue.c (the queue thread and its ring), ublk_helpers.c (the helpers, and how requests get
 * to them). For these three alone.
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

/* What the main thread has the queue thread do, one step after the other: ublk_queue_do(). */
enum ublk_step {
	UBLK_REHEARSE, /* have the kernel allocate what commands will take */
	UBLK_FETCH,    /* fetch all tags from the device, and map its descriptors */
	UBLK_SERVE,    /* serve until the block device is gone, or the front end stops */
};

/* The first thread is the queue thread, the others are helpers. */
struct ublk_thread {
	struct front_thread thread;
	struct front_ublk *front;
	struct uz_worker *worker;
};

/* A request is in one of the words own, todo and done, or a thread is carrying it out. */
struct front_ublk {
	struct front front;
	struct front_context *context;

	/* The main thread names a step and posts begin; the queue thread posts end when err has the
	 * step's result. */
	enum ublk_step step;
	sem_t begin, end;
	int err;

	/* For the queue thread alone, once its first step has begun. */
	struct io_uring ring;
	int device;	  /* /dev/ublkcN; -1: the supervisor has not sent it yet */
	uint64_t fetched; /* the tags that the kernel may still give requests with */
	uint64_t own;	  /* the requests that this thread is to carry out itself */

	const struct ublksrv_io_desc *descriptors; /* one a tag, written by the kernel */
	char *buffers;				   /* UBLK_IO_MAX bytes a tag */

	_Atomic uint64_t todo; /* the requests that wait for a helper */
	_Atomic unsigned next; /* the tag whose turn it is among them */
	_Atomic unsigned idle; /* helpers that sleep, or are about to, and have no wake-up yet */
	sem_t more;	       /* wakes one helper a post */

	/* The requests that helpers have carried out, and the results of all. */
	_Atomic uint64_t done;
	int32_t results[UBLK_TAGS];

	/* The queue thread sleeps in a read of the eventfd wake. The ring signals it for each
	 * completion, and a helper does if it finds the thread asleep. */
	int wake;
	_Atomic bool asleep;

	atomic_bool stop;
	unsigned nthreads;
	struct ublk_thread threads[];
};

/* --- ublk.c --- */

/* Carry out a request, and put down its result. The thread that took the request. */
void ublk_serve(struct ublk_thread *t, unsigned tag);

/* --- ublk_helpers.c --- */

/* To wake a helper takes about as long as to compress so many pages (100 us), and twice as long as
 * to decompress them. So one is woken for each so many pages. */
#define UBLK_PAGES_A_HELPER 12

/* A helper's main function; arg is its struct ublk_thread. */
void *ublk_helper_main(void *arg);

/* Hand requests over to the helpers, and wake as many as there is work for. The queue thread. */
void ublk_hand_out(struct front_ublk *f, uint64_t tags);

/* How many pages these requests read or write. */
unsigned ublk_pages_of(const struct front_ublk *f, uint64_t tags);

/* --- ublk_queue.c --- */

/* Make the ring, which signals f->wake for each completion. 0 or -errno. */
int ublk_make_ring(struct front_ublk *f);

/* The queue thread's main function; arg is its struct ublk_thread. */
void *ublk_queue_main(void *arg);

/* The main thread: have the queue thread do that step. Returns its result, 0 or -errno; at once,
 * and 0, for UBLK_SERVE, which is the last. */
int ublk_queue_do(struct front_ublk *f, enum ublk_step step);

#endif

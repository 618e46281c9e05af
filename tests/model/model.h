/* SPDX-License-Identifier: MIT
 *
 * The model test: a store driven through its public API from several threads, and compared with
 * plain arrays.
 *
 * The device's slots are divided into
 * - a share for each thread, which that thread alone works on, with everything the API can do; it
 *   knows every byte (owned.c);
 * - shared pages, which all threads write and discard whole. Each content says who wrote it when,
 *   so that a reader can tell a mixture or one that should be gone (shared.c);
 * - striped pages, of which each thread has a few bytes: an update of a part must not undo one of
 *   another part (shared.c).
 *
 * Time is divided into epochs. In an epoch the threads work while another one compacts; between
 * epochs the store is quiet, is examined through the library's inner layers, and is thrown away and
 * rebuilt from the arena (quiet.c). What a thread does depends on the seed alone, not on the time
 * it takes nor on what the others do. In a test build of the library (model_hooks) threads yield to
 * each other at the crash points, at random: the windows that these mark are short otherwise, and
 * hardly any other thread gets to run in one.
 *
 * kill.c does it the hard way: the store's process is killed at any moment; crash.c, in a test
 * build of the library, at each interesting instruction.
 */
#ifndef UZ_TESTS_MODEL_H
#define UZ_TESTS_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "../guard.h"
#include "pages.h"
#include "uzram/store.h"

#define THREADS_MAX 16
#define OWNED	    1024u /* slots of a thread's share */
#define SHARED	    64u	  /* slots */
#define STRIPED	    16u	  /* slots */
#define STRIPE	    (UZ_PAGE_SIZE / THREADS_MAX)
#define RANGE_PAGES 8 /* pages in a request, at most; it may begin and end within one */
#define RANGE_MAX   (RANGE_PAGES * UZ_PAGE_SIZE)

struct options {
	uint64_t seed;
	unsigned seconds, threads;
	enum uz_codec codec;
	bool deferred, kill, crash;
};

struct model {
	const struct options *options;
	struct rng rng; /* what is decided between epochs */
	struct uz_arena *arena;
	struct uz_store *store;
	struct thread *threads;
	uint64_t nslots;
	unsigned epoch_steps; /* of each thread */
	bool limited;	      /* in this epoch threads change the memory limit: writes may fail */
	atomic_bool epoch_over;
	uint64_t rebuilds, compacted;
};

struct thread {
	struct model *m;
	unsigned id;
	struct rng rng;
	struct uz_worker *worker;
	unsigned char *want; /* what its share holds: OWNED pages */
	unsigned char stripes[STRIPED][STRIPE];
	uint32_t written[SHARED]; /* number of this thread's last write */
	uint32_t seen[SHARED]
		     [THREADS_MAX]; /* of each writer, the highest number known to be there */
	/* Requests' data, ending where memory does; and contents in the making. */
	struct guard data;
	unsigned char scratch[RANGE_MAX + UZ_PAGE_SIZE];
	uint64_t steps, refused;
};

/* Say what doesn't hold, and how to see it again; abort. */
#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                            \
	} while (0)
__attribute__((noreturn, format(printf, 4, 5))) void
failed(const char *file, int line, const char *cond, const char *format, ...);

struct uz_arena *arena_attach(int fd);
struct uz_store *store_new(const struct options *o, struct uz_arena *arena);
struct uz_worker *worker_new(struct uz_store *store);

/* Slots where the regions begin. */
uint64_t shared_slot(const struct model *m, unsigned i);
uint64_t striped_slot(const struct model *m, unsigned i);

/* One thing done. */
void owned_step(struct thread *t);
void shared_step(struct thread *t);
void striped_step(struct thread *t);
/* Check all that the thread can know, through this worker. */
void owned_verify(const struct thread *t, struct uz_worker *w);
void shared_verify(struct thread *t, struct uz_worker *w);
void striped_verify(const struct thread *t, struct uz_worker *w);

/* Check the result of a write or discard. False: it was refused for want of memory, as it may. */
bool accepted(struct thread *t, int err);

/* Of a store that nobody works on. Flush it: its statistics and its pool are exactly what the slot
 * table says. */
void check_state(struct uz_store *store);
/* The kernel has got back all memory but the table, what is used, and the reserve; wait a little
 * for it. But for transit bytes: what a process that was killed may have had in its hands. */
void check_memory(struct uz_store *store, uint64_t transit);

/* Between epochs. */
void quiet_verify(struct model *m);
void quiet_rebuild(struct model *m);
/* Empty the device; everything must be gone then. */
void quiet_finish(struct model *m);

/* --kill and --crash. */
void kill_test(const struct options *o);
void crash_test(const struct options *o);

#endif

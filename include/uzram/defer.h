/* SPDX-License-Identifier: MIT
 *
 * Deferred free: hand a value to another thread for the price of a store to memory.
 *
 * After the zsmalloc deferred-free RFC (Wenchao Hao, "mm/zsmalloc: introduce deferred free
 * framework with callback ops", v3, 2026-05). Each *producer* is used by one thread and owns a
 * buffer of one page. uz_defer_push() has the push callback write a value into the buffer. It
 * takes no lock, no atomic read-modify-write and no allocation; it makes no system call, but for
 * a wake-up when the spare buffers run low or when the drain thread sleeps without a timer. A
 * full buffer is exchanged for a spare one, from a pool that was allocated beforehand, and
 * queued to the *drain thread*, which has the drain callback do the work for its values. When no
 * spare is left, push says so, and the caller does the work itself.
 *
 * The drain thread reads a buffer from the front while its producer appends to it. So neither
 * ageing (max_age_ms) nor a flush needs anything of a producer, not even that it runs.
 *
 * Between its push and its drain a value must stay valid, whatever else happens: push what has
 * been detached, never an index that others can use anew.
 */
#ifndef UZRAM_DEFER_H
#define UZRAM_DEFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define UZ_DEFER_BUF_SIZE 4096u /* bytes */

enum uz_push_ret {
	UZ_PUSH_OK = 0,	     /* stored */
	UZ_PUSH_FULL,	     /* not stored: no room */
	UZ_PUSH_FULL_QUEUED, /* stored, and there is no room for another one */
};

struct uz_defer_ops {
	size_t size; /* sizeof(struct uz_defer_ops): see uz_defer_new() */

	/* Store value as entry number count of the buffer buf, which has UZ_DEFER_BUF_SIZE
	 * bytes. Called by the thread of the producer. Must not return UZ_PUSH_FULL when count
	 * is 0. */
	enum uz_push_ret (*push)(void *buf, unsigned count, uint64_t value);

	/* Do the work for count entries of buf, beginning with entry number first. Each entry is
	 * drained exactly once. Called by the drain thread, under no lock that a push takes.
	 * Must not call uz_defer_flush() or uz_defer_flush_within(). */
	void (*drain)(void *context, const void *buf, unsigned first, unsigned count);

	/* Do what drain has put off, if it collects the values of several buffers in order to do
	 * their work at once. The drain thread calls this when it has drained what there was,
	 * before it answers a flush and before it sleeps. Or NULL. */
	void (*finish)(void *context);
};

struct uz_defer_config {
	size_t size; /* sizeof(struct uz_defer_config) */
	const struct uz_defer_ops *ops;
	void *context;	 /* for drain and finish */
	unsigned spares; /* buffers in the pool, >= 1. Each producer has one of its own besides */
	unsigned max_age_ms; /* after so many ms the drain thread looks at a value at the latest, >=
				1 */
};

struct uz_defer_stat {
	size_t size;	    /* of what the library has filled in; fields behind that are 0 */
	uint64_t pushed;    /* values taken by uz_defer_push() */
	uint64_t drained;   /* values the drain callback has returned for */
	uint64_t fallbacks; /* pushes that were refused, as there was no spare buffer */
	uint64_t runs;	    /* calls of the drain callback */
	unsigned spares;    /* buffers in the pool now */
	unsigned producers;
};

struct uz_defer;
struct uz_defer_producer;

/* Allocate the pool and start the drain thread. 0; -EINVAL; -E2BIG; -ENOMEM; or what creating
 * the eventfd or the thread returned.
 *
 * config->size and ops->size tell the library which fields there are, as a program may have been
 * built with the header of another version. Fields that its structs lack are 0 (NULL). Fields
 * that the library does not know must be 0, or it is -E2BIG. A size that was not set is -EINVAL. */
int uz_defer_new(const struct uz_defer_config *config, struct uz_defer **ret);

/* Drain what is left, stop the thread, free everything. All producers have been freed before.
 * NULL is allowed. */
void uz_defer_free(struct uz_defer *defer);

/* Make a producer, to be used by one thread at a time. 0 or -ENOMEM. Any thread. */
int uz_defer_producer_new(struct uz_defer *defer, struct uz_defer_producer **ret);

/* Hand the producer's buffer over to the drain thread, and free the producer. Its thread calls
 * this before it exits. May wait for a drain callback that is running. NULL is allowed. */
void uz_defer_producer_free(struct uz_defer_producer *producer);

/* True: the drain callback will get value, within max_age_ms. False: it will not, as there is no
 * spare buffer; the caller does the work. */
bool uz_defer_push(struct uz_defer_producer *producer, uint64_t value);

/* A barrier: returns when every value whose push happened before this call has been drained. Any
 * thread but the drain thread. */
void uz_defer_flush(struct uz_defer *defer);

/* The same, but it waits for ms milliseconds at most. With 0 it only has the drain thread begin.
 * Returns whether everything has been drained. */
bool uz_defer_flush_within(struct uz_defer *defer, unsigned ms);

/* Fill in ret->size bytes. The counters of different producers are not read at one instant;
 * after a flush, while nobody pushes, they are exact. */
void uz_defer_get_stat(struct uz_defer *defer, struct uz_defer_stat *ret);

/* The same, for a caller whose struct is that of this header. */
static inline void uz_defer_stat(struct uz_defer *defer, struct uz_defer_stat *ret)
{
	ret->size = sizeof(*ret);
	uz_defer_get_stat(defer, ret);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

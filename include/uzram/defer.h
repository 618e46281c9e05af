/* SPDX-License-Identifier: MIT
 *
 * Deferred free: hand a value to another thread for the price of a store.
 *
 * After the zsmalloc deferred-free RFC (Wenchao Hao, "mm/zsmalloc: introduce deferred free
 * framework with callback ops", v3, 2026-05). Each *producer*, used by one thread, owns a buffer of
 * one page. uz_defer_push() lets the push callback write a value into it: no lock, no atomic
 * read-modify-write, no allocation, no system call but a wake-up when the pool of buffers runs low
 * or everything had been idle. A full buffer is swapped for a spare one out of a pool that was
 * allocated beforehand, and queued to the drain thread. With no spare left, push says so and the
 * caller does the work itself.
 *
 * The drain thread reads buffers from the front while their producers append, so ageing (max_age)
 * and a flush need nothing of a producer, not even that it runs. Between a push and its drain the
 * value must stay valid whatever else happens: push what has been detached, never an index that can
 * be used anew.
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
	UZ_PUSH_FULL_QUEUED, /* stored, and there is no room for another */
};

struct uz_defer_ops {
	size_t size; /* sizeof(struct uz_defer_ops): see uz_defer_new() */

	/* Store value as entry number count of the buffer buf, which holds UZ_DEFER_BUF_SIZE bytes.
	 * Called by the producer's thread. May not return UZ_PUSH_FULL when count is 0. */
	enum uz_push_ret (*push)(void *buf, unsigned count, uint64_t value);

	/* Do the work for count entries of buf, the first being entry number first. Each entry is
	 * drained exactly once. Called by the drain thread, under no lock that a push takes. Must
	 * not call uz_defer_flush(), nor uz_defer_flush_within(). */
	void (*drain)(void *context, const void *buf, unsigned first, unsigned count);

	/* Do what drain has put off, so as to do the work for several buffers at once: called by
	 * the drain thread when it has drained what there was, before it answers a flush or
	 * sleeps. Or NULL. */
	void (*finish)(void *context);
};

struct uz_defer_config {
	size_t size; /* sizeof(struct uz_defer_config) */
	const struct uz_defer_ops *ops;
	void *context;	 /* for ops->drain */
	unsigned spares; /* buffers in the pool, >= 1; each producer has one of its own besides */
	unsigned max_age_ms; /* the longest a value waits for the drain thread to look, >= 1 */
};

struct uz_defer_stat {
	size_t size;	    /* of what the library has filled in; fields behind that are 0 */
	uint64_t pushed;    /* values taken by uz_defer_push() */
	uint64_t drained;   /* values the drain callback has returned for */
	uint64_t fallbacks; /* pushes that were refused for want of a spare buffer */
	uint64_t runs;	    /* calls of the drain callback */
	unsigned spares;    /* buffers in the pool now */
	unsigned producers;
};

struct uz_defer;
struct uz_defer_producer;

/* Allocate the pool and start the drain thread. -EINVAL, -ENOMEM, or what creating the eventfd or
 * the thread returned.
 *
 * config->size and ops->size tell the library which fields there are, as a program may have been
 * built with the header of another version. Fields that its structs lack are 0 (NULL). Fields that
 * the library does not know must be 0, or it is -E2BIG. A size that was not set is -EINVAL. */
int uz_defer_new(const struct uz_defer_config *config, struct uz_defer **ret);

/* Drain what is left, stop the thread, free everything. All producers have been freed before. NULL
 * is allowed. */
void uz_defer_free(struct uz_defer *defer);

/* A producer, to be used by one thread at a time. -ENOMEM. Any thread may call it. */
int uz_defer_producer_new(struct uz_defer *defer, struct uz_defer_producer **ret);

/* Hand what is in the producer's buffer over to the drain thread and free the producer. Call it
 * before its thread exits. May wait for a running drain callback. NULL is allowed. */
void uz_defer_producer_free(struct uz_defer_producer *producer);

/* True: the drain callback will get value, within max_age. False: it won't (there is no spare
 * buffer): the caller does the work. */
bool uz_defer_push(struct uz_defer_producer *producer, uint64_t value);

/* A barrier: returns when every value whose push happened before this call has been drained. Any
 * thread but the drain thread. */
void uz_defer_flush(struct uz_defer *defer);

/* The same, but it waits no longer than that. With 0 it only has the drain thread begin. Returns
 * whether everything has been drained. */
bool uz_defer_flush_within(struct uz_defer *defer, unsigned ms);

/* Counters of different producers are not read at one instant; after a flush with no push going on
 * they are exact. Fills in ret->size bytes. */
void uz_defer_get_stat(struct uz_defer *defer, struct uz_defer_stat *ret);

/* The same, for a caller in C, whose struct is that of this header. */
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

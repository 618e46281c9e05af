/* SPDX-License-Identifier: MIT
 *
 * What the deferred free's unit tests share: a drain that keeps the books, and a look at the drain
 * thread.
 *
 * Only the main thread may use cmocka's assertions; the others count their complaints.
 */
#ifndef UZ_TESTS_DEFER_FIXTURE_H
#define UZ_TESTS_DEFER_FIXTURE_H

/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "defer/internal.h"
#include "uzram/defer.h"

#define PAGE	 UZ_PAGE_SIZE
#define PER_PAGE (UZ_DEFER_BUF_SIZE / 8) /* values a buffer, unless a test wants fewer */
#define VALUES	 (1u << 22)

/* The sanitizers make everything slower and allocate as they like. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* --- a drain that keeps the books --- */

static struct {
	unsigned capacity;     /* values a buffer */
	bool queued;	       /* say UZ_PUSH_FULL_QUEUED with the last */
	_Atomic uint8_t *seen; /* how often each value was drained */
	_Atomic uint64_t total;
	_Atomic unsigned complaints; /* of the callbacks */
	_Atomic pid_t tid;	     /* of the drain thread */
	_Atomic uint32_t shut;	     /* the drain callback waits while this is set */
	_Atomic uint32_t waiting;    /* it does */
} books;

static inline enum uz_push_ret push(void *buf, unsigned count, uint64_t value)
{
	if (count > books.capacity)
		atomic_fetch_add(&books.complaints, 1);
	if (count >= books.capacity)
		return UZ_PUSH_FULL;
	((uint64_t *)buf)[count] = value;
	return books.queued && count + 1 == books.capacity ? UZ_PUSH_FULL_QUEUED : UZ_PUSH_OK;
}

static inline void wait_at_gate(void)
{
	while (atomic_load(&books.shut)) {
		atomic_store(&books.waiting, 1);
		uz_futex_wait(&books.shut, 1, 0);
	}
	atomic_store(&books.waiting, 0);
}

static inline void drain(void *context, const void *buf, unsigned first, unsigned count)
{
	pid_t none = 0, tid = gettid();

	wait_at_gate();
	if (context != &books || !count || first + count > books.capacity)
		atomic_fetch_add(&books.complaints, 1);
	if (!atomic_compare_exchange_strong(&books.tid, &none, tid) && none != tid)
		atomic_fetch_add(&books.complaints, 1);
	for (unsigned i = first; i < first + count; i++) {
		uint64_t value = ((const uint64_t *)buf)[i];

		if (value >= VALUES || atomic_fetch_add(&books.seen[value], 1))
			atomic_fetch_add(&books.complaints, 1);
	}
	atomic_fetch_add(&books.total, count);
}

static const struct uz_defer_ops ops = {.size = sizeof(ops), .push = push, .drain = drain};

static inline void open_books(unsigned capacity, bool queued)
{
	books.capacity = capacity;
	books.queued = queued;
	for (unsigned i = 0; i < VALUES; i++)
		atomic_store_explicit(&books.seen[i], 0, memory_order_relaxed);
	atomic_store(&books.total, 0);
	atomic_store(&books.complaints, 0);
	atomic_store(&books.tid, 0);
}

/* The values below n have been drained, each once, and no other. */
static inline void close_books(uint64_t n)
{
	assert_int_equal(books.complaints, 0);
	assert_int_equal(books.total, n);
	for (uint64_t i = 0; i < n; i++) {
		if (books.seen[i] != 1)
			fail_msg("value %" PRIu64 " drained %u times", i, books.seen[i]);
	}
}

static inline void shut_gate(void)
{
	atomic_store(&books.shut, 1);
}

static inline void open_gate(void)
{
	atomic_store(&books.shut, 0);
	uz_futex_wake(&books.shut, INT_MAX);
}

static inline struct uz_defer *new_defer(unsigned spares, unsigned max_age_ms)
{
	struct uz_defer_config config = {.size = sizeof(config),
					 .ops = &ops,
					 .context = &books,
					 .spares = spares,
					 .max_age_ms = max_age_ms};
	struct uz_defer *d;

	assert_int_equal(uz_defer_new(&config, &d), 0);
	return d;
}

static inline struct uz_defer_producer *new_producer(struct uz_defer *d)
{
	struct uz_defer_producer *p;

	assert_int_equal(uz_defer_producer_new(d, &p), 0);
	return p;
}

static inline struct uz_defer_stat stat_of(struct uz_defer *d)
{
	struct uz_defer_stat st;

	uz_defer_stat(d, &st);
	return st;
}

static inline bool await_total(uint64_t total, unsigned ms)
{
	for (uint64_t end = uz_now_ns() + ms * UZ_NSEC_PER_MSEC; books.total < total;) {
		if (uz_now_ns() > end)
			return false;
		usleep(50);
	}
	return true;
}

/* --- the drain thread --- */

/* How long the thread has been on a CPU, in ns, plus how often: this stays the same only if it
 * sleeps all the time. */
static inline unsigned long run_time(pid_t tid)
{
	unsigned long ns, times;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %*u %lu", &ns, &times), 2);
	fclose(f);
	return ns + times;
}

/* Until the drain thread sleeps without a timer. */
static inline void await_sleep(struct uz_defer *d)
{
	for (unsigned ms = 0; atomic_load(&d->state) != DRAIN_IDLE; ms++) {
		assert_true(ms < 60000);
		usleep(1000);
	}
	usleep(50 * 1000);
}

/* Have the drain thread wait in the callback, with one value that has a producer of its own. */
static inline void block_drain(struct uz_defer_producer *p, uint64_t value)
{
	shut_gate();
	assert_true(uz_defer_push(p, value));
	while (!books.waiting)
		usleep(100);
}

static inline int setup(void **state)
{
	books.seen = calloc(VALUES, sizeof(*books.seen));
	return books.seen ? 0 : -1;
}

static inline int teardown(void **state)
{
	free(books.seen);
	return 0;
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * Crash points, in the test build only.
 */
#include "base/crash.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/futex.h"
#include "base/ring.h"

#define NOT_ARMED UZ_CRASH_COUNT

/* A thread yields at one in YIELD_ONE_IN of its passes, and sleeps at one in SLEEP_ONE_IN. The
 * longest sleep lasts for many steps of the other threads. */
#define YIELD_ONE_IN 8
#define SLEEP_ONE_IN 128
#define SLEEP_US_MAX 100

static const char *const names[UZ_CRASH_COUNT] = {
#define X(point, name) [UZ_CRASH_##point] = name,
	UZ_CRASH_POINTS_LIBRARY(X) UZ_CRASH_POINTS_DAEMON(X)
#undef X
};

struct io_uring uz_ring_enabled;

static unsigned armed = NOT_ARMED;
static _Atomic uint64_t passes_left;

static bool yields;
static uint64_t yield_seed;
static _Atomic uint64_t yielders; /* threads, so far */

const char *uz_crash_name(unsigned point)
{
	return names[point];
}

static unsigned find(const char *name, size_t len)
{
	unsigned point = 0;

	while (point < UZ_CRASH_COUNT &&
	       (strlen(names[point]) != len || memcmp(names[point], name, len) != 0))
		point++;
	return point;
}

int uz_crash_arm(void)
{
	const uint64_t seed[2] = {(uint64_t)getpid(), uz_now_ns()};
	const char *text = getenv("UZ_CRASH");
	unsigned point;
	const char *n;
	uint64_t max;
	char *end;

	armed = NOT_ARMED;
	if (!text)
		return 0;
	n = strchrnul(text, ':');
	point = find(text, (size_t)(n - text));
	if (point == UZ_CRASH_COUNT || n[0] != ':' || n[1] < '1' || n[1] > '9')
		return -EINVAL;
	errno = 0;
	max = strtoull(n + 1, &end, 10);
	if (*end || errno)
		return -EINVAL;
	atomic_store_explicit(&passes_left, 1 + XXH3_64bits(seed, sizeof(seed)) % max,
			      memory_order_relaxed);
	armed = point;
	return 0;
}

void uz_crash_yield(uint64_t seed)
{
	yield_seed = seed;
	yields = true;
}

static void yield_now_and_then(void)
{
	static _Thread_local uint64_t random; /* xorshift64; 0: not seeded */

	if (!random) {
		uint64_t number = atomic_fetch_add_explicit(&yielders, 1, memory_order_relaxed);

		random = XXH3_64bits_withSeed(&number, sizeof(number), yield_seed) | 1;
	}
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	if (random % SLEEP_ONE_IN == 0)
		usleep((useconds_t)(random >> 32) % SLEEP_US_MAX);
	else if (random % YIELD_ONE_IN == 0)
		sched_yield();
}

void uz_crash_pass(enum uz_crash_point point)
{
	if (yields)
		yield_now_and_then();
	if (point == armed && atomic_fetch_sub_explicit(&passes_left, 1, memory_order_relaxed) == 1)
		__builtin_trap();
}

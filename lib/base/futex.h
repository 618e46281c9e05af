/* SPDX-License-Identifier: MIT
 *
 * futex(2), private to the process, and the monotonic clock that its timeouts are measured by.
 */
#ifndef UZ_BASE_FUTEX_H
#define UZ_BASE_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define UZ_NSEC_PER_SEC	 UINT64_C(1000000000)
#define UZ_NSEC_PER_MSEC UINT64_C(1000000)

static inline uint64_t uz_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UZ_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static inline struct timespec uz_timespec(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / UZ_NSEC_PER_SEC),
				 .tv_nsec = (long)(ns % UZ_NSEC_PER_SEC)};
}

/* Sleep while *word is value, at most timeout_ns (0: no limit). May return early for no reason. */
static inline void uz_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
	struct timespec ts = uz_timespec(timeout_ns);

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ns ? &ts : NULL, NULL, 0);
}

static inline void uz_futex_wake(_Atomic uint32_t *word, int waiters)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, waiters, NULL, NULL, 0);
}

#endif

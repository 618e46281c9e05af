/* SPDX-License-Identifier: MIT
 *
 * A kernel that refuses memory, or takes its time to find it: for programs that are linked with the
 * static library, whose calls of madvise() come here.
 */
#ifndef UZ_TESTS_KERNEL_MEMORY_H
#define UZ_TESTS_KERNEL_MEMORY_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a call that populates for writing goes through before the kernel sees it. */
struct kernel_memory {
	_Atomic int refuse; /* fail with this error */
	_Atomic unsigned refused;
	/* Called first, if it is set. */
	void (*_Atomic before)(void);
};
static struct kernel_memory kernel_memory;

int madvise(void *addr, size_t len, int advice)
{
	void (*before)(void) = atomic_load(&kernel_memory.before);

	if (advice == MADV_POPULATE_WRITE) {
		if (before)
			before();
		if (atomic_load(&kernel_memory.refuse)) {
			atomic_fetch_add(&kernel_memory.refused, 1);
			errno = atomic_load(&kernel_memory.refuse);
			return -1;
		}
	}
	return (int)syscall(SYS_madvise, addr, len, advice);
}

static inline void kernel_memory_reset(void)
{
	atomic_store(&kernel_memory.refuse, 0);
	atomic_store(&kernel_memory.refused, 0);
	atomic_store(&kernel_memory.before, NULL);
}

#endif

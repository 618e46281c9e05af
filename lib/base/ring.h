/* SPDX-License-Identifier: MIT
 *
 * What an io_uring may do. No seccomp filter sees what a ring does, so each ring of a process
 * that serves is restricted by the kernel, for good, to the operations it needs.
 */
#ifndef UZ_BASE_RING_H
#define UZ_BASE_RING_H

#include <errno.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

/* liburing declares functions for these two opcodes, but not every version of it exports them. */
static inline int uz_ring_register(const struct io_uring *ring, unsigned opcode, const void *arg,
				   unsigned count)
{
	long ret = syscall(SYS_io_uring_register, ring->ring_fd, opcode, arg, count);

	return ret < 0 ? -errno : 0;
}

#ifdef UZ_TEST_HOOKS
extern struct io_uring uz_ring_enabled; /* the last one, for a test that tries it; crash.c */
#endif

/* Restrict a ring, which was made with IORING_SETUP_R_DISABLED, to the operations that allowed
 * lists, and enable it. 0 or -errno. */
static inline int uz_ring_enable(struct io_uring *ring, const struct io_uring_restriction *allowed,
				 unsigned count)
{
	int err = uz_ring_register(ring, IORING_REGISTER_RESTRICTIONS, allowed, count);

#ifdef UZ_TEST_HOOKS
	uz_ring_enabled = *ring;
#endif
	return err ? err : uz_ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

#endif

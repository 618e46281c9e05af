/* SPDX-License-Identifier: MIT
 *
 * A unit of the arena for tests that don't care whether they have to wait for it.
 */
#ifndef UZ_TESTS_WAITING_H
#define UZ_TESTS_WAITING_H

#include <errno.h>

#include "arena/arena.h"

/* As uz_arena_wait() says, but for -EAGAIN. */
static inline int64_t get_waiting(struct uz_arena *a, unsigned npages)
{
	int64_t got = uz_arena_try_get(a, npages);
	struct uz_wait wait = {0};

	if (got != -ENOMEM)
		return got;
	uz_arena_wait_begin(a, &wait);
	do {
		got = uz_arena_try_get(a, npages);
		if (got == -ENOMEM)
			got = uz_arena_wait(a, &wait, npages);
	} while (got == -EAGAIN);
	uz_arena_wait_end(a, &wait);
	return got;
}

#endif

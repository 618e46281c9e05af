/* SPDX-License-Identifier: MIT
 *
 * Buffers between two inaccessible pages: one byte read or written too far faults at once, in any
 * code. (ASan would need the code to be built with it, which liblz4 and libzstd are not.)
 *
 * Only one end of a buffer that isn't a whole number of pages can touch the guard, so a test tries
 * both.
 */
#ifndef UZ_TESTS_GUARD_H
#define UZ_TESTS_GUARD_H

#include <stddef.h>
#include <sys/mman.h>

#define GUARD_PAGE ((size_t)4096)

struct guard {
	char *start; /* the first accessible byte */
	size_t room; /* accessible bytes */
};

/* room is a multiple of GUARD_PAGE. Aborts if there is no memory. */
static inline void guard_init(struct guard *g, size_t room)
{
	char *map =
		mmap(NULL, room + 2 * GUARD_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || mprotect(map + GUARD_PAGE, room, PROT_READ | PROT_WRITE))
		__builtin_trap();
	g->start = map + GUARD_PAGE;
	g->room = room;
}

static inline void guard_done(struct guard *g)
{
	munmap(g->start - GUARD_PAGE, g->room + 2 * GUARD_PAGE);
}

/* The len bytes before the upper guard. */
static inline char *guard_tail(const struct guard *g, size_t len)
{
	return g->start + g->room - len;
}

#endif

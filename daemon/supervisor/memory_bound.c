/* SPDX-License-Identifier: MIT */
#include "supervisor/memory_bound.h"

#include <string.h>
#include <sys/param.h>

#include "config/machine.h"
#include "shared/log.h"
#include "uzram/arena.h"

#define TABLE_ENTRY 8 /* bytes a page: uzram/arena.h */

/* A server's part of the work: units that are being populated, and some of each size. */
#define SLACK (UINT64_C(64) << 20)

/* A server that does as it should never comes near: the limit and the reserve are all it keeps, and
 * what pages leave behind that are freed by the gigabyte goes back to the kernel within moments.
 * For those there is room: a quarter of the limit, or of what the limit leaves of the machine's
 * memory if that is less. */
static uint64_t most(const struct config *config, uint64_t disksize)
{
	uint64_t table = disksize / UZ_PAGE_SIZE * TABLE_ENTRY;
	struct machine machine;
	uint64_t left;

	machine_look(&machine);
	left = machine.ram > config->mem_limit ? machine.ram - config->mem_limit : 0;
	return table + config->mem_limit + 2 * config->reserve + SLACK +
	       MIN(config->mem_limit, left) / 4;
}

void memory_bound(const struct config *config, const struct state *state)
{
	uint64_t bytes = config->mem_limit ? most(config, state->disksize) : 0;
	int err = uz_arena_bound(state->arena_root_fd, bytes);

	if (err)
		log_warning("can't bound the memory of %s: %s; only its server keeps memory.limit",
			    config->name, strerror(-err));
}

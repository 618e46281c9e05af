/* SPDX-License-Identifier: MIT */
#include "server/shortage.h"

#include <inttypes.h>

#include "shared/log.h"

#define QUIET_LOOKS 60 /* without a failure, between two lines on want of memory */

/* Whether there is room well below the limit. A little room says nothing: where the kernel goes on
 * swapping, the next page takes what one page leaves. */
static bool has_room(const struct uz_store_stat *st)
{
	return !st->mem_limit || st->mem_used < st->mem_limit - st->mem_limit / 8;
}

static void watch_limit(struct shortage *s, const char *device, const struct uz_store_stat *st)
{
	bool failed = st->failed_limit != s->failed_limit;

	s->failed_limit = st->failed_limit;
	if (failed && !s->told_limit)
		log_warning("memory.limit of %s, %" PRIu64 " MiB, is reached: writes fail, %" PRIu64
			    " so far (to swap that is harmless, the pages stay in memory)",
			    device, st->mem_limit >> 20, st->failed_limit);
	s->told_limit = failed || (s->told_limit && !has_room(st));
}

/* Logs only when no write has failed since the last look: while the machine has no memory, the line
 * itself might have to wait for some, and with it the server's heartbeat. */
static void watch_memory(struct shortage *s, const char *device, const struct uz_store_stat *st)
{
	bool failed = st->failed_memory != s->failed_memory;

	s->failed_memory = st->failed_memory;
	s->untold_memory |= failed;
	if (failed)
		return;
	if (s->told_memory)
		s->told_memory--;
	if (!s->untold_memory || s->told_memory)
		return;
	log_warning("%s could not have the memory it needed: writes failed, %" PRIu64
		    " so far (to swap that is harmless, the pages stay in memory)",
		    device, st->failed_memory);
	s->untold_memory = false;
	s->told_memory = QUIET_LOOKS;
}

void shortage_watch(struct shortage *s, const char *device, const struct uz_store_stat *st)
{
	watch_limit(s, device, st);
	watch_memory(s, device, st);
}

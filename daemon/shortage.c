/* SPDX-License-Identifier: MIT */
#include "shortage.h"

#include <inttypes.h>

#include "log.h"

/* Well below the limit: where the kernel goes on swapping, what one page leaves the next one
 * takes. */
static bool is_over(const struct uz_store_stat *st)
{
	return !st->mem_limit || st->mem_used < st->mem_limit - st->mem_limit / 8;
}

void shortage_watch(struct shortage *s, const char *device, const struct uz_store_stat *st)
{
	bool failed = st->failed_limit != s->failed;

	s->failed = st->failed_limit;
	if (failed && !s->told)
		log_warning("memory.limit of %s, %" PRIu64 " MiB, is reached: writes fail, %" PRIu64
			    " so far (to swap that is harmless, the pages stay in memory)",
			    device, st->mem_limit >> 20, st->failed_limit);
	s->told = failed || (s->told && !is_over(st));
}

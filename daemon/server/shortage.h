/* SPDX-License-Identifier: MIT
 *
 * Writes that fail because there is no room for them: one line in the log, however many they are.
 */
#ifndef UZD_SHORTAGE_H
#define UZD_SHORTAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "uzram/store.h"

struct shortage {
	uint64_t failed_limit, failed_memory; /* writes, at the last look */
	bool told_limit;		      /* not to be said again before there is some room */
	bool untold_memory;   /* writes have failed for want of memory; to be said ... */
	unsigned told_memory; /* ... after so many looks, as it was said before */
};

/* Look at the device's figures, and say what is to be said. One thread, which serves no requests;
 * about every second. */
void shortage_watch(struct shortage *s, const char *device, const struct uz_store_stat *st);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Writes that fail because there is no room for them: one line in the log, however many they are.
 * For the server alone.
 */
#ifndef UZD_SHORTAGE_H
#define UZD_SHORTAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "uzram/store.h"

struct shortage {
	uint64_t failed_limit, failed_memory; /* writes that had failed at the last look */
	bool told_limit;      /* the limit was logged, and there has been no room since */
	bool untold_memory;   /* writes have failed for want of memory, which was not logged yet */
	unsigned told_memory; /* for so many more looks want of memory is not logged again */
};

/* Look at the device's figures, and log what is new. For one thread, which serves no requests,
 * about every second. */
void shortage_watch(struct shortage *s, const char *device, const struct uz_store_stat *st);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Writes that fail because memory.limit is reached: one line in the log, however many they are.
 */
#ifndef UZD_SHORTAGE_H
#define UZD_SHORTAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "uzram/store.h"

struct shortage {
	uint64_t failed; /* writes that failed for the limit, at the last look */
	bool told;	 /* not to be said again before the shortage is well over */
};

/* Look at the device's figures, and say what is to be said. One thread, which serves no requests;
 * about every second. */
void shortage_watch(struct shortage *s, const char *device, const struct uz_store_stat *st);

#endif

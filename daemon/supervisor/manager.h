/* SPDX-License-Identifier: MIT
 *
 * What the service manager (systemd) hears of the device: that it is ready, how it is, that this
 * process lives; and the descriptors that the manager is to keep. Without a manager nothing here
 * does anything. Nothing waits (notify.h).
 */
#ifndef UZD_MANAGER_H
#define UZD_MANAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/shared.h"

struct manager {
	bool told;		   /* that the device is ready */
	char said[256];		   /* the last status line */
	uint64_t said_ns;	   /* when that was sent; 0: never */
	uint64_t watchdog_ns;	   /* the manager's limit between two signs of life; 0: none */
	uint64_t next_watchdog_ns; /* when the next one is due */
	uint64_t ask_time_ns;	   /* when to ask for more time again */
};

/* told: the manager knows that the device is ready, from this process before it was exec'd. */
void manager_init(struct manager *m, bool told);

/* Give it all descriptors of the device to keep, but for those that it has. */
void manager_store_fds(struct state *state);
/* Have it close them. */
void manager_forget_fds(struct state *state);

/* The manager has time limits (uzramd@.service), which are for a daemon that hangs: one that is at
 * work has them extended. To be called about every second for as long as the work takes. Not in a
 * first start: the boot waits for that. */
void manager_ask_for_time(struct manager *m);

/* About every second while the device is there: whatever the manager does not know yet. status is
 * what there is to say, in one line. */
void manager_tick(struct manager *m, struct state *state, const char *status);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The supervisor's files among themselves: events.c finds out what has happened, life.c says what
 * follows from it, actions.c does that, supervisor.c has the loop, the beginning and the end.
 */
#ifndef UZD_SUPERVISOR_INTERNAL_H
#define UZD_SUPERVISOR_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/jail.h"
#include "shared/shared.h"
#include "supervisor/child.h"
#include "supervisor/device.h"
#include "supervisor/handover.h"
#include "supervisor/life.h"
#include "supervisor/manager.h"
#include "supervisor/oom.h"
#include "supervisor/respawn.h"
#include "supervisor/ublk/device.h"

struct supervisor {
	const struct config *config;
	const struct launch *launch;
	struct device device;
	struct state *state;
	struct status *status;
	struct jail jail;
	struct respawn servers;
	struct manager manager;
	struct oom oom;
	struct ublk_device ublk; /* if state->ublk names one */
	struct child child;
	int signals;   /* signalfd */
	int watermark; /* the lock of watermark.h; -1: not held */

	uint64_t tick_ns;     /* when the next tick is due */
	uint64_t unserved_ns; /* since when no server serves; 0: one does */

	/* What has happened and is to be acted on. */
	bool signal_stop, signal_upgrade, shutdown, cancel;
	enum request asked; /* somebody wrote to a control file ... */
	int asker;	    /* ... whose server waits for an answer on this socket */
	uint64_t due_ns;    /* when what was put off is to be tried; 0: nothing was */

	int refused; /* -errno: why the last try to stop failed */
	bool failed; /* the device has not ended well */
};

/* Handle whatever happens, for at most a second: servers that die or ask, signals, a child that is
 * over, and what is due by time. */
void events_wait(struct supervisor *s);

/* Whether that has happened and was not acted on yet; or is the case. */
bool events_has(const struct supervisor *s, enum event event);

/* Tell the service manager what there is to tell. */
void events_tell_manager(struct supervisor *s);

/* Do it; err is how the child's step ended, or 0. */
void actions_run(struct supervisor *s, enum action action, int err);

/* Have vm.watermark_boost_factor as configured for this device. Not while nobody serves it. */
void actions_set_watermark_boost(struct supervisor *s);

/* Answer the request that a server waits with, if there is one. */
void actions_answer(struct supervisor *s, int err);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The phases of a device's life. supervisor/life.h has what leads from one to another.
 *
 * Stable phases are what the next supervisor goes on with. The others last while the supervisor
 * waits for something, a child or a server; if that fails the device is back in the stable phase
 * that it came from, and nothing has changed.
 */
#ifndef UZD_PHASE_H
#define UZD_PHASE_H

enum phase {
	PHASE_STARTING, /* stable: the first server starts */
	PHASE_ATTACHING,
	PHASE_UNDOING, /* the device is broken, or its start has failed */

	PHASE_SERVING, /* stable */
	PHASE_FALLING_ASLEEP,
	PHASE_ASLEEP, /* stable: swap is off, because the machine sleeps */
	PHASE_WAKING,
	PHASE_RESETTING, /* all that is stored is discarded */

	PHASE_UPGRADING, /* a server of the new binary prepares to stand by */
	PHASE_RENEWING,	 /* this is the new binary's supervisor; the old servers still serve */
	PHASE_ADOPTING,	 /* the last supervisor has died; this one looks for a server */
	PHASE_REPAIRING, /* ... and completes what that one may have been about to do */

	PHASE_STOPPING, /* stable: served, but to be stopped as soon as that can be */
	PHASE_DETACHING,

	PHASE_ENDING, /* stable: there is no device any more, but there are servers */
	PHASE_ENDED,  /* stable */

	PHASE_SHUTDOWN, /* the machine goes down: served until the processes have ended */

	PHASE_COUNT
};

/* As users are shown it. */
const char *phase_name(enum phase phase);

#endif

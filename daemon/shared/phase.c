/* SPDX-License-Identifier: MIT */
#include "shared/phase.h"

#include <stddef.h>

const char *phase_name(enum phase phase)
{
	static const char *const names[PHASE_COUNT] = {
		[PHASE_STARTING] = "starting",
		[PHASE_ATTACHING] = "attaching",
		[PHASE_UNDOING] = "undoing",
		[PHASE_SERVING] = "serving",
		[PHASE_FALLING_ASLEEP] = "falling-asleep",
		[PHASE_ASLEEP] = "asleep",
		[PHASE_WAKING] = "waking",
		[PHASE_RESETTING] = "resetting",
		[PHASE_UPGRADING] = "upgrading",
		[PHASE_RENEWING] = "renewing",
		[PHASE_ADOPTING] = "adopting",
		[PHASE_REPAIRING] = "repairing",
		[PHASE_STOPPING] = "stopping",
		[PHASE_DETACHING] = "detaching",
		[PHASE_ENDING] = "ending",
		[PHASE_ENDED] = "ended",
		[PHASE_SHUTDOWN] = "shutdown",
	};

	return phase < PHASE_COUNT ? names[phase] : "unknown";
}

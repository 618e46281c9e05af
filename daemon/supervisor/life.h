/* SPDX-License-Identifier: MIT
 *
 * A device's life as one table: what happens in which phase, what the supervisor does then, and
 * the phase after it. README.md of daemon/ has the diagram.
 *
 * An event that the table has nothing for in a phase is not lost: it is a condition that lasts, and
 * is looked at again in the next phase. So a stop that is asked for while the device falls asleep
 * begins when that is over.
 */
#ifndef UZD_LIFE_H
#define UZD_LIFE_H

#include <stdbool.h>

#include "shared/phase.h"

enum event {
	EVENT_NONE,
	EVENT_SHUTDOWN,	   /* all processes of the machine are being killed */
	EVENT_LOST,	   /* requests were lost with a server, and can't be had again */
	EVENT_DONE,	   /* a child has done its step */
	EVENT_FAILED,	   /* ... or has not */
	EVENT_NO_SERVER,   /* the first server ended before it served */
	EVENT_GONE,	   /* all servers have ended */
	EVENT_SERVED,	   /* a server serves */
	EVENT_STANDS_BY,   /* a server of the new binary stands by */
	EVENT_NO_STAND_BY, /* ... or can't */
	EVENT_RENEWED,	   /* all servers are of the new binary */
	EVENT_SIGNAL_STOP,
	EVENT_SIGNAL_UPGRADE,
	EVENT_CANCEL, /* this and what follows: somebody wrote to a control file */
	EVENT_STOP,
	EVENT_STOP_FORCED,
	EVENT_UPGRADE,
	EVENT_SLEEP,
	EVENT_SLEEP_NEEDLESS, /* swap is to stay on */
	EVENT_WAKE,
	EVENT_RESET,
	EVENT_DUE, /* it is time for what was put off */
	EVENT_COUNT,
};

enum action {
	ACTION_NONE, /* the table has nothing for this event */
	ACTION_WAIT, /* nothing but the change of phase */
	ACTION_ATTACH,
	ACTION_READY,
	ACTION_COMPLAIN, /* of a step that failed */
	ACTION_UNDO,
	ACTION_GIVE_UP,
	ACTION_STOP_SOON,
	ACTION_DETACH,
	ACTION_DETACH_FORCED,
	ACTION_REFUSE_STOP,
	ACTION_CANCEL_STOP,
	ACTION_TOO_LATE, /* there is nothing to cancel, or no way to */
	ACTION_REFUSE,	 /* a request: the device is about to end */
	ACTION_STOPPED,
	ACTION_SLEEP,
	ACTION_WAKE,
	ACTION_RESET,
	ACTION_ANSWER, /* with the outcome of the child's step */
	ACTION_PREPARE_UPGRADE,
	ACTION_EXEC,
	ACTION_REFUSE_UPGRADE,
	ACTION_CALL_OFF_UPGRADE,
	ACTION_UPGRADED,
	ACTION_KEEP_OLD,
	ACTION_LINGER,
	ACTION_ABANDON,
};

/* In the place of a phase: the last stable one. */
#define PHASE_BACK PHASE_COUNT

struct life_step {
	enum action action;
	enum phase next;
};

/* What follows event in phase; action is ACTION_NONE if nothing does. */
struct life_step life_step(enum phase phase, enum event event);

/* Whether the next supervisor can go on from that phase. */
bool life_is_stable(enum phase phase);

#endif

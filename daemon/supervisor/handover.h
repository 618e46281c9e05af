/* SPDX-License-Identifier: MIT
 *
 * From one supervisor to the next, while the device is served: a live upgrade, where the process
 * execs its binary anew, and a restart by systemd after a crash, which brings the descriptors back
 * that it was given to keep.
 */
#ifndef UZD_HANDOVER_H
#define UZD_HANDOVER_H

#include "config/config.h"
#include "shared/shared.h"

/* How this process was started. */
struct launch {
	const char *binary; /* absolute */
	const char *config; /* absolute */
	bool upgraded;	    /* it was a supervisor before, and has exec'd itself */
};

/* Whether a supervisor of this binary can go on with that device, and with that config; what the
 * config doesn't say but takes from the machine is set to what the device has. What it says that
 * can't change while the device is there is refused; or, if there is no way back (crashed), set to
 * what the device has, too. Logs what is wrong. 0 or -EPROTO. */
int handover_check(struct config *config, const struct state *state, bool crashed);

/* In a child of the supervisor's: become a server, of the binary and the config as they are on the
 * disk now, that stands by (handover_stand_by()); socket is its end of the one to the supervisor.
 * Returns only if the binary can't be run: -errno. */
int handover_exec_stand_by(const struct launch *launch, struct state *state, int socket);

/* That server, having passed handover_check(). Returns the process's exit status. */
int handover_stand_by(const struct config *config, struct state *state, int socket);

/* Become the binary as it is on the disk now. Returns only if that can't be: -errno, and nothing
 * has changed. */
int handover_exec(const struct launch *launch, struct state *state);

/* The state that came through handover_exec(). */
int handover_from_exec(int state_fd, struct state **ret);

/* The state that systemd kept. -ENOENT: it has kept none. */
int handover_from_manager(struct state **ret);

#endif

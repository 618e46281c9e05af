/* SPDX-License-Identifier: MIT
 *
 * The supervisor: everything that takes privilege, and everything that must outlive a server.
 *
 * Single-threaded. It makes the arena, mounts, forks the server, and has short-lived children
 * attach loop and swap: those calls need a living server, and the supervisor must stay free to make
 * one. For the same reason it never opens or stats anything under its own mount, nor its block
 * device, and never waits for another process.
 */
#ifndef UZD_SUPERVISOR_H
#define UZD_SUPERVISOR_H

#include "config/config.h"
#include "supervisor/handover.h"

/* Run the device until it is stopped: the one that state describes, left by another supervisor, or,
 * if that is NULL, a new one. Returns the process's exit status; everything has been logged. On
 * failure to take over the device is as the last supervisor left it, and state->stable is not
 * PHASE_ENDED. */
int supervisor_main(const struct config *config, const struct launch *launch, struct state *state);

#endif

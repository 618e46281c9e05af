/* SPDX-License-Identifier: MIT
 *
 * The supervisor: everything that takes privilege, and everything that must outlive a server.
 *
 * Single-threaded. It makes the arena, mounts, forks the server, and has short-lived children
 * attach loop and swap: those calls need a living server, and the supervisor must stay free to make
 * one. For the same reason it never opens or stats anything under its own mount, nor its block
 * device.
 */
#ifndef UZD_SUPERVISOR_H
#define UZD_SUPERVISOR_H

#include "config.h"

/* Run the device until it is stopped. Returns the process's exit status; everything has been
 * logged. */
int supervisor_main(const struct config *config);

#endif

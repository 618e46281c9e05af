/* SPDX-License-Identifier: MIT
 *
 * The ublk device, seen from the supervisor: made, given to one server after the other, and taken
 * away.
 *
 * A server gets its requests through /dev/ublkcN. Only one process at a time may have that open,
 * and whoever keeps it open keeps the kernel from noticing that a server has died. So the
 * supervisor keeps nothing: when a server has died it tells the kernel to wait for another
 * (START_USER_RECOVERY), opens the device, and hands it to the next one over its socket. No path,
 * memory or process that might be swapped out is needed for that, and it waits for nobody.
 *
 * The kernel (6.12) is to go on with the next server as soon as that one has fetched requests, and
 * can't be told any more if it has died meanwhile: to say END_USER_RECOVERY then is to be left with
 * a device that is neither served nor recoverable. So that is said beforehand: the command waits in
 * the kernel until there is somebody to go on with.
 */
#ifndef UZD_UBLK_DEVICE_H
#define UZD_UBLK_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/shared.h"
#include "supervisor/ublk/control.h"

struct ublk_device {
	struct ublk_control control;
	struct state *state;
	bool given;   /* the server has it */
	bool used;    /* some server has had it */
	bool ending;  /* END_USER_RECOVERY is with the kernel */
	bool waiting; /* for the kernel to be done with the last server */
	uint64_t complain_ns;
};

/* Whether this machine can have ublk devices. */
bool ublk_device_possible(void);

/* Make a device as state has it, which names it from then on; or go on with the one it names,
 * served: by a server that an earlier supervisor has given it to. Logs why it can't. 0 or -errno.
 */
int ublk_device_new(struct ublk_device *u, struct state *state);
int ublk_device_adopt(struct ublk_device *u, struct state *state, bool served);

/* The server has ended. */
void ublk_device_lost(struct ublk_device *u);

/* To be called again and again. socket: to the server; -1: there is none of ours. Gives it the
 * device, if it hasn't got it and as soon as the kernel is done with the last one. */
void ublk_device_tick(struct ublk_device *u, int socket);

/* Milliseconds until ublk_device_tick() is to be called again, at most max. */
int ublk_device_timeout(const struct ublk_device *u, int max);

/* Remove the device. No server lives. */
void ublk_device_delete(struct ublk_device *u);

/* --- steps for children of the supervisor: each needs a living server. 0 or -errno. --- */

/* Make the block device; its path is in state->block_device from then on. */
int ublk_device_start(struct state *state);

/* Remove it; -EBUSY if it is mounted, in use as swap or otherwise claimed. */
int ublk_device_stop(struct state *state);

/* --- for the next daemon of that name --- */

/* The block device of the one whose daemon died without removing it; -ENOENT: there is none. */
int ublk_device_find(const char *name, char ret_dev[BLOCK_DEVICE_PATH_MAX]);

/* Remove it, in use or not. */
int ublk_device_clear(const char *name);

#endif

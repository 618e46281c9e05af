/* SPDX-License-Identifier: MIT
 *
 * The ublk device, seen from the supervisor: made, given to one server after the other, and taken
 * away.
 *
 * A server gets its requests through /dev/ublkcN. Only one process at a time may have that open,
 * and a process that keeps it open keeps the kernel from noticing that a server has died. So the
 * supervisor keeps nothing: when a server has died it tells the kernel to wait for another
 * (START_USER_RECOVERY), opens the device, and hands it to the next server over its socket. That
 * takes no path, memory or process that might be swapped out, and it waits for nobody.
 *
 * The kernel (6.12) is to go on with the next server as soon as that one has fetched requests, and
 * can't be told any more if that server has died meanwhile: to say END_USER_RECOVERY then is to be
 * left with a device that is neither served nor recoverable. So the supervisor says it beforehand:
 * the command waits in the kernel until there is a server to go on with.
 *
 *	NEW -> GIVEN -> LOST -> RECOVERING <-> HANDED -> GIVEN
 *
 *	NEW		handed over to a server			-> GIVEN
 *	GIVEN		the server ends				-> LOST
 *	LOST		START_, END_USER_RECOVERY are said	-> RECOVERING
 *	LOST		no block device: deleted, made anew	-> NEW
 *	RECOVERING	handed over to a server			-> HANDED
 *	RECOVERING	END_USER_RECOVERY is done		-> LOST
 *	HANDED		END_USER_RECOVERY is done		-> GIVEN
 *	HANDED		the server ends				-> RECOVERING
 *
 * For the supervisor and its children alone; the server's half is server/front/ublk.h.
 */
#ifndef UZD_UBLK_DEVICE_H
#define UZD_UBLK_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/shared.h"
#include "supervisor/ublk/control.h"

enum ublk_phase {
	UBLK_NEW,	 /* no server has had it */
	UBLK_GIVEN,	 /* the server has it */
	UBLK_LOST,	 /* the server that had it has ended */
	UBLK_RECOVERING, /* END_USER_RECOVERY is with the kernel; no server has it */
	UBLK_HANDED,	 /* END_USER_RECOVERY is with the kernel; the server has it */
};

struct ublk_device {
	struct ublk_control control;
	struct state *state;
	enum ublk_phase phase;
	/* From when on the next server may have the device; 0: the kernel has not yet noticed that
	 * the last one has ended. */
	uint64_t settled_ns;
	/* When to complain that the kernel is not yet done with the last server; 0: it is. */
	uint64_t complain_ns;
};

/* Whether this machine can have ublk devices. */
bool ublk_device_possible(void);

/* Make a device as state has it, which names it from then on. Waits 15 s at most: -ETIMEDOUT if the
 * kernel does not answer. Or go on with the device that state names; served: by a server that an
 * earlier supervisor has given it to. Both log why they can't. 0 or -errno. */
int ublk_device_new(struct ublk_device *u, struct state *state);
int ublk_device_adopt(struct ublk_device *u, struct state *state, bool served);

/* The server has ended. */
void ublk_device_lost(struct ublk_device *u);

/* To be called again and again. Gives the server the device, if it hasn't got it, as soon as the
 * kernel is done with the last server. socket: to the server; -1: there is none that this
 * supervisor could reach. */
void ublk_device_tick(struct ublk_device *u, int socket);

/* Milliseconds until ublk_device_tick() is to be called again, at most max. */
int ublk_device_timeout(const struct ublk_device *u, int max);

/* Remove the device. No server lives. */
void ublk_device_delete(struct ublk_device *u);

/* --- steps for children of the supervisor: each needs a living server. 0 or -errno. --- */

/* Make the block device; its path is in state->block_device from then on. */
int ublk_device_start(struct state *state);

/* Remove it; -EBUSY if it is mounted, in use as swap or otherwise claimed. 0 if there is none. */
int ublk_device_stop(struct state *state);

/* --- for the next daemon of that name --- */

/* The block device that a dead daemon of that name has left; -ENOENT: there is none. */
int ublk_device_find(const char *name, char ret_dev[BLOCK_DEVICE_PATH_MAX]);

/* Remove it, in use or not. */
int ublk_device_clear(const char *name);

#endif

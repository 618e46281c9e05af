/* SPDX-License-Identifier: MIT
 *
 * The device's place on the host: its directory, its lock, its block device, its swap area, its
 * name.
 */
#ifndef UZD_DEVICE_H
#define UZD_DEVICE_H

#include "config/config.h"
#include "shared/shared.h"

#define RUN_DIR "/run/uzram"

struct device {
	const struct config *config;
	struct state
		*state; /* where the attaching child says what there is; NULL until there is one */
	char lock[80];	/* RUN_DIR/NAME.lock */
	char dir[80];	/* RUN_DIR/NAME, the mount point */
	char disk[96];	/* RUN_DIR/NAME/disk */
};

void device_init(struct device *d, const struct config *config);

/* Make the name ours, and the directory: by a lock that ends with the last process that has
 * *ret_lock_fd. What a daemon that was killed left there (a dead mount, a loop device) is cleared
 * away; -EBUSY if another daemon has the name, or a dead one's block device is still in use. Logs
 * why. */
int device_claim(struct device *d, int *ret_lock_fd);

/* Remove directory and lock. */
void device_release(struct device *d);

/* Steps for children of the supervisor: each needs a living server, but for device_abort(). They
 * log why they fail. 0 or -errno. */

/* Whatever is missing of block device, name, swap header and swapon, as configured. */
int device_attach(struct device *d);

/* The way back: swapoff, block device, name, mount. -ENOMEM: the pages don't fit into memory;
 * -EBUSY: it is in use otherwise. On failure the device goes on. forced: try whatever memory there
 * is; the kernel may kill processes for it. */
int device_detach(struct device *d);
int device_detach_forced(struct device *d);

/* swapoff while the machine sleeps, and swapon, if the config wants swap. */
int device_sleep(struct device *d);
int device_wake(struct device *d);

/* Discard all that is stored, and make the swap area anew, which is not in use then. -EBUSY if it
 * is; -EOPNOTSUPP for a disk: what has it open can't be told. */
int device_reset(struct device *d);

/* Every request fails from now on, waiting ones included. */
int device_abort(struct device *d);

#endif

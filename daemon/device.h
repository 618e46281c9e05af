/* SPDX-License-Identifier: MIT
 *
 * The device's place on the host: its directory, its lock, its loop device, its swap area, its
 * name.
 */
#ifndef UZD_DEVICE_H
#define UZD_DEVICE_H

#include "config.h"
#include "shared.h"

#define RUN_DIR "/run/uzram"

struct device {
	const struct config *config;
	struct shared *shared;
	int lock_fd;
	char lock[80]; /* RUN_DIR/NAME.lock */
	char dir[80];  /* RUN_DIR/NAME, the mount point */
	char disk[96]; /* RUN_DIR/NAME/disk */
};

/* Make the name ours, by a lock that ends with the process, and the directory. What a daemon that
 * was killed left there (a dead mount, a loop device) is cleared away; -EBUSY if another daemon has
 * the name, or a dead one's loop device is still in use. Logs why. */
int device_claim(struct device *d, const struct config *config);

/* Remove directory and lock. */
void device_release(struct device *d);

/* Steps for children of the supervisor: each needs a living server. They log why they fail. 0 or
 * -errno. */
int device_attach(struct device *d); /* loop, name, mkswap, swapon: as configured */
int device_detach(struct device *d); /* swapoff, name, loop: whatever there is */
int device_unmount(struct device *d);

#endif

/* SPDX-License-Identifier: MIT
 *
 * A FUSE mount and what it takes to serve it. The supervisor mounts, and keeps the descriptors and
 * the first request (FUSE_INIT): with those in hand, one server after the other can serve the same
 * mount.
 */
#ifndef UZD_FUSE_MOUNT_H
#define UZD_FUSE_MOUNT_H

#include <stddef.h>

#include "config/config.h"

struct fuse_mount {
	unsigned nfds; /* /dev/fuse and its clones, one a worker */
	int fds[CONFIG_WORKERS_MAX];
	size_t init_len; /* the FUSE_INIT request, as the kernel sent it */
	char init[8192];
};

#endif

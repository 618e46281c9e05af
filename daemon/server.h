/* SPDX-License-Identifier: MIT
 *
 * The serving process: store, front end, control. It inherits descriptors and memory from the
 * supervisor that forked it, opens nothing, and keeps nothing that matters outside the arena: it
 * may die at any instruction.
 */
#ifndef UZD_SERVER_H
#define UZD_SERVER_H

#include <stdbool.h>

#include "config.h"
#include "front_fuse.h"
#include "shared.h"

struct server_config {
	const struct config *config;
	int arena_fd;
	const struct fuse_mount *mount;
	struct shared *shared;
	int socket; /* to the supervisor */
	bool again; /* another server has served this arena and mount before */
};

/* Serve until SIGTERM. Returns the process's exit status; everything else has been logged. */
int server_main(const struct server_config *config);

#endif

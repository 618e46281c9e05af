/* SPDX-License-Identifier: MIT
 *
 * The serving process: store, front ends, control. It inherits descriptors and memory from the
 * supervisor that forked it, opens nothing, and keeps nothing that matters outside the arena: it
 * may die at any instruction.
 *
 * This is the one header of server/ that the supervisor includes: its child becomes a server by
 * server_main(), and is root until that has called jail_enter() and jail_close().
 *
 * It serves without privileges: as an unprivileged user without capabilities, in an empty root
 * directory, without network, and with no system calls but those that serving takes (jail.h).
 *
 * One serves, and two stand by: each has all the memory, threads and descriptors that serving
 * takes, and waits for its turn in the queue of locks (shared.h). A machine that swaps may have no
 * memory to give to a new process, and none to gain but by swapping out. With two, a server may
 * die while its successor's successor is still being made.
 *
 * When the supervisor dies the server serves on, and says so: the pages of all processes, systemd's
 * own included, are here, and no process could start another supervisor if no server served them.
 */
#ifndef UZD_SERVER_H
#define UZD_SERVER_H

#include "config/config.h"
#include "shared/jail.h"
#include "shared/shared.h"

struct server_config {
	const struct config *config;
	const struct state *state;
	struct status *status;
	const struct jail *jail;
	int socket;  /* to the supervisor */
	int latency; /* /dev/cpu_dma_latency, or -1 */
};

/* Exit status: the last server has died with requests that the kernel can't send again. */
#define SERVER_EXIT_LOST 3

/* Stand by until no other server serves, then serve, until SIGTERM, or until the mount is gone.
 * Returns the process's exit status; everything else has been logged. */
int server_main(const struct server_config *config);

#endif

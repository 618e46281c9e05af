/* SPDX-License-Identifier: MIT
 *
 * The FUSE front end: the directory /run/uzram/NAME with the file "disk" and the control files.
 *
 * Two halves. The supervisor mounts, and keeps the descriptors and the first request (FUSE_INIT):
 * with those in hand, one server after the other can serve the same mount. The server runs a
 * fuse_session on each descriptor.
 */
#ifndef UZD_FRONT_FUSE_H
#define UZD_FRONT_FUSE_H

#include <stdbool.h>
#include <stddef.h>

#include "control.h"

#define FRONT_FUSE_WORKERS_MAX 64

/* A mount and what it takes to serve it. */
struct fuse_mount {
	unsigned nfds; /* /dev/fuse and its clones, one a worker */
	int fds[FRONT_FUSE_WORKERS_MAX];
	size_t init_len; /* the FUSE_INIT request, as the kernel sent it */
	char init[8192];
};

/* --- the supervisor's half --- */

/* Mount on the directory path and receive FUSE_INIT, which is left to the first server to answer.
 */
int front_fuse_mount(const char *path, unsigned workers, struct fuse_mount *m);

/* Close the descriptors. Requests that are waiting fail, as do all later ones. */
void front_fuse_close(struct fuse_mount *m);

/* --- the server's half --- */

/* Serve the mount with m->nfds threads, each with a worker of the store of its own. again: another
 * server has answered FUSE_INIT already; what it left unanswered is sent once more by the kernel.
 * Returns when all threads run. */
int front_fuse_serve(const struct fuse_mount *m, struct uz_store *store, struct control *control,
		     bool again);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The FUSE front end: the directory /run/uzram/NAME with the file "disk" and the control files.
 *
 * Two halves. The supervisor mounts, and keeps the descriptors and the first request (FUSE_INIT):
 * with those in hand, one server after the other can serve the same mount. The server runs a
 * fuse_session on each descriptor, in a thread of its own.
 */
#ifndef UZD_FRONT_FUSE_H
#define UZD_FRONT_FUSE_H

#include <stddef.h>

#include "server/front/front.h"

/* A mount and what it takes to serve it. */
struct fuse_mount {
	unsigned nfds; /* /dev/fuse and its clones, one a worker */
	int fds[FRONT_WORKERS_MAX];
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

/* Its threads have ended by themselves when the mount is gone. */
extern const struct front_ops front_fuse_ops;

#endif

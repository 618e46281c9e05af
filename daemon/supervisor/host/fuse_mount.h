/* SPDX-License-Identifier: MIT
 *
 * The supervisor's half of the FUSE front end: the mount, and what it takes to serve it. For the
 * supervisor alone.
 */
#ifndef UZD_FUSE_MOUNT_NEW_H
#define UZD_FUSE_MOUNT_NEW_H

#include "shared/fuse_mount.h"

/* Mount on the directory path and receive FUSE_INIT, which is left to the first server to answer.
 */
int fuse_mount_new(const char *path, unsigned workers, struct fuse_mount *m);

/* Close the descriptors. Requests that are waiting fail, as do all later ones. */
void fuse_mount_close(struct fuse_mount *m);

#endif

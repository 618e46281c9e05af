/* SPDX-License-Identifier: MIT
 *
 * The FUSE front end: the directory /run/uzram/NAME with the file "disk" and the control files.
 *
 * The server's half: a fuse_session on each of the mount's descriptors (shared/fuse_mount.h), in a
 * thread of its own. For the server alone; the supervisor's half is supervisor/host/fuse_mount.h.
 */
#ifndef UZD_FRONT_FUSE_H
#define UZD_FRONT_FUSE_H

#include "server/front/front.h"

/* Its threads have ended by themselves when the mount is gone. */
extern const struct front_ops front_fuse_ops;

#endif

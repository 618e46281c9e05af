/* SPDX-License-Identifier: MIT
 *
 * What each FUSE request does. Everything runs on the thread whose session got the request, with
 * that thread's worker and buffers.
 */
#ifndef UZD_FUSE_OPS_H
#define UZD_FUSE_OPS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

#include "server/control/attributes.h"
#include "server/front/front.h"

#define FUSE_OPS_IO_MAX (1u << 20) /* bytes of data in one read or write */

struct fuse_mount;

/* A session's userdata. */
struct fuse_thread {
	struct fuse_session *session;
	int fd;
	bool swallow;		       /* drop what the session sends */
	const struct fuse_mount *init; /* while it answers FUSE_INIT */
	struct uz_store *store;
	struct uz_worker *worker;
	struct control *control;
	struct latency *latency;
	char *request; /* what is read from fd */
	char *reply;   /* FUSE_OPS_IO_MAX bytes */
	struct front_thread thread;
};

extern const struct fuse_lowlevel_ops fuse_ops;

#endif

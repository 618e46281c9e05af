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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRONT_FUSE_WORKERS_MAX 64

struct control;
struct latency;
struct state;
struct status;
struct uz_store;

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

struct front_fuse;

/* Make a session and a thread, which waits, for each of the mount's descriptors, with a worker of
 * the store of its own. Everything they will need is allocated and touched. first: the kernel still
 * waits for the answer to FUSE_INIT, and gets it. */
int front_fuse_new(const struct fuse_mount *m, struct uz_store *store, struct control *control,
		   struct latency *latency, bool first, struct front_fuse **ret);

/* Take requests. If another server has served this mount before, the kernel is asked to send again
 * what that one left unanswered; if this is the first, whether it could (status->no_resend). since:
 * when the last server had ended, for the times in status; 0: there was none. */
int front_fuse_start(struct front_fuse *f, const struct state *state, struct status *status,
		     uint64_t since);

/* Whether no thread has been busy with the same step of the same request since the last call. One
 * thread. */
bool front_fuse_moves(struct front_fuse *f);

/* Whether all threads have ended: the mount is gone. */
bool front_fuse_ended(struct front_fuse *f);

/* Answer the requests that have been begun and end all threads; the sessions can still reply. */
void front_fuse_stop(struct front_fuse *f);

#endif

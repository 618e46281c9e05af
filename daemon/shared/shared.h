/* SPDX-License-Identifier: MIT
 *
 * What outlives a process: two small files in memory, and the descriptors one of them lists.
 *
 * The *state* is all that a supervisor knows of its device. It is kept there from the start, not
 * written down at the end, so that the next supervisor (the same process after an upgrade's exec,
 * or another one that systemd has started after a crash) goes on where this one stopped. Written by
 * the supervisor and its short-lived children; a server maps it through a descriptor that can't
 * write.
 *
 * The *status* is written by the server. Nothing in it is trusted: numbers to show, times to
 * compare. Three of its bytes are locks (POSIX write locks, which end with the process that holds
 * them and name it). They are the queue for serving: LOCK_SERVING is held by the server that
 * serves, so that there is one at a time, LOCK_STAND_BY by the server that waits for that, and
 * LOCK_NEXT by the server that waits for LOCK_STAND_BY. The two that wait change places every now
 * and then (server.c).
 *
 * Over the socket (SOCK_SEQPACKET, one pair a server) a server sends one enum request a packet;
 * the supervisor answers those that come from a control file with an int, 0 or -errno.
 */
#ifndef UZD_SHARED_H
#define UZD_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "config/config.h"
#include "shared/block_device.h"
#include "shared/fuse_mount.h"
#include "shared/phase.h"

enum request {
	REQUEST_NONE,
	REQUEST_STANDS_BY, /* the server has all it needs, and waits for its turn */
	REQUEST_READY,	   /* the server serves */
	/* Somebody wrote to a control file. */
	REQUEST_STOP,	     /* stop the device, if it can be */
	REQUEST_STOP_FORCE,  /* ... though the pages may not fit into memory, or it is open */
	REQUEST_STOP_CANCEL, /* end such a try; there is no answer to this one */
	REQUEST_UPGRADE,     /* exec the binary anew */
	REQUEST_SLEEP,	     /* the machine is about to sleep */
	REQUEST_WAKE,	     /* ... is awake again */
	REQUEST_RESET,	     /* discard all that is stored, unless the device is in use */
};

#define STATE_VERSION 4 /* of struct state and struct status: another one is refused */

/* The server that serves, and those that stand by. */
#define SERVERS_MAX 3

/* A server, for the next supervisor. The socket is the supervisor's end of the one to it. */
struct kept_server {
	pid_t pid; /* 0: none */
	int socket;
};

struct state {
	uint32_t version;
	uint32_t size; /* of this struct */
	char name[sizeof(((struct config *)NULL)->name)];
	uint64_t disksize;
	bool loop, swap;
	unsigned workers, block_size;
	int ublk;	   /* the N of its /dev/ublkcN; -1: it is a loop device, or only a file */
	bool ublk_encoded; /* how that takes commands */
	time_t since;	   /* when the device was made */

	/* Descriptors, by their numbers in the supervisor; -1: none. */
	int state_fd, state_ro_fd, status_fd;
	int arena_fd;
	int lock_fd;
	struct kept_server servers[SERVERS_MAX]; /* in the order in which they go on */
	struct fuse_mount mount;

	unsigned stored; /* how many of them systemd has */

	enum phase phase;  /* of the device's life */
	enum phase stable; /* the last one that a next supervisor can go on with */

	pid_t supervisor;
	pid_t upgraded; /* a server of the binary that the supervisor is about to become; 0: none */
	bool served;	/* a server has answered FUSE_INIT and served */
	bool no_resend; /* the kernel can't send unanswered requests again */
	char block_device[BLOCK_DEVICE_PATH_MAX]; /* "" while there is none */

	/* Since the device was made. */
	unsigned restarts; /* servers that died and were replaced */
	unsigned upgrades;

	int arena_root_fd; /* uz_arena_root(): for the supervisor alone, to bound the memory */
};

struct status {
	_Atomic uint64_t heartbeat_ns; /* CLOCK_MONOTONIC, about every second */
	_Atomic uint64_t serving_ns;   /* when this server began to take requests; 0: not yet */
	_Atomic uint64_t answerers;    /* servers that have answered a request */
	_Atomic bool no_resend;
	_Atomic bool finished; /* the last server had answered all it had taken */
	_Atomic pid_t warm;    /* the second stand-by, if it is warmer than the first */
	/* For the status line, with the heartbeat. */
	_Atomic uint64_t pages_stored, compr_bytes, mem_used;
	_Atomic uint64_t failed_writes; /* for the limit, or for want of memory; with it, too */
	/* From the end of a server to its successor's taking requests, and to its first answer: the
	 * last, and the longest. By the server, for its successors. */
	_Atomic uint64_t recovery_ns, recovery_max_ns, outage_ns, outage_max_ns;
};

/* Whether processes wait for ever where a server dies. With ublk the device is not among what they
 * can wait for then, but only control files are. */
static inline bool state_loses_requests(const struct state *state)
{
	return state->no_resend && state->ublk < 0;
}

/* Make both files, for a device as config has it. The state lists no descriptors but theirs. */
int shared_new(const struct config *config, struct state **ret_state, struct status **ret_status);

/* Map the state that another supervisor left. -EPROTO: it is not one of this version. */
int shared_adopt(int state_fd, struct state **ret);

/* Map the status that the state lists. */
int shared_map_status(const struct state *state, struct status **ret);

/* Map the state in a way that can't be written through. */
int shared_map_readonly(int state_ro_fd, const struct state **ret);

/* Call fn for the name and the number of every descriptor that must outlive the supervisor, those
 * that are -1 included; the sockets, which are of no use to another process, are the last. Stops
 * at, and returns, what fn returns if that is not 0. */
int shared_each_fd(struct state *state, int (*fn)(void *arg, const char *name, int *fd), void *arg);

enum shared_lock { LOCK_SERVING, LOCK_STAND_BY, LOCK_NEXT };
#define SHARED_LOCKS 3

_Static_assert(SHARED_LOCKS == SERVERS_MAX, "each server in the queue holds a lock");

/* Take the lock for this process. wait: until it can be had, or a signal comes (-EINTR); else
 * -EAGAIN if another process has it. */
int shared_lock(int status_fd, enum shared_lock which, bool wait);
void shared_unlock(int status_fd, enum shared_lock which);
/* Who has it; 0: nobody. */
pid_t shared_lock_owner(int status_fd, enum shared_lock which);

/* CLOCK_MONOTONIC. */
uint64_t now_ns(void);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The servers, seen from the supervisor: started, watched, and replaced when they die or hang.
 *
 * There are two. When the one that serves ends, the other, which stands by, goes on by itself
 * (server.h); what is left to do here is to start another one to stand by, now that memory can be
 * had again. Without one that stands by (two have died in short order, or the kernel can't send
 * requests again), replacing a server takes a fork and nothing else: no exec, no file, no other
 * process, since any of those may wait for a page that is on the very device that nobody serves.
 */
#ifndef UZD_RESPAWN_H
#define UZD_RESPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail.h"
#include "shared.h"

struct server_process {
	pid_t pid;  /* 0: there is none, and the descriptors are -1 */
	int pidfd;  /* readable when it has died */
	int socket; /* to it; -1 too if another supervisor has started it */
	bool child;
	bool ready; /* it has said that it serves */
	uint64_t started_ns;
};

struct respawn {
	const struct config *config;
	struct state *state;
	struct status *status;
	const struct jail *jail;
	int latency; /* of latency_open() */

	struct server_process server; /* serves, or is about to */
	struct server_process spare;  /* stands by */
	bool wanted;		      /* there are to be servers */
	bool alone;		      /* ... but no spare */
	bool lost; /* requests were lost with one, and can't be had again: never another one */

	uint64_t answerers;    /* status->answerers when the last one died */
	unsigned futile;       /* servers in a row that died without having answered a request */
	uint64_t futile_since; /* the first of them */
	uint64_t next_ns;      /* no other server is started before, */
	uint64_t spare_ns;     /* and no other spare before */
};

/* There is no server yet. */
void respawn_init(struct respawn *r, const struct config *config, struct state *state,
		  struct status *status, const struct jail *jail, int latency);

/* Watch the servers that an earlier supervisor has started, which live on, whosever children they
 * are. */
void respawn_adopt(struct respawn *r);

/* A pidfd is readable: reap the server, or the spare. When a server has crashed the spare is the
 * server; or else another is started at once, or when it is due, unless it was the device's first
 * and never served, or has taken requests that the kernel can't send again. Logs how it died. */
void respawn_reap_server(struct respawn *r);
void respawn_reap_spare(struct respawn *r);

/* No more servers are wanted. Kills the spare; or, if there is none any more, tells the server to
 * answer what it has begun and to end. */
void respawn_end(struct respawn *r);

/* No spare is wanted: kills the one there is. */
void respawn_end_spare(struct respawn *r);

/* Whether servers die faster than they serve. */
bool respawn_struggles(const struct respawn *r);

/* To be called at least every second, and after every other function here: starts a server or a
 * spare that is due, kills a server that hangs or does not end. */
void respawn_tick(struct respawn *r);

/* Milliseconds until respawn_tick() has to be called again, at most max. */
int respawn_timeout(const struct respawn *r, int max);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The servers, seen from the supervisor: started, watched, and replaced when they die or hang, or
 * are to be renewed.
 *
 * One serves, two stand by. When the server that serves ends, one of those goes on by itself
 * (server.h); what is left to do here is to start another one, now that memory can be had
 * again. The second is for the time until then: a server that dies while nobody stands by is
 * replaced by a fork and nothing else (no exec, no file, no other process, any of which may need a
 * page of the very device that nobody serves), but a fork takes memory, of which there may be none.
 *
 * *Renewal* replaces the servers of an earlier supervisor or another binary, and the device is
 * served throughout: a new server starts while the old ones serve and stand by; when it stands by
 * itself, the old stand-bys are killed, and only then the old server is told to end. If no new
 * server gets that far, the old ones stay.
 */
#ifndef UZD_RESPAWN_H
#define UZD_RESPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/jail.h"
#include "shared/shared.h"
#include "supervisor/handover.h"

#define SPARES (SERVERS_MAX - 1)

struct server_process {
	pid_t pid;  /* 0: there is none, and the descriptors are -1 */
	int pidfd;  /* readable when it has died */
	int socket; /* to it; -1 too if another supervisor has started it */
	bool child;
	bool old;	/* to be replaced */
	bool stands_by; /* it has said that it has all it needs */
	bool ready;	/* it has said that it serves */
	uint64_t started_ns;
	uint64_t told_ns; /* when it was told to end; 0: it was not */
};

struct respawn {
	const struct config *config;
	struct state *state;
	struct status *status;
	const struct jail *jail;
	int latency; /* of latency_open() */

	struct server_process server;	      /* serves, or is about to */
	struct server_process spares[SPARES]; /* stand by, or prepare to; no gap before one, in
						 no order */
	bool wanted;			      /* there are to be servers */
	bool lost; /* requests were lost with one, and can't be had again: never another one */

	/* The binary to take stand-bys from, in the place of this one: it is to become the
	 * supervisor's when one of them stands by. NULL: no upgrade is being prepared. */
	const struct launch *upgrade;
	unsigned failed_servers; /* in a row: could not be started */
	unsigned failed_spares;	 /* in a row: that neither, or died before they stood by */
	char why[64];		 /* ... how the last of them ended */

	uint64_t answerers;    /* status->answerers when the last one died */
	unsigned futile;       /* servers in a row that died without having answered a request */
	uint64_t futile_since; /* the first of them */
	uint64_t next_ns;      /* no other server is started before, */
	uint64_t spare_ns;     /* and no other spare before */

	/* Of the server's heartbeat, as often as respawn_tick() looks at it. */
	uint64_t look_ns; /* the last time */
	uint64_t beat;	  /* what it was then */
	uint64_t stale_ns, stale_looks;
};

/* There is no server yet. */
void respawn_init(struct respawn *r, const struct config *config, struct state *state,
		  struct status *status, const struct jail *jail, int latency);

/* Watch the servers that an earlier supervisor has started, and which live on, be they children of
 * this process or not. All are old, but for the one that state->upgraded names. */
void respawn_adopt(struct respawn *r);

/* Prepare an upgrade: have a server of the binary that launch names stand by, in the place of all
 * others that do. launch stays where it is. To be called while a server serves. Done when
 * respawn_upgradable(); it has failed when failed_spares is not 0, and is then to be called off. */
void respawn_upgrade(struct respawn *r, const struct launch *launch);
bool respawn_upgradable(const struct respawn *r);
void respawn_call_off(struct respawn *r);

/* It has said that it stands by. */
void respawn_stands_by(struct respawn *r, struct server_process *p);

/* Whether a server, or one that stands by, is old. */
bool respawn_renews(const struct respawn *r);

/* Whether the server that serves has been told to end, and one of those that stand by goes on. */
bool respawn_changes(const struct respawn *r);

/* A pidfd is readable: reap the server, or that spare. When a server has ended the first spare is
 * the server; or else another is started at once, or when it is due, unless it was the device's
 * first and never served, or has taken requests that the kernel can't send again. Logs how it
 * died. */
void respawn_reap_server(struct respawn *r);
void respawn_reap_spare(struct respawn *r, unsigned i);

/* No more servers are wanted. Kills the spares; or, if there are none any more, tells the server to
 * answer what it has begun and to end. */
void respawn_end(struct respawn *r);

/* Whether there is no server and no spare any more. */
bool respawn_ended(const struct respawn *r);

/* The socket to the server, if it is the one that holds the lock of serving by now; else -1. */
int respawn_serving_socket(const struct respawn *r);

/* Whether servers die faster than they serve. */
bool respawn_struggles(const struct respawn *r);

/* To be called at least every second, and after every other function here: starts a server or a
 * spare that is due, kills a server that hangs or does not end, goes on with a renewal. */
void respawn_tick(struct respawn *r);

/* Milliseconds until respawn_tick() has to be called again, at most max. */
int respawn_timeout(const struct respawn *r, int max);

#endif

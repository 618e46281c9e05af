/* SPDX-License-Identifier: MIT
 *
 * What supervisor, server and the supervisor's short-lived children share: one page of memory, and
 * a socket.
 *
 * Over the socket (SOCK_SEQPACKET) the server sends one enum request a packet; the supervisor
 * answers REQUEST_STOP with an int, 0 or -errno.
 */
#ifndef UZD_SHARED_H
#define UZD_SHARED_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "attach.h"

enum request {
	REQUEST_READY, /* the server serves */
	REQUEST_STOP,  /* somebody wrote to the control file: stop the device, if it can be */
};

struct shared {
	time_t since;			    /* when the device was made; by the supervisor */
	char block_device[ATTACH_PATH_MAX]; /* "" while there is none; by the attaching child */
	_Atomic uint64_t heartbeat; /* CLOCK_MONOTONIC, ns; by the server, about every second */
	/* For the status line; by the server with its heartbeat. */
	_Atomic uint64_t pages_stored, compr_bytes, mem_used;
};

#endif

/* SPDX-License-Identifier: MIT
 *
 * Waking an idle CPU takes longer than answering a read, and one read through loop wakes four
 * threads. PM-QoS (Documentation/power/pm_qos_interface.rst) has the CPUs stay awake: as long as
 * somebody who has /dev/cpu_dma_latency open asks for 0 us, idle ones poll. That is for all CPUs
 * and takes power, so it is to be had only while somebody asks for one page after the other.
 *
 * "auto": a read that comes alone, soon after the one before, is somebody's who waited for that
 * one. A few such in a row take the hold; without any for a few milliseconds a thread of its own,
 * which sleeps else, drops it. Reads that come side by side are no sign of anything: one page fault
 * may have several of them made (swap's read-ahead), and where there are always several CPUs don't
 * sleep. Nor are writes: nobody waits for a page to be swapped out as long as others can be had.
 *
 * The supervisor opens the device, since a server can open nothing, and may have to start while
 * nobody can be waited for. All servers share its request, which so outlives them: a server that
 * begins to serve sets it anew, and when one has ended with no other to go on, the supervisor
 * drops it. Nobody else writes it but the server that serves. The kernel drops it when the last
 * process ends.
 */
#ifndef UZD_LATENCY_H
#define UZD_LATENCY_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

/* --- the supervisor's half --- */

/* The device, to be closed by the end of the process; -1 if the config never wants it, or if the
 * system has none for us, which is logged. */
int latency_open(enum latency_hold hold);

/* Drop what a server that has ended may have held. Only while no server lives; fd may be -1. */
void latency_drop(int fd);

/* --- the server's half --- */

struct latency {
	int fd;
	enum latency_hold hold;

	/* Of the reads. Workers race for these: that costs one of them its count at most. */
	_Atomic unsigned reading; /* now */
	_Atomic uint64_t last_ns; /* the last one */
	_Atomic uint64_t next_ns; /* the last one that came soon after another */
	_Atomic unsigned row;	  /* of such ones, while there is no hold */

	/* Who sets it holds; who holds may write to fd, and clears it. */
	_Atomic bool held;

	sem_t taken; /* a worker has; or stop */
	_Atomic bool stop;
	pthread_t thread;

	/* Since this server began to serve. */
	_Atomic uint64_t holds;	  /* how often it was taken */
	_Atomic uint64_t held_ns; /* how long it was held, those that are over */
};

/* Make the thread, if hold is "auto". fd: of latency_open(). Nothing is held yet, nor dropped. */
int latency_init(struct latency *l, int fd, enum latency_hold hold);

/* This server serves from now on: before it takes requests. */
void latency_start(struct latency *l);

/* Around each read and its answer; alone is what latency_begin() has returned: whether no other one
 * is under way. Any thread; makes a system call only if it takes the hold. */
bool latency_begin(struct latency *l);
void latency_end(struct latency *l, bool alone);

/* Drop the hold, end the thread. No more reads come. */
void latency_stop(struct latency *l);

#endif

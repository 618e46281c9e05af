/* SPDX-License-Identifier: MIT
 *
 * Waking an idle CPU takes longer than answering a read, and one read through loop wakes four
 * threads. PM-QoS (Documentation/power/pm_qos_interface.rst) has the CPUs stay awake: as long as
 * somebody who has /dev/cpu_dma_latency open asks for 0 us, idle ones poll. That is for all CPUs
 * and takes power, so the hold is taken only while a process reads one page after the other.
 *
 * "auto": a read that comes alone, soon after the one before, comes from a process that waited for
 * that one. A few such reads in a row take the hold; after a few milliseconds without any, a thread
 * that otherwise sleeps drops it. Reads that come side by side say nothing: one page fault may make
 * several (swap's read-ahead), and where there are always several under way CPUs don't sleep.
 * Writes say nothing either: no process waits for a page to be swapped out while others are free.
 *
 * The device is the supervisor's (supervisor/latency_device.h), and so is the request, which
 * outlives a server. Only the server that serves writes it. For the server alone.
 */
#ifndef UZD_LATENCY_H
#define UZD_LATENCY_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

struct latency {
	int fd;
	enum latency_hold hold;

	/* Workers race for the last three: at worst one read of theirs is not counted. */
	_Atomic unsigned reading; /* reads that are under way */
	_Atomic uint64_t last_ns; /* when the last read ended */
	_Atomic uint64_t next_ns; /* when the last read ended that came soon after another */
	_Atomic unsigned row;	  /* reads in a row that came so, while there is no hold */

	/* The thread that sets it has taken the hold; only the holder writes to fd, and clears it.
	 */
	_Atomic bool held;

	sem_t taken; /* a worker has taken the hold, or stop is set */
	_Atomic bool stop;
	pthread_t thread;

	/* Since this server began to serve. */
	_Atomic uint64_t holds;	  /* how often it was taken */
	_Atomic uint64_t held_ns; /* how long it was held, those that are over */
};

/* Make the thread, if hold is "auto". fd: /dev/cpu_dma_latency, or -1. Nothing is held yet, nor
 * dropped. */
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

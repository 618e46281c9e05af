/* SPDX-License-Identifier: MIT
 *
 * The supervisor's half of the hold on the CPUs' wake-up latency (server/latency.h): the device.
 * For the supervisor alone.
 *
 * A server can open nothing, and may have to start while nobody can be waited for. All servers
 * share the supervisor's descriptor, and so its request, which outlives each of them: a server that
 * begins to serve sets it anew, and when one has ended with no other to go on, the supervisor drops
 * it. The kernel drops it when the last process ends.
 */
#ifndef UZD_LATENCY_DEVICE_H
#define UZD_LATENCY_DEVICE_H

#include "config/config.h"

/* The device, to be closed by the end of the process; -1 if the config never wants it, or if the
 * system has none for us, which is logged. */
int latency_open(enum latency_hold hold);

/* Drop what a server that has ended may have held. Only while no server lives; fd may be -1. */
void latency_drop(int fd);

#endif

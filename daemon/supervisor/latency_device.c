/* SPDX-License-Identifier: MIT */
#include "supervisor/latency_device.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "shared/latency_request.h"
#include "shared/log.h"

#define DEVICE "/dev/cpu_dma_latency"

int latency_open(enum latency_hold hold)
{
	int fd = -1;

	if (hold == LATENCY_HOLD_NEVER)
		return -1;
	fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		log_notice("can't keep CPUs awake while pages are read one after the other: %s: %s",
			   DEVICE, strerror(errno));
	return fd;
}

void latency_drop(int fd)
{
	if (fd >= 0)
		latency_request(fd, LATENCY_DROP);
}

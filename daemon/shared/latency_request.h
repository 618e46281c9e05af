/* SPDX-License-Identifier: MIT
 *
 * What is written to /dev/cpu_dma_latency.
 */
#ifndef UZD_LATENCY_REQUEST_H
#define UZD_LATENCY_REQUEST_H

#include <stdint.h>
#include <unistd.h>

/* What is asked for, in us: no time at all; the kernel's default, PM_QOS_CPU_LATENCY_DEFAULT_VALUE,
 * which is no request. */
#define LATENCY_HOLD 0
#define LATENCY_DROP 2000000000

/* There is no reason for it to fail, and nothing to be done if it did. */
static inline void latency_request(int fd, int32_t us)
{
	(void)!write(fd, &us, sizeof(us));
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * A step that needs a living server (attach, swapoff ...) is made by a short-lived child, while the
 * supervisor stays free to keep the server alive. One at a time.
 */
#ifndef UZD_CHILD_H
#define UZD_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct device;

struct child {
	pid_t pid;	      /* 0: there is none */
	int pidfd;	      /* readable when it has ended; -1: that can only be asked for */
	uint64_t deadline_ns; /* it is killed then; 0: never */
	int killed;	      /* -errno: why it was killed */
	bool over;	      /* it has ended, with err: until child_take() */
	int err;
};

/* Have a child make a step of device.h, which logs its own failure; within limit seconds, if that
 * is not 0. If there can be no child, that is the outcome. */
void child_start(struct child *c, int (*step)(struct device *device), struct device *device,
		 unsigned limit);

/* End it before it is done; why is the outcome then. That takes until the kernel lets go of it. */
void child_cancel(struct child *c, int why);

/* Notice that it has ended, or that its time is over. To be called about every second, and when
 * pidfd is readable. */
void child_tick(struct child *c);

/* The outcome, 0 or -errno, of a child that is over; there can be another one then. */
int child_take(struct child *c);

#endif

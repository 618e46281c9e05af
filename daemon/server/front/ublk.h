/* SPDX-License-Identifier: MIT
 *
 * The ublk front end. For the server alone; the supervisor's half is supervisor/ublk/device.h.
 *
 * The queue thread has all requests from the kernel and gives all answers, through one ring. It
 * carries out reads itself and hands everything else to the workers, its helpers. Requests go to
 * them, and come back, through words of one bit a tag.
 *
 * ublk allows a queue for each worker, but a kernel like Linux 6.12 takes a server for dead or
 * alive queue by queue. A server that is killed when it has fetched for the first queue and not yet
 * for the second leaves a device that can't be recovered: START_USER_RECOVERY dereferences a null
 * pointer. With one queue all is fetched in one system call, and there is no such moment. For the
 * same reason the server fetches first and maps the descriptors after: the kernel records which
 * task has mapped them, allows no second one, and clears that record only for a task that has
 * fetched.
 */
#ifndef UZD_FRONT_UBLK_H
#define UZD_FRONT_UBLK_H

#include "server/front/front.h"

/* Its threads have ended by themselves when the block device is gone. */
extern const struct front_ops front_ublk_ops;

#endif

/* SPDX-License-Identifier: MIT
 *
 * The ublk front end: the server's half. The supervisor's is ublk_device.h.
 *
 * One thread, the queue's, has all the requests from the kernel and gives all the answers, through
 * one ring. It reads, and hands everything else to the workers, its helpers: through words of one
 * bit a tag, to them and back.
 *
 * Not a queue for each worker, as ublk allows: a kernel like Linux 6.12 takes a server for dead or
 * alive queue by queue. One that is killed when it has fetched for the first queue and not yet for
 * the second leaves a device that can't be recovered: START_USER_RECOVERY dereferences a null
 * pointer. With one queue all is fetched in one system call, and there is no such moment. For the
 * same reason the queue is fetched for first and its descriptors are mapped after: the kernel has
 * who maps them once, and forgets him only if he has fetched.
 */
#ifndef UZD_FRONT_UBLK_H
#define UZD_FRONT_UBLK_H

#include "server/front/front.h"

/* Its threads have ended by themselves when the block device is gone. */
extern const struct front_ops front_ublk_ops;

#endif

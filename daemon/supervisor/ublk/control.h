/* SPDX-License-Identifier: MIT
 *
 * /dev/ublk-control: the commands that make, start, recover and remove ublk devices. They need
 * CAP_SYS_ADMIN. Each process opens it for itself: a child does not inherit the ring. For the
 * supervisor and its children alone.
 *
 * Ids are the N of /dev/ublkcN, which a server has its requests from, and /dev/ublkbN, the block
 * device. The device has one queue (server/front/ublk.h says why).
 *
 * A function that gets no answer from the kernel in time returns -ETIMEDOUT: 10 s, or 60 s where
 * the command waits for requests to be answered. The command stays with the kernel then, and the
 * process can't end before it is done.
 */
#ifndef UZD_UBLK_CONTROL_H
#define UZD_UBLK_CONTROL_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct ublk_control {
	int fd;
	struct io_uring ring;
	bool encoded;		  /* commands, as ublk_uapi.h has it */
	uint64_t number;	  /* of the last command */
	struct io_uring_sqe *sqe; /* where it was put */
};

/* -ENOENT: there is no ublk driver, or it is not loaded. Or another -errno. Before the process
 * forks for anything else. */
int ublk_control_open(struct ublk_control *c);
void ublk_control_close(struct ublk_control *c);

/* Make a device of size bytes with logical blocks of block_size, which keeps mark for
 * ublk_control_find(). It waits for a server, and then to be started. Returns its id, -EOPNOTSUPP
 * if the kernel can't have one server replace another, or another -errno. */
int ublk_control_add(struct ublk_control *c, uint64_t size, unsigned block_size, uint64_t mark);

/* The id of a device that has that mark; -ENOENT: there is none. */
int ublk_control_find(struct ublk_control *c, uint64_t mark);

/* UBLK_S_DEV_DEAD: it has not been started, or has been stopped, and there is no block device;
 * UBLK_S_DEV_LIVE; UBLK_S_DEV_QUIESCED: its server has ended. Or -errno. */
int ublk_control_state(struct ublk_control *c, int id);

/* Make the block device. The server has fetched requests. pid, here and below: the process that has
 * opened /dev/ublkcN. (Before Linux 6.16 the kernel only shows it.) */
int ublk_control_start(struct ublk_control *c, int id, pid_t pid);

/* Remove the block device, in use or not; what is still to be answered fails, unless a server
 * answers it first. The server has no more requests to fetch then. */
int ublk_control_stop(struct ublk_control *c, int id);

/* Stop it, and remove all of it. Its number is free again when nobody has it open any more; before
 * Linux 6.9 this waits for that. */
int ublk_control_delete(struct ublk_control *c, int id);

/* The server of a device that is started has ended: have it wait for another one, and all requests
 * with it. -EBUSY: the kernel is not yet done with the last one. -EINVAL: it waits already, since
 * none has fetched. */
int ublk_control_start_recovery(struct ublk_control *c, int id);

/* Have the kernel go on with the next server as soon as that one has fetched requests. Returns
 * 0 or -errno at once. No other command before it is done. */
int ublk_control_end_recovery(struct ublk_control *c, int id, pid_t pid);

/* Whether it is done; *ret_result is 0 or -errno then. */
bool ublk_control_done(struct ublk_control *c, int *ret_result);

#endif

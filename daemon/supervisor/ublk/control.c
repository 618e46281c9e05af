/* SPDX-License-Identifier: MIT */
#include "supervisor/ublk/control.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ring.h"
#include "shared/shared.h"
#include "shared/ublk_uapi.h"

#define CONTROL "/dev/ublk-control"
#define NODES	"/dev/ublkc*"

#define SECTOR_SHIFT 9
#define PAGE_SHIFT   12

/* A discard is all that the server does at a time. */
#define DISCARD_MAX_SECTORS ((1u << 30) >> SECTOR_SHIFT)

/* --- commands --- */

/* Seconds within which the kernel carries a command out: by itself; and where the command waits for
 * requests that a server has to answer. There are kernels (some 6.17, 6.18) whose driver never
 * answers. */
#define ANSWER_S 10
#define SERVED_S 60

/* Number a command, and give it to the kernel. What the kernel did not take the last time it would
 * take now: so this command takes the place of that one. 0 or -errno. */
static int submit_command(struct ublk_control *c, uint32_t op,
			  const struct ublksrv_ctrl_cmd *command)
{
	int taken;

	if (!io_uring_sq_ready(&c->ring))
		c->sqe = io_uring_get_sqe(&c->ring);
	io_uring_prep_rw(IORING_OP_URING_CMD, c->sqe, c->fd, NULL, 0, 0);
	c->sqe->cmd_op = op;
	c->sqe->user_data = ++c->number;
	memcpy(c->sqe->cmd, command, sizeof(*command));
	taken = io_uring_submit(&c->ring);
	return taken < 0 ? taken : 0;
}

/* Results of earlier commands, which nobody waits for any more, are dropped. */
bool ublk_control_done(struct ublk_control *c, int *ret_result)
{
	struct io_uring_cqe *cqe;
	bool done = false;

	while (!done && io_uring_peek_cqe(&c->ring, &cqe) == 0) {
		done = cqe->user_data == c->number;
		if (done)
			*ret_result = cqe->res;
		io_uring_cqe_seen(&c->ring, cqe);
	}
	return done;
}

/* What a command reads and writes. The kernel writes it also when it carries out at last what the
 * process has given up: so it is not on the stack. */
static union {
	struct ublksrv_ctrl_dev_info info;
	struct ublk_params params;
	uint64_t features;
} data;

static int run_command(struct ublk_control *c, uint32_t op, const struct ublksrv_ctrl_cmd *command,
		       unsigned seconds)
{
	const uint64_t end = now_ns() + seconds * UINT64_C(1000000000);
	int result, err = submit_command(c, op, command);

	if (err)
		return err;
	while (!ublk_control_done(c, &result)) {
		struct __kernel_timespec slice = {.tv_sec = 1};
		struct io_uring_cqe *cqe;

		if (now_ns() >= end)
			return -ETIMEDOUT;
		io_uring_wait_cqe_timeout(&c->ring, &cqe, &slice);
	}
	return result;
}

/* A command for a device, or (-1) for none. */
static struct ublksrv_ctrl_cmd command_for(int id)
{
	return (struct ublksrv_ctrl_cmd){.dev_id = (uint32_t)id, .queue_id = UINT16_MAX};
}

static int run_simple(struct ublk_control *c, unsigned command, int id, unsigned seconds)
{
	const struct ublksrv_ctrl_cmd cmd = command_for(id);

	return run_command(c, ublk_control_op(command, c->encoded), &cmd, seconds);
}

/* With len bytes of data. */
static int run_with_data(struct ublk_control *c, uint32_t op, int id, size_t len)
{
	struct ublksrv_ctrl_cmd cmd = command_for(id);

	cmd.addr = (uintptr_t)&data;
	cmd.len = (uint16_t)len;
	return run_command(c, op, &cmd, ANSWER_S);
}

static int run_for_server(struct ublk_control *c, unsigned command, int id, pid_t pid)
{
	struct ublksrv_ctrl_cmd cmd = command_for(id);

	cmd.data[0] = (uint64_t)pid;
	return run_command(c, ublk_control_op(command, c->encoded), &cmd, SERVED_S);
}

/* --- open --- */

/* Whether the kernel takes encoded commands: 1, 0 or -errno. A kernel that doesn't know this one
 * doesn't know encoded ones, or (6.4) takes the others, too; each of them refuses it in its way. */
static int knows_encoded(struct ublk_control *c)
{
	int err;

#ifdef UZ_TEST_HOOKS
	if (getenv("UZ_UBLK_LEGACY"))
		return 0;
#endif
	err = run_with_data(c, UBLK_U_CMD_GET_FEATURES, -1, UBLK_FEATURES_LEN);
	if (err == -EOPNOTSUPP || err == -EINVAL || err == -ENODEV)
		return 0;
	return err ? err : 1;
}

/* A ring is memory that is shared with the kernel, and a child has it as well: a server that an
 * attacker has taken over could put commands into the ring of a process that is root. So children
 * don't get it; and the kernel takes no other operations from it than these, for good. */
static int make_control_ring(struct io_uring *ring)
{
	const struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_URING_CMD},
	};
	int err = io_uring_queue_init(4, ring, IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED);

	if (err)
		return err;
	err = io_uring_ring_dontfork(ring);
	if (!err)
		err = uz_ring_enable(ring, allowed, sizeof(allowed) / sizeof(allowed[0]));
	if (err)
		io_uring_queue_exit(ring);
	return err;
}

int ublk_control_open(struct ublk_control *c)
{
	int err;

	*c = (struct ublk_control){.fd = open(CONTROL, O_RDWR | O_CLOEXEC)};
	if (c->fd < 0)
		return -errno;
	err = make_control_ring(&c->ring);
	if (err) {
		close(c->fd);
		return err;
	}
	/* With this first command the kernel makes a thread for those to come. */
	err = knows_encoded(c);
	if (err < 0) {
		ublk_control_close(c);
		return err;
	}
	c->encoded = err;
	return 0;
}

void ublk_control_close(struct ublk_control *c)
{
	io_uring_queue_exit(&c->ring);
	close(c->fd);
}

/* --- the life of a device --- */

static int set_params(struct ublk_control *c, int id, uint64_t size, unsigned block_size)
{
	const uint8_t block_shift = (uint8_t)__builtin_ctz(block_size);

	data.params = (struct ublk_params){
		.len = sizeof(data.params),
		.types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD,
		.basic =
			{
				.logical_bs_shift = block_shift,
				.physical_bs_shift = PAGE_SHIFT,
				.io_min_shift = PAGE_SHIFT,
				.io_opt_shift = PAGE_SHIFT,
				.max_sectors = UBLK_IO_MAX >> SECTOR_SHIFT,
				.dev_sectors = size >> SECTOR_SHIFT,
			},
		.discard =
			{
				.discard_granularity = 1u << PAGE_SHIFT,
				.max_discard_sectors = DISCARD_MAX_SECTORS,
				.max_write_zeroes_sectors = DISCARD_MAX_SECTORS,
				.max_discard_segments = 1, /* the driver takes no other */
			},
	};

	return run_with_data(c, ublk_control_op(UBLK_CMD_SET_PARAMS, c->encoded), id,
			     sizeof(data.params));
}

int ublk_control_add(struct ublk_control *c, uint64_t size, unsigned block_size, uint64_t mark)
{
	/* The kernel may have a request done again that a dead server had: writes and discards of
	 * ours can be. */
	const uint64_t flags = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
	int id, err;

	data.info = (struct ublksrv_ctrl_dev_info){
		.nr_hw_queues = 1,
		.queue_depth = UBLK_TAGS,
		.max_io_buf_bytes = UBLK_IO_MAX,
		.dev_id = UINT32_MAX, /* any */
		.flags = flags,
		.ublksrv_flags = mark,
	};
	err = run_with_data(c, ublk_control_op(UBLK_CMD_ADD_DEV, c->encoded), -1,
			    sizeof(data.info));
	if (err)
		return err;
	id = (int)data.info.dev_id;
	err = (data.info.flags & flags) == flags ? set_params(c, id, size, block_size)
						 : -EOPNOTSUPP;
	if (err)
		ublk_control_delete(c, id);
	return err ? err : id;
}

/* Into data. */
static int get_info(struct ublk_control *c, int id)
{
	return run_with_data(c, ublk_control_op(UBLK_CMD_GET_DEV_INFO, c->encoded), id,
			     sizeof(data.info));
}

static bool has_mark(struct ublk_control *c, int id, uint64_t mark)
{
	return get_info(c, id) == 0 && data.info.ublksrv_flags == mark;
}

int ublk_control_state(struct ublk_control *c, int id)
{
	int err = get_info(c, id);

	return err ? err : data.info.state;
}

int ublk_control_find(struct ublk_control *c, uint64_t mark)
{
	int id = -ENOENT, n;
	glob_t found;

	if (glob(NODES, 0, NULL, &found) != 0)
		return -ENOENT;
	for (size_t i = 0; i < found.gl_pathc && id < 0; i++) {
		if (sscanf(found.gl_pathv[i], "/dev/ublkc%d", &n) == 1 && has_mark(c, n, mark))
			id = n;
	}
	globfree(&found);
	return id;
}

int ublk_control_start(struct ublk_control *c, int id, pid_t pid)
{
	return run_for_server(c, UBLK_CMD_START_DEV, id, pid);
}

int ublk_control_stop(struct ublk_control *c, int id)
{
	return run_simple(c, UBLK_CMD_STOP_DEV, id, SERVED_S);
}

int ublk_control_delete(struct ublk_control *c, int id)
{
	const struct ublksrv_ctrl_cmd cmd = command_for(id);
	int err = run_command(c, UBLK_U_CMD_DEL_DEV_ASYNC, &cmd, SERVED_S);

	/* An older kernel doesn't know it; and waits until no process has the device open. */
	if (err == -EOPNOTSUPP || err == -EINVAL)
		err = run_simple(c, UBLK_CMD_DEL_DEV, id, SERVED_S);
	return err;
}

int ublk_control_start_recovery(struct ublk_control *c, int id)
{
	return run_simple(c, UBLK_CMD_START_USER_RECOVERY, id, ANSWER_S);
}

int ublk_control_end_recovery(struct ublk_control *c, int id, pid_t pid)
{
	struct ublksrv_ctrl_cmd cmd = command_for(id);

	cmd.data[0] = (uint64_t)pid;
	return submit_command(c, ublk_control_op(UBLK_CMD_END_USER_RECOVERY, c->encoded), &cmd);
}

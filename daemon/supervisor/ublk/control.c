/* SPDX-License-Identifier: MIT */
#include "supervisor/ublk/control.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/ublk_uapi.h"

#define CONTROL "/dev/ublk-control"
#define NODES	"/dev/ublkc*"

#define SECTOR_SHIFT 9
#define PAGE_SHIFT   12

/* A discard is all that the server does at a time. */
#define DISCARD_MAX_SECTORS ((1u << 30) >> SECTOR_SHIFT)

/* --- commands --- */

static void submit(struct ublk_control *c, uint32_t op, const struct ublksrv_ctrl_cmd *command)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, c->fd, NULL, 0, 0);
	sqe->cmd_op = op;
	memcpy(sqe->cmd, command, sizeof(*command));
	io_uring_submit(&c->ring);
}

int ublk_control_result(struct ublk_control *c)
{
	struct io_uring_cqe *cqe;
	int result;

	if (io_uring_peek_cqe(&c->ring, &cqe))
		return -EAGAIN;
	result = cqe->res;
	io_uring_cqe_seen(&c->ring, cqe);
	return result;
}

static int run(struct ublk_control *c, uint32_t op, const struct ublksrv_ctrl_cmd *command)
{
	struct io_uring_cqe *cqe;
	int err;

	submit(c, op, command);
	do
		err = io_uring_wait_cqe(&c->ring, &cqe);
	while (err == -EINTR);
	return err ? err : ublk_control_result(c);
}

/* A command for a device, or (-1) for none. */
static struct ublksrv_ctrl_cmd command_for(int id)
{
	return (struct ublksrv_ctrl_cmd){.dev_id = (uint32_t)id, .queue_id = UINT16_MAX};
}

static int run_simple(struct ublk_control *c, unsigned command, int id)
{
	const struct ublksrv_ctrl_cmd cmd = command_for(id);

	return run(c, ublk_control_op(command, c->encoded), &cmd);
}

static int run_with(struct ublk_control *c, unsigned command, int id, void *data, size_t len)
{
	struct ublksrv_ctrl_cmd cmd = command_for(id);

	cmd.addr = (uintptr_t)data;
	cmd.len = (uint16_t)len;
	return run(c, ublk_control_op(command, c->encoded), &cmd);
}

static int run_for_server(struct ublk_control *c, unsigned command, int id, pid_t pid)
{
	struct ublksrv_ctrl_cmd cmd = command_for(id);

	cmd.data[0] = (uint64_t)pid;
	return run(c, ublk_control_op(command, c->encoded), &cmd);
}

/* --- open --- */

/* A kernel that doesn't know the command doesn't know encoded ones, or (6.4) takes the others,
 * too. */
static bool knows_encoded(struct ublk_control *c)
{
	struct ublksrv_ctrl_cmd cmd = command_for(-1);
	uint64_t features;

#ifdef UZ_TEST_HOOKS
	if (getenv("UZ_UBLK_LEGACY"))
		return false;
#endif
	cmd.addr = (uintptr_t)&features;
	cmd.len = UBLK_FEATURES_LEN;
	return run(c, UBLK_U_CMD_GET_FEATURES, &cmd) == 0;
}

int ublk_control_open(struct ublk_control *c)
{
	int err;

	c->fd = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (c->fd < 0)
		return -errno;
	err = io_uring_queue_init(4, &c->ring, IORING_SETUP_SQE128);
	if (err) {
		close(c->fd);
		return err;
	}
	/* Besides: all that the kernel needs in order to run commands is there from now on. */
	c->encoded = knows_encoded(c);
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
	struct ublk_params p = {
		.len = sizeof(p),
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

	return run_with(c, UBLK_CMD_SET_PARAMS, id, &p, sizeof(p));
}

int ublk_control_add(struct ublk_control *c, uint64_t size, unsigned block_size, uint64_t mark)
{
	/* A request that a dead server had may be done again: writes and discards of ours can. */
	const uint64_t flags = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = 1,
		.queue_depth = UBLK_TAGS,
		.max_io_buf_bytes = UBLK_IO_MAX,
		.dev_id = UINT32_MAX, /* any */
		.flags = flags,
		.ublksrv_flags = mark,
	};
	int err = run_with(c, UBLK_CMD_ADD_DEV, -1, &info, sizeof(info));

	if (err)
		return err;
	if ((info.flags & flags) != flags)
		err = -EOPNOTSUPP;
	if (!err)
		err = set_params(c, (int)info.dev_id, size, block_size);
	if (err)
		ublk_control_delete(c, (int)info.dev_id);
	return err ? err : (int)info.dev_id;
}

static bool has_mark(struct ublk_control *c, int id, uint64_t mark)
{
	struct ublksrv_ctrl_dev_info info = {0};

	return run_with(c, UBLK_CMD_GET_DEV_INFO, id, &info, sizeof(info)) == 0 &&
	       info.ublksrv_flags == mark;
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
	return run_simple(c, UBLK_CMD_STOP_DEV, id);
}

int ublk_control_delete(struct ublk_control *c, int id)
{
	const struct ublksrv_ctrl_cmd cmd = command_for(id);
	int err = run(c, UBLK_U_CMD_DEL_DEV_ASYNC, &cmd);

	/* A kernel that doesn't know it, and waits for whoever has the device open. */
	return err == -EOPNOTSUPP || err == -EINVAL ? run_simple(c, UBLK_CMD_DEL_DEV, id) : err;
}

int ublk_control_start_recovery(struct ublk_control *c, int id)
{
	return run_simple(c, UBLK_CMD_START_USER_RECOVERY, id);
}

void ublk_control_end_recovery(struct ublk_control *c, int id, pid_t pid)
{
	struct ublksrv_ctrl_cmd cmd = command_for(id);

	cmd.data[0] = (uint64_t)pid;
	submit(c, ublk_control_op(UBLK_CMD_END_USER_RECOVERY, c->encoded), &cmd);
}

/* SPDX-License-Identifier: MIT
 *
 * The kernel's interface to ublk servers (Documentation/block/ublk.rst), and what Debian 12's
 * header, of Linux 6.1, doesn't have of it.
 *
 * Commands are numbers; from Linux 6.4 on they are encoded like those of ioctl(2), and a kernel may
 * take no others. The structs are as they were.
 */
#ifndef UZD_UBLK_UAPI_H
#define UZD_UBLK_UAPI_H

#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>
#include <stdbool.h>
#include <stdint.h>

/* Ours: tags of the queue, and the data of one request, bytes. */
#define UBLK_TAGS   64
#define UBLK_IO_MAX (64u << 10)

/* Of Linux 6.5; there is only the encoded one. */
#ifndef UBLK_U_CMD_GET_FEATURES
#define UBLK_U_CMD_GET_FEATURES _IOR('u', 0x13, struct ublksrv_ctrl_cmd)
#define UBLK_FEATURES_LEN	8
#endif

/* Of Linux 6.9. */
#ifndef UBLK_U_CMD_DEL_DEV_ASYNC
#define UBLK_U_CMD_DEL_DEV_ASYNC _IOR('u', 0x14, struct ublksrv_ctrl_cmd)
#endif

/* Of /dev/ublk-control. */
static inline uint32_t ublk_control_op(unsigned command, bool encoded)
{
	if (!encoded)
		return command;
	return command == UBLK_CMD_GET_DEV_INFO ? _IOR('u', command, struct ublksrv_ctrl_cmd)
						: _IOWR('u', command, struct ublksrv_ctrl_cmd);
}

/* Of /dev/ublkcN. */
static inline uint32_t ublk_io_op(unsigned command, bool encoded)
{
	return encoded ? _IOWR('u', command, struct ublksrv_io_cmd) : command;
}

#endif

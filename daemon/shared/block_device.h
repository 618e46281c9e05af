/* SPDX-License-Identifier: MIT
 *
 * The path of a block device.
 */
#ifndef UZD_BLOCK_DEVICE_H
#define UZD_BLOCK_DEVICE_H

/* Bytes, with the terminating zero: "/dev/loop3", "/dev/ublkb0". */
#define BLOCK_DEVICE_PATH_MAX 64

#endif

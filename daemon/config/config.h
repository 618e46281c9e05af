/* SPDX-License-Identifier: MIT
 *
 * One device's configuration, read from TOML.
 *
 * Every key is optional; what is absent keeps the default that config/uzram.toml documents. A
 * config that is returned is complete and possible: sizes are resolved against the machine's memory
 * and checked, so nobody downstream checks them again.
 */
#ifndef UZD_CONFIG_H
#define UZD_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "config/machine.h"
#include "uzram/arena.h"
#include "uzram/codec.h"

#define CONFIG_WORKERS_MAX 64

enum frontend { FRONTEND_FUSE, FRONTEND_UBLK, FRONTEND_AUTO };

enum latency_hold { LATENCY_HOLD_AUTO, LATENCY_HOLD_NEVER, LATENCY_HOLD_ALWAYS };

/* Where the unit uzramd@NAME.service takes NAME.toml from, whatever the prefix. */
#define CONFIG_DIR "/etc/uzram"

#define CONFIG_NAME_MAX 31 /* characters of a name */

struct config {
	/* of the device: [A-Za-z0-9][A-Za-z0-9_.-]*, and not *.lock */
	char name[CONFIG_NAME_MAX + 1];
	uint64_t size; /* of the device, bytes: whole pages, 1 MiB..UZ_DISKSIZE_MAX */
	enum frontend frontend;
	unsigned block_size; /* logical blocks of the block device: 512 or 4096 bytes */
	unsigned workers;    /* threads that serve requests, 1..CONFIG_WORKERS_MAX: the file's 0 is
				resolved */
	/* The file leaves these two to the machine, whose memory and CPUs may change. */
	bool size_implied, workers_implied;

	enum uz_codec algorithm;
	int level; /* within the algorithm's range */

	uint64_t mem_limit; /* bytes of compressed data the store may hold; 0 = no limit */
	uint64_t reserve;   /* bytes of populated, free memory kept ready, 1 MiB..mem_limit */

	bool deferred;		/* free through the drain thread */
	unsigned deferred_pool; /* spare buffers, 4 KiB each, 1..65536 */
	unsigned deferred_age;	/* milliseconds a partly filled buffer may wait, 1..10000 */

	bool swap;	   /* mkswap and swapon; implies loop, or ublk */
	int swap_priority; /* 0..32767, or -1: the kernel chooses */
	bool swap_discard; /* swapon --discard */
	bool swap_off_for_sleep;
	bool watermark_boost_off; /* while this is swap over FUSE: watermark.h */
	bool loop;		  /* attach a loop device */

	/* Of the file "disk". Root's alone where the device is swap. */
	uint32_t disk_user, disk_group;
	uint32_t disk_mode; /* permissions to read and write */

	enum latency_hold latency_hold; /* of the CPUs' wake-up latency (latency.h) */

	unsigned hang_timeout; /* milliseconds without a heartbeat, 2000..600000 */
};

/* The size in bytes of the largest device whose table this machine has memory for. */
uint64_t config_size_most(const struct machine *machine);

/* The defaults of this machine. There is none for the name, which is left empty: it comes from the
 * file. */
void config_defaults(struct config *c, const struct machine *machine);

/* Read path into *ret. A file that gives no name gives its own: that of the last part of path,
 * without ".toml". One in CONFIG_DIR may give no other, since systemd knows the device by it.
 *
 * On failure returns -errno, -EINVAL for a file whose content is wrong and
 * -EFBIG for one of more than 16 KiB, and leaves *ret alone; *ret_message is then one line, to be
 * freed by the caller, in one of these forms:
 *
 * - FILE: why it can't be read
 * - FILE:LINE:COLUMN: why it is not TOML
 * - FILE:LINE: KEY: what is wrong; what would be right
 *
 * The last is about the error that stands first in the file. For want of memory the message may be
 * NULL. It is not touched on success. */
int config_load(const char *path, const struct machine *machine, struct config *ret,
		char **ret_message);

#endif

/* SPDX-License-Identifier: MIT */
#include "supervisor/host/neighbours.h"

#include <stdio.h>
#include <string.h>

#include "shared/log.h"

#define ZSWAP	     "/sys/module/zswap/parameters/enabled"
#define FUSE_TIMEOUT "/proc/sys/fs/fuse/max_request_timeout"

/* The first word of a file; "" if there is none. */
static void read_word(const char *path, char ret[32])
{
	FILE *f = fopen(path, "re");

	ret[0] = '\0';
	if (!f)
		return;
	if (fscanf(f, "%31s", ret) != 1)
		ret[0] = '\0';
	fclose(f);
}

static void warn_of_zswap(const struct config *config)
{
	char enabled[32];

	read_word(ZSWAP, enabled);
	if (strcmp(enabled, "Y") != 0)
		return;
	log_warning("zswap is on, and compresses pages before %s gets to see them: to turn it off, "
		    "write N to " ZSWAP ", and boot with zswap.enabled=0",
		    config->name);
}

/* The kernel fills devices of one priority in turn. */
static void warn_of_zram(const struct config *config)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[4096], dev[64];
	int priority;

	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		/* Filename Type Size Used Priority; the heading has no numbers. */
		if (sscanf(line, "/dev/%63s %*s %*s %*s %d", dev, &priority) == 2 &&
		    !strncmp(dev, "zram", 4) && priority == config->swap_priority)
			log_warning("/dev/%s has the priority of %s, %d: the kernel will use both "
				    "in turn; give one of them another (swap.priority), or stop "
				    "one",
				    dev, config->name, priority);
	}
	fclose(f);
}

static void warn_of_timeout(const struct config *config)
{
	char seconds[32];

	read_word(FUSE_TIMEOUT, seconds);
	if (!seconds[0] || !strcmp(seconds, "0"))
		return;
	log_warning("fs.fuse.max_request_timeout is %s: the kernel cuts %s off for good if one "
		    "request takes so many seconds, and all that is stored is lost; set it to 0 "
		    "before the start, or have frontend = \"ublk\"",
		    seconds, config->name);
}

void neighbours_warn(const struct config *config, bool fuse)
{
	if (config->swap)
		warn_of_zswap(config);
	if (config->swap && config->swap_priority >= 0)
		warn_of_zram(config);
	if (fuse)
		warn_of_timeout(config);
}

/* SPDX-License-Identifier: MIT
 *
 * Swap on a block device: header, swapon, swapoff, usage.
 */
#include "supervisor/host/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/param.h>
#include <sys/swap.h>
#include <unistd.h>
#include <uuid/uuid.h>

#define SWAP_PAGE      4096u
#define SWAP_MIN_PAGES 10

/* The first page of a swap area, in the CPU's byte order: union swap_header of the kernel's
 * include/linux/swap.h, which is not among the headers for user space. */
struct swap_header {
	char boot[1024]; /* a boot loader's, or a disk label's: zero here */
	uint32_t version;
	uint32_t last_page;
	uint32_t bad_pages;
	uuid_t uuid;
	char label[16]; /* with its terminating zero */
	char unused[3018];
	char magic[10]; /* no terminating zero */
};
_Static_assert(sizeof(struct swap_header) == SWAP_PAGE, "the magic ends the page");

/* Signatures stand near the beginning or the end of a device: the one farthest from either that
 * blkid(8) looks for is VMFS's, at 2 MiB. */
#define WIPE (UINT64_C(4) << 20)

static int write_zeroes(int fd, uint64_t from, uint64_t to)
{
	const uint64_t range[2] = {from, to - from};

	return from < to && ioctl(fd, BLKZEROOUT, range) ? -errno : 0;
}

/* An old superblock or partition table would make blkid call the area ambiguous, or worse. What
 * there is isn't read to find them: the bytes come from a server, which an attacker may have taken
 * over, and this process is root. */
static int wipe_signatures(int fd, uint64_t size)
{
	uint64_t head = MIN(WIPE, size);
	int err = write_zeroes(fd, 0, head);

	return err ? err : write_zeroes(fd, MAX(head, size - head), size);
}

static int write_header(int fd, uint64_t pages, const char *label)
{
	struct swap_header h = {.version = 1, .magic = "SWAPSPACE2"};
	ssize_t n;

	h.last_page = pages - 1 < UINT32_MAX ? (uint32_t)(pages - 1) : UINT32_MAX;
	uuid_generate(h.uuid);
	snprintf(h.label, sizeof(h.label), "%s", label);
	n = pwrite(fd, &h, sizeof(h), 0);
	if (n != sizeof(h))
		return n < 0 ? -errno : -EIO;
	return fsync(fd) ? -errno : 0;
}

int attach_mkswap(const char *dev, const char *label)
{
	int fd = open(dev, O_RDWR | O_EXCL | O_CLOEXEC);
	uint64_t size;
	int err = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, BLKGETSIZE64, &size))
		err = -errno;
	else if (size / SWAP_PAGE < SWAP_MIN_PAGES)
		err = -EINVAL;
	if (!err)
		err = wipe_signatures(fd, size);
	if (!err)
		err = write_header(fd, size / SWAP_PAGE, label);
	close(fd);
	return err;
}

/* SWAP_FLAG_DISCARD alone means both kinds of discard. The kernel has two more flags that each
 * narrow it to one (swapon --discard=once, --discard=pages). */
int attach_swapon(const char *dev, int priority, bool discard)
{
	int flags = discard ? SWAP_FLAG_DISCARD : 0;

	if (priority >= 0)
		flags |= SWAP_FLAG_PREFER |
			 ((priority << SWAP_FLAG_PRIO_SHIFT) & SWAP_FLAG_PRIO_MASK);
	return swapon(dev, flags) ? -errno : 0;
}

int attach_swapoff(const char *dev)
{
	int err;

	if (!swapoff(dev))
		return 0;
	err = -errno;
	if (attach_swap_used(dev) == -ENOENT)
		return 0;
	/* The kernel says EINVAL as well of a device that another swapoff is still emptying. */
	return err == -EINVAL ? -EBUSY : err;
}

int64_t attach_swap_used(const char *dev)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[4096], name[4096];
	int64_t used = -ENOENT;
	long long kib;

	if (!f)
		return -errno;
	while (used < 0 && fgets(line, sizeof(line), f)) {
		/* Filename Type Size Used Priority; the heading has no numbers. */
		if (sscanf(line, "%4095s %*s %*s %lld", name, &kib) == 2 && !strcmp(name, dev))
			used = kib * 1024;
	}
	fclose(f);
	return used;
}

/* SPDX-License-Identifier: MIT
 *
 * The block device: a loop device over a file, and the stable name that users know it by.
 *
 * A device is ours if, and only if, sysfs names our file as its backing file. That is asked anew
 * each time: between two calls anybody may have detached the device and attached it to something
 * else.
 */
#include "supervisor/host/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINK_DIR "/dev/uzram"

/* Others take or claim a free device for moments only: 0.64 s. What holds a device open when it is
 * to go is mostly a probe of udev's: 5 s. */
#define RETRY_US       10000
#define ATTACH_RETRIES 64
#define DETACH_RETRIES 500

/* By name only: stat() of a file whose server is dead would not return, nor would
 * LOOP_GET_STATUS64, which does it inside the kernel. */
bool attach_is_backed_by(const char *dev, const char *file)
{
	char path[ATTACH_PATH_MAX + 64], line[PATH_MAX + 16] = "";
	size_t len = strlen(file);
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", strrchr(dev, '/') + 1);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	line[strcspn(line, "\n")] = '\0';

	/* The kernel adds " (deleted)" also when a look-up of the file has failed since, as it does
	 * once the server is gone for good. */
	return !strncmp(line, file, len) && (!line[len] || !strcmp(line + len, " (deleted)"));
}

/* The kernel drops the wish for direct I/O without a word if the file can't have it with these
 * blocks. Then every page would be held twice, compressed and in the page cache, and reclaim would
 * wait for memory that only reclaim can free. */
static int check_direct_io(int loop)
{
	struct loop_info64 info;

	if (ioctl(loop, LOOP_GET_STATUS64, &info))
		return -errno;
	return info.lo_flags & LO_FLAGS_DIRECT_IO ? 0 : -EINVAL;
}

/* No LO_FLAGS_AUTOCLEAR: it would detach the device when whoever has it open closes it, that is
 * between mkswap and swapon, or at an administrator's swapoff. No LO_FLAGS_PARTSCAN: it is one swap
 * area or one disk image, and looking for partitions reads it at every attach. */
static int configure(int loop, int backing, const char *file, unsigned block_size)
{
	struct loop_config config = {
		.fd = (unsigned)backing,
		.block_size = block_size,
		.info.lo_flags = LO_FLAGS_DIRECT_IO,
	};
	int err;

	/* losetup(8) shows this where it can't read sysfs; it cuts long names likewise. */
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", file);
	if (ioctl(loop, LOOP_CONFIGURE, &config))
		return -errno;
	err = check_direct_io(loop);
	if (err)
		ioctl(loop, LOOP_CLR_FD);
	return err;
}

/* -EBUSY or -ENXIO if another program was faster. */
static int attach_to_free(int control, int backing, const char *file, unsigned block_size,
			  char dev[ATTACH_PATH_MAX])
{
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	int loop, err;

	if (number < 0)
		return -errno;
	snprintf(dev, ATTACH_PATH_MAX, "/dev/loop%d", number);
	loop = open(dev, O_RDWR | O_CLOEXEC);
	if (loop < 0)
		return -errno;
	err = configure(loop, backing, file, block_size);
	close(loop);
	return err;
}

static int attach_backing(int backing, const char *file, unsigned block_size,
			  char ret_dev[ATTACH_PATH_MAX])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	char dev[ATTACH_PATH_MAX];
	int err;

	if (control < 0)
		return -errno;
	for (int i = 0; i < ATTACH_RETRIES; i++) {
		err = attach_to_free(control, backing, file, block_size, dev);
		if (err != -EBUSY && err != -ENXIO)
			break;
		usleep(RETRY_US);
	}
	close(control);
	if (!err)
		memcpy(ret_dev, dev, sizeof(dev));
	return err;
}

static int check_canonical(const char *file)
{
	char real[PATH_MAX];

	if (!realpath(file, real))
		return -errno;
	return strcmp(real, file) ? -EINVAL : 0;
}

int attach_set_queue(const char *dev, const char *attribute, const char *value)
{
	char path[ATTACH_PATH_MAX + 64];
	int fd, err = 0;

	snprintf(path, sizeof(path), "/sys/block/%s/queue/%s", strrchr(dev, '/') + 1, attribute);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int attach_loop(const char *file, unsigned block_size, char ret_dev[ATTACH_PATH_MAX])
{
	int err = check_canonical(file);
	int backing;

	if (err)
		return err;
	backing = open(file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (backing < 0)
		return -errno;
	err = attach_backing(backing, file, block_size, ret_dev);
	close(backing);
	/* Where swap is throttled, kswapd waits for pages that went out before. If memory is short
	 * loop's worker has none to send them with, and might have to wait for kswapd: what raises
	 * the mark below which there is none for it (vm.watermark_boost_factor) is undone by
	 * kswapd alone. A kernel without throttling has no such attribute. The next one to use this
	 * loop device will hardly miss it: the storage below has its own. */
	if (!err)
		attach_set_queue(ret_dev, "wbt_lat_usec", "0");
	return err;
}

int attach_unloop(const char *dev, const char *file)
{
	/* O_EXCL: LOOP_CLR_FD of a device in use would succeed and detach it at its last close, so
	 * that a refused stop would still have pulled the device from under the next user. What is
	 * asked after the open stays true until the close: nobody can detach a device that we hold
	 * open. */
	int loop = open(dev, O_RDONLY | O_EXCL | O_CLOEXEC);
	int err = loop < 0 ? -errno : 0;

	if (!attach_is_backed_by(dev, file))
		err = 0;
	else if (loop >= 0 && ioctl(loop, LOOP_CLR_FD))
		err = -errno;
	if (loop >= 0)
		close(loop);
	if (err && err != -ENXIO) /* which says that it is being detached already */
		return err;

	for (int i = 0; i < DETACH_RETRIES; i++) {
		if (!attach_is_backed_by(dev, file))
			return 0;
		usleep(RETRY_US);
	}
	return -EBUSY;
}

int attach_discard(const char *dev, const char *file)
{
	int fd = open(dev, O_RDWR | O_EXCL | O_CLOEXEC);
	uint64_t range[2] = {0};
	int err = 0;

	if (fd < 0)
		return -errno;
	/* What we hold open nobody can attach to another file. */
	if (file && !attach_is_backed_by(dev, file))
		err = -ENODEV;
	else if (ioctl(fd, BLKGETSIZE64, &range[1]) || ioctl(fd, BLKDISCARD, range))
		err = -errno;
	close(fd);
	return err;
}

/* -ENOENT if another daemon's attach_unlink() has removed the directory meanwhile. */
static int try_link(const char *name, const char *dev)
{
	char path[PATH_MAX], temp[PATH_MAX];
	int err;

	/* No device's name starts with a dot. */
	snprintf(path, sizeof(path), LINK_DIR "/%s", name);
	snprintf(temp, sizeof(temp), LINK_DIR "/.%s.new", name);
	if (mkdir(LINK_DIR, 0755) && errno != EEXIST)
		return -errno;
	if (unlink(temp) && errno != ENOENT)
		return -errno;
	if (symlink(dev, temp))
		return -errno;
	if (!rename(temp, path))
		return 0;
	err = -errno;
	unlink(temp);
	return err;
}

int attach_link(const char *name, const char *dev)
{
	int err;

	for (int i = 0; i < ATTACH_RETRIES; i++) {
		err = try_link(name, dev);
		if (err != -ENOENT)
			break;
	}
	return err;
}

int attach_unlink(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), LINK_DIR "/%s", name);
	if (unlink(path) && errno != ENOENT)
		return -errno;
	rmdir(LINK_DIR); /* fails while other devices have names there, rightly */
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "supervisor/device.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/explain.h"
#include "shared/log.h"
#include "supervisor/host/attach.h"
#include "supervisor/host/udev.h"
#include "supervisor/ublk/device.h"

/* --- claiming the name --- */

/* The lock file is removed by its owner: what we have locked may be a file that is gone. */
static int take_lock(struct device *d)
{
	struct stat st;

	for (;;) {
		int fd = open(d->lock, O_RDONLY | O_CREAT | O_CLOEXEC, 0600), err;

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0)
			return fd;
		err = errno;
		close(fd);
		if (err == EWOULDBLOCK)
			return -EBUSY;
	}
}

static void complain_in_use(const char *dev)
{
	log_error("%s of an uzramd that died is still in use as swap: if its server still runs, "
		  "take it out of use (swapoff %s); else the pages in it are lost, and the "
		  "processes they belong to must end first",
		  dev, dev);
}

/* Detach a loop device that a dead daemon left, /sys/block/loopN/loop/backing_file being the
 * attribute. */
static int clear_loop(struct device *d, const char *attribute)
{
	char dev[ATTACH_PATH_MAX];
	int number, err;

	if (sscanf(attribute, "/sys/block/loop%d/", &number) != 1)
		return 0;
	snprintf(dev, sizeof(dev), "/dev/loop%d", number);
	if (!attach_is_backed_by(dev, d->disk))
		return 0;
	if (attach_swap_used(dev) > 0) {
		complain_in_use(dev);
		return -EBUSY;
	}
	err = attach_swapoff(dev);
	if (!err)
		err = attach_unloop(dev, d->disk);
	if (!err)
		udev_forget(dev);
	if (err)
		log_error("%s of an uzramd that died can't be detached: %s", dev, strerror(-err));
	return err;
}

static int clear_loops(struct device *d)
{
	glob_t found;
	int err = 0;

	if (glob("/sys/block/loop*/loop/backing_file", 0, NULL, &found) != 0)
		return 0;
	for (size_t i = 0; i < found.gl_pathc && !err; i++)
		err = clear_loop(d, found.gl_pathv[i]);
	globfree(&found);
	return err;
}

static int clear_ublk(struct device *d)
{
	char dev[ATTACH_PATH_MAX];
	int err = ublk_device_find(d->config->name, dev);

	if (err == -ENOENT)
		return 0;
	if (!err && attach_swap_used(dev) > 0) {
		complain_in_use(dev);
		return -EBUSY;
	}
	if (!err)
		err = attach_swapoff(dev);
	if (!err)
		err = ublk_device_clear(d->config->name);
	if (!err)
		udev_forget(dev);
	if (err)
		log_error("%s of an uzramd that died can't be removed: %s", dev, strerror(-err));
	return err;
}

static bool is_mounted(const char *dir)
{
	struct mntent *m;
	bool found = false;
	FILE *f = setmntent("/proc/self/mounts", "re");

	if (!f)
		return false;
	while (!found && (m = getmntent(f)))
		found = strcmp(m->mnt_dir, dir) == 0;
	endmntent(f);
	return found;
}

static int clear_mount(struct device *d)
{
	if (!is_mounted(d->dir))
		return 0;
	log_warning("clearing away the mount on %s that an uzramd which died left", d->dir);
	return umount2(d->dir, MNT_DETACH) < 0 ? -errno : 0;
}

static int make_dir(struct device *d)
{
	if (mkdir(d->dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

void device_init(struct device *d, const struct config *config)
{
	*d = (struct device){.config = config};
	snprintf(d->dir, sizeof(d->dir), RUN_DIR "/%s", config->name);
	snprintf(d->lock, sizeof(d->lock), RUN_DIR "/%s.lock", config->name);
	snprintf(d->disk, sizeof(d->disk), "%s/disk", d->dir);
}

int device_claim(struct device *d, int *ret_lock_fd)
{
	int lock_fd, err;

	if (mkdir(RUN_DIR, 0755) < 0 && errno != EEXIST) {
		err = -errno;
		log_error("can't make %s: %s", RUN_DIR, strerror(-err));
		return err;
	}
	lock_fd = take_lock(d);
	if (lock_fd == -EBUSY) {
		log_error("another uzramd serves %s already, or the server of one that died",
			  d->config->name);
		return lock_fd;
	}
	if (lock_fd < 0) {
		log_error("can't lock %s: %s", d->lock, strerror(-lock_fd));
		return lock_fd;
	}
	/* Loops first: the kernel names their file by its path, which the unmount takes away. */
	err = clear_loops(d);
	if (!err)
		err = clear_ublk(d);
	if (!err)
		err = clear_mount(d);
	if (!err)
		err = make_dir(d);
	if (err) {
		log_error("can't use %s: %s", d->dir, strerror(-err));
		device_release(d);
		close(lock_fd);
		return err;
	}
	*ret_lock_fd = lock_fd;
	return 0;
}

void device_release(struct device *d)
{
	/* Still mounted only if the start failed; with its connection closed this asks nobody. */
	umount2(d->dir, MNT_DETACH);
	rmdir(d->dir);
	unlink(d->lock);
	rmdir(RUN_DIR); /* if it was the last */
}

/* --- steps for children --- */

static int fail(const char *what, const char *dev, int err)
{
	char why[EXPLAIN_MAX];

	log_error("%s %s: %s", what, dev, explain_error(err, why));
	return err;
}

/* err: attach_loop()'s. */
static int explain_loop(const struct device *d, int err)
{
	char why[EXPLAIN_MAX];

	explain_device("/dev/loop-control", "loop", err, why);
	/* All that it takes is there, but for the device that the kernel says is free. */
	if (err == -ENOENT && !access("/dev/loop-control", F_OK) && !access(d->disk, F_OK))
		snprintf(why, sizeof(why), "there is no /dev/loopN for a free loop device");
	log_error("can't attach a loop device to %s: %s", d->disk, why);
	return err;
}

static int attach_loop_device(struct device *d)
{
	char dev[ATTACH_PATH_MAX];
	int err;

	if (d->state->block_device[0] && attach_is_backed_by(d->state->block_device, d->disk))
		return 0;
	err = attach_loop(d->disk, d->config->block_size, dev);
	if (err)
		return explain_loop(d, err);
	memcpy(d->state->block_device, dev, sizeof(dev));
	return 0;
}

static void announce(const struct device *d, const char *dev)
{
	int err = udev_announce(d->config->name, dev);

	if (err)
		log_warning("can't tell udev of %s: %s; units that need /dev/uzram/%s may wait for "
			    "it in vain",
			    dev, strerror(-err), d->config->name);
}

static int attach_ublk_device(struct device *d)
{
	char dev[ATTACH_PATH_MAX];
	int err;

	if (d->state->block_device[0])
		return 0;
	/* Beforehand: udev is not to look for labels on it. */
	snprintf(dev, sizeof(dev), "/dev/ublkb%d", d->state->ublk);
	announce(d, dev);
	err = ublk_device_start(d->state);
	return err ? fail("can't start the ublk device of", d->config->name, err) : 0;
}

static int swap_on(struct device *d)
{
	const char *dev = d->state->block_device;
	int err;

	if (attach_swap_used(dev) >= 0)
		return 0;
	err = attach_mkswap(dev, d->config->name);
	if (err)
		return fail("can't make a swap area on", dev, err);
	err = attach_swapon(dev, d->config->swap_priority, d->config->swap_discard);
	return err ? fail("can't swap on", dev, err) : 0;
}

int device_attach(struct device *d)
{
	int err;

	if (d->state->ublk < 0 && !d->config->loop)
		return 0;
	err = d->state->ublk < 0 ? attach_loop_device(d) : attach_ublk_device(d);
	if (err)
		return err;
	err = attach_link(d->config->name, d->state->block_device);
	if (err)
		return fail("can't make a name in /dev/uzram for", d->state->block_device, err);
	announce(d, d->state->block_device);
	return d->config->swap && d->state->stable != PHASE_ASLEEP ? swap_on(d) : 0;
}

/* Bytes of memory that could be had, from /proc/meminfo; INT64_MAX if it can't be told. */
static int64_t memory_available(void)
{
	char line[128];
	long long kib = -1;
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return INT64_MAX;
	while (kib < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemAvailable: %lld", &kib) != 1)
			kib = -1;
	}
	fclose(f);
	return kib < 0 ? INT64_MAX : kib * 1024;
}

/* In swapoff without enough memory the kernel kills the process that swaps off, but perhaps others
 * first: rather refuse, unless forced to try. */
static int swap_off(const char *dev, bool force)
{
	int64_t used = attach_swap_used(dev);
	int64_t available = memory_available();
	int err;

	if (used == -ENOENT)
		return 0;
	if (used > available && !force) {
		log_error("can't take %s out of use: it holds %lld MiB of pages, and only %lld MiB "
			  "of memory are available",
			  dev, (long long)used >> 20, (long long)available >> 20);
		return -ENOMEM;
	}
	err = attach_swapoff(dev);
	return err ? fail("swapoff", dev, err) : 0;
}

static int detach_block_device(struct device *d, bool force)
{
	const char *dev = d->state->block_device;
	int err;

	if (!dev[0])
		return 0;
	err = swap_off(dev, force);
	if (err)
		return err;
	err = d->state->ublk < 0 ? attach_unloop(dev, d->disk) : ublk_device_stop(d->state);
	if (err)
		return fail("can't detach", dev, err);
	err = attach_unlink(d->config->name);
	if (err)
		return fail("can't remove the name in /dev/uzram of", dev, err);
	udev_forget(dev);
	d->state->block_device[0] = '\0';
	return 0;
}

/* What can refuse comes first; then the mount goes, whoever has a control file open or works in the
 * directory: nothing of theirs is lost. */
static int detach(struct device *d, bool force)
{
	int err = detach_block_device(d, force);

	if (err)
		return err;
	d->state->stable = PHASE_ENDING; /* also for a next supervisor, should this one die now */
	if (umount2(d->dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		fail("can't unmount", d->dir, -errno);
	return 0;
}

int device_detach(struct device *d)
{
	return detach(d, false);
}

int device_detach_forced(struct device *d)
{
	return detach(d, true);
}

int device_sleep(struct device *d)
{
	return swap_off(d->state->block_device, false);
}

int device_wake(struct device *d)
{
	return d->config->swap ? swap_on(d) : 0;
}

int device_reset(struct device *d)
{
	const char *dev = d->state->block_device;
	int err;

	if (!d->config->swap) {
		log_error("not discarding what %s holds: whether a program has this disk open, "
			  "nobody can tell; use blkdiscard(8) or fallocate(1)",
			  d->config->name);
		return -EOPNOTSUPP;
	}
	err = attach_discard(dev, d->state->ublk < 0 ? d->disk : NULL);
	if (err)
		return fail("can't discard what is on", dev, err);
	err = attach_mkswap(dev, d->config->name);
	return err ? fail("can't make a swap area on", dev, err) : 0;
}

/* The forced unmount of a file system that is in use leaves the mount and aborts its connection. */
int device_abort(struct device *d)
{
	if (umount2(d->dir, MNT_FORCE | UMOUNT_NOFOLLOW) == 0 || errno == EBUSY ||
	    errno == EINVAL) /* it is unmounted */
		return 0;
	return fail("can't abort the requests to", d->dir, -errno);
}

/* SPDX-License-Identifier: MIT
 *
 * Reading and writing a device's control files, and the figures that both list and stat show.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"

const char *ctl_rundir(void)
{
	const char *dir = getenv("UZRAM_RUNDIR");

	return dir ? dir : CTL_RUNDIR;
}

static int is_name(const struct dirent *entry)
{
	return *entry->d_name != '.';
}

int ctl_each_device(int (*fn)(void *arg, const char *device), void *arg)
{
	struct dirent **entries = NULL;
	int count, status = EXIT_SUCCESS;

	count = scandir(ctl_rundir(), &entries, is_name, versionsort);
	if (count < 0 && errno != ENOENT) /* the directory comes with the first device */
		status = ctl_fail(ctl_rundir(), "cannot read", -errno);
	for (int i = 0; i < count; i++) {
		int result = fn(arg, entries[i]->d_name);

		if (result != EXIT_SUCCESS)
			status = result;
		free(entries[i]);
	}
	free(entries);
	return status;
}

static int attr_open(const char *device, const char *attr, int flags)
{
	char path[PATH_MAX];
	int fd;

	/* "../uzram/swap0" would be found, but it is no device's name. */
	if (strchr(device, '/'))
		return -ENOENT;
	fd = snprintf(path, sizeof(path), "%s/%s/%s", ctl_rundir(), device, attr);
	if (fd >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, flags | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	return errno == ENOTDIR ? -ENOENT : -errno; /* such as a daemon's lock file */
}

const char *ctl_escape(const char *text, char *ret, size_t size)
{
	size_t n = 0;

	for (; *text; text++) {
		bool plain = *text >= ' ' && *text < 0x7f && *text != '\\';
		size_t len = plain ? 1 : 4;

		if (n + len >= size)
			break;
		snprintf(ret + n, len + 1, plain ? "%c" : "\\x%02x", (unsigned char)*text);
		n += len;
	}
	ret[n] = '\0';
	return ret;
}

int ctl_read(const char *device, const char *attr, char *ret, size_t size)
{
	int fd = attr_open(device, attr, O_RDONLY);
	char line[512];
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, line, sizeof(line) - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return (int)n;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	ctl_escape(line, ret, size);
	return 0;
}

/* strtoull() takes a sign, too, and makes the most it can of a number that is too large. */
static int read_number(const char *text, char **ret_end, uint64_t *ret)
{
	text += strspn(text, " ");
	if (!isdigit((unsigned char)*text))
		return -EBADMSG;
	errno = 0;
	*ret = strtoull(text, ret_end, 10);
	return errno ? -EBADMSG : 0;
}

int ctl_read_numbers(const char *device, const char *attr, uint64_t *ret, unsigned count)
{
	char text[512], *at = text;
	int err = ctl_read(device, attr, text, sizeof(text));

	if (err)
		return err;
	for (unsigned i = 0; i < count && !err; i++)
		err = read_number(at, &at, &ret[i]);
	return err;
}

int ctl_write(const char *device, const char *attr, const char *text)
{
	int fd = attr_open(device, attr, O_WRONLY);
	int err;

	if (fd < 0)
		return fd;
	err = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* "[lz4] zstd" names all that there are; the current one stands in brackets. */
static int read_algorithm(const char *device, char *ret, size_t size)
{
	char text[256], *start;
	int err = ctl_read(device, "comp_algorithm", text, sizeof(text));

	if (err)
		return err;
	start = strchr(text, '[');
	if (!start)
		return -EBADMSG;
	start++;
	start[strcspn(start, "]")] = '\0';
	snprintf(ret, size, "%s", start);
	return 0;
}

/* Mount sources are compared by device number, as one may be a symbolic link such as
 * /dev/uzram/NAME. */
static void find_mount(dev_t device, char *ret, size_t size)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	bool found = false;
	struct mntent *m;
	struct stat st;

	while (f && !found && (m = getmntent(f))) {
		found = !strncmp(m->mnt_fsname, "/dev/", 5) && !stat(m->mnt_fsname, &st) &&
			S_ISBLK(st.st_mode) && st.st_rdev == device;
		if (found)
			ctl_escape(m->mnt_dir, ret, size);
	}
	if (f)
		endmntent(f);
}

static void find_use(struct ctl_device *d)
{
	struct stat st;

	*d->mountpoint = '\0';
	d->swap_used = attach_swap_used(d->block_device);
	if (d->swap_used >= 0)
		strcpy(d->mountpoint, "[SWAP]");
	else if (!strncmp(d->block_device, "/dev/", 5) && !stat(d->block_device, &st))
		find_mount(st.st_rdev, d->mountpoint, sizeof(d->mountpoint));
}

int ctl_device_load(const char *name, struct ctl_device *ret)
{
	struct ctl_device d;
	int err;

	err = ctl_read_numbers(name, "disksize", &d.size, 1);
	if (!err)
		err = ctl_read_numbers(name, "max_comp_streams", &d.workers, 1);
	if (!err)
		err = ctl_read_numbers(name, "mm_stat", d.mm, MM_COLUMNS);
	if (!err)
		err = read_algorithm(name, d.algorithm, sizeof(d.algorithm));
	if (!err)
		err = ctl_read(name, "block_device", d.block_device, sizeof(d.block_device));
	if (err)
		return err;
	find_use(&d);
	*ret = d;
	return 0;
}

const char *ctl_size_text(uint64_t bytes, bool plain, char ret[CTL_SIZE_TEXT])
{
	const char *unit = "BKMGTPE";
	double value = (double)bytes;
	unsigned tenths;

	if (plain) {
		snprintf(ret, CTL_SIZE_TEXT, "%llu", (unsigned long long)bytes);
		return ret;
	}
	for (; value >= 1024; unit++)
		value /= 1024;
	tenths = (unsigned)(value * 10 + 0.5);
	if (tenths % 10)
		snprintf(ret, CTL_SIZE_TEXT, "%u.%u%c", tenths / 10, tenths % 10, *unit);
	else
		snprintf(ret, CTL_SIZE_TEXT, "%u%c", tenths / 10, *unit);
	return ret;
}

/* SPDX-License-Identifier: MIT */
#include "supervisor/host/watermark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/device.h"

#define SETTING "/proc/sys/vm/watermark_boost_factor"
#define SAVED	RUN_DIR "/.watermark_boost_factor" /* no device's name begins with a dot */

/* The file is locked for good by those that want the boost off, and otherwise for moments. */
#define LOCK_TRIES   50
#define LOCK_WAIT_US 10000

#define VALUE_MAX 16

/* A number and a newline; the length, 0 for an empty file, or -errno. */
static int read_value(int fd, char ret[VALUE_MAX])
{
	ssize_t n = pread(fd, ret, VALUE_MAX - 1, 0);

	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return (int)n;
}

static int read_setting(char ret[VALUE_MAX])
{
	int fd = open(SETTING, O_RDONLY | O_CLOEXEC), n;

	if (fd < 0)
		return -errno;
	n = read_value(fd, ret);
	close(fd);
	return n;
}

static int write_setting(const char *value)
{
	int fd = open(SETTING, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* An unlinked file is that of devices that are gone: its lock says nothing of those that are there.
 */
static bool is_linked(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_nlink > 0;
}

static int open_locked(int flags, int operation)
{
	int fd = open(SAVED, O_RDWR | O_CLOEXEC | flags, 0600), err;

	if (fd < 0)
		return -errno;
	if (flock(fd, operation | LOCK_NB) == 0 && is_linked(fd))
		return fd;
	err = is_linked(fd) ? -errno : -EWOULDBLOCK;
	close(fd);
	return err;
}

/* Write the value down before it changes. If a device that died has done so, the setting is no
 * longer what the machine had. */
static int save_value(int fd)
{
	char value[VALUE_MAX];
	int n = read_value(fd, value);

	if (n)
		return n < 0 ? n : 0;
	n = read_setting(value);
	if (n > 0 && pwrite(fd, value, (size_t)n, 0) != n)
		return -EIO;
	return n < 0 ? n : 0;
}

/* fd is locked exclusively. */
static int put_back(int fd)
{
	char saved[VALUE_MAX], value[VALUE_MAX];
	int err = read_value(fd, saved);

	if (err > 0)
		err = read_setting(value);
	if (err > 0 && strcmp(value, "0\n") == 0)
		err = write_setting(saved);
	if (err >= 0)
		unlink(SAVED);
	return err < 0 ? err : 0;
}

/* The first one has the file for itself, and shares it when the value is saved. From the one lock
 * to the other there is a moment without, in which another process may remove the file. */
static int turn_off(int fd)
{
	int err = save_value(fd);

	if (!err)
		err = write_setting("0\n");
	if (err)
		put_back(fd);
	else if (flock(fd, LOCK_SH | LOCK_NB) < 0 || !is_linked(fd))
		err = -EWOULDBLOCK;
	return err;
}

static int try_off(int *lock)
{
	int fd = open_locked(O_CREAT, LOCK_EX), err = 0;

	if (fd >= 0)
		err = turn_off(fd);
	else if (fd == -EWOULDBLOCK) /* others have turned it off; without them there is no file */
		fd = open_locked(0, LOCK_SH);
	if (fd < 0)
		return fd == -ENOENT ? -EWOULDBLOCK : fd;
	if (err)
		close(fd);
	else
		*lock = fd;
	return err;
}

int watermark_boost_off(int *lock)
{
	int err = -EWOULDBLOCK;

	if (*lock >= 0 || access(SETTING, F_OK) < 0)
		return 0;
	for (int i = 0; i < LOCK_TRIES && err == -EWOULDBLOCK; i++) {
		if (i)
			usleep(LOCK_WAIT_US);
		err = try_off(lock);
	}
	return err;
}

int watermark_boost_back(int *lock)
{
	int fd, err;

	if (*lock >= 0)
		close(*lock);
	*lock = -1;
	fd = open_locked(0, LOCK_EX);
	if (fd == -ENOENT || fd == -EWOULDBLOCK)
		return 0;
	if (fd < 0)
		return fd;
	err = put_back(fd);
	close(fd);
	return err;
}

/* SPDX-License-Identifier: MIT */
#include "supervisor/host/udev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/device.h"

#define PATH_SIZE 128

/* A device's name does not begin with a dot. */
static const char *path_of(const char *dev, char path[PATH_SIZE])
{
	snprintf(path, PATH_SIZE, RUN_DIR "/.%s", strrchr(dev, '/') + 1);
	return path;
}

static int write_file(const char *path, int flags, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int udev_announce(const char *name, const char *dev)
{
	char path[PATH_SIZE], text[64];
	int err;

	snprintf(text, sizeof(text), "UZRAM_NAME=%s\n", name);
	err = write_file(path_of(dev, path), O_CREAT | O_TRUNC, text);
	if (err)
		return err;
	snprintf(path, sizeof(path), "/sys/block/%s/uevent", strrchr(dev, '/') + 1);
	err = write_file(path, 0, "change");
	return err == -ENOENT ? 0 : err; /* its event is yet to come */
}

void udev_forget(const char *dev)
{
	char path[PATH_SIZE];

	unlink(path_of(dev, path));
}

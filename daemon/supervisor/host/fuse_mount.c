/* SPDX-License-Identifier: MIT */
#include "supervisor/host/fuse_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

/* Of Linux 5.10. */
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

static int open_clone(int fuse)
{
	uint32_t source = (uint32_t)fuse;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, FUSE_DEV_IOC_CLONE, &source) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

static int mount_fuse(const char *path, int fd)
{
	char options[128];

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions", fd);
	/* No symbolic links: a server that somebody has taken over could make some, to files that
	 * only root may write. */
	return mount("uzram", path, "fuse.uzram", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW,
		     options) < 0
		       ? -errno
		       : 0;
}

int fuse_mount_new(const char *path, unsigned workers, struct fuse_mount *m)
{
	ssize_t len;
	int err;

	m->nfds = 0;
	m->fds[0] = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (m->fds[0] < 0)
		return -errno;
	m->nfds = 1;
	err = mount_fuse(path, m->fds[0]);
	if (err) {
		fuse_mount_close(m);
		return err;
	}
	while (m->nfds < workers) {
		err = open_clone(m->fds[0]);
		if (err < 0)
			goto fail;
		m->fds[m->nfds++] = err;
	}
	len = read(m->fds[0], m->init, sizeof(m->init));
	if (len < 0) {
		err = -errno;
		goto fail;
	}
	m->init_len = (size_t)len;
	return 0;
fail:
	umount2(path, MNT_DETACH);
	fuse_mount_close(m);
	return err;
}

void fuse_mount_close(struct fuse_mount *m)
{
	while (m->nfds)
		close(m->fds[--m->nfds]);
}

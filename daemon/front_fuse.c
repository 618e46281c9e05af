/* SPDX-License-Identifier: MIT
 *
 * Mount, sessions, threads; what a request does to the store stands in fuse_ops.c.
 */
#define FUSE_USE_VERSION 314
#include "front_fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuse_ops.h"
#include "log.h"

#define REQUEST_MAX   (FUSE_OPS_IO_MAX + 8192) /* the data of a write and its headers */
#define STACK_SIZE    (256u << 10)
#define STACK_TOUCH   (64u << 10)
#define NOTIFY_RESEND 7 /* FUSE_NOTIFY_RESEND, of Linux 6.9: not in Debian 12's header */

/* --- the supervisor's half --- */

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
	return mount("uzram", path, "fuse.uzram", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0
		       ? -errno
		       : 0;
}

int front_fuse_mount(const char *path, unsigned workers, struct fuse_mount *m)
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
		front_fuse_close(m);
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
	front_fuse_close(m);
	return err;
}

void front_fuse_close(struct fuse_mount *m)
{
	while (m->nfds)
		close(m->fds[--m->nfds]);
}

/* --- the server's half --- */

static ssize_t session_write(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_thread *t = userdata;

	if (t->swallow) {
		ssize_t len = 0;

		for (int i = 0; i < count; i++)
			len += (ssize_t)iov[i].iov_len;
		return len;
	}
	return writev(fd, iov, count);
}

static ssize_t session_read(int fd, void *buf, size_t len, void *userdata)
{
	return read(fd, buf, len);
}

static const struct fuse_custom_io session_io = {.writev = session_write, .read = session_read};

/* Requests are read into memory of our own, which was touched at the start, not by
 * fuse_session_receive_buf() into what it allocates with the first of them. */
static void *thread_main(void *arg)
{
	struct fuse_thread *t = arg;
	volatile char stack[STACK_TOUCH];

	for (size_t i = 0; i < sizeof(stack); i += 4096)
		stack[i] = 0;
	for (;;) {
		struct fuse_buf buf = {.mem = t->request};
		ssize_t len = read(t->fd, t->request, REQUEST_MAX);

		if (len < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue; /* ENOENT: the request was interrupted before we had it */
		if (len <= 0)
			return NULL; /* ENODEV: unmounted */
		buf.size = (size_t)len;
		fuse_session_process_buf(t->session, &buf);
	}
}

static void *touched(size_t size)
{
	void *p = aligned_alloc(4096, size);

	if (p)
		memset(p, 0, size);
	return p;
}

/* A session on fd that has heard FUSE_INIT: its reply goes out only if the kernel waits for it. */
static int thread_init(struct fuse_thread *t, const struct fuse_mount *m, int fd, bool reply)
{
	char *argv[] = {(char[]){"uzramd"}, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_buf init = {.size = m->init_len};

	t->request = touched(REQUEST_MAX);
	t->reply = touched(FUSE_OPS_IO_MAX);
	if (!t->request || !t->reply)
		return -ENOMEM;
	t->session = fuse_session_new(&args, &fuse_ops, sizeof(fuse_ops), t);
	if (!t->session)
		return -ENOMEM;
	t->fd = dup(fd); /* the session closes its own */
	if (t->fd < 0)
		return -errno;
	if (fuse_session_custom_io(t->session, &session_io, t->fd) != 0)
		return -EINVAL;
	memcpy(t->request, m->init, m->init_len);
	init.mem = t->request;
	t->swallow = !reply;
	fuse_session_process_buf(t->session, &init);
	t->swallow = false;
	return 0;
}

/* Have the kernel send again what an earlier server did not answer. */
static void resend(int fd)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_RESEND};

	if (write(fd, &out, sizeof(out)) < 0)
		log_error("this kernel can't resend FUSE requests (%s): those in flight when the "
			  "server died are lost",
			  strerror(errno));
}

int front_fuse_serve(const struct fuse_mount *m, struct uz_store *store, struct control *control,
		     bool again)
{
	struct fuse_thread *threads = calloc(m->nfds, sizeof(*threads));
	pthread_attr_t attr;
	int err = 0;

	if (!threads)
		return -ENOMEM;
	for (unsigned i = 0; i < m->nfds && !err; i++) {
		threads[i].store = store;
		threads[i].control = control;
		err = uz_worker_new(store, &threads[i].worker);
		if (!err)
			err = thread_init(&threads[i], m, m->fds[i], i == 0 && !again);
	}
	if (err)
		return err;
	if (again)
		resend(m->fds[0]);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	for (unsigned i = 0; i < m->nfds && !err; i++) {
		pthread_t thread;

		err = -pthread_create(&thread, &attr, thread_main, &threads[i]);
		if (!err)
			pthread_setname_np(thread, "uz-worker");
	}
	pthread_attr_destroy(&attr);
	return err;
}

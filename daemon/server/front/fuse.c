/* SPDX-License-Identifier: MIT
 *
 * Sessions and threads; what a request does to the store stands in fuse_ops.c.
 */
#define FUSE_USE_VERSION 314
#include "server/front/fuse.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/crash.h"
#include "server/front/fuse_ops.h"
#include "server/jail.h"
#include "shared/shared.h"

#define REQUEST_MAX   (FUSE_OPS_IO_MAX + 8192) /* the data of a write and its headers */
#define NOTIFY_RESEND 7		/* FUSE_NOTIFY_RESEND, of Linux 6.9: not in Debian 12's header */
#define ALLOW_MMAP    (1u << 4) /* FUSE_DIRECT_IO_ALLOW_MMAP >> 32, of Linux 6.6: neither */

struct front_fuse {
	struct front front;
	struct front_context *context;
	pthread_barrier_t go;
	atomic_bool stop;
	unsigned nthreads;
	struct session_thread {
		struct fuse_thread fuse;
		struct front_fuse *front;
	} threads[];
};

/* --- sessions --- */

/* Let the disk be mapped: what passes the page cache by could not be, else, and programs that map
 * files fail. The libfuse of Debian 12 does not know that flag. */
static void allow_mmap(const struct fuse_mount *m, struct fuse_init_out *reply)
{
	const struct fuse_in_header *header = (const struct fuse_in_header *)m->init;
	const struct fuse_init_in *in = (const struct fuse_init_in *)(header + 1);

	if (m->init_len >= sizeof(*header) + sizeof(*in) && in->flags & FUSE_INIT_EXT &&
	    in->flags2 & ALLOW_MMAP) {
		reply->flags |= FUSE_INIT_EXT;
		reply->flags2 |= ALLOW_MMAP;
	}
}

static ssize_t session_write(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_thread *t = userdata;
	ssize_t len = 0;

	if (t->init && count > 1 && iov[1].iov_len >= sizeof(struct fuse_init_out))
		allow_mmap(t->init, iov[1].iov_base);
	if (t->swallow) {
		for (int i = 0; i < count; i++)
			len += (ssize_t)iov[i].iov_len;
		return len;
	}
	UZ_CRASH(REPLY_BEFORE);
	len = writev(fd, iov, count);
	UZ_CRASH(REPLY_AFTER);
	return len;
}

static ssize_t session_read(int fd, void *buf, size_t len, void *userdata)
{
	return read(fd, buf, len);
}

static const struct fuse_custom_io session_io = {.writev = session_write, .read = session_read};

/* --- threads --- */

/* Requests are read into a buffer that was touched at the start. fuse_session_receive_buf() would
 * allocate one with the first request, when there may be no memory. */
static void serve_session(struct session_thread *st)
{
	struct fuse_thread *t = &st->fuse;
	bool answered = false;

	while (!atomic_load(&st->front->stop)) {
		struct fuse_buf buf = {.mem = t->request};
		ssize_t len = read(t->fd, t->request, REQUEST_MAX);

		if (len < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue; /* ENOENT: the request was interrupted before it was read */
		if (len <= 0)
			return; /* ENODEV: unmounted */
		buf.size = (size_t)len;
		front_thread_step(&t->thread);
		fuse_session_process_buf(t->session, &buf);
		front_thread_step(&t->thread);
		if (!answered) {
			answered = true;
			front_answered(st->front->context);
		}
	}
}

static void *session_main(void *arg)
{
	struct session_thread *st = arg;

	pthread_barrier_wait(&st->front->go);
	serve_session(st);
	return NULL;
}

static void *touched(size_t size)
{
	void *p = aligned_alloc(4096, size);

	if (p)
		memset(p, 0, size);
	return p;
}

/* A session on a duplicate of fd. */
static int session_init(struct fuse_thread *t, int fd)
{
	char *argv[] = {(char[]){"uzramd"}, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

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
	return fuse_session_custom_io(t->session, &session_io, t->fd) ? -EINVAL : 0;
}

/* Have the session process FUSE_INIT, which libfuse wants to see first. Its reply goes out only if
 * the kernel still waits for one. */
static void init_session(struct fuse_thread *t, const struct fuse_mount *m, bool reply)
{
	struct fuse_buf init = {.size = m->init_len, .mem = t->request};

	memcpy(t->request, m->init, m->init_len);
	t->swallow = !reply;
	t->init = m;
	fuse_session_process_buf(t->session, &init);
	t->init = NULL;
	t->swallow = false;
	UZ_CRASH(INIT_REPLAYED);
}

static int front_fuse_prepare(struct front_context *c, struct front **ret)
{
	const struct fuse_mount *m = &c->state->mount;
	struct front_fuse *f = calloc(1, sizeof(*f) + m->nfds * sizeof(f->threads[0]));

	if (!f)
		return -ENOMEM;
	f->front.ops = &front_fuse_ops;
	f->context = c;
	f->nthreads = m->nfds;
	pthread_barrier_init(&f->go, NULL, m->nfds + 1);
	for (unsigned i = 0; i < m->nfds; i++) {
		struct fuse_thread *t = &f->threads[i].fuse;
		int err;

		f->threads[i].front = f;
		t->store = c->store;
		t->control = c->control;
		t->latency = c->latency;
		err = uz_worker_new(c->store, &t->worker);
		if (!err)
			err = session_init(t, m->fds[i]);
		if (err)
			return err; /* and the process ends */
		/* The kernel waits for the answer until there has been one. */
		init_session(t, m, !c->state->served && i == 0);
		err = front_thread_start(&t->thread, "uz-worker", session_main, &f->threads[i]);
		if (err)
			return err;
	}
	*ret = &f->front;
	return 0;
}

/* --- start and end --- */

/* Have the kernel send again what an earlier server has read and not answered. Before Linux 6.9 it
 * can't. */
static int request_resend(int fd)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_RESEND};
	int err;

#ifdef UZ_TEST_HOOKS
	if (getenv("UZ_NO_RESEND"))
		return -EINVAL;
#endif
	UZ_CRASH(RESEND_BEFORE);
	err = write(fd, &out, sizeof(out)) < 0 ? -errno : 0;
	UZ_CRASH(RESEND_AFTER);
	return err;
}

static int front_fuse_start(struct front *front)
{
	struct front_fuse *f = (struct front_fuse *)front;
	struct front_context *c = f->context;
	/* Before the first server none has read anything: then this only tells what the kernel can
	 * do. */
	int err = request_resend(f->threads[0].fuse.fd);

	if (err && c->state->served && !c->state->no_resend)
		return err;
	atomic_store(&c->status->no_resend, err != 0);
	front_serves(c);
	pthread_barrier_wait(&f->go);
	return 0;
}

static unsigned front_fuse_stuck(struct front *front)
{
	struct front_fuse *f = (struct front_fuse *)front;
	unsigned stuck = 0;

	for (unsigned i = 0; i < f->nthreads; i++)
		stuck += front_thread_stuck(&f->threads[i].fuse.thread);
	return stuck;
}

/* Each thread ends when it finds that the mount is gone. */
static bool front_fuse_ended(struct front *front)
{
	struct front_fuse *f = (struct front_fuse *)front;

	for (unsigned i = 0; i < f->nthreads; i++) {
		if (atomic_load(&f->threads[i].fuse.thread.running))
			return false;
	}
	return true;
}

/* The sessions stay, so that the control thread can reply to what it has begun. */
static void front_fuse_stop(struct front *front)
{
	struct front_fuse *f = (struct front_fuse *)front;

	atomic_store(&f->stop, true);
	for (unsigned i = 0; i < f->nthreads; i++)
		front_thread_end(&f->threads[i].fuse.thread);
}

const struct front_ops front_fuse_ops = {
	.prepare = front_fuse_prepare,
	.start = front_fuse_start,
	.stuck = front_fuse_stuck,
	.ended = front_fuse_ended,
	.stop = front_fuse_stop,
};

/* SPDX-License-Identifier: MIT
 *
 * The life of the ublk front end, and what a request does to the store.
 */
#include "server/front/ublk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/crash.h"
#include "server/front/ublk_internal.h"
#include "server/latency.h"
#include "shared/shared.h"
#include "uzram/store.h"

static struct front_ublk *ublk_of(struct front *front)
{
	return (struct front_ublk *)front;
}

/* --- requests --- */

/* In steps, since it may be large: the heartbeat sees the thread move on between them. */
static int discard_range(struct ublk_thread *t, uint64_t off, uint64_t len)
{
	const uint64_t step = UINT64_C(1) << 28;
	int err = 0;

	while (len && !err) {
		uint64_t n = len < step ? len : step;

		err = uz_discard(t->worker, off, n);
		off += n;
		len -= n;
		front_thread_step(&t->thread);
		front_thread_step(&t->thread);
	}
	return err;
}

static int read_pages(struct ublk_thread *t, uint64_t off, size_t len, void *buf)
{
	struct latency *latency = t->front->context->latency;
	bool alone = latency_begin(latency);
	int err = uz_read(t->worker, off, len, buf);

	latency_end(latency, alone);
	return err;
}

/* Bytes read or written, 0, or -errno. */
static int32_t carry_out(struct ublk_thread *t, unsigned tag)
{
	const struct ublksrv_io_desc *d = &t->front->descriptors[tag];
	char *buf = t->front->buffers + (size_t)tag * UBLK_IO_MAX;
	uint64_t off = d->start_sector << UBLK_SECTOR_SHIFT;
	uint64_t len = (uint64_t)d->nr_sectors << UBLK_SECTOR_SHIFT;
	int err;

	switch (ublksrv_get_op(d)) {
	case UBLK_IO_OP_READ:
		err = len <= UBLK_IO_MAX ? read_pages(t, off, len, buf) : -EINVAL;
		return err ? err : (int32_t)len;
	case UBLK_IO_OP_WRITE:
		err = len <= UBLK_IO_MAX ? uz_write(t->worker, off, len, buf) : -EINVAL;
		return err ? err : (int32_t)len;
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		return discard_range(t, off, len);
	case UBLK_IO_OP_FLUSH:
		return 0; /* a write that was answered is stored */
	default:
		return -EOPNOTSUPP;
	}
}

void ublk_serve(struct ublk_thread *t, unsigned tag)
{
	struct front_ublk *f = t->front;

	front_thread_step(&t->thread);
	f->results[tag] = carry_out(t, tag);
	front_thread_step(&t->thread);
}

/* --- prepare --- */

/* Buffers, and behind them a page that descriptors are mapped over later: page tables for it are
 * there from now on. */
static int make_buffers(struct front_ublk *f)
{
	const size_t size = (size_t)UBLK_TAGS * UBLK_IO_MAX;
	char *p = mmap(NULL, size + UZ_PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	/* MAP_POPULATE does nothing after mlockall(MCL_ONFAULT). */
	memset(p, 0, size + UZ_PAGE_SIZE);
	f->buffers = p;
	f->descriptors = (const struct ublksrv_io_desc *)(p + size);
	return 0;
}

static int start_ublk_thread(struct front_ublk *f, unsigned i)
{
	struct ublk_thread *t = &f->threads[i];
	int err = uz_worker_new(f->context->store, &t->worker);

	t->front = f;
	if (err)
		return err;
	return i ? front_thread_start(&t->thread, "uz-worker", ublk_helper_main, t)
		 : front_thread_start(&t->thread, "uz-queue", ublk_queue_main, t);
}

static int front_ublk_prepare(struct front_context *c, struct front **ret)
{
	unsigned n = 1 + c->state->workers;
	struct front_ublk *f = calloc(1, sizeof(*f) + n * sizeof(f->threads[0]));
	int err;

	if (!f)
		return -ENOMEM;
	f->front.ops = &front_ublk_ops;
	f->context = c;
	f->nthreads = n;
	sem_init(&f->more, 0, 0);
	sem_init(&f->begin, 0, 0);
	sem_init(&f->end, 0, 0);
	f->wake = eventfd(0, EFD_CLOEXEC);
	err = f->wake < 0 ? -errno : ublk_make_ring(f);
	if (!err)
		err = make_buffers(f);
	for (unsigned i = 0; i < n && !err; i++)
		err = start_ublk_thread(f, i);
	if (!err)
		err = ublk_queue_do(f, UBLK_REHEARSE);
	if (err)
		return err; /* and the process ends */
	*ret = &f->front;
	return 0;
}

/* --- start --- */

/* The supervisor sends it as soon as the kernel has done with the last server. */
static int receive_device(int socket)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *c;
	int fd;

	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -EPIPE; /* the supervisor is dead */
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static int front_ublk_connect(struct front *front)
{
	struct front_ublk *f = ublk_of(front);

	f->device = receive_device(f->context->socket);
	if (f->device < 0)
		return f->device;
	UZ_CRASH(UBLK_GIVEN);
	return ublk_queue_do(f, UBLK_FETCH);
}

static int front_ublk_start(struct front *front)
{
	struct front_ublk *f = ublk_of(front);

	front_serves(f->context);
	return ublk_queue_do(f, UBLK_SERVE);
}

/* --- watch, end --- */

static unsigned front_ublk_stuck(struct front *front)
{
	struct front_ublk *f = ublk_of(front);
	unsigned stuck = 0;

	for (unsigned i = 0; i < f->nthreads; i++)
		stuck += front_thread_stuck(&f->threads[i].thread);
	return stuck;
}

static bool front_ublk_ended(struct front *front)
{
	return !atomic_load(&ublk_of(front)->threads[0].thread.running);
}

/* The next server has what the kernel handed to this one and no thread has begun. */
static void front_ublk_stop(struct front *front)
{
	struct front_ublk *f = ublk_of(front);

	atomic_store(&f->stop, true);
	front_thread_end(&f->threads[0].thread);
}

const struct front_ops front_ublk_ops = {
	.prepare = front_ublk_prepare,
	.connect = front_ublk_connect,
	.start = front_ublk_start,
	.stuck = front_ublk_stuck,
	.ended = front_ublk_ended,
	.stop = front_ublk_stop,
};

/* SPDX-License-Identifier: MIT */
#include "server/front/ublk.h"

#include <errno.h>
#include <liburing.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/ring.h"
#include "server/latency.h"
#include "shared/shared.h"
#include "shared/ublk_uapi.h"
#include "uzram/store.h"

#define SECTOR_SHIFT 9

/* A helper is woken for so many pages that wait: 100 us of compression, or 50 of the contrary,
 * which is about what it takes. */
#define PAGES_A_HELPER 12

_Static_assert(UBLK_TAGS == 64, "a word has a bit for each tag");

struct front_ublk;

/* The first one is the queue's, the others are helpers. */
struct ublk_thread {
	struct front_thread thread;
	struct front_ublk *front;
	struct uz_worker *worker;
};

/* A request is in one of the three words, or in a thread's hands. */
struct front_ublk {
	struct front front;
	struct front_context *context;

	/* The queue thread's. */
	struct io_uring ring;
	int device;	  /* /dev/ublkcN; -1: not yet */
	uint64_t fetched; /* tags the kernel may still give us requests with */
	uint64_t own;	  /* to be done by this thread */
	pthread_barrier_t step;
	int err; /* of its last step */

	const struct ublksrv_io_desc *descriptors; /* one a tag, written by the kernel */
	char *buffers;				   /* UBLK_IO_MAX bytes a tag */

	/* To be done by helpers, those that sleep, and what wakes them. */
	_Atomic uint64_t todo;
	_Atomic unsigned next; /* the tag whose turn it is */
	_Atomic unsigned idle;
	sem_t more;

	/* Done by helpers, with what result. */
	_Atomic uint64_t done;
	int32_t results[UBLK_TAGS];

	/* The queue thread sleeps in a read of this eventfd. The ring signals it for whatever
	 * completes, and helpers do if they find the thread asleep. */
	int wake;
	_Atomic bool asleep;

	atomic_bool stop;
	unsigned nthreads;
	struct ublk_thread threads[];
};

static struct front_ublk *of(struct front *front)
{
	return (struct front_ublk *)front;
}

/* --- requests --- */

/* In steps, since it may be large: whoever watches sees it go on. */
static int discard(struct ublk_thread *t, uint64_t off, uint64_t len)
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
	uint64_t off = d->start_sector << SECTOR_SHIFT;
	uint64_t len = (uint64_t)d->nr_sectors << SECTOR_SHIFT;
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
		return discard(t, off, len);
	case UBLK_IO_OP_FLUSH:
		return 0; /* a write that was answered is stored */
	default:
		return -EOPNOTSUPP;
	}
}

static void serve(struct ublk_thread *t, unsigned tag)
{
	struct front_ublk *f = t->front;

	front_thread_step(&t->thread);
	f->results[tag] = carry_out(t, tag);
	front_thread_step(&t->thread);
}

/* --- helpers --- */

/* The first of the tags from that one on, and from the start. */
static unsigned first_from(uint64_t tags, unsigned from)
{
	uint64_t above = tags & (UINT64_MAX << from);

	return (unsigned)__builtin_ctzll(above ? above : tags);
}

/* Take one of the requests that wait, in turn. */
static bool claim(struct front_ublk *f, unsigned *ret_tag)
{
	/* Pairs with the release in hand_out(). */
	uint64_t todo = atomic_load_explicit(&f->todo, memory_order_acquire);

	while (todo) {
		unsigned from = atomic_load_explicit(&f->next, memory_order_relaxed);
		unsigned tag = first_from(todo, from);

		if (atomic_compare_exchange_weak_explicit(
			    &f->todo, &todo, todo & ~(UINT64_C(1) << tag), memory_order_acquire,
			    memory_order_acquire)) {
			atomic_store_explicit(&f->next, (tag + 1) % UBLK_TAGS,
					      memory_order_relaxed);
			*ret_tag = tag;
			return true;
		}
	}
	return false;
}

static void finish(struct front_ublk *f, unsigned tag)
{
	const uint64_t one = 1;

	/* Sequentially consistent, as the other side is in wait_for_more(): either it sees the bit,
	 * or we see it asleep. */
	atomic_fetch_or(&f->done, UINT64_C(1) << tag);
	if (atomic_exchange(&f->asleep, false))
		(void)!write(f->wake, &one, sizeof(one));
}

/* Take one of those that sleep, to wake it. */
static bool take_idle(struct front_ublk *f)
{
	unsigned idle = atomic_load(&f->idle);

	while (idle && !atomic_compare_exchange_weak(&f->idle, &idle, idle - 1))
		;
	return idle != 0;
}

static void sleep_until_more(struct front_ublk *f)
{
	/* Sequentially consistent, as the other side is in hand_out(): either it sees us, or we see
	 * what it has. If it has seen us, too, its wake-up is on the way. */
	atomic_fetch_add(&f->idle, 1);
	if (atomic_load(&f->todo) && take_idle(f))
		return;
	while (sem_wait(&f->more) < 0 && !atomic_load(&f->stop))
		;
}

static void *helper_main(void *arg)
{
	struct ublk_thread *t = arg;
	struct front_ublk *f = t->front;

	while (!atomic_load(&f->stop)) {
		unsigned tag;

		if (claim(f, &tag)) {
			serve(t, tag);
			finish(f, tag);
		} else {
			sleep_until_more(f);
		}
	}
	return NULL;
}

/* --- the queue --- */

static struct io_uring_sqe *put_command(struct front_ublk *f, unsigned command, unsigned tag,
					int32_t result)
{
	/* There is room: each tag has one command at a time. */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&f->ring);
	const struct ublksrv_io_cmd cmd = {
		.tag = (uint16_t)tag,
		.result = result,
		.addr = (uintptr_t)(f->buffers + (size_t)tag * UBLK_IO_MAX),
	};

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, f->device, NULL, 0, 0);
	sqe->cmd_op = ublk_io_op(command, f->context->state->ublk_encoded);
	sqe->user_data = tag;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	return sqe;
}

/* What the kernel has for us; returns the tags of new requests. */
static uint64_t harvest(struct front_ublk *f)
{
	struct io_uring_cqe *cqe;
	uint64_t tags = 0;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&f->ring, head, cqe)
	{
		uint64_t tag = cqe->user_data;

		n++;
		if (cqe->res == UBLK_IO_RES_OK)
			tags |= UINT64_C(1) << tag;
		else
			f->fetched &= ~(UINT64_C(1) << tag); /* UBLK_IO_RES_ABORT: the end */
	}
	io_uring_cq_advance(&f->ring, n);
	return tags;
}

static unsigned pages_of(const struct front_ublk *f, uint64_t tags)
{
	unsigned sectors = 0;

	for (; tags; tags &= tags - 1)
		sectors += f->descriptors[__builtin_ctzll(tags)].nr_sectors;
	return sectors >> (UZ_PAGE_SHIFT - SECTOR_SHIFT);
}

static void hand_out(struct front_ublk *f, uint64_t tags)
{
	unsigned helpers;

	if (!tags)
		return;
	helpers = 1 + pages_of(f, tags) / PAGES_A_HELPER;
	/* Pairs with the acquire in claim(): the descriptors are seen as the kernel wrote them.
	 * Sequentially consistent for the sake of sleep_until_more(). */
	atomic_fetch_or(&f->todo, tags);
	while (helpers-- && take_idle(f))
		sem_post(&f->more);
}

/* Somebody waits for what is read, and it takes less time than to wake a helper, unless it is much.
 * Nobody waits for a write or a discard; and it may have to wait itself, for memory, which must not
 * hold up reads and answers. */
static void distribute(struct front_ublk *f, uint64_t tags)
{
	uint64_t reads = 0;

	for (uint64_t rest = tags; rest; rest &= rest - 1) {
		unsigned tag = (unsigned)__builtin_ctzll(rest);

		if (ublksrv_get_op(&f->descriptors[tag]) == UBLK_IO_OP_READ)
			reads |= UINT64_C(1) << tag;
	}
	f->own = reads;
	if (pages_of(f, reads) > PAGES_A_HELPER)
		f->own = reads & -reads;
	hand_out(f, tags & ~f->own);
}

/* Answer, and fetch again. */
static void commit(struct front_ublk *f, unsigned tag)
{
	UZ_CRASH(UBLK_COMMIT_BEFORE);
	put_command(f, UBLK_IO_COMMIT_AND_FETCH_REQ, tag, f->results[tag]);
	front_answered(f->context);
}

static void commit_done(struct front_ublk *f)
{
	uint64_t done = atomic_exchange(&f->done, 0);

	for (; done; done &= done - 1)
		commit(f, (unsigned)__builtin_ctzll(done));
}

static void submit(struct front_ublk *f)
{
	if (!io_uring_sq_ready(&f->ring))
		return;
	io_uring_submit(&f->ring);
	UZ_CRASH(UBLK_COMMIT_AFTER);
}

/* Nothing to do but to wait: for the kernel, for helpers, or to be interrupted.
 *
 * Not in io_uring_enter(2): the kernel counts a thread that sleeps there as waiting for I/O, on a
 * machine that is idle, too. The kernel hands a request over by task work, which ends the read;
 * that puts the completion into the ring and signals the eventfd, and then the read is restarted.
 */
static void wait_for_more(struct front_ublk *f)
{
	uint64_t count;

	atomic_store(&f->asleep, true);
	if (!atomic_load(&f->done))
		(void)!read(f->wake, &count, sizeof(count));
	atomic_store(&f->asleep, false);
}

static void serve_own(struct ublk_thread *t)
{
	struct front_ublk *f = t->front;

	for (; f->own && !atomic_load(&f->stop); f->own &= f->own - 1) {
		unsigned tag = (unsigned)__builtin_ctzll(f->own);

		serve(t, tag);
		commit(f, tag);
		commit_done(f);
		submit(f);
	}
}

/* Until the block device is gone, or we are told to stop. */
static void serve_queue(struct ublk_thread *t)
{
	struct front_ublk *f = t->front;

	while (f->fetched && !atomic_load(&f->stop)) {
		distribute(f, harvest(f));
		serve_own(t);
		commit_done(f);
		submit(f);
		/* What the kernel has not accepted, for want of memory, is offered again at once.
		 */
		if (!io_uring_cq_ready(&f->ring) && !io_uring_sq_ready(&f->ring))
			wait_for_more(f);
	}
	atomic_store(&f->stop, true);
	for (unsigned i = 1; i < f->nthreads; i++)
		front_thread_end(&f->threads[i].thread);
	commit_done(f);
	submit(f);
}

/* --- prepare --- */

/* For each command that is under way the kernel allocates something, and keeps it for the next one.
 * So as many as there will be are put under way here, to a socket, which refuses them; linked,
 * since all that are linked are made before the first of them is carried out. */
static int rehearse(struct front_ublk *f)
{
	struct io_uring_cqe *cqe;

	f->device = f->context->socket;
	for (unsigned tag = 0; tag < UBLK_TAGS; tag++)
		put_command(f, UBLK_IO_FETCH_REQ, tag, 0)->flags |= IOSQE_IO_HARDLINK;
	f->device = -1;
	if (io_uring_submit(&f->ring) != UBLK_TAGS)
		return -EIO;
	for (unsigned i = 0; i < UBLK_TAGS; i++) {
		int err = io_uring_wait_cqe(&f->ring, &cqe);

		if (err)
			return err;
		io_uring_cqe_seen(&f->ring, cqe);
	}
	return 0;
}

/* The descriptors go where there are page tables. */
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

/* It signals event_fd for whatever completes. */
static int make_ring(struct io_uring *ring, int event_fd)
{
	const struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_URING_CMD},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_IO_HARDLINK},
	};
	const unsigned flags =
		IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL;
	int err = io_uring_queue_init(UBLK_TAGS, ring, flags);

	if (!err)
		err = io_uring_register_eventfd(ring, event_fd);
	return err ? err : uz_ring_enable(ring, allowed, sizeof(allowed) / sizeof(allowed[0]));
}

/* All tags at once: see front_ublk.h. */
static int fetch(struct front_ublk *f)
{
	struct io_uring_cqe *cqe;

	for (unsigned tag = 0; tag < UBLK_TAGS; tag++)
		put_command(f, UBLK_IO_FETCH_REQ, tag, 0);
	if (io_uring_submit(&f->ring) != UBLK_TAGS)
		return -EIO;
	f->fetched = UINT64_MAX;
	UZ_CRASH(UBLK_FETCHED);
	if (io_uring_peek_cqe(&f->ring, &cqe) == 0 && cqe->res < 0)
		return cqe->res;
	return 0;
}

static int map_descriptors(struct front_ublk *f)
{
	void *p = mmap((void *)(uintptr_t)f->descriptors, UBLK_TAGS * sizeof(f->descriptors[0]),
		       PROT_READ, MAP_SHARED | MAP_FIXED, f->device, UBLKSRV_CMD_BUF_OFFSET);

	return p == MAP_FAILED ? -errno : 0;
}

/* Between each of the steps of the front end it waits for the main thread, and the main thread for
 * it. */
static void *queue_main(void *arg)
{
	struct ublk_thread *t = arg;
	struct front_ublk *f = t->front;

	f->err = rehearse(f);
	pthread_barrier_wait(&f->step);
	pthread_barrier_wait(&f->step);
	f->err = fetch(f);
	if (!f->err)
		f->err = map_descriptors(f);
	pthread_barrier_wait(&f->step);
	pthread_barrier_wait(&f->step);
	serve_queue(t);
	return NULL;
}

static int start_thread(struct front_ublk *f, unsigned i)
{
	struct ublk_thread *t = &f->threads[i];
	int err = uz_worker_new(f->context->store, &t->worker);

	t->front = f;
	if (err)
		return err;
	return i ? front_thread_start(&t->thread, "uz-worker", helper_main, t)
		 : front_thread_start(&t->thread, "uz-queue", queue_main, t);
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
	pthread_barrier_init(&f->step, NULL, 2);
	f->wake = eventfd(0, EFD_CLOEXEC);
	err = f->wake < 0 ? -errno : make_ring(&f->ring, f->wake);
	if (!err)
		err = make_buffers(f);
	for (unsigned i = 0; i < n && !err; i++)
		err = start_thread(f, i);
	if (err)
		return err;
	pthread_barrier_wait(&f->step);
	*ret = &f->front;
	return f->err;
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
		return -EPIPE; /* it is dead */
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static int front_ublk_connect(struct front *front)
{
	struct front_ublk *f = of(front);

	f->device = receive_device(f->context->socket);
	if (f->device < 0)
		return f->device;
	UZ_CRASH(UBLK_GIVEN);
	pthread_barrier_wait(&f->step);
	pthread_barrier_wait(&f->step);
	return f->err;
}

static int front_ublk_start(struct front *front)
{
	struct front_ublk *f = of(front);

	front_serves(f->context);
	pthread_barrier_wait(&f->step);
	return 0;
}

/* --- watch, end --- */

static unsigned front_ublk_stuck(struct front *front)
{
	struct front_ublk *f = of(front);
	unsigned stuck = 0;

	for (unsigned i = 0; i < f->nthreads; i++)
		stuck += front_thread_stuck(&f->threads[i].thread);
	return stuck;
}

static bool front_ublk_ended(struct front *front)
{
	return !atomic_load(&of(front)->threads[0].thread.running);
}

/* What has been handed to us and was not begun goes to the next server. */
static void front_ublk_stop(struct front *front)
{
	struct front_ublk *f = of(front);

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

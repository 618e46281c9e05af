/* SPDX-License-Identifier: MIT
 *
 * The ublk front end's queue thread: it has all requests from the kernel and gives all answers,
 * through one ring.
 */
#include "server/front/ublk_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/ring.h"
#include "shared/shared.h"

/* --- commands --- */

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
	if (ublk_pages_of(f, reads) > UBLK_PAGES_A_HELPER)
		f->own = reads & -reads;
	ublk_hand_out(f, tags & ~f->own);
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

		ublk_serve(t, tag);
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

/* --- its steps --- */

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

int ublk_make_ring(struct front_ublk *f)
{
	const struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_URING_CMD},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_IO_HARDLINK},
	};
	const unsigned flags =
		IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL;
	int err = io_uring_queue_init(UBLK_TAGS, &f->ring, flags);

	if (!err)
		err = io_uring_register_eventfd(&f->ring, f->wake);
	return err ? err : uz_ring_enable(&f->ring, allowed, sizeof(allowed) / sizeof(allowed[0]));
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
void *ublk_queue_main(void *arg)
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

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

/* Take what the kernel has completed. Returns the tags of new requests. */
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

/* A process waits for each read, and to carry one out takes less time than to wake a helper: so
 * this thread reads itself, unless it is much. Nothing waits for a write or a discard; and these
 * may have to wait for memory, which must not hold up reads and answers: so helpers have them. */
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

/* Put the answer into the ring, and with it the next fetch. */
static void put_answer(struct front_ublk *f, unsigned tag)
{
	UZ_CRASH(UBLK_COMMIT_BEFORE);
	put_command(f, UBLK_IO_COMMIT_AND_FETCH_REQ, tag, f->results[tag]);
	front_answered(f->context);
}

static void put_answers(struct front_ublk *f)
{
	uint64_t done = atomic_exchange(&f->done, 0);

	for (; done; done &= done - 1)
		put_answer(f, (unsigned)__builtin_ctzll(done));
}

static void submit_queue(struct front_ublk *f)
{
	if (!io_uring_sq_ready(&f->ring))
		return;
	io_uring_submit(&f->ring);
	UZ_CRASH(UBLK_COMMIT_AFTER);
}

/* Sleep until the kernel or a helper has something for this thread, or it is interrupted.
 *
 * It does not sleep in io_uring_enter(2): the kernel counts a thread that sleeps there as waiting
 * for I/O, so that an idle machine would show I/O pressure. The kernel hands a request over by task
 * work, which ends the read; the task work puts the completion into the ring and signals the
 * eventfd, and then the kernel restarts the read.
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
		put_answer(f, tag);
		put_answers(f);
		submit_queue(f);
	}
}

/* Until the block device is gone, or the front end stops. */
static void serve_queue(struct ublk_thread *t)
{
	struct front_ublk *f = t->front;

	while (f->fetched && !atomic_load(&f->stop)) {
		distribute(f, harvest(f));
		serve_own(t);
		put_answers(f);
		submit_queue(f);
		/* What the kernel has not accepted, for want of memory, is offered again. */
		if (!io_uring_cq_ready(&f->ring) && !io_uring_sq_ready(&f->ring))
			wait_for_more(f);
	}
	atomic_store(&f->stop, true);
	for (unsigned i = 1; i < f->nthreads; i++)
		front_thread_end(&f->threads[i].thread);
	put_answers(f);
	submit_queue(f);
}

/* --- steps --- */

/* The kernel allocates memory for each command that is under way, and keeps it for later ones. So
 * as many commands as there will be are put under way here, while memory can be had, to a socket,
 * which refuses them. They are linked, since the kernel makes all of a link before it carries out
 * the first. */
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

/* All tags in one system call: front/ublk.h says why. */
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

static int queue_step(struct front_ublk *f)
{
	int err;

	if (f->step == UBLK_REHEARSE)
		return rehearse(f);
	err = fetch(f);
	return err ? err : map_descriptors(f);
}

/* A signal, which may interrupt it, is for what comes after. */
static void await_step(sem_t *sem)
{
	while (sem_wait(sem) < 0)
		;
}

void *ublk_queue_main(void *arg)
{
	struct ublk_thread *t = arg;
	struct front_ublk *f = t->front;

	for (;;) {
		await_step(&f->begin);
		if (f->step == UBLK_SERVE)
			break;
		f->err = queue_step(f);
		sem_post(&f->end);
	}
	serve_queue(t);
	return NULL;
}

int ublk_queue_do(struct front_ublk *f, enum ublk_step step)
{
	f->step = step;
	sem_post(&f->begin);
	if (step == UBLK_SERVE)
		return 0;
	await_step(&f->end);
	return f->err;
}

/* SPDX-License-Identifier: MIT */
#include "arena/punch.h"

#include <fcntl.h>
#include <string.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/ring.h"

/* Between two passes, and before the first. What else is freed meanwhile makes the pieces of the
 * pass larger. It is also how often a punch that the kernel has no memory for is offered again. */
#define PAUSE_NS (20 * UZ_NSEC_PER_MSEC)

/* --- the ring --- */

int uz_punch_ring_init(struct io_uring *ring, int event_fd)
{
	const struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE},
	};
	unsigned workers[2] = {1, 1}; /* punches of one file wait for each other anyway */
	int err = io_uring_queue_init(UZ_PUNCHES_MAX, ring, IORING_SETUP_R_DISABLED);

	if (err)
		return err;
	io_uring_register_iowq_max_workers(ring, workers);
	err = io_uring_register_eventfd(ring, event_fd);
	if (!err)
		err = uz_ring_enable(ring, allowed, sizeof(allowed) / sizeof(allowed[0]));
	if (err)
		io_uring_queue_exit(ring);
	return err;
}

int uz_punch_init(struct uz_punch *p, struct uz_arena *arena, int event_fd)
{
	int err;

	memset(p, 0, sizeof(*p));
	err = uz_punch_ring_init(&p->ring, event_fd);
	if (!err)
		p->arena = arena;
	return err;
}

void uz_punch_done(struct uz_punch *p)
{
	if (p->arena)
		io_uring_queue_exit(&p->ring);
	p->arena = NULL;
}

/* --- the queue --- */

void uz_punch_request(struct uz_punch *p)
{
	/* Release pairs with the acquire in pass_is_due(): the pass sees the surplus. */
	atomic_store_explicit(&p->requested, true, memory_order_release);
}

/* Return to the arena what the kernel has finished with. */
static void reap_punches(struct uz_punch *p)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_for_each_cqe(&p->ring, head, cqe)
	{
		uint64_t i = io_uring_cqe_get_data64(cqe);

		seen++;
		uz_arena_trim_end(p->arena, &p->extents[i], cqe->res == 0);
		UZ_CRASH(TRIM_END);
		p->busy[i] = false;
		p->in_flight--;
	}
	io_uring_cq_advance(&p->ring, seen);
}

static bool pass_is_due(struct uz_punch *p)
{
	/* A request that comes during a pass is kept: it is for the next one. */
	if (!p->pass_at && atomic_exchange_explicit(&p->requested, false, memory_order_acquire))
		p->pass_at = uz_now_ns() + PAUSE_NS;
	return p->pass_at && uz_now_ns() >= p->pass_at;
}

/* Take extents of surplus, as many as there is room for. Returns how many; 0 also while it is not
 * worthwhile. They are in the submission queue then. */
static unsigned queue_punches(struct uz_punch *p)
{
	struct uz_extent batch[UZ_PUNCHES_MAX];
	unsigned room = UZ_PUNCHES_MAX - p->in_flight, count;

	if (room < UZ_PUNCHES_MAX / 2 || !pass_is_due(p))
		return 0;
	count = uz_arena_trim_begin(p->arena, batch, room);
	if (!count)
		p->pass_at = 0;
	for (unsigned i = 0, slot = 0; i < count; i++, slot++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&p->ring); /* never NULL: see room */
		uint64_t off, len;

		while (p->busy[slot])
			slot++;
		p->extents[slot] = batch[i];
		p->busy[slot] = true;
		p->in_flight++;
		uz_arena_extent_range(p->arena, &batch[i], &off, &len);
		io_uring_prep_fallocate(sqe, uz_arena_fd(p->arena),
					FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
					(off_t)len);
		io_uring_sqe_set_data64(sqe, slot);
	}
	return count;
}

uint64_t uz_punch_work(void *context, bool stop)
{
	struct uz_punch *p = context;
	unsigned queued;

	reap_punches(p);
	queued = stop ? 0 : queue_punches(p);
	/* The kernel refuses a punch when it has no memory for the request. Such a one stays in the
	 * submission queue, and is offered again in each round. */
	if (io_uring_sq_ready(&p->ring))
		io_uring_submit(&p->ring);
	UZ_CRASH_WHILE(queued, TRIM_SUBMITTED);
	if (queued)
		return 0; /* there may be more, and room for it */
	if (p->in_flight)
		return uz_now_ns() + PAUSE_NS;
	return p->pass_at && !stop ? p->pass_at : UINT64_MAX;
}

/* SPDX-License-Identifier: MIT
 *
 * The drain thread. It waits for three things: a wake-up by a producer; the ageing timer; and the
 * completion of punches, which give memory back to the kernel by way of a ring. Producers and the
 * ring both signal one eventfd, and the timer is the time-out of the ppoll(2) on it.
 *
 * The thread never sleeps in io_uring_enter(2): the kernel counts a thread that does as waiting for
 * I/O, and an idle machine would show one CPU in I/O wait and full I/O pressure. (Linux 6.15 has a
 * flag against that; this works on every kernel.)
 *
 * No seccomp filter sees what a ring does; so ours can punch holes and nothing else, for good.
 */
#include "defer/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/ring.h"
#include "base/thread.h"

/* --- draining --- */

/* Drain what has been appended since the last time. */
static bool drain_buffer(struct uz_defer *d, struct buffer *b)
{
	/* Pairs with the producer's release: the values are there. */
	unsigned count = atomic_load_explicit(&b->count, memory_order_acquire);

	if (count == b->taken)
		return false;
	d->ops->drain(d->config.context, b->page, b->taken, count - b->taken);
	atomic_fetch_add_explicit(&d->drained, count - b->taken, memory_order_release);
	atomic_fetch_add_explicit(&d->runs, 1, memory_order_relaxed);
	b->taken = count;
	return true;
}

static void make_spare(struct uz_defer *d, struct buffer *b)
{
	b->taken = 0;
	atomic_store_explicit(&b->count, 0, memory_order_relaxed);
	uz_spin_lock(&d->lock);
	b->next = d->spares;
	d->spares = b;
	d->nspares++;
	uz_spin_unlock(&d->lock);
}

static bool drain_full(struct uz_defer *d)
{
	struct buffer *b;

	uz_spin_lock(&d->lock);
	b = d->full;
	d->full = NULL;
	uz_spin_unlock(&d->lock);
	if (!b)
		return false;
	while (b) {
		struct buffer *next = b->next;

		drain_buffer(d, b);
		make_spare(d, b);
		b = next;
	}
	return true;
}

static bool drain_partial(struct uz_defer *d)
{
	bool any = false;

	pthread_mutex_lock(&d->walk_lock);
	for (struct uz_defer_producer *p = d->producers; p; p = p->next)
		any |= drain_buffer(d, atomic_load_explicit(&p->current, memory_order_acquire));
	pthread_mutex_unlock(&d->walk_lock);
	return any;
}

/* A buffer that becomes full meanwhile is in the queue before its producer has another: hence the
 * queue last. */
static bool drain_all(struct uz_defer *d)
{
	bool any = drain_partial(d);

	return drain_full(d) || any;
}

static void finish(struct uz_defer *d)
{
	if (d->ops->finish)
		d->ops->finish(d->config.context);
}

static void serve_flush(struct uz_defer *d, uint32_t requested)
{
	atomic_store(&d->flush_done, requested);
	uz_futex_wake(&d->flush_done, INT_MAX);
}

/* --- giving memory back --- */

/* A pass over the surplus begins a while after there is some: what else is being freed at the time
 * makes its pieces larger. */
static bool submit_trims(struct uz_defer *d)
{
	struct uz_extent batch[TRIMS_MAX];
	unsigned room = TRIMS_MAX - d->ntrims, count;

	if (!d->trim_at && atomic_exchange(&d->trim, false))
		d->trim_at = uz_now_ns() + TRIM_PAUSE_MS * UZ_NSEC_PER_MSEC;
	if (!d->trim_at || room < TRIMS_MAX / 2 || uz_now_ns() < d->trim_at)
		return false;
	count = uz_arena_trim_begin(d->config.arena, batch, room);
	if (!count)
		d->trim_at = 0;
	for (unsigned i = 0, slot = 0; i < count; i++, slot++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&d->ring); /* it holds TRIMS_MAX */
		uint64_t off, len;

		while (d->trim_busy[slot])
			slot++;
		d->trims[slot] = batch[i];
		d->trim_busy[slot] = true;
		d->ntrims++;
		uz_arena_extent_range(d->config.arena, &batch[i], &off, &len);
		io_uring_prep_fallocate(sqe, uz_arena_fd(d->config.arena),
					FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
					(off_t)len);
		io_uring_sqe_set_data64(sqe, slot);
	}
	if (count) {
		io_uring_submit(&d->ring);
		UZ_CRASH(TRIM_SUBMITTED);
	}
	return count > 0;
}

/* The kernel refuses a punch when it has no memory for the request; it is offered once more in each
 * round. */
static void submit_again(struct uz_defer *d)
{
	if (io_uring_sq_ready(&d->ring))
		io_uring_submit(&d->ring);
}

static void reap(struct uz_defer *d)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_for_each_cqe(&d->ring, head, cqe)
	{
		uint64_t slot = io_uring_cqe_get_data64(cqe);

		seen++;
		uz_arena_trim_end(d->config.arena, &d->trims[slot], cqe->res == 0);
		UZ_CRASH(TRIM_END);
		d->trim_busy[slot] = false;
		d->ntrims--;
	}
	io_uring_cq_advance(&d->ring, seen);
}

/* --- the thread --- */

static void *drain_main(void *arg)
{
	struct uz_defer *d = arg;
	uint64_t age = d->config.max_age_ms * UZ_NSEC_PER_MSEC;
	uint64_t tick = uz_now_ns() + age; /* when partly filled buffers are due */
	bool stop, busy;
	unsigned quiet = 0; /* periods in a row in which nothing was pushed */

	uz_thread_name("uz-drain");
	do {
		/* Read before the work: a request that comes later is served by a later round. */
		uint32_t flush = atomic_load(&d->flush_requested);
		bool due = uz_now_ns() >= tick;

		stop = atomic_load(&d->stop);
		reap(d);
		submit_again(d);
		if (due || stop || flush != atomic_load(&d->flush_done)) {
			busy = drain_all(d);
			quiet = busy ? 0 : quiet + due;
			tick = uz_now_ns() + age;
		} else {
			busy = drain_full(d);
		}
		if (busy)
			finish(d);
		if (flush != atomic_load(&d->flush_done))
			serve_flush(d, flush);
		busy |= !stop && submit_trims(d);
		if (busy)
			continue; /* look again before sleeping */
		if (stop) {
			if (d->ntrims)
				uz_drain_wait(d, tick);
		} else if (quiet >= DRAIN_LINGER && d->can_idle && !d->trim_at &&
			   !io_uring_sq_ready(&d->ring)) {
			uz_drain_sleep(d, DRAIN_IDLE, 0);
			quiet = 0;
			tick = uz_now_ns() + age;
		} else {
			uz_drain_sleep(d, DRAIN_TICKING,
				       d->trim_at && !d->ntrims && d->trim_at < tick ? d->trim_at
										     : tick);
		}
	} while (!stop || busy || d->ntrims);
	return NULL;
}

int uz_drain_ring_init(struct io_uring *ring, int event_fd)
{
	const struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE},
	};
	unsigned workers[2] = {1, 1}; /* punches of one file wait for each other anyway */
	int err = io_uring_queue_init(TRIMS_MAX, ring, IORING_SETUP_R_DISABLED);

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

int uz_drain_start(struct uz_defer *d)
{
	int err;

	d->can_idle = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
	d->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (d->wake_fd < 0)
		return -errno;
	err = uz_drain_ring_init(&d->ring, d->wake_fd);
	if (err)
		goto fail_fd;
	err = uz_thread_start(&d->thread, drain_main, d);
	if (err)
		goto fail_ring;
	/* Its work is never urgent: when it wakes it shall not take the CPU of who woke it. No
	 * matter if that is refused. By us: a thread of a server that is shut in may not. */
	pthread_setschedparam(d->thread, SCHED_BATCH, &(struct sched_param){0});
	return 0;
fail_ring:
	io_uring_queue_exit(&d->ring);
fail_fd:
	close(d->wake_fd);
	return err;
}

void uz_drain_stop(struct uz_defer *d)
{
	atomic_store(&d->stop, true);
	uz_defer_wake(d);
	pthread_join(d->thread, NULL);
	io_uring_queue_exit(&d->ring);
	close(d->wake_fd);
}

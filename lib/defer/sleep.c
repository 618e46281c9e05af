/* SPDX-License-Identifier: MIT
 *
 * How the drain thread sleeps, and how it is woken.
 *
 * The thread announces in `state` how it is about to sleep, and then looks at everything once
 * more. The other side publishes its work, and then looks at `state`. Each side does its two
 * steps in this order, with a fence between them, so at least one sees what the other has
 * written.
 *
 * uz_defer_push() needs no fence instruction for that. It looks for DRAIN_IDLE alone, and before
 * the thread sleeps in this state it calls membarrier(2), which makes every CPU that runs a
 * thread of this process pass a full barrier: that is the push's fence. Where the kernel has no
 * membarrier(2) the thread always keeps its timer.
 */
#include "defer/internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/futex.h"

int uz_drain_sleep_init(struct uz_defer *d)
{
	d->can_idle = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
	d->wake_fd = eventfd(0, EFD_CLOEXEC);
	return d->wake_fd < 0 ? -errno : 0;
}

void uz_drain_sleep_done(struct uz_defer *d)
{
	close(d->wake_fd);
}

/* --- waking it --- */

void uz_drain_wake(struct uz_defer *d)
{
	uint64_t one = 1;

	/* Of many wakers only one signals the eventfd. The write can't fail, since the counter
	 * is far from full. The exchange pairs with the stores to `state` in uz_drain_sleep(). */
	if (atomic_exchange(&d->state, DRAIN_RUNNING) != DRAIN_RUNNING &&
	    write(d->wake_fd, &one, sizeof(one)) < 0)
		assert(false);
}

void uz_defer_wake(struct uz_defer *d)
{
	/* Pairs with the fence in uz_drain_sleep(): either the drain thread sees what the caller
	 * has just published, or we see its state. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&d->state, memory_order_relaxed) != DRAIN_RUNNING)
		uz_drain_wake(d);
}

/* --- sleeping --- */

/* The caller looks at everything afterwards. A signal that comes after the read makes the next
 * call return. */
void uz_drain_wait(struct uz_defer *d, uint64_t deadline)
{
	struct pollfd fd = {.fd = d->wake_fd, .events = POLLIN};
	uint64_t now = uz_now_ns(), count;
	struct timespec left = uz_timespec(deadline > now ? deadline - now : 0);

	if (ppoll(&fd, 1, deadline == UZ_DRAIN_NEVER ? NULL : &left, NULL) == 1)
		(void)!read(d->wake_fd, &count, sizeof(count));
}

static bool work_is_pending(struct uz_defer *d)
{
	bool any;

	uz_spin_lock(&d->lock);
	any = d->full != NULL;
	uz_spin_unlock(&d->lock);
	return any || atomic_load(&d->kicked) || atomic_load(&d->stop) ||
	       atomic_load(&d->flush_requested) != atomic_load(&d->flush_done);
}

static bool values_are_pending(struct uz_defer *d)
{
	bool any = false;

	pthread_mutex_lock(&d->walk_lock);
	for (struct uz_defer_producer *p = d->producers; p && !any; p = p->next) {
		const struct buffer *b = atomic_load_explicit(&p->current, memory_order_acquire);

		any = atomic_load_explicit(&b->count, memory_order_relaxed) != b->taken;
	}
	pthread_mutex_unlock(&d->walk_lock);
	return any;
}

/* Pairs with uz_defer_wake() and uz_defer_push(), as said at the head of this file. */
void uz_drain_sleep(struct uz_defer *d, enum drain_state state, uint64_t deadline)
{
	bool pending;

	atomic_store(&d->state, state);
	/* Pairs with the fence in uz_defer_wake(): work that was published before it is seen
	 * below, or the caller of uz_defer_wake() sees our state. */
	atomic_thread_fence(memory_order_seq_cst);
	pending = work_is_pending(d);
	if (state == DRAIN_IDLE && !pending) {
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
		/* First the buffers, then the queue, as in drain_all(). membarrier(2) pairs with
		 * the compiler barrier in uz_defer_push(). */
		pending = values_are_pending(d) || work_is_pending(d);
	}
	if (!pending)
		uz_drain_wait(d, deadline);
	/* Wakers leave us alone from here on: the next round looks at everything. */
	atomic_store(&d->state, DRAIN_RUNNING);
}

/* SPDX-License-Identifier: MIT
 *
 * Units are handed out and given back. They come from the reserve; where that is dry, after a
 * wait for whatever comes first; and where the refill thread is late, from the kernel.
 *
 * A getter that populates a unit for itself does not depend on when the refill thread gets a
 * CPU. The price is that it may be in the kernel for long. The threads that call us allocate
 * without I/O (PR_SET_IO_FLUSHER, which is PF_MEMALLOC_NOIO), so that their allocations never
 * wait for a page to be written to the very device that they serve. But the kernel does not
 * refuse a request for single pages, unless the limit of a memory cgroup does: the allocator
 * tries until there is memory, and without __GFP_FS it does not call the OOM killer. The killer
 * comes only when other allocations of the machine find that nothing can be reclaimed; and for
 * that, what they write to the device must be answered, if only by an error.
 *
 * So uz_arena_set_populators() must leave at least one thread that takes any request and never
 * populates. It serves; its wait in vain is bounded; and from then on it fails writes at once. A
 * device with a single thread has no getter that may populate, and depends on the refill thread.
 * A getter holds no lock and no slot while it populates, so that nothing waits for it but the
 * request it carries.
 */
#include "arena/internal.h"

#include <errno.h>

#include "base/futex.h"

/* How long a getter naps at a time. After the first nap it may populate a unit for itself. That
 * is long enough for the refill thread to make several rounds of a millisecond or two, or to be
 * given a CPU by a busy scheduler; and short for a write that would fail otherwise. */
#define NAP_NS		   (UZ_ARENA_SELF_MS * UZ_NSEC_PER_MSEC)
#define WAIT_NS		   (UZ_ARENA_WAIT_MS * UZ_NSEC_PER_MSEC)
#define WAIT_MAX_NS	   (UZ_ARENA_WAIT_MAX_MS * UZ_NSEC_PER_MSEC)
#define WAIT_POPULATING_NS (UZ_ARENA_WAIT_POPULATING_MS * UZ_NSEC_PER_MSEC)

/* --- the limit --- */

static int charge(struct uz_arena *a, unsigned npages)
{
	uint64_t used = atomic_load_explicit(&a->used_pages, memory_order_relaxed);
	uint64_t max = atomic_load_explicit(&a->used_max, memory_order_relaxed);

	/* Compare before adding: pages that this thread is refused must not, even for a moment,
	 * count against another. */
	do {
		if (used + npages > uz_arena_limit_pages(a))
			return -ENOSPC;
	} while (!atomic_compare_exchange_weak_explicit(
		&a->used_pages, &used, used + npages, memory_order_relaxed, memory_order_relaxed));
	used += npages;
	while (used > max &&
	       !atomic_compare_exchange_weak_explicit(&a->used_max, &max, used,
						      memory_order_relaxed, memory_order_relaxed))
		;
	return 0;
}

static void uncharge(struct uz_arena *a, unsigned npages)
{
	atomic_fetch_sub_explicit(&a->used_pages, npages, memory_order_relaxed);
}

/* What the limit will not let out any more of the reserve goes back to the kernel. The refill
 * thread sees to that: kick it, once. */
static int64_t refuse(struct uz_arena *a)
{
	if (!atomic_load_explicit(&a->at_limit, memory_order_relaxed) &&
	    !atomic_exchange_explicit(&a->at_limit, true, memory_order_relaxed))
		uz_arena_kick_refill(a);
	return -ENOSPC;
}

void uz_arena_set_limit(struct uz_arena *a, uint64_t bytes)
{
	atomic_store_explicit(&a->limit, bytes ? bytes : UINT64_MAX, memory_order_relaxed);
	atomic_store_explicit(&a->at_limit, false, memory_order_relaxed);
	uz_arena_memory_came(a);
	uz_arena_kick_refill(a);
}

/* --- get and put --- */

/* The refill thread is kicked when this mark is reached, and not again below it: one system call
 * for each refill. */
static uint32_t low_mark(const struct area *ar)
{
	return ar->target - ar->target / 4;
}

/* Take the lowest ready unit. So free units gather above, and go back to the kernel in large
 * pieces. */
static uint32_t take_ready(struct uz_arena *a, struct area *ar)
{
	uint32_t unit;
	bool low;

	uz_spin_lock(&ar->lock);
	unit = uz_bits_next(&ar->ready, 0);
	if (unit != UZ_BITS_NONE) {
		uz_bits_remove(&ar->ready, unit);
		ar->nready--;
		ar->got_pages += ar->npages;
	}
	low = ar->nready == low_mark(ar) || unit == UZ_BITS_NONE;
	uz_spin_unlock(&ar->lock);
	if (low)
		uz_arena_kick_refill(a);
	return unit;
}

/* Units are free again. charged_pages pages of them have been charged. */
static void give_back(struct uz_arena *a, struct area *ar, const uint32_t *units, uint32_t count,
		      unsigned charged_pages)
{
	bool tell;

	uz_spin_lock(&ar->lock);
	for (uint32_t i = 0; i < count; i++)
		uz_bits_add(&ar->ready, units[i]);
	ar->nready += count;
	/* After the units have been added: another getter would find the limit open, but no
	 * unit. Before surplus is looked for, since that depends on the limit. */
	uncharge(a, charged_pages);
	tell = uz_area_must_tell(a, ar);
	uz_spin_unlock(&ar->lock);
	uz_arena_memory_came(a);
	if (tell)
		uz_arena_tell_surplus(a);
}

/* Charge for a unit that has been taken. The charge comes last, so that none is held while there
 * is nothing to be had for it. */
static int64_t charge_unit(struct uz_arena *a, struct area *ar, uint32_t unit)
{
	if (charge(a, ar->npages) == 0)
		return unit;
	give_back(a, ar, &unit, 1, 0);
	return refuse(a);
}

int64_t uz_arena_try_get(struct uz_arena *a, unsigned npages)
{
	struct area *ar = uz_area_of(a, npages);
	uint32_t unit;

	if (uz_arena_left(a) < npages)
		return refuse(a);
	unit = take_ready(a, ar);
	return unit == UZ_BITS_NONE ? -ENOMEM : charge_unit(a, ar, unit);
}

void uz_arena_put(struct uz_arena *a, unsigned npages, const uint32_t *units, uint32_t count)
{
	if (atomic_load_explicit(&a->at_limit, memory_order_relaxed))
		atomic_store_explicit(&a->at_limit, false, memory_order_relaxed);
	give_back(a, uz_area_of(a, npages), units, count, count * npages);
}

/* --- waiting --- */

void uz_arena_set_populators(struct uz_arena *a, unsigned count)
{
	a->populators = count;
}

unsigned uz_arena_populating(const struct uz_arena *a)
{
	return atomic_load_explicit(&a->populating, memory_order_relaxed);
}

static bool may_populate(struct uz_arena *a)
{
	uint32_t now = atomic_load_explicit(&a->populating, memory_order_relaxed);

	do {
		if (now >= a->populators)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&a->populating, &now, now + 1, memory_order_relaxed, memory_order_relaxed));
	return true;
}

static int64_t give_up(struct uz_arena *a)
{
	atomic_fetch_add_explicit(&a->failed, 1, memory_order_relaxed);
	return -ENOMEM;
}

/* No memory has come since this value of `came` was read: the next getters need not wait to find
 * that out. */
static int64_t give_up_at(struct uz_arena *a, uint32_t came)
{
	atomic_store_explicit(&a->vain_at, came, memory_order_relaxed);
	return give_up(a);
}

static int64_t populate_for_self(struct uz_arena *a, struct area *ar)
{
	uint32_t came = atomic_load(&a->came);
	int64_t unit = uz_populate_one(a, ar);

	atomic_fetch_sub_explicit(&a->populating, 1, memory_order_relaxed);
	if (unit < 0)
		return give_up_at(a, came);
	atomic_fetch_add_explicit(&a->self, 1, memory_order_relaxed);
	/* There is memory, then; and another getter may populate now. */
	uz_arena_memory_came(a);
	return charge_unit(a, ar, (uint32_t)unit);
}

static void begin(struct uz_wait *w)
{
	if (!w->began)
		w->began = uz_now_ns();
}

void uz_arena_wait_begin(struct uz_arena *a, struct uz_wait *w)
{
	begin(w);
	/* Pairs with uz_arena_wake_getters(): the getter counts itself before it looks.
	 * looked_for is read before it looks, too, so that what comes after the look ends the
	 * nap. */
	atomic_fetch_add(&a->waiters, 1);
	w->looked_for = atomic_load(&a->looked_for);
	w->came = atomic_load(&a->came);
	w->vain = 0;
}

/* Sleep for NAP_NS at most, and count how long, but no more than that. A getter that wakes later
 * has had no CPU, or the machine stood still, and so did the threads that should have found
 * memory. */
static void nap(struct uz_arena *a, struct uz_wait *w)
{
	uint64_t start = uz_now_ns(), took;

	if (!w->napped)
		atomic_fetch_add_explicit(&a->dry, 1, memory_order_relaxed);
	uz_futex_wait(&a->looked_for, w->looked_for, NAP_NS);
	took = uz_now_ns() - start;
	if (took > NAP_NS)
		took = NAP_NS;
	w->napped += took;
	w->vain += took;
	w->looked_for = atomic_load(&a->looked_for);
}

/* A getter that populates, and has not been given a CPU for long, is no sign that there is no
 * memory. */
static uint64_t vain_bound(struct uz_arena *a)
{
	return uz_arena_populating(a) ? WAIT_POPULATING_NS : WAIT_NS;
}

int64_t uz_arena_wait(struct uz_arena *a, struct uz_wait *w, unsigned npages)
{
	uint32_t came = atomic_load(&a->came);

	if (uz_arena_in_vain(a, came))
		return give_up(a);
	if (w->napped >= NAP_NS && may_populate(a))
		return populate_for_self(a, uz_area_of(a, npages));
	if (w->came != came) { /* memory has come, and another getter had it */
		w->came = came;
		w->vain = 0;
	}
	if (w->vain >= vain_bound(a))
		return give_up_at(a, came);
	if (w->napped >= WAIT_MAX_NS)
		return give_up(a);
	nap(a, w);
	return -EAGAIN;
}

void uz_arena_wait_end(struct uz_arena *a, struct uz_wait *w)
{
	/* Release: pairs with the acquire in uz_arena_wake_getters() and uz_arena_memory_came(),
	 * which then see what this getter has stored in vain_at. */
	atomic_fetch_sub_explicit(&a->waiters, 1, memory_order_release);
}

unsigned uz_arena_wait_left(struct uz_wait *w)
{
	uint64_t waited;

	begin(w);
	waited = uz_now_ns() - w->began;
	return waited < WAIT_NS ? (unsigned)((WAIT_NS - waited - 1) / UZ_NSEC_PER_MSEC) + 1 : 0;
}

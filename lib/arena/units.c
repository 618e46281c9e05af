/* SPDX-License-Identifier: MIT
 *
 * The arena's data memory: its areas and their addresses; units handed out and given back.
 */
#include "arena/internal.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/futex.h"
#include "base/sparse.h"

int uz_areas_init(struct uz_arena *a)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);
		int err;

		ar->npages = n;
		ar->nunits = (uint32_t)(a->sb->area_span / uz_unit_bytes(ar));
		ar->base = (n - 1) * a->sb->area_span;
		err = uz_bits_init(&ar->ready, ar->nunits);
		if (!err)
			err = uz_bits_init(&ar->cold, ar->nunits);
		if (err)
			return err;
	}
	return 0;
}

void uz_areas_done(struct uz_arena *a)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);

		uz_bits_done(&ar->ready);
		uz_bits_done(&ar->cold);
		if (ar->meta)
			munmap(ar->meta, ar->nunits * ar->meta_size);
	}
}

void *uz_arena_unit_meta(struct uz_arena *a, unsigned npages, size_t size)
{
	struct area *ar = uz_area_of(a, npages);

	/* Another pool's before this one: forget it. */
	if (ar->meta)
		munmap(ar->meta, ar->nunits * ar->meta_size);
	ar->meta_size = size;
	ar->meta = uz_sparse_new(ar->nunits * size);
	return ar->meta;
}

/* --- addresses --- */

uint64_t uz_arena_data_size(const struct uz_arena *a)
{
	return UZ_UNIT_PAGES_MAX * a->sb->area_span;
}

void *uz_arena_ptr(const struct uz_arena *a, uint64_t off)
{
	return a->data + off;
}

bool uz_arena_locate(const struct uz_arena *a, uint64_t off, unsigned *ret_npages,
		     uint32_t *ret_unit, uint32_t *ret_within)
{
	uint64_t index = off >> __builtin_ctzll(a->sb->area_span);
	uint64_t in_area = off & (a->sb->area_span - 1);
	const struct area *ar;
	uint32_t unit;

	if (index >= UZ_UNIT_PAGES_MAX)
		return false;
	ar = &a->areas[index];
	unit = (uint32_t)(in_area >> UZ_PAGE_SHIFT) / ar->npages;
	if (unit >= ar->nunits)
		return false;
	*ret_npages = ar->npages;
	*ret_unit = unit;
	*ret_within = (uint32_t)(in_area - unit * uz_unit_bytes(ar));
	return true;
}

unsigned uz_arena_unit_pages(const struct uz_arena *a, uint64_t off)
{
	uint64_t index = off >> __builtin_ctzll(a->sb->area_span);

	return index < UZ_UNIT_PAGES_MAX ? (unsigned)index + 1 : 0;
}

uint64_t uz_arena_unit_off(const struct uz_arena *a, unsigned npages, uint32_t unit)
{
	const struct area *ar = &a->areas[npages - 1];

	return ar->base + unit * uz_unit_bytes(ar);
}

uint32_t uz_arena_nunits(const struct uz_arena *a, unsigned npages)
{
	return a->areas[npages - 1].nunits;
}

/* --- get and put --- */

static uint32_t low_mark(const struct area *ar)
{
	return ar->target - ar->target / 4;
}

static int charge(struct uz_arena *a, unsigned npages)
{
	uint64_t used = atomic_load_explicit(&a->used_pages, memory_order_relaxed);
	uint64_t max = atomic_load_explicit(&a->used_max, memory_order_relaxed);

	/* Not add and then look: what one thread is refused must not count against another. */
	do {
		if (used + npages > atomic_load_explicit(&a->limit_pages, memory_order_relaxed))
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

/* The lowest: what is free gathers above, and goes back to the kernel in large pieces. */
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
	/* At the mark only, not below it: one system call a refill. */
	low = ar->nready == low_mark(ar) || unit == UZ_BITS_NONE;
	uz_spin_unlock(&ar->lock);
	if (low)
		uz_arena_kick_refill(a);
	return unit;
}

static uint32_t wait_ready(struct uz_arena *a, struct area *ar)
{
	uint64_t deadline = uz_now_ns() + UZ_ARENA_WAIT_MS * UZ_NSEC_PER_MSEC;
	uint32_t unit;

	atomic_fetch_add_explicit(&a->dry, 1, memory_order_relaxed);
	/* Before looking: see uz_arena_wake_getters(). */
	atomic_fetch_add_explicit(&a->waiters, 1, memory_order_relaxed);
	for (;;) {
		uint32_t done = atomic_load(&a->refill_done);
		uint64_t now;

		unit = take_ready(a, ar);
		if (unit != UZ_BITS_NONE)
			break;
		now = uz_now_ns();
		if (now >= deadline) {
			atomic_fetch_add_explicit(&a->failed, 1, memory_order_relaxed);
			break;
		}
		uz_futex_wait(&a->refill_done, done, deadline - now);
	}
	atomic_fetch_sub_explicit(&a->waiters, 1, memory_order_relaxed);
	return unit;
}

void uz_arena_wake_getters(struct uz_arena *a)
{
	/* A getter that did not see what the caller has added under the area's lock held that lock
	 * before it, and had counted itself by then. */
	if (!atomic_load_explicit(&a->waiters, memory_order_relaxed))
		return;
	atomic_fetch_add(&a->refill_done, 1);
	uz_futex_wake(&a->refill_done, INT_MAX);
}

int64_t uz_arena_get(struct uz_arena *a, unsigned npages)
{
	struct area *ar = uz_area_of(a, npages);
	uint32_t unit;
	int err;

	err = charge(a, npages);
	if (err)
		return err;
	unit = take_ready(a, ar);
	if (unit == UZ_BITS_NONE)
		unit = wait_ready(a, ar);
	if (unit == UZ_BITS_NONE) {
		uncharge(a, npages);
		return -ENOMEM;
	}
	return unit;
}

void uz_arena_put(struct uz_arena *a, unsigned npages, const uint32_t *units, uint32_t count)
{
	struct area *ar = uz_area_of(a, npages);
	bool tell;

	uz_spin_lock(&ar->lock);
	for (uint32_t i = 0; i < count; i++)
		uz_bits_add(&ar->ready, units[i]);
	ar->nready += count;
	tell = uz_area_must_tell(ar);
	uz_spin_unlock(&ar->lock);
	uncharge(a, count * npages);
	uz_arena_wake_getters(a);
	if (tell && a->surplus)
		a->surplus(a->surplus_context);
}

void uz_arena_set_limit(struct uz_arena *a, uint64_t bytes)
{
	atomic_store(&a->limit_pages, bytes ? bytes / UZ_PAGE_SIZE : UINT64_MAX);
}

/* --- statistics --- */

void uz_arena_reset_max(struct uz_arena *a)
{
	atomic_store(&a->used_max, atomic_load(&a->used_pages));
}

void uz_arena_stat(struct uz_arena *a, struct uz_arena_stat *ret)
{
	struct uz_arena_stat st = {
		.used_pages = atomic_load(&a->used_pages),
		.used_max = atomic_load(&a->used_max),
		.table_bytes = a->sb->data_off,
		.dry = atomic_load(&a->dry),
		.failed = atomic_load(&a->failed),
	};

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);

		uz_spin_lock(&ar->lock);
		st.ready_pages += (uint64_t)ar->nready * n;
		st.meta_bytes += ar->populated_meta * ar->meta_size +
				 uz_bits_bytes(&ar->ready, ar->populated_meta) +
				 uz_bits_bytes(&ar->cold, ar->populated_meta);
		uz_spin_unlock(&ar->lock);
	}
	*ret = st;
}

/* SPDX-License-Identifier: MIT
 *
 * Giving memory back to the kernel: what is beyond the reserve, and what a dead process left.
 */
#include "arena/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static int compare_units(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return a < b ? -1 : a > b;
}

static uint32_t take_surplus(struct uz_arena *a, struct area *ar)
{
	uint32_t count = 0;

	uz_spin_lock(&ar->lock);
	ar->told = false;
	if (ar->nready >= uz_area_high_mark(ar)) {
		while (ar->nready > ar->target && count < UZ_TRIM_BATCH) {
			a->trim_units[count++] = uz_unit_pop(ar, &ar->ready);
			ar->nready--;
		}
	}
	uz_spin_unlock(&ar->lock);
	return count;
}

unsigned uz_arena_trim_begin(struct uz_arena *a, struct uz_extent *ret, unsigned max)
{
	unsigned count = 0;

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX && count < max; n++) {
		struct area *ar = uz_area_of(a, n);
		uint32_t taken = take_surplus(a, ar);
		uint32_t i = 0;

		qsort(a->trim_units, taken, sizeof(*a->trim_units), compare_units);
		for (;
		     i < taken && (count < max ||
				   a->trim_units[i] == ret[count - 1].first + ret[count - 1].count);
		     i++) {
			struct uz_extent *last = count ? &ret[count - 1] : NULL;

			if (last && last->npages == n &&
			    a->trim_units[i] == last->first + last->count)
				last->count++;
			else
				ret[count++] = (struct uz_extent){n, a->trim_units[i], 1};
		}
		/* No room for these: ready again, until the next call. */
		uz_spin_lock(&ar->lock);
		for (; i < taken; i++) {
			uz_unit_push(ar, &ar->ready, a->trim_units[i]);
			ar->nready++;
		}
		uz_spin_unlock(&ar->lock);
	}
	return count;
}

void uz_arena_extent_range(const struct uz_arena *a, const struct uz_extent *e, uint64_t *ret_off,
			   uint64_t *ret_len)
{
	const struct area *ar = &a->areas[e->npages - 1];

	*ret_off = a->sb->data_off + ar->base + e->first * uz_unit_bytes(ar);
	*ret_len = e->count * uz_unit_bytes(ar);
}

void uz_arena_trim_end(struct uz_arena *a, const struct uz_extent *e, bool punched)
{
	struct area *ar = uz_area_of(a, e->npages);

	uz_spin_lock(&ar->lock);
	for (uint32_t u = e->first; u < e->first + e->count; u++)
		uz_unit_push(ar, punched ? &ar->cold : &ar->ready, u);
	if (!punched)
		ar->nready += e->count;
	uz_spin_unlock(&ar->lock);
}

static int punch(struct uz_arena *a, struct area *ar, uint32_t first, uint32_t end)
{
	struct uz_extent e = {ar->npages, first, end - first};
	uint64_t off, len;

	if (first == end)
		return 0;
	uz_arena_extent_range(a, &e, &off, &len);
	return fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			 (off_t)len) < 0
		       ? -errno
		       : 0;
}

static int restore_area(struct uz_arena *a, struct area *ar, uint32_t end, uz_unit_used *used,
			void *context)
{
	uint32_t gap = 0; /* the first unit after the last used one */
	int err;

	ar->ready = ar->cold = UNIT_NONE;
	ar->nready = 0;
	ar->told = false;
	for (uint32_t u = 0; u < end; u++) {
		if (!used(context, ar->npages, u))
			continue;
		err = punch(a, ar, gap, u);
		if (err)
			return err;
		while (gap < u)
			uz_unit_push(ar, &ar->cold, gap++);
		gap = u + 1;
		atomic_fetch_add_explicit(&a->used_pages, ar->npages, memory_order_relaxed);
	}
	ar->fresh = ar->populated_meta = gap;
	return punch(a, ar, gap, ar->nunits);
}

int uz_arena_restore(struct uz_arena *a, const uint32_t end[UZ_UNIT_PAGES_MAX], uz_unit_used *used,
		     void *context)
{
	atomic_store(&a->used_pages, 0);
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		int err = restore_area(a, uz_area_of(a, n), end[n - 1], used, context);

		if (err)
			return err;
	}
	uz_arena_reset_max(a);
	return 0;
}

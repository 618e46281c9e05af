/* SPDX-License-Identifier: MIT
 *
 * Giving memory back to the kernel: what is beyond the reserve.
 */
#include "arena/internal.h"

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

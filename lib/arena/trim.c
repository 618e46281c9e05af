/* SPDX-License-Identifier: MIT
 *
 * Which memory goes back to the kernel: what is beyond the reserve, from the highest unit down,
 * since the lowest are handed out first.
 *
 * A pass goes through an area once. Each extent reaches down over everything that is free. That
 * includes cold units between ready ones: they have no memory to lose, and a punch costs by the
 * call. So units that were freed here and there, some of them punched already while the others
 * were being freed, leave in large pieces in the end.
 */
#include "arena/internal.h"

#include <unistd.h>

/* Units in an extent, at most. This bounds for how long the area's lock is held. */
#define EXTENT_MAX 1024

/* Take the next extent of surplus out of the area. False: there is none, or there is no pass.
 * The area's lock is held. */
static bool take_extent(const struct uz_arena *a, struct area *ar, struct uz_extent *ret)
{
	uint32_t last, first, end, target = uz_area_target(a, ar);

	if (!ar->trim_cursor)
		return false;
	last = ar->nready > target ? uz_bits_prev(&ar->ready, ar->trim_cursor - 1) : UZ_BITS_NONE;
	if (last == UZ_BITS_NONE) {
		ar->trim_cursor = 0;
		return false;
	}
	first = end = last + 1;
	for (uint32_t unit = last; end - unit <= EXTENT_MAX; unit--) {
		if (uz_bits_has(&ar->ready, unit) && ar->nready > target) {
			uz_bits_remove(&ar->ready, unit);
			ar->nready--;
			first = unit;
		} else if (!uz_bits_has(&ar->cold, unit)) {
			break;
		}
		if (!unit)
			break;
	}
	for (uint32_t unit = first; unit < end; unit++)
		uz_bits_remove(&ar->cold, unit);
	ar->trim_cursor = first;
	*ret = (struct uz_extent){ar->npages, first, end - first};
	return true;
}

static void begin_pass(struct area *ar)
{
	uz_spin_lock(&ar->lock);
	if (ar->surplus_told)
		ar->trim_cursor = ar->first_untouched;
	ar->surplus_told = false;
	uz_spin_unlock(&ar->lock);
}

unsigned uz_arena_trim_begin(struct uz_arena *a, struct uz_extent *ret, unsigned max)
{
	unsigned count = 0;

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);
		bool found = true;

		if (!a->trimming)
			begin_pass(ar);
		while (count < max && found) {
			uz_spin_lock(&ar->lock);
			found = take_extent(a, ar, &ret[count]);
			uz_spin_unlock(&ar->lock);
			count += found;
		}
	}
	a->trimming = count > 0;
	return count;
}

/* Whether a unit has memory. The kernel has not taken its extent, in which some units may have
 * had none before. */
static bool has_memory(const struct uz_arena *a, uint32_t npages, uint32_t unit)
{
	const struct uz_extent e = {npages, unit, 1};
	uint64_t off, len;
	off_t hole;

	uz_arena_extent_range(a, &e, &off, &len);
	hole = lseek(a->fd, (off_t)off, SEEK_HOLE);
	return hole >= (off_t)(off + len);
}

static void return_unit(struct area *ar, uint32_t unit, bool ready)
{
	uz_spin_lock(&ar->lock);
	uz_bits_add(ready ? &ar->ready : &ar->cold, unit);
	ar->nready += ready;
	uz_spin_unlock(&ar->lock);
}

void uz_arena_trim_end(struct uz_arena *a, const struct uz_extent *e, bool punched)
{
	struct area *ar = uz_area_of(a, e->npages);
	uint32_t end = e->first + e->count;

	if (!punched) {
		for (uint32_t unit = e->first; unit < end; unit++)
			return_unit(ar, unit, has_memory(a, e->npages, unit));
		uz_arena_memory_came(a);
		return;
	}
	uz_spin_lock(&ar->lock);
	for (uint32_t unit = e->first; unit < end; unit++)
		uz_bits_add(&ar->cold, unit);
	uz_spin_unlock(&ar->lock);
}

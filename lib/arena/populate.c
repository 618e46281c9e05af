/* SPDX-License-Identifier: MIT
 *
 * Memory from the kernel for cold units: for the refill thread a batch at a time, for a getter
 * one unit of its own. Units in transit are in no set, so the two need not know of each other.
 */
#include "arena/internal.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/crash.h"

static int touch(void *base, size_t size, uint32_t first, uint32_t count)
{
	uintptr_t from = ((uintptr_t)base + first * size) & ~(uintptr_t)(UZ_PAGE_SIZE - 1);
	uintptr_t to = (uintptr_t)base + (first + count) * size;

	return madvise((void *)from, to - from, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

int uz_units_populate_private(struct area *ar, uint32_t first, uint32_t count)
{
	int err = uz_bits_populate(&ar->ready, first, count);

	if (!err)
		err = uz_bits_populate(&ar->cold, first, count);
	if (!err && ar->meta)
		err = touch(ar->meta, ar->meta_size, first, count);
	return err;
}

/* Have private memory for the next count units that have never been used. take_cold() takes no
 * others: a unit whose own memory is refused can then go back to a set without a page fault. */
static int extend(struct area *ar, uint32_t count)
{
	uint32_t from, to;
	int err;

	uz_spin_lock(&ar->lock);
	from = ar->populated_meta;
	to = count < ar->nunits - ar->first_untouched ? ar->first_untouched + count : ar->nunits;
	uz_spin_unlock(&ar->lock);
	if (to <= from)
		return 0;
	err = uz_units_populate_private(ar, from, to - from);
	if (err)
		return err;
	uz_spin_lock(&ar->lock);
	if (ar->populated_meta < to)
		ar->populated_meta = to;
	uz_spin_unlock(&ar->lock);
	return 0;
}

/* Populate consecutive units. This goes through the mapping: madvise(2) may wait for memory, and
 * meanwhile it holds the process's mmap_lock for reading, as page faults and other calls of
 * madvise() do. fallocate(2) would wait with the inode's lock held, which punches and SEEK_DATA
 * need. */
static int populate_row(struct uz_arena *a, struct area *ar, uint32_t first, uint32_t count)
{
	return touch(a->data + ar->base, uz_unit_bytes(ar), first, count);
}

/* Populate units, in their order. Returns how many it has populated; *ret_err says why not all. */
static uint32_t populate_units(struct uz_arena *a, struct area *ar, const uint32_t *units,
			       uint32_t count, int *ret_err)
{
	uint32_t i, n;

	for (i = 0; i < count; i += n) {
		for (n = 1; i + n < count && units[i + n] == units[i] + n; n++)
			;
		*ret_err = populate_row(a, ar, units[i], n);
		if (*ret_err)
			break;
	}
	return i;
}

/* Take up to max cold units into transit, the lowest first. Returns how many. */
static uint32_t take_cold(struct area *ar, uint32_t *units, uint32_t max)
{
	uint32_t count = 0;

	uz_spin_lock(&ar->lock);
	while (count < max) {
		uint32_t unit = uz_bits_next(&ar->cold, count ? units[count - 1] + 1 : 0);

		if (unit != UZ_BITS_NONE)
			uz_bits_remove(&ar->cold, unit);
		else if (ar->first_untouched < ar->populated_meta)
			unit = ar->first_untouched++;
		else
			break;
		units[count++] = unit;
	}
	uz_spin_unlock(&ar->lock);
	return count;
}

/* The units leave transit. Returns whether there is surplus to tell of: other threads may have
 * put units back in the meantime. */
static bool make_ready(struct uz_arena *a, struct area *ar, const uint32_t *units, uint32_t count)
{
	bool tell;

	uz_spin_lock(&ar->lock);
	for (uint32_t i = 0; i < count; i++)
		uz_bits_add(&ar->ready, units[i]);
	ar->nready += count;
	tell = uz_area_must_tell(a, ar);
	uz_spin_unlock(&ar->lock);
	return tell;
}

/* Units leave transit without memory. The last ones go back to those that were never used. */
static void make_cold(struct area *ar, const uint32_t *units, uint32_t count)
{
	uz_spin_lock(&ar->lock);
	while (count-- > 0) {
		if (units[count] + 1 == ar->first_untouched)
			ar->first_untouched--;
		else
			uz_bits_add(&ar->cold, units[count]);
	}
	uz_spin_unlock(&ar->lock);
}

int uz_populate_batch(struct uz_arena *a, struct area *ar, uint32_t want)
{
	uint32_t units[UZ_POPULATE_BATCH], count, done;
	int err = extend(ar, want);

	count = take_cold(ar, units, want);
	if (!count)
		return err;
	done = populate_units(a, ar, units, count, &err);
	UZ_CRASH(REFILL_POPULATED);
	make_cold(ar, units + done, count - done);
	if (!done)
		return err;
	if (make_ready(a, ar, units, done))
		uz_arena_tell_surplus(a);
	uz_arena_memory_came(a);
	return done < count ? err : (int)done;
}

/* Whether no unit of this size is cold. */
static bool is_used_up(struct area *ar)
{
	bool used_up;

	uz_spin_lock(&ar->lock);
	used_up = ar->first_untouched == ar->nunits && uz_bits_next(&ar->cold, 0) == UZ_BITS_NONE;
	uz_spin_unlock(&ar->lock);
	return used_up;
}

int64_t uz_populate_one(struct uz_arena *a, struct area *ar)
{
	uint32_t unit;
	int err;

	/* Try again if another thread has taken what was prepared here. */
	while (!take_cold(ar, &unit, 1)) {
		err = is_used_up(ar) ? -ENOMEM : extend(ar, 1);
		if (err)
			return err;
	}
	err = populate_row(a, ar, unit, 1);
	if (err) {
		make_cold(ar, &unit, 1);
		return err;
	}
	return unit;
}

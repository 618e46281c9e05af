/* SPDX-License-Identifier: MIT
 *
 * Taking over the data memory that another process has left: which units have memory (survey),
 * and which of them are used (restore). Units that have memory and are free are ready, as they
 * were for the process that died. If they are more than the reserve, the surplus goes back to
 * the kernel in the usual way, while pages are served.
 *
 * While nobody serves, memory can be had only from what others give up by themselves. So a
 * process that stands by gets beforehand what a take-over needs (warm).
 */
#include "arena/internal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define WARM_UNITS 256

/* What one page of page table entries maps, in bytes. */
#define TABLE_REACH ((uintptr_t)UZ_PAGE_SIZE / sizeof(void *) * UZ_PAGE_SIZE)

/* Find the first byte with memory at or after pos; both are offsets in the area. False: there is
 * none. */
static bool find_data(const struct uz_arena *a, const struct area *ar, uint64_t pos,
		      uint64_t *ret_from)
{
	uint64_t base = a->sb.data_off + ar->base;
	uint64_t size = ar->nunits * uz_unit_bytes(ar);
	off_t from;

	if (pos >= size)
		return false;
	from = lseek(a->fd, (off_t)(base + pos), SEEK_DATA);
	if (from < 0 || (uint64_t)from >= base + size)
		return false;
	*ret_from = (uint64_t)from - base;
	return true;
}

/* Find the first run of bytes with memory at or after pos. */
static bool find_memory(const struct uz_arena *a, const struct area *ar, uint64_t pos,
			uint64_t *ret_from, uint64_t *ret_to)
{
	uint64_t base = a->sb.data_off + ar->base;
	uint64_t size = ar->nunits * uz_unit_bytes(ar);
	off_t to;

	if (!find_data(a, ar, pos, ret_from))
		return false;
	to = lseek(a->fd, (off_t)(base + *ret_from), SEEK_HOLE);
	*ret_to = to < 0 || (uint64_t)to > base + size ? size : (uint64_t)to - base;
	return true;
}

/* Have page tables for the memory at at, which exists. Returns where the reach of the next ones
 * begins. */
static uintptr_t prepare_table(uintptr_t at)
{
	madvise((void *)at, UZ_PAGE_SIZE, MADV_POPULATE_READ);
	return (at + TABLE_REACH) & ~(TABLE_REACH - 1);
}

/* Have private memory for the units below end. */
static int extend_private(struct area *ar, uint32_t end)
{
	int err;

	if (end > ar->nunits)
		end = ar->nunits;
	if (end <= ar->populated_meta)
		return 0;
	err = uz_units_populate_private(ar, ar->populated_meta, end - ar->populated_meta);
	if (!err)
		ar->populated_meta = end;
	return err;
}

/* Looks at each page of page tables, not at each run of memory. Returns where the last one's reach
 * ends. */
static uint64_t prepare_tables(struct uz_arena *a, struct area *ar)
{
	uintptr_t base = (uintptr_t)a->data + ar->base;
	uint64_t pos = 0, from;

	while (find_data(a, ar, pos, &from))
		pos = prepare_table(base + from) - base;
	return pos;
}

void uz_arena_prepare_tables(struct uz_arena *a)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++)
		prepare_tables(a, uz_area_of(a, n));
}

/* The private memory is for some more units than there are, for those that come before the next
 * call. */
static void warm_area(struct uz_arena *a, struct area *ar)
{
	uint64_t units = prepare_tables(a, ar) / uz_unit_bytes(ar);

	units += units / 8 + WARM_UNITS;
	extend_private(ar, (uint32_t)units); /* a failure is no harm: the survey tries again */
}

void uz_arena_warm(struct uz_arena *a)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++)
		warm_area(a, uz_area_of(a, n));
}

static int survey_area(struct uz_arena *a, struct area *ar)
{
	size_t bytes = uz_unit_bytes(ar);
	uint64_t pos = 0, from, to;
	int err;

	uz_bits_clear(&ar->survey_full);
	uz_bits_clear(&ar->survey_part);
	for (ar->first_untouched = 0; find_memory(a, ar, pos, &from, &to); pos = to) {
		uint32_t first = (uint32_t)((from + bytes - 1) / bytes);
		uint32_t end = (uint32_t)(to / bytes);

		err = extend_private(ar, end + 1);
		if (err)
			return err;
		for (uint32_t unit = first; unit < end; unit++)
			uz_bits_add(&ar->survey_full, unit);
		if (from % bytes)
			uz_bits_add(&ar->survey_part, first - 1);
		if (to % bytes)
			uz_bits_add(&ar->survey_part, end);
		ar->first_untouched = end + (to % bytes != 0);
	}
	return 0;
}

int uz_arena_survey(struct uz_arena *a)
{
	int err = 0;

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX && !err; n++)
		err = survey_area(a, uz_area_of(a, n));
	return err;
}

bool uz_arena_surveyed(const struct uz_arena *a, uint64_t off)
{
	uint64_t index = off >> __builtin_ctzll(a->sb.area_span);
	const struct area *ar;

	if (index >= UZ_UNIT_PAGES_MAX)
		return false;
	ar = &a->areas[index];
	return off - ar->base < ar->first_untouched * uz_unit_bytes(ar);
}

/* Give back the memory of a free unit that has only a part of it: the other process died while
 * the unit was being populated or punched. */
static void punch_rest(struct uz_arena *a, const struct area *ar, uint32_t unit)
{
	struct uz_extent e = {ar->npages, unit, 1};
	uint64_t off, len;

	uz_arena_extent_range(a, &e, &off, &len);
	fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
}

static int restore_area(struct uz_arena *a, struct area *ar, uint32_t end, uz_unit_used *used,
			void *context)
{
	int err;

	if (ar->first_untouched < end)
		ar->first_untouched = end;
	err = uz_units_populate_private(ar, 0, ar->first_untouched);
	if (err)
		return err;
	ar->populated_meta = ar->first_untouched;
	ar->nready = 0;
	ar->demand = 0;
	ar->surplus_told = false;
	ar->trim_cursor = 0;
	for (uint32_t unit = 0; unit < ar->first_untouched; unit++) {
		if (used(context, ar->npages, unit)) {
			uz_bits_remove(&ar->survey_full, unit);
			uz_bits_remove(&ar->survey_part, unit);
			ar->demand += ar->npages;
		} else if (uz_bits_has(&ar->survey_full, unit)) {
			ar->nready++; /* and so it is in `ready` */
		} else {
			if (uz_bits_has(&ar->survey_part, unit))
				punch_rest(a, ar, unit);
			uz_bits_add(&ar->cold, unit);
		}
	}
	atomic_fetch_add_explicit(&a->used_pages, ar->demand, memory_order_relaxed);
	return 0;
}

int uz_arena_restore(struct uz_arena *a, const uint32_t end[UZ_UNIT_PAGES_MAX], uz_unit_used *used,
		     void *context)
{
	atomic_store_explicit(&a->used_pages, 0, memory_order_relaxed);
	a->trimming = false;
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		int err = restore_area(a, uz_area_of(a, n), end[n - 1], used, context);

		if (err)
			return err;
	}
	uz_arena_reset_max(a);
	return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * The arena's data memory: its areas, their addresses, and what is counted of them.
 */
#include "arena/internal.h"

#include <sys/mman.h>

#include "base/sparse.h"

int uz_areas_init(struct uz_arena *a)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);
		int err;

		ar->npages = n;
		ar->nunits = (uint32_t)(a->sb.area_span / uz_unit_bytes(ar));
		ar->base = (n - 1) * a->sb.area_span;
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

void *uz_arena_alloc_unit_meta(struct uz_arena *a, unsigned npages, size_t size)
{
	struct area *ar = uz_area_of(a, npages);

	/* A pool that is no more has left its own. */
	if (ar->meta)
		munmap(ar->meta, ar->nunits * ar->meta_size);
	ar->meta_size = size;
	ar->meta = uz_sparse_new(ar->nunits * size);
	return ar->meta;
}

/* --- addresses --- */

uint64_t uz_arena_data_size(const struct uz_arena *a)
{
	return UZ_UNIT_PAGES_MAX * a->sb.area_span;
}

void *uz_arena_ptr(const struct uz_arena *a, uint64_t off)
{
	return a->data + off;
}

bool uz_arena_locate(const struct uz_arena *a, uint64_t off, unsigned *ret_npages,
		     uint32_t *ret_unit, uint32_t *ret_within)
{
	uint64_t index = off >> __builtin_ctzll(a->sb.area_span);
	uint64_t in_area = off & (a->sb.area_span - 1);
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
	uint64_t index = off >> __builtin_ctzll(a->sb.area_span);

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

void uz_arena_extent_range(const struct uz_arena *a, const struct uz_extent *e, uint64_t *ret_off,
			   uint64_t *ret_len)
{
	const struct area *ar = &a->areas[e->npages - 1];

	*ret_off = a->sb.data_off + ar->base + e->first * uz_unit_bytes(ar);
	*ret_len = e->count * uz_unit_bytes(ar);
}

/* --- statistics --- */

void uz_arena_reset_max(struct uz_arena *a)
{
	uint64_t used = atomic_load_explicit(&a->used_pages, memory_order_relaxed);

	atomic_store_explicit(&a->used_max, used, memory_order_relaxed);
}

void uz_arena_stat(struct uz_arena *a, struct uz_arena_stat *ret)
{
	uint64_t limit = atomic_load_explicit(&a->limit, memory_order_relaxed);
	struct uz_arena_stat st = {
		.limit = limit == UINT64_MAX ? 0 : limit,
		.used_pages = atomic_load_explicit(&a->used_pages, memory_order_relaxed),
		.used_max = atomic_load_explicit(&a->used_max, memory_order_relaxed),
		.table_bytes = a->sb.data_off,
		.dry = atomic_load_explicit(&a->dry, memory_order_relaxed),
		.self = atomic_load_explicit(&a->self, memory_order_relaxed),
		.failed = atomic_load_explicit(&a->failed, memory_order_relaxed),
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

/* SPDX-License-Identifier: MIT
 *
 * The arena's data memory: units, the reserve, and the refill thread that keeps it.
 *
 * Lock order: an area's lock is a leaf. Nothing that can sleep or fault runs under it: populating
 * and punching happen to units that are in transit, that is, on no list.
 */
#include "arena/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/futex.h"
#include "base/thread.h"

#define REFILL_BATCH	32 /* units populated by one madvise(2) call at most */
#define TRIM_BATCH	4096 /* surplus units sorted at a time, so that neighbours leave in one call */
#define REFILL_RETRY_MS 20 /* after the kernel refused memory */

static struct area *area_of(struct uz_arena *a, unsigned npages)
{
	return &a->areas[npages - 1];
}

static size_t unit_bytes(const struct area *ar)
{
	return (size_t)ar->npages * UZ_PAGE_SIZE;
}

/* Private, zeroed memory that costs nothing until it is touched. NULL: no address space. */
static void *reserve_private(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int uz_areas_init(struct uz_arena *a)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = area_of(a, n);

		ar->npages = n;
		ar->nunits = (uint32_t)(a->sb->area_span / unit_bytes(ar));
		ar->base = (n - 1) * a->sb->area_span;
		ar->ready = ar->cold = UNIT_NONE;
		ar->next = reserve_private(ar->nunits * sizeof(*ar->next));
		if (!ar->next)
			return -ENOMEM;
	}
	a->trim_units = malloc(TRIM_BATCH * sizeof(*a->trim_units));
	return a->trim_units ? 0 : -ENOMEM;
}

void uz_areas_done(struct uz_arena *a)
{
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = area_of(a, n);

		if (ar->next)
			munmap(ar->next, ar->nunits * sizeof(*ar->next));
		if (ar->meta)
			munmap(ar->meta, ar->nunits * ar->meta_size);
	}
	free(a->trim_units);
}

void *uz_arena_unit_meta(struct uz_arena *a, unsigned npages, size_t size)
{
	struct area *ar = area_of(a, npages);

	/* Another pool's before this one: forget it. */
	if (ar->meta)
		munmap(ar->meta, ar->nunits * ar->meta_size);
	ar->meta_size = size;
	ar->meta = reserve_private(ar->nunits * size);
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
	unit = (uint32_t)((in_area >> UZ_PAGE_SHIFT) / ar->npages);
	if (unit >= ar->nunits)
		return false;
	*ret_npages = ar->npages;
	*ret_unit = unit;
	*ret_within = (uint32_t)(in_area - unit * unit_bytes(ar));
	return true;
}

uint64_t uz_arena_unit_off(const struct uz_arena *a, unsigned npages, uint32_t unit)
{
	const struct area *ar = &a->areas[npages - 1];

	return ar->base + unit * unit_bytes(ar);
}

uint32_t uz_arena_nunits(const struct uz_arena *a, unsigned npages)
{
	return a->areas[npages - 1].nunits;
}

/* --- lists; the area's lock is held --- */

static void push(struct area *ar, uint32_t *head, uint32_t unit)
{
	ar->next[unit] = *head;
	*head = unit;
}

static uint32_t pop(struct area *ar, uint32_t *head)
{
	uint32_t unit = *head;

	if (unit != UNIT_NONE)
		*head = ar->next[unit];
	return unit;
}

/* Surplus begins well above the target, so that a store that breathes does not populate and punch
 * in turns. */
static uint32_t high_mark(const struct area *ar)
{
	return ar->target + ar->target / 2 + 1;
}

/* Whether the drain thread is to be told of surplus: once, until it has come to look. The area's
 * lock is held. */
static bool must_tell(struct area *ar)
{
	if (ar->told || ar->nready < high_mark(ar))
		return false;
	ar->told = true;
	return true;
}

static uint32_t low_mark(const struct area *ar)
{
	return ar->target - ar->target / 4;
}

/* --- the refill thread --- */

static int touch(void *base, size_t size, uint32_t first, uint32_t count)
{
	uintptr_t from = ((uintptr_t)base + first * size) & ~(uintptr_t)(UZ_PAGE_SIZE - 1);
	uintptr_t to = (uintptr_t)base + (first + count) * size;

	return madvise((void *)from, to - from, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

/* Populate units in a row, and the private memory that goes with them. */
static int populate_row(struct uz_arena *a, struct area *ar, uint32_t first, uint32_t count)
{
	int err = touch(a->data + ar->base, unit_bytes(ar), first, count);

	if (!err)
		err = touch(ar->next, sizeof(*ar->next), first, count);
	if (!err && ar->meta)
		err = touch(ar->meta, ar->meta_size, first, count);
	return err;
}

static int populate(struct uz_arena *a, struct area *ar, const uint32_t *units, uint32_t count)
{
	int err = 0;

	for (uint32_t i = 0, n; i < count && !err; i += n) {
		for (n = 1; i + n < count && units[i + n] == units[i] + n; n++)
			;
		err = populate_row(a, ar, units[i], n);
	}
	return err;
}

/* Take up to a batch of cold units into transit, those that have been used before first. Returns
 * how many; 0: none are wanted or left. */
static uint32_t take_cold(struct area *ar, uint32_t units[REFILL_BATCH])
{
	uint32_t count = 0;

	uz_spin_lock(&ar->lock);
	while (count < REFILL_BATCH && ar->nready + count < ar->target) {
		uint32_t unit = pop(ar, &ar->cold);

		if (unit == UNIT_NONE && ar->fresh < ar->nunits)
			unit = ar->fresh++;
		if (unit == UNIT_NONE)
			break;
		units[count++] = unit;
	}
	uz_spin_unlock(&ar->lock);
	return count;
}

/* The units leave transit. Returns whether the drain thread is to be told of surplus: others have
 * been put back in the meantime. */
static bool make_ready(struct area *ar, const uint32_t *units, uint32_t count)
{
	bool tell;

	uz_spin_lock(&ar->lock);
	for (uint32_t i = 0; i < count; i++) {
		push(ar, &ar->ready, units[i]);
		if (units[i] >= ar->populated_meta)
			ar->populated_meta = units[i] + 1;
	}
	ar->nready += count;
	tell = must_tell(ar);
	uz_spin_unlock(&ar->lock);
	return tell;
}

static void make_cold(struct area *ar, const uint32_t *units, uint32_t count)
{
	uz_spin_lock(&ar->lock);
	for (uint32_t i = 0; i < count; i++)
		push(ar, &ar->cold, units[i]);
	uz_spin_unlock(&ar->lock);
}

/* Make a batch of units ready. Returns how many, 0 if no more are wanted, or -errno. */
static int refill_batch(struct uz_arena *a, struct area *ar)
{
	uint32_t units[REFILL_BATCH];
	uint32_t count = take_cold(ar, units);
	int err;

	if (!count)
		return 0;
	err = populate(a, ar, units, count);
	if (err) {
		make_cold(ar, units, count);
		return err;
	}
	if (make_ready(ar, units, count) && a->surplus)
		a->surplus(a->surplus_private);
	atomic_fetch_add(&a->refill_done, 1);
	uz_futex_wake(&a->refill_done, INT_MAX);
	return (int)count;
}

/* Areas take turns: one that is emptied as fast as it is filled must not keep the others dry. */
static int refill(struct uz_arena *a)
{
	int done, err = 0;

	do {
		done = 0;
		for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
			int count = refill_batch(a, area_of(a, n));

			if (count < 0)
				err = count;
			else
				done += count;
		}
	} while (done && !err && !atomic_load(&a->refill_stop));
	return err;
}

static void *refill_main(void *arg)
{
	struct uz_arena *a = arg;

	while (!atomic_load(&a->refill_stop)) {
		uint32_t kick = atomic_load(&a->refill_kick);
		int err = refill(a);

		if (atomic_load(&a->refill_stop))
			break;
		uz_futex_wait(&a->refill_kick, kick, err ? REFILL_RETRY_MS * UZ_NSEC_PER_MSEC : 0);
	}
	return NULL;
}

static void kick_refill(struct uz_arena *a)
{
	atomic_fetch_add(&a->refill_kick, 1);
	uz_futex_wake(&a->refill_kick, 1);
}

int uz_arena_start(struct uz_arena *a, uint64_t reserve, void (*surplus)(void *private),
		   void *private)
{
	int err;

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = area_of(a, n);
		uint64_t target = reserve / UZ_UNIT_PAGES_MAX / unit_bytes(ar);

		/* A spare area for every size costs less than a dry one. */
		ar->target = target < 4 ? 4 : target > ar->nunits ? ar->nunits : (uint32_t)target;
	}
	a->surplus = surplus;
	a->surplus_private = private;
	atomic_store(&a->refill_stop, false);
	err = refill(a);
	if (err)
		return err;
	err = uz_thread_start(&a->refill_thread, "uz-refill", refill_main, a);
	a->refill_running = !err;
	return err;
}

void uz_arena_stop(struct uz_arena *a)
{
	if (!a->refill_running)
		return;
	atomic_store(&a->refill_stop, true);
	kick_refill(a);
	pthread_join(a->refill_thread, NULL);
	a->refill_running = false;
}

/* --- get and put --- */

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

static uint32_t take_ready(struct uz_arena *a, struct area *ar)
{
	uint32_t unit, left;

	uz_spin_lock(&ar->lock);
	unit = pop(ar, &ar->ready);
	if (unit != UNIT_NONE)
		ar->nready--;
	left = ar->nready;
	uz_spin_unlock(&ar->lock);
	/* At the mark only, not below it: one system call a refill. */
	if (left == low_mark(ar) || unit == UNIT_NONE)
		kick_refill(a);
	return unit;
}

static uint32_t wait_ready(struct uz_arena *a, struct area *ar)
{
	uint64_t deadline = uz_now_ns() + UZ_ARENA_WAIT_MS * UZ_NSEC_PER_MSEC;
	uint32_t unit;

	atomic_fetch_add_explicit(&a->dry, 1, memory_order_relaxed);
	for (;;) {
		uint32_t done = atomic_load(&a->refill_done);
		uint64_t now;

		unit = take_ready(a, ar);
		if (unit != UNIT_NONE)
			return unit;
		now = uz_now_ns();
		if (now >= deadline) {
			atomic_fetch_add_explicit(&a->failed, 1, memory_order_relaxed);
			return UNIT_NONE;
		}
		uz_futex_wait(&a->refill_done, done, deadline - now);
	}
}

int64_t uz_arena_get(struct uz_arena *a, unsigned npages)
{
	struct area *ar = area_of(a, npages);
	uint32_t unit;
	int err;

	err = charge(a, npages);
	if (err)
		return err;
	unit = take_ready(a, ar);
	if (unit == UNIT_NONE)
		unit = wait_ready(a, ar);
	if (unit == UNIT_NONE) {
		uncharge(a, npages);
		return -ENOMEM;
	}
	return unit;
}

void uz_arena_put(struct uz_arena *a, unsigned npages, uint32_t unit)
{
	struct area *ar = area_of(a, npages);
	bool tell;

	uz_spin_lock(&ar->lock);
	push(ar, &ar->ready, unit);
	ar->nready++;
	tell = must_tell(ar);
	uz_spin_unlock(&ar->lock);
	uncharge(a, npages);
	if (tell && a->surplus)
		a->surplus(a->surplus_private);
}

void uz_arena_set_limit(struct uz_arena *a, uint64_t bytes)
{
	atomic_store(&a->limit_pages, bytes ? bytes / UZ_PAGE_SIZE : UINT64_MAX);
}

/* --- giving back --- */

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
	if (ar->nready >= high_mark(ar)) {
		while (ar->nready > ar->target && count < TRIM_BATCH) {
			a->trim_units[count++] = pop(ar, &ar->ready);
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
		struct area *ar = area_of(a, n);
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
			push(ar, &ar->ready, a->trim_units[i]);
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

	*ret_off = a->sb->data_off + ar->base + e->first * unit_bytes(ar);
	*ret_len = e->count * unit_bytes(ar);
}

void uz_arena_trim_end(struct uz_arena *a, const struct uz_extent *e, bool punched)
{
	struct area *ar = area_of(a, e->npages);

	uz_spin_lock(&ar->lock);
	for (uint32_t u = e->first; u < e->first + e->count; u++)
		push(ar, punched ? &ar->cold : &ar->ready, u);
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
			void *private)
{
	uint32_t gap = 0; /* the first unit after the last used one */
	int err;

	ar->ready = ar->cold = UNIT_NONE;
	ar->nready = 0;
	for (uint32_t u = 0; u < end; u++) {
		if (!used(private, ar->npages, u))
			continue;
		err = punch(a, ar, gap, u);
		if (err)
			return err;
		while (gap < u)
			push(ar, &ar->cold, gap++);
		gap = u + 1;
		atomic_fetch_add_explicit(&a->used_pages, ar->npages, memory_order_relaxed);
	}
	ar->fresh = ar->populated_meta = gap;
	return punch(a, ar, gap, ar->nunits);
}

int uz_arena_restore(struct uz_arena *a, const uint32_t end[UZ_UNIT_PAGES_MAX], uz_unit_used *used,
		     void *private)
{
	atomic_store(&a->used_pages, 0);
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		int err = restore_area(a, area_of(a, n), end[n - 1], used, private);

		if (err)
			return err;
	}
	uz_arena_reset_max(a);
	return 0;
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
		struct area *ar = area_of(a, n);

		uz_spin_lock(&ar->lock);
		st.ready_pages += (uint64_t)ar->nready * n;
		st.meta_bytes += ar->populated_meta * (sizeof(*ar->next) + ar->meta_size);
		uz_spin_unlock(&ar->lock);
	}
	*ret = st;
}

/* SPDX-License-Identifier: MIT
 *
 * The refill thread: it populates cold units until the reserve is full, so that nobody else has to.
 */
#include "arena/internal.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/crash.h"
#include "base/futex.h"
#include "base/thread.h"

#define REFILL_BATCH	32 /* units of an area in a row, before the next area's turn */
#define REFILL_RETRY_MS 20 /* after the kernel refused memory */

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

/* Populate units in a row. By way of our address space, not of the file: the wait for memory, which
 * may be long, is one under a lock that others take for reading only, as we do. fallocate() would
 * wait under the file's, without which nothing can be punched out of it, nor its data be sought by
 * who stands by. */
static int populate_row(struct uz_arena *a, struct area *ar, uint32_t first, uint32_t count)
{
	int err = touch(a->data + ar->base, uz_unit_bytes(ar), first, count);

	return err ? err : uz_units_populate_private(ar, first, count);
}

/* Returns how many units it has populated, in their order; *ret_err says why not all. */
static uint32_t populate(struct uz_arena *a, struct area *ar, const uint32_t *units, uint32_t count,
			 int *ret_err)
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

/* Take up to a batch of cold units into transit, the lowest first. Returns how many; 0: none are
 * wanted or left. */
static uint32_t take_cold(struct area *ar, uint32_t units[REFILL_BATCH])
{
	uint32_t count = 0;

	uz_spin_lock(&ar->lock);
	while (count < REFILL_BATCH && ar->nready + count < ar->target) {
		uint32_t unit = uz_bits_next(&ar->cold, count ? units[count - 1] + 1 : 0);

		if (unit != UZ_BITS_NONE)
			uz_bits_remove(&ar->cold, unit);
		else if (ar->fresh < ar->nunits)
			unit = ar->fresh++;
		else
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
		uz_bits_add(&ar->ready, units[i]);
		if (units[i] >= ar->populated_meta)
			ar->populated_meta = units[i] + 1;
	}
	ar->nready += count;
	tell = uz_area_must_tell(ar);
	uz_spin_unlock(&ar->lock);
	return tell;
}

/* Units that were never used are that again: the private memory that goes with them may be
 * missing. */
static void make_cold(struct area *ar, const uint32_t *units, uint32_t count)
{
	uz_spin_lock(&ar->lock);
	while (count-- > 0) {
		if (units[count] + 1 == ar->fresh)
			ar->fresh--;
		else
			uz_bits_add(&ar->cold, units[count]);
	}
	uz_spin_unlock(&ar->lock);
}

/* Make a batch of units ready. Returns how many, 0 if no more are wanted, or -errno. */
static int refill_batch(struct uz_arena *a, struct area *ar)
{
	uint32_t units[REFILL_BATCH];
	uint32_t count = take_cold(ar, units), done;
	int err = 0;

	if (!count)
		return 0;
	done = populate(a, ar, units, count, &err);
	UZ_CRASH(REFILL_POPULATED);
	make_cold(ar, units + done, count - done);
	if (make_ready(ar, units, done) && a->surplus)
		a->surplus(a->surplus_context);
	uz_arena_wake_getters(a);
	return err ? err : (int)count;
}

/* --- the reserve, shared out by demand --- */

/* Units that an area has whether they are in demand or not. */
static uint64_t least_units(const struct uz_arena *a, const struct area *ar)
{
	uint64_t units = a->reserve_pages / 8 / UZ_UNIT_PAGES_MAX / ar->npages;

	/* Some pages more than the reserve cost less than a dry size. */
	return units < 4 ? 4 : units;
}

/* Set what is wanted from now on. Returns whether there is surplus now. */
static bool set_target(struct uz_arena *a, struct area *ar, uint64_t shared, uint64_t demand)
{
	uint64_t target = least_units(a, ar) + shared * ar->demand / demand / ar->npages;
	bool tell;

	uz_spin_lock(&ar->lock);
	ar->target = target > ar->nunits ? ar->nunits : (uint32_t)target;
	tell = uz_area_must_tell(ar);
	uz_spin_unlock(&ar->lock);
	return tell;
}

static void set_targets(struct uz_arena *a)
{
	uint64_t least = 0, demand = 0, shared;
	bool tell = false;

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		least += least_units(a, uz_area_of(a, n)) * n;
		demand += uz_area_of(a, n)->demand;
	}
	shared = a->reserve_pages > least ? a->reserve_pages - least : 0;
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++)
		tell |= set_target(a, uz_area_of(a, n), shared, demand);
	if (tell && a->surplus)
		a->surplus(a->surplus_context);
}

/* What was asked for since the last time counts as much as all before it. Only when it is enough to
 * go by: the mix of a few units is chance. */
static void follow_demand(struct uz_arena *a)
{
	uint64_t got[UZ_UNIT_PAGES_MAX], sum = 0;

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);

		uz_spin_lock(&ar->lock);
		got[n - 1] = ar->got_pages;
		uz_spin_unlock(&ar->lock);
		sum += got[n - 1];
	}
	if (sum < a->reserve_pages / 4)
		return;
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);

		uz_spin_lock(&ar->lock);
		ar->got_pages -= got[n - 1];
		uz_spin_unlock(&ar->lock);
		ar->demand = (ar->demand + got[n - 1]) / 2 + 1;
	}
	set_targets(a);
}

/* Before anything has been asked for: as what is used, or else evenly. */
static void first_targets(struct uz_arena *a)
{
	uint64_t used = atomic_load(&a->used_pages);

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);

		ar->demand = used ? a->reserve_pages * ar->demand / used + 1 : 1;
	}
	set_targets(a);
}

/* Areas take turns: one that is emptied as fast as it is filled must not keep the others dry. */
static int refill(struct uz_arena *a)
{
	int done, err = 0;

	do {
		done = 0;
		for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
			int count = refill_batch(a, uz_area_of(a, n));

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

	uz_thread_name("uz-refill");
	while (atomic_load(&a->refill_kick) == a->refill_prepared)
		uz_futex_wait(&a->refill_kick, a->refill_prepared, 0);
	while (!atomic_load(&a->refill_stop)) {
		uint32_t kick = atomic_load(&a->refill_kick);
		int err;

		follow_demand(a);
		err = refill(a);
		if (atomic_load(&a->refill_stop))
			break;
		uz_futex_wait(&a->refill_kick, kick, err ? REFILL_RETRY_MS * UZ_NSEC_PER_MSEC : 0);
	}
	return NULL;
}

void uz_arena_kick_refill(struct uz_arena *a)
{
	atomic_fetch_add(&a->refill_kick, 1);
	uz_futex_wake(&a->refill_kick, 1);
}

int uz_arena_prepare(struct uz_arena *a)
{
	int err;

	atomic_store(&a->refill_stop, false);
	a->refill_prepared = atomic_load(&a->refill_kick);
	err = uz_thread_start(&a->refill_thread, refill_main, a);
	a->refill_running = !err;
	return err;
}

int uz_arena_start(struct uz_arena *a, uint64_t reserve, bool wait, void (*surplus)(void *context),
		   void *context)
{
	int err = a->refill_running ? 0 : uz_arena_prepare(a);

	if (err)
		return err;
	a->surplus = surplus;
	a->surplus_context = context;
	a->reserve_pages = reserve / UZ_PAGE_SIZE;
	first_targets(a);
	if (wait)
		err = refill(a);
	uz_arena_kick_refill(a);
	return err;
}

void uz_arena_stop(struct uz_arena *a)
{
	if (!a->refill_running)
		return;
	atomic_store(&a->refill_stop, true);
	uz_arena_kick_refill(a);
	pthread_join(a->refill_thread, NULL);
	a->refill_running = false;
}

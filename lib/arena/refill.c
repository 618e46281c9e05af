/* SPDX-License-Identifier: MIT
 *
 * The refill thread: it populates cold units until the reserve is full, so that nobody else has to.
 */
#include "arena/internal.h"

#include <errno.h>
#include <fcntl.h>
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
	int err = touch(ar->next, sizeof(*ar->next), first, count);

	if (!err && ar->meta)
		err = touch(ar->meta, ar->meta_size, first, count);
	return err;
}

/* Populate units in a row. Memory first, by way of the file: the wait for it, which may be long,
 * holds no lock of our address space, which others need for their page faults. */
static int populate_row(struct uz_arena *a, struct area *ar, uint32_t first, uint32_t count)
{
	struct uz_extent e = {ar->npages, first, count};
	uint64_t off, len;
	int err;

	uz_arena_extent_range(a, &e, &off, &len);
	if (fallocate(a->fd, FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) < 0)
		return -errno;
	err = touch(a->data + ar->base, uz_unit_bytes(ar), first, count);
	return err ? err : uz_units_populate_private(ar, first, count);
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
		uint32_t unit = uz_unit_pop(ar, &ar->cold);

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
		uz_unit_push(ar, &ar->ready, units[i]);
		if (units[i] >= ar->populated_meta)
			ar->populated_meta = units[i] + 1;
	}
	ar->nready += count;
	tell = uz_area_must_tell(ar);
	uz_spin_unlock(&ar->lock);
	return tell;
}

static void make_cold(struct area *ar, const uint32_t *units, uint32_t count)
{
	uz_spin_lock(&ar->lock);
	for (uint32_t i = 0; i < count; i++)
		uz_unit_push(ar, &ar->cold, units[i]);
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
	UZ_CRASH(REFILL_POPULATED);
	if (make_ready(ar, units, count) && a->surplus)
		a->surplus(a->surplus_context);
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
		int err = refill(a);

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

/* Set what is wanted from now on. Returns whether there is surplus, of another process's. */
static bool set_target(struct area *ar, uint64_t reserve)
{
	uint64_t target = reserve / UZ_UNIT_PAGES_MAX / uz_unit_bytes(ar);
	bool tell;

	uz_spin_lock(&ar->lock);
	/* A spare area for every size costs less than a dry one. */
	ar->target = target < 4 ? 4 : target > ar->nunits ? ar->nunits : (uint32_t)target;
	tell = uz_area_must_tell(ar);
	uz_spin_unlock(&ar->lock);
	return tell;
}

int uz_arena_start(struct uz_arena *a, uint64_t reserve, bool wait, void (*surplus)(void *context),
		   void *context)
{
	bool tell = false;
	int err = a->refill_running ? 0 : uz_arena_prepare(a);

	if (err)
		return err;
	a->surplus = surplus;
	a->surplus_context = context;
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++)
		tell |= set_target(uz_area_of(a, n), reserve);
	if (tell && surplus)
		surplus(context);
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

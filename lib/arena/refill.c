/* SPDX-License-Identifier: MIT
 *
 * The refill thread. It populates cold units until the reserve is full, so that no other thread
 * has to.
 */
#include "arena/internal.h"

#include "base/futex.h"
#include "base/thread.h"

#define REFILL_RETRY_MS 20 /* the pause after the kernel has refused memory */

static uint32_t wanted_units(struct uz_arena *a, struct area *ar)
{
	uint32_t target, nready;

	uz_spin_lock(&ar->lock);
	target = uz_area_target(a, ar);
	nready = ar->nready;
	uz_spin_unlock(&ar->lock);
	return target > nready ? target - nready : 0;
}

/* Make a batch of units ready. Returns how many; 0: no more are wanted; -errno. */
static int refill_batch(struct uz_arena *a, struct area *ar)
{
	uint32_t want = wanted_units(a, ar);

	return want ? uz_populate_batch(a, ar, want < UZ_POPULATE_BATCH ? want : UZ_POPULATE_BATCH)
		    : 0;
}

/* --- how the reserve is divided: by demand --- */

/* The size of the reserve. What the limit will not let out is not kept ready. */
static uint64_t reserve_pages(const struct uz_arena *a)
{
	uint64_t left = uz_arena_left(a);

	return left < a->reserve_pages ? left : a->reserve_pages;
}

/* The units that an area gets whether they are in demand or not. */
static uint64_t least_units(const struct area *ar, uint64_t reserve)
{
	uint64_t units = reserve / 8 / UZ_UNIT_PAGES_MAX / ar->npages;

	/* A few pages beyond the reserve cost less than a size without a single ready unit. */
	return units < 4 ? 4 : units;
}

/* Set how many ready units are wanted from now on. Returns whether there is surplus to tell of. */
static bool set_target(struct uz_arena *a, struct area *ar, uint64_t target)
{
	bool tell;

	uz_spin_lock(&ar->lock);
	ar->target = target > ar->nunits ? ar->nunits : (uint32_t)target;
	tell = uz_area_must_tell(a, ar);
	uz_spin_unlock(&ar->lock);
	return tell;
}

static void set_targets(struct uz_arena *a)
{
	uint64_t reserve = reserve_pages(a), least = 0, demand = 0, shared;
	bool tell = false;

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		least += least_units(uz_area_of(a, n), reserve) * n;
		demand += uz_area_of(a, n)->demand;
	}
	shared = reserve > least ? reserve - least : 0;
	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);

		tell |= set_target(a, ar,
				   least_units(ar, reserve) + shared * ar->demand / demand / n);
	}
	if (tell)
		uz_arena_tell_surplus(a);
}

/* Half of the demand is what was asked for since the last update, and half is all that came
 * before. There is no update before there is enough to go by: the mix of a few units is chance. */
static void update_demand(struct uz_arena *a)
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
}

/* The first targets, when nothing has been asked for yet: in proportion to what is used, or else
 * even. */
static void first_targets(struct uz_arena *a)
{
	uint64_t used = atomic_load_explicit(&a->used_pages, memory_order_relaxed);

	for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
		struct area *ar = uz_area_of(a, n);

		ar->demand = used ? a->reserve_pages * ar->demand / used + 1 : 1;
	}
	set_targets(a);
}

/* Populate until the targets are reached. Areas take turns, since one that is emptied as fast as
 * it is filled must not keep the others dry. The targets are set anew before each round, since
 * this goes on for as long as demand does. */
static int refill(struct uz_arena *a)
{
	int done, err = 0;

	do {
		update_demand(a);
		set_targets(a);
		done = 0;
		for (unsigned n = 1; n <= UZ_UNIT_PAGES_MAX; n++) {
			int count = refill_batch(a, uz_area_of(a, n));

			if (count < 0)
				err = count;
			else
				done += count;
		}
	} while (done && !err && !uz_helper_stopping(&a->refill));
	return err;
}

static void *refill_main(void *arg)
{
	struct uz_arena *a = arg;

	uz_thread_name("uz-refill");
	uz_helper_await_release(&a->refill);
	while (!uz_helper_stopping(&a->refill)) {
		uint32_t kicks = uz_helper_kicks(&a->refill);

		/* A kick must not shorten the pause: each getter that finds nothing kicks, and
		 * each call in vain costs the kernel a search for memory. */
		if (refill(a))
			uz_helper_pause(&a->refill, REFILL_RETRY_MS * UZ_NSEC_PER_MSEC);
		else
			uz_helper_sleep(&a->refill, kicks, 0);
	}
	return NULL;
}

int uz_arena_prepare(struct uz_arena *a)
{
	return uz_helper_start(&a->refill, refill_main, a);
}

int uz_arena_start(struct uz_arena *a, uint64_t reserve, bool wait, void (*surplus)(void *context),
		   void *context)
{
	int err = a->refill.exists ? 0 : uz_arena_prepare(a);

	if (err)
		return err;
	a->surplus = surplus;
	a->surplus_context = context;
	a->reserve_pages = reserve / UZ_PAGE_SIZE;
	first_targets(a);
	if (wait)
		err = refill(a);
	uz_helper_release(&a->refill);
	return err;
}

void uz_arena_stop(struct uz_arena *a)
{
	uz_helper_stop(&a->refill);
}

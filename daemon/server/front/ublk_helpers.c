/* SPDX-License-Identifier: MIT
 *
 * The ublk front end's helpers: they carry out what the queue thread hands to them, through words
 * of one bit a tag, without a lock.
 */
#include "server/front/ublk_internal.h"

#include <unistd.h>

#include "uzram/codec.h"

unsigned ublk_pages_of(const struct front_ublk *f, uint64_t tags)
{
	unsigned sectors = 0;

	for (; tags; tags &= tags - 1)
		sectors += f->descriptors[__builtin_ctzll(tags)].nr_sectors;
	return sectors >> (UZ_PAGE_SHIFT - UBLK_SECTOR_SHIFT);
}

/* The lowest tag that is not below from; if there is none, the lowest of all. */
static unsigned first_tag_from(uint64_t tags, unsigned from)
{
	uint64_t above = tags & (UINT64_MAX << from);

	return (unsigned)__builtin_ctzll(above ? above : tags);
}

/* Take one of the requests that wait, the tags in turn: else a high tag could wait for ever behind
 * low ones that come again and again. */
static bool claim_request(struct front_ublk *f, unsigned *ret_tag)
{
	/* Pairs with the release in ublk_hand_out(). */
	uint64_t todo = atomic_load_explicit(&f->todo, memory_order_acquire);

	while (todo) {
		unsigned from = atomic_load_explicit(&f->next, memory_order_relaxed);
		unsigned tag = first_tag_from(todo, from);

		if (atomic_compare_exchange_weak_explicit(
			    &f->todo, &todo, todo & ~(UINT64_C(1) << tag), memory_order_acquire,
			    memory_order_acquire)) {
			atomic_store_explicit(&f->next, (tag + 1) % UBLK_TAGS,
					      memory_order_relaxed);
			*ret_tag = tag;
			return true;
		}
	}
	return false;
}

static void finish_request(struct front_ublk *f, unsigned tag)
{
	const uint64_t one = 1;

	/* Pairs with wait_for_more(). Both sides write one word and then read the other, all of it
	 * sequentially consistent: either the queue thread sees the bit, or this thread sees that
	 * it is asleep. With less, both could miss the other, and the answer would stay here until
	 * the next request comes. */
	atomic_fetch_or(&f->done, UINT64_C(1) << tag);
	if (atomic_exchange(&f->asleep, false))
		(void)!write(f->wake, &one, sizeof(one));
}

/* Take one helper off the count of idle ones, for a wake-up. False: there is none. */
static bool take_idle(struct front_ublk *f)
{
	unsigned idle = atomic_load(&f->idle);

	while (idle && !atomic_compare_exchange_weak(&f->idle, &idle, idle - 1))
		;
	return idle != 0;
}

static void sleep_until_more(struct front_ublk *f)
{
	/* Pairs with ublk_hand_out(). Both sides write one word and then read the other, all of it
	 * sequentially consistent: either the queue thread sees an idle helper, or this one sees
	 * the request. With less, both could miss the other, and the request would wait for the
	 * next one. Where both see it, the queue thread has taken this helper off the count and its
	 * post is on the way: sleep, and be woken at once. */
	atomic_fetch_add(&f->idle, 1);
	if (atomic_load(&f->todo) && take_idle(f))
		return;
	while (sem_wait(&f->more) < 0 && !atomic_load(&f->stop))
		;
}

void *ublk_helper_main(void *arg)
{
	struct ublk_thread *t = arg;
	struct front_ublk *f = t->front;

	while (!atomic_load(&f->stop)) {
		unsigned tag;

		if (claim_request(f, &tag)) {
			ublk_serve(t, tag);
			finish_request(f, tag);
		} else {
			sleep_until_more(f);
		}
	}
	return NULL;
}

void ublk_hand_out(struct front_ublk *f, uint64_t tags)
{
	unsigned helpers;

	if (!tags)
		return;
	helpers = 1 + ublk_pages_of(f, tags) / UBLK_PAGES_A_HELPER;
	/* Pairs with the acquire in claim_request(): the helper sees the descriptors as the kernel
	 * wrote them. Sequentially consistent for the sake of sleep_until_more(). */
	atomic_fetch_or(&f->todo, tags);
	while (helpers-- && take_idle(f))
		sem_post(&f->more);
}

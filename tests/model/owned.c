/* SPDX-License-Identifier: MIT
 *
 * A thread's own share of the device: reads, writes and discards of any offset and length, against
 * a plain array.
 */
#include <errno.h>
#include <string.h>

#include "model.h"

#define SHARE ((uint64_t)OWNED * UZ_PAGE_SIZE)

struct range {
	uint64_t off; /* in the share */
	size_t len;
};

static uint64_t device_off(const struct thread *t, uint64_t off)
{
	return t->id * SHARE + off;
}

/* One page, some pages, a part of a page, or whatever. */
static struct range pick_range(struct thread *t)
{
	uint64_t slot = rng_below(&t->rng, OWNED), shape = rng_below(&t->rng, 8);
	uint64_t a = rng_next(&t->rng), b = rng_next(&t->rng);
	struct range r = {.off = slot * UZ_PAGE_SIZE, .len = UZ_PAGE_SIZE};

	if (shape == 4 || shape == 5) {
		r.len = (1 + a % RANGE_PAGES) * UZ_PAGE_SIZE;
	} else if (shape == 6) {
		r.off += a % UZ_PAGE_SIZE;
		r.len = b % (UZ_PAGE_SIZE - a % UZ_PAGE_SIZE + 1);
	} else if (shape == 7) {
		r.off += a % UZ_PAGE_SIZE;
		r.len = b % (RANGE_MAX + 1);
	}
	if (r.len > SHARE - r.off)
		r.len = SHARE - r.off;
	return r;
}

/* Contents for the range, such that pages that are written whole are of some kind. */
static const unsigned char *make_data(struct thread *t, struct range r)
{
	char *data = guard_tail(&t->data, r.len);
	uint64_t from = r.off % UZ_PAGE_SIZE;

	for (uint64_t at = 0; at < from + r.len; at += UZ_PAGE_SIZE)
		page_fill(t->scratch + at, (enum page_kind)rng_below(&t->rng, PAGE_KINDS), &t->rng);
	memcpy(data, t->scratch + from, r.len);
	return (const unsigned char *)data;
}

static void set(unsigned char *to, const unsigned char *data, size_t len)
{
	if (data)
		memcpy(to, data, len);
	else
		memset(to, 0, len);
}

/* A request was refused: the pages before some page have been changed, it and those after it are as
 * before. Where that is, nobody says. data NULL: zeroes. */
static void settle(struct thread *t, struct range r, const unsigned char *data)
{
	unsigned char page[UZ_PAGE_SIZE], changed[UZ_PAGE_SIZE];
	bool before = true;

	while (r.len) {
		size_t from = r.off % UZ_PAGE_SIZE, len = UZ_PAGE_SIZE - from;
		unsigned char *want = t->want + r.off - from;

		if (len > r.len)
			len = r.len;
		CHECK(!uz_read(t->worker, device_off(t, r.off - from), UZ_PAGE_SIZE, page),
		      "thread %u, slot %llu", t->id, (unsigned long long)(r.off / UZ_PAGE_SIZE));
		memcpy(changed, want, UZ_PAGE_SIZE);
		set(changed + from, data, len);
		before = before && memcmp(page, changed, UZ_PAGE_SIZE) == 0;
		CHECK(before || memcmp(page, want, UZ_PAGE_SIZE) == 0,
		      "a refused request changed slot %llu of thread %u",
		      (unsigned long long)(r.off / UZ_PAGE_SIZE), t->id);
		memcpy(want, page, UZ_PAGE_SIZE);
		data = data ? data + len : NULL;
		r.off += len;
		r.len -= len;
	}
}

static void write_range(struct thread *t)
{
	struct range r = pick_range(t);
	const unsigned char *data = make_data(t, r);

	if (accepted(t, uz_write(t->worker, device_off(t, r.off), r.len, data)))
		memcpy(t->want + r.off, data, r.len);
	else
		settle(t, r, data);
}

static void discard_range(struct thread *t)
{
	struct range r = pick_range(t);
	uint64_t long_one = rng_below(&t->rng, 64), pages = 1 + rng_below(&t->rng, OWNED);

	if (!long_one) {
		r.len = pages * UZ_PAGE_SIZE;
		if (r.len > SHARE - r.off)
			r.len = SHARE - r.off;
	}
	if (accepted(t, uz_discard(t->worker, device_off(t, r.off), r.len)))
		memset(t->want + r.off, 0, r.len);
	else
		settle(t, r, NULL);
}

static void check_bytes(const struct thread *t, uint64_t off, size_t len, const char *got)
{
	if (memcmp(got, t->want + off, len) == 0)
		return;
	for (size_t i = 0; i < len; i++)
		CHECK((unsigned char)got[i] == t->want[off + i],
		      "byte %zu of slot %llu of thread %u's share is %02x and not %02x",
		      (size_t)((off + i) % UZ_PAGE_SIZE),
		      (unsigned long long)((off + i) / UZ_PAGE_SIZE), t->id, (unsigned char)got[i],
		      t->want[off + i]);
}

static void read_range(struct thread *t)
{
	struct range r = pick_range(t);
	char *got = guard_tail(&t->data, r.len);

	CHECK(!uz_read(t->worker, device_off(t, r.off), r.len, got), "thread %u, off %llu", t->id,
	      (unsigned long long)r.off);
	check_bytes(t, r.off, r.len, got);
}

void owned_step(struct thread *t)
{
	uint64_t what = rng_below(&t->rng, 16);

	if (what < 7)
		write_range(t);
	else if (what < 13)
		read_range(t);
	else
		discard_range(t);
}

void owned_verify(const struct thread *t, struct uz_worker *w)
{
	char page[UZ_PAGE_SIZE];

	for (uint64_t off = 0; off < SHARE; off += UZ_PAGE_SIZE) {
		CHECK(!uz_read(w, device_off(t, off), UZ_PAGE_SIZE, page), "thread %u, slot %llu",
		      t->id, (unsigned long long)(off / UZ_PAGE_SIZE));
		check_bytes(t, off, UZ_PAGE_SIZE, page);
	}
}

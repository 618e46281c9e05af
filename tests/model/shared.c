/* SPDX-License-Identifier: MIT
 *
 * Pages that several threads work on at once.
 *
 * Shared pages are written whole. A page's content follows from its *tag*, the slot, the writer and
 * the number of the write, which stands in it; so a page that is not exactly what its tag makes it
 * is a mixture. And since a writer's numbers go up, nobody who has seen one may see a lower one.
 */
#include <assert.h>
#include <string.h>

#include "model.h"

struct tag {
	uint32_t slot, writer, kind;
	uint32_t number; /* of the writer's writes to this slot, from 1; 0: the page is empty */
};

/* A tag as one word: what a page that repeats one word repeats. Its halves are never alike. */
#define LOW_HALF (UINT64_C(1) << 31)

static uint64_t tag_word(struct tag tag)
{
	return tag.slot | tag.writer << 8 | tag.kind << 16 | LOW_HALF | (uint64_t)tag.number << 32;
}

static struct tag word_tag(uint64_t word)
{
	return (struct tag){
		.slot = word & 0xff,
		.writer = word >> 8 & 0xff,
		.kind = word >> 16 & 0x7fff,
		.number = (uint32_t)(word >> 32),
	};
}

/* As half a word, for pages that are stored in their entry. */
#define HALF_NUMBERS (1u << 22)
static_assert(SHARED <= 64 && THREADS_MAX <= 16, "fit into half a word");

static uint32_t tag_half(struct tag tag)
{
	return tag.slot | tag.writer << 6 | tag.number << 10;
}

static struct tag half_tag(uint32_t half)
{
	return (struct tag){
		.slot = half & 63,
		.writer = half >> 6 & 15,
		.kind = PAGE_INLINE,
		.number = half >> 10,
	};
}

static void repeat(unsigned char *page, uint64_t word)
{
	for (size_t i = 0; i < UZ_PAGE_SIZE; i += sizeof(word))
		memcpy(page + i, &word, sizeof(word));
}

static void tag_fill(const struct model *m, unsigned char *page, struct tag tag)
{
	uint64_t word = tag_word(tag);
	struct rng rng;

	if (!tag.number) {
		repeat(page, 0);
	} else if (tag.kind == PAGE_INLINE) {
		repeat(page, (uint64_t)tag_half(tag) << 32 | tag_half(tag));
	} else if (tag.kind == PAGE_WORD) {
		repeat(page, word);
	} else {
		rng_init(&rng, m->options->seed, word);
		page_fill(page, (enum page_kind)tag.kind, &rng);
		memcpy(page, &word, sizeof(word));
	}
}

/* The tag that a page claims to have been made from. */
static struct tag read_tag(const unsigned char *page)
{
	uint64_t word;

	memcpy(&word, page, sizeof(word));
	if (word == 0)
		return (struct tag){0};
	return word >> 32 == (uint32_t)word ? half_tag((uint32_t)word) : word_tag(word);
}

static void check_content(const struct thread *t, unsigned slot, struct tag tag,
			  const unsigned char *page)
{
	unsigned char want[UZ_PAGE_SIZE];

	tag_fill(t->m, want, tag);
	if (memcmp(page, want, UZ_PAGE_SIZE) == 0)
		return;
	for (size_t i = 0; i < UZ_PAGE_SIZE; i++)
		CHECK(page[i] == want[i],
		      "shared slot %u, by its tag write %u of thread %u, has another byte %zu",
		      slot, tag.number, tag.writer, i);
}

/* The page that thread t has read from a shared slot. */
static void check_page(struct thread *t, unsigned slot, const unsigned char *page)
{
	struct tag tag = read_tag(page);

	CHECK(tag.kind < PAGE_KINDS, "shared slot %u", slot);
	check_content(t, slot, tag, page);
	if (!tag.number)
		return;
	CHECK(tag.slot == slot, "shared slot %u has the page of slot %u", slot, tag.slot);
	CHECK(tag.writer < t->m->options->threads, "shared slot %u", slot);
	CHECK(tag.number >= t->seen[slot][tag.writer],
	      "shared slot %u has write %u of thread %u; it had write %u before", slot, tag.number,
	      tag.writer, t->seen[slot][tag.writer]);
	CHECK(tag.writer != t->id || tag.number <= t->written[slot],
	      "shared slot %u has write %u of thread %u, whose last one was %u", slot, tag.number,
	      tag.writer, t->written[slot]);
	t->seen[slot][tag.writer] = tag.number;
}

struct slots {
	unsigned first, count;
};

static struct slots pick_slots(struct thread *t)
{
	struct slots s = {.first = (unsigned)rng_below(&t->rng, SHARED)};

	s.count = 1 + (unsigned)rng_below(&t->rng, 4);
	if (s.count > SHARED - s.first)
		s.count = SHARED - s.first;
	return s;
}

static void write_shared(struct thread *t, struct slots s)
{
	char *data = guard_tail(&t->data, s.count * UZ_PAGE_SIZE);

	for (unsigned i = 0; i < s.count; i++) {
		unsigned slot = s.first + i;
		struct tag tag = {
			.slot = slot,
			.writer = t->id,
			.kind = 1 + (uint32_t)rng_below(&t->rng, PAGE_KINDS - 1),
			.number = ++t->written[slot],
		};

		if (tag.kind == PAGE_INLINE && tag.number >= HALF_NUMBERS)
			tag.kind = PAGE_WORD;
		tag_fill(t->m, (unsigned char *)data + i * UZ_PAGE_SIZE, tag);
	}
	if (!accepted(t, uz_write(t->worker, shared_slot(t->m, s.first) * UZ_PAGE_SIZE,
				  s.count * UZ_PAGE_SIZE, data)))
		return;
	for (unsigned i = 0; i < s.count; i++)
		t->seen[s.first + i][t->id] = t->written[s.first + i];
}

static void read_shared(struct thread *t, struct uz_worker *w, struct slots s)
{
	unsigned char *data = (unsigned char *)guard_tail(&t->data, s.count * UZ_PAGE_SIZE);

	CHECK(!uz_read(w, shared_slot(t->m, s.first) * UZ_PAGE_SIZE, s.count * UZ_PAGE_SIZE, data),
	      "shared slot %u", s.first);
	for (unsigned i = 0; i < s.count; i++)
		check_page(t, s.first + i, data + i * UZ_PAGE_SIZE);
}

void shared_step(struct thread *t)
{
	struct slots s = pick_slots(t);
	uint64_t what = rng_below(&t->rng, 16);

	if (what < 7)
		write_shared(t, s);
	else if (what < 15)
		read_shared(t, t->worker, s);
	else
		accepted(t, uz_discard(t->worker, shared_slot(t->m, s.first) * UZ_PAGE_SIZE,
				       s.count * UZ_PAGE_SIZE));
}

void shared_verify(struct thread *t, struct uz_worker *w)
{
	for (unsigned slot = 0; slot < SHARED; slot++)
		read_shared(t, w, (struct slots){slot, 1});
}

/* --- stripes --- */

static uint64_t stripe_off(const struct thread *t, unsigned i)
{
	return striped_slot(t->m, i) * UZ_PAGE_SIZE + t->id * STRIPE;
}

static void check_stripe(const struct thread *t, struct uz_worker *w, unsigned i)
{
	char got[STRIPE];

	CHECK(!uz_read(w, stripe_off(t, i), STRIPE, got), "striped page %u", i);
	CHECK(memcmp(got, t->stripes[i], STRIPE) == 0,
	      "thread %u's part of striped page %u has been undone", t->id, i);
}

void striped_step(struct thread *t)
{
	unsigned i = (unsigned)rng_below(&t->rng, STRIPED);
	size_t from = rng_below(&t->rng, STRIPE), len = 1 + rng_below(&t->rng, STRIPE - from);
	uint64_t what = rng_below(&t->rng, 4);
	char *data = guard_tail(&t->data, len);

	if (what == 0) {
		check_stripe(t, t->worker, i);
	} else if (what == 1) {
		if (accepted(t, uz_discard(t->worker, stripe_off(t, i) + from, len)))
			memset(t->stripes[i] + from, 0, len);
	} else {
		page_fill(t->scratch, (enum page_kind)rng_below(&t->rng, PAGE_KINDS), &t->rng);
		memcpy(data, t->scratch, len);
		if (accepted(t, uz_write(t->worker, stripe_off(t, i) + from, len, data)))
			memcpy(t->stripes[i] + from, data, len);
	}
}

void striped_verify(const struct thread *t, struct uz_worker *w)
{
	for (unsigned i = 0; i < STRIPED; i++)
		check_stripe(t, w, i);
}

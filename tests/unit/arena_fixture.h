/* SPDX-License-Identifier: MIT
 *
 * What the arena's unit tests share: small arenas, and a model of what must be true of one.
 *
 * Only the main thread may use cmocka's assertions; the others count their complaints.
 */
#ifndef UZ_TESTS_ARENA_FIXTURE_H
#define UZ_TESTS_ARENA_FIXTURE_H

/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../model/pages.h"
#include "arena/internal.h"
#include "base/futex.h"
#include "waiting.h"

#define PAGE	  UZ_PAGE_SIZE
#define MIB	  (UINT64_C(1) << 20)
#define DISKSIZE  (64 * MIB)
#define RESERVE	  (2 * MIB)
#define SIZES	  UZ_UNIT_PAGES_MAX
#define UNTOUCHED ((struct uz_arena *)0x1)

/* The main thread's. */
static inline unsigned below(unsigned n)
{
	static struct rng rng = {.state = 1};

	return (unsigned)rng_below(&rng, n);
}

static inline struct uz_arena *new_arena(void)
{
	struct uz_arena *a;

	assert_int_equal(uz_arena_new(DISKSIZE, &a), 0);
	return a;
}

static inline void count_surplus(void *context)
{
	atomic_fetch_add((_Atomic unsigned *)context, 1);
}

static inline struct uz_arena *started_arena(void)
{
	struct uz_arena *a = new_arena();

	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	return a;
}

static inline void stop_and_free(struct uz_arena *a)
{
	uz_arena_stop(a);
	uz_arena_free(a);
}

static inline struct uz_arena_stat stat_of(struct uz_arena *a)
{
	struct uz_arena_stat st;

	uz_arena_stat(a, &st);
	return st;
}

/* Bytes of memory the file has. */
static inline uint64_t file_memory(const struct uz_arena *a)
{
	struct stat st;

	assert_int_equal(fstat(uz_arena_fd(a), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* The reserve is full (up to the rounding to whole units, and to 3/4, where a refill starts), and
 * the file has memory for what is used or ready and for nothing else. */
static inline bool settled(struct uz_arena *a, uint64_t reserve)
{
	struct uz_arena_stat st = stat_of(a);

	return st.ready_pages + SIZES * SIZES >= reserve / PAGE * 3 / 4 &&
	       file_memory(a) == st.table_bytes + (st.used_pages + st.ready_pages) * PAGE;
}

static inline void await_settled(struct uz_arena *a, uint64_t reserve)
{
	for (unsigned ms = 0; !settled(a, reserve); ms++) {
		assert_true(ms < 5000);
		usleep(1000);
	}
}

static inline int punch(const struct uz_arena *a, const struct uz_extent *e)
{
	uint64_t off, len;

	uz_arena_extent_range(a, e, &off, &len);
	return fallocate(uz_arena_fd(a), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			 (off_t)len);
}

/* --- a model --- */

#define HELD_MAX 4000

struct unit {
	unsigned npages;
	uint32_t number;
};

/* What must be true of an arena. Every page of a unit that is held bears a stamp. */
struct model {
	struct uz_arena *arena;
	bool *used[SIZES + 1];
	struct unit held[HELD_MAX];
	unsigned nheld;
	uint64_t pages, max;
};

static inline void model_init(struct model *m, struct uz_arena *a)
{
	*m = (struct model){.arena = a};
	for (unsigned n = 1; n <= SIZES; n++)
		m->used[n] = calloc(uz_arena_nunits(a, n), sizeof(bool));
}

static inline uint32_t members(const struct uz_bits *bits)
{
	uint32_t n = 0, at = uz_bits_next(bits, 0);

	for (; at != UZ_BITS_NONE; at = uz_bits_next(bits, at + 1))
		n++;
	return n;
}

/* The arena has been stopped, so that nothing is in transit: every unit is used, ready or cold. */
static inline void check_accounts(const struct model *m)
{
	for (unsigned n = 1; n <= SIZES; n++) {
		const struct area *ar = &m->arena->areas[n - 1];
		uint32_t used = 0;

		for (uint32_t u = 0; u < ar->nunits; u++)
			used += m->used[n][u];
		assert_int_equal(members(&ar->ready), ar->nready);
		assert_int_equal(used + ar->nready + members(&ar->cold) + ar->nunits -
					 ar->first_untouched,
				 ar->nunits);
	}
}

/* Stop and free the arena, too. */
static inline void model_done(struct model *m)
{
	uz_arena_stop(m->arena);
	check_accounts(m);
	uz_arena_free(m->arena);
	for (unsigned n = 1; n <= SIZES; n++)
		free(m->used[n]);
}

static inline uint64_t *page_of(struct uz_arena *a, struct unit u, unsigned page)
{
	return uz_arena_ptr(a, uz_arena_unit_off(a, u.npages, u.number) + page * PAGE);
}

static inline uint64_t stamp_of(struct unit u, unsigned page)
{
	return (uint64_t)u.npages << 40 | (uint64_t)page << 32 | u.number;
}

static inline void stamp(struct uz_arena *a, struct unit u)
{
	for (unsigned i = 0; i < u.npages; i++)
		page_of(a, u, i)[0] = page_of(a, u, i)[PAGE / 8 - 1] = stamp_of(u, i);
}

static inline bool stamped(struct uz_arena *a, struct unit u)
{
	for (unsigned i = 0; i < u.npages; i++) {
		const uint64_t *page = page_of(a, u, i);

		if (page[0] != stamp_of(u, i) || page[PAGE / 8 - 1] != stamp_of(u, i))
			return false;
	}
	return true;
}

static inline void model_check(const struct model *m)
{
	struct uz_arena_stat st = stat_of(m->arena);

	assert_int_equal(st.used_pages, m->pages);
	assert_int_equal(st.used_max, m->max);
}

/* On a machine so busy that the refill thread does not run for UZ_ARENA_WAIT_MS, try again. */
static inline int64_t get_patiently(struct uz_arena *a, unsigned npages)
{
	int64_t got = -ENOMEM;

	for (unsigned i = 0; got == -ENOMEM && i < 10; i++) {
		usleep(i * UZ_ARENA_WAIT_MS * 1000);
		got = get_waiting(a, npages);
	}
	return got;
}

static inline void model_took(struct model *m, struct unit u)
{
	assert_true(u.number < uz_arena_nunits(m->arena, u.npages));
	assert_false(m->used[u.npages][u.number]);
	m->used[u.npages][u.number] = true;
	m->held[m->nheld++] = u;
	m->pages += u.npages;
	if (m->pages > m->max)
		m->max = m->pages;
	stamp(m->arena, u);
}

static inline void model_get(struct model *m, unsigned npages)
{
	int64_t got = get_patiently(m->arena, npages);

	assert_true(got >= 0);
	model_took(m, (struct unit){npages, (uint32_t)got});
}

static inline void model_put(struct model *m, unsigned i)
{
	struct unit u = m->held[i];

	assert_true(stamped(m->arena, u));
	uz_arena_put(m->arena, u.npages, &u.number, 1);
	m->used[u.npages][u.number] = false;
	m->held[i] = m->held[--m->nheld];
	m->pages -= u.npages;
}

/* Take up to max extents, and return each at once; each punch fails with the given odds. Returns
 * how many there were. */
static inline unsigned model_trim(struct model *m, unsigned max, unsigned fail_percent)
{
	struct uz_extent extents[65];
	unsigned count;

	memset(extents, 0xee, sizeof(extents));
	count = uz_arena_trim_begin(m->arena, extents, max);
	assert_true(count <= max);
	assert_int_equal(extents[max].npages, 0xeeeeeeee);
	for (unsigned i = 0; i < count; i++) {
		const struct uz_extent *e = &extents[i];
		bool punched = below(100) >= fail_percent;

		assert_in_range(e->npages, 1, SIZES);
		assert_in_range(e->count, 1, uz_arena_nunits(m->arena, e->npages) - e->first);
		for (uint32_t u = e->first; u < e->first + e->count; u++) {
			assert_false(m->used[e->npages][u]);
			m->used[e->npages][u] = true; /* in transit: neither twice nor gettable */
		}
		if (punched)
			assert_int_equal(punch(m->arena, e), 0);
		memset(&m->used[e->npages][e->first], false, e->count);
		uz_arena_trim_end(m->arena, e, punched);
	}
	return count;
}

#endif

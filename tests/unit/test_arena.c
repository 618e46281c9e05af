/* SPDX-License-Identifier: MIT
 *
 * The arena: the file and its superblock; units, the reserve and the limit; what goes back to the
 * kernel; rebuilding.
 *
 * Only the main thread may use cmocka's assertions; the others count their complaints.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "arena/internal.h"
#include "base/futex.h"
#include "model/pages.h"

#define PAGE	  UZ_PAGE_SIZE
#define MIB	  (UINT64_C(1) << 20)
#define DISKSIZE  (64 * MIB)
#define RESERVE	  (2 * MIB)
#define SIZES	  UZ_UNIT_PAGES_MAX
#define UNTOUCHED ((struct uz_arena *)0x1)

/* The main thread's. */
static unsigned below(unsigned n)
{
	static struct rng rng = {.state = 1};

	return (unsigned)rng_below(&rng, n);
}

static struct uz_arena *new_arena(void)
{
	struct uz_arena *a;

	assert_int_equal(uz_arena_new(DISKSIZE, &a), 0);
	return a;
}

static void count_surplus(void *context)
{
	atomic_fetch_add((_Atomic unsigned *)context, 1);
}

static struct uz_arena *started_arena(void)
{
	struct uz_arena *a = new_arena();

	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	return a;
}

static void stop_and_free(struct uz_arena *a)
{
	uz_arena_stop(a);
	uz_arena_free(a);
}

static struct uz_arena_stat stat_of(struct uz_arena *a)
{
	struct uz_arena_stat st;

	uz_arena_stat(a, &st);
	return st;
}

/* Bytes of memory the file has. */
static uint64_t file_memory(const struct uz_arena *a)
{
	struct stat st;

	assert_int_equal(fstat(uz_arena_fd(a), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* The reserve is full (up to the rounding to whole units, and to 3/4, where a refill starts), and
 * the file has memory for what is used or ready and for nothing else. */
static bool settled(struct uz_arena *a, uint64_t reserve)
{
	struct uz_arena_stat st = stat_of(a);

	return st.ready_pages + SIZES * SIZES >= reserve / PAGE * 3 / 4 &&
	       file_memory(a) == st.table_bytes + (st.used_pages + st.ready_pages) * PAGE;
}

static void await_settled(struct uz_arena *a, uint64_t reserve)
{
	for (unsigned ms = 0; !settled(a, reserve); ms++) {
		assert_true(ms < 5000);
		usleep(1000);
	}
}

static int punch(const struct uz_arena *a, const struct uz_extent *e)
{
	uint64_t off, len;

	uz_arena_extent_range(a, e, &off, &len);
	return fallocate(uz_arena_fd(a), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			 (off_t)len);
}

/* --- the file --- */

static void test_new_refuses(void **state)
{
	static const uint64_t sizes[] = {
		0, 1, PAGE - 1, PAGE + 1, UZ_DISKSIZE_MAX + PAGE, UINT64_MAX - PAGE + 1,
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct uz_arena *a = UNTOUCHED;

		assert_int_equal(uz_arena_new(sizes[i], &a), -EINVAL);
		assert_ptr_equal(a, UNTOUCHED);
	}
	uz_arena_free(NULL);
}

static void test_new(void **state)
{
	static const uint64_t sizes[] = {PAGE, 511 * PAGE, 512 * PAGE, 513 * PAGE, 1024 * MIB};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct uz_arena *a;
		struct uz_arena_stat st;

		assert_int_equal(uz_arena_new(sizes[i], &a), 0);
		assert_int_equal(uz_arena_disksize(a), sizes[i]);
		assert_int_equal(uz_arena_nslots(a), sizes[i] / PAGE);
		for (uint64_t slot = 0; slot < uz_arena_nslots(a); slot++)
			assert_int_equal(uz_arena_table(a)[slot], 0);
		assert_true(uz_arena_data_size(a) >= SIZES * sizes[i]);
		assert_int_equal(fcntl(uz_arena_fd(a), F_GETFD), FD_CLOEXEC);

		st = stat_of(a);
		assert_int_equal(st.used_pages + st.used_max + st.ready_pages, 0);
		assert_in_range(st.table_bytes, sizes[i] / PAGE * 8,
				sizes[i] / PAGE * 8 + 2 * PAGE);
		assert_int_equal(file_memory(a), st.table_bytes);
		uz_arena_free(a);
	}
}

static void test_attach(void **state)
{
	struct uz_arena *a = new_arena(), *b;
	uint64_t last = uz_arena_nslots(a) - 1, off = uz_arena_unit_off(a, 5, 7), size;

	atomic_store(&uz_arena_table(a)[last], 0x123456789);
	strcpy(uz_arena_ptr(a, off), "still here");
	assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
	assert_int_not_equal(uz_arena_fd(a), uz_arena_fd(b));
	assert_int_equal(fcntl(uz_arena_fd(b), F_GETFD), FD_CLOEXEC);
	assert_int_equal(uz_arena_disksize(b), DISKSIZE);
	assert_int_equal(uz_arena_data_size(b), uz_arena_data_size(a));
	uz_arena_free(a);
	assert_int_equal(uz_arena_table(b)[last], 0x123456789);
	assert_string_equal(uz_arena_ptr(b, off), "still here");
	assert_int_equal(uz_arena_check(uz_arena_fd(b), &size), 0);
	assert_int_equal(size, DISKSIZE);
	uz_arena_free(b);
}

static void assert_no_arena(int fd)
{
	struct uz_arena *a = UNTOUCHED;
	uint64_t disksize = 1;

	assert_int_equal(uz_arena_check(fd, &disksize), -EPROTO);
	assert_int_equal(disksize, 1);
	assert_int_equal(uz_arena_attach(fd, &a), -EPROTO);
	assert_ptr_equal(a, UNTOUCHED);
}

/* Put sb into the file of a, whose own is good: it must be refused, and left as it is. */
static void assert_superblock_refused(struct uz_arena *a, const struct uz_superblock *sb)
{
	struct uz_superblock good, after;
	int fd = uz_arena_fd(a);

	assert_int_equal(pread(fd, &good, sizeof(good), 0), sizeof(good));
	assert_int_equal(pwrite(fd, sb, sizeof(*sb), 0), sizeof(*sb));
	assert_no_arena(fd);
	assert_int_equal(pread(fd, &after, sizeof(after), 0), sizeof(after));
	assert_memory_equal(&after, sb, sizeof(after));
	assert_int_equal(pwrite(fd, &good, sizeof(good), 0), sizeof(good));
}

static void test_attach_damaged(void **state)
{
	struct uz_arena *a = new_arena(), *b;
	struct uz_superblock sb;

	assert_int_equal(pread(uz_arena_fd(a), &sb, sizeof(sb), 0), sizeof(sb));
	for (unsigned bit = 0; bit < sizeof(sb) * 8; bit++) {
		unsigned char *byte = (unsigned char *)&sb + bit / 8;

		*byte ^= 1u << bit % 8;
		assert_superblock_refused(a, &sb);
		*byte ^= 1u << bit % 8;
	}
	assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
	uz_arena_free(b);
	uz_arena_free(a);
}

/* Well-formed, but not what this version would have written. */
static void test_attach_geometry(void **state)
{
#define FIELD(name) offsetof(struct uz_superblock, name), sizeof(((struct uz_superblock *)0)->name)
	static const struct {
		size_t off, size;
		uint64_t value;
	} cases[] = {
		{FIELD(magic), 0},
		{FIELD(version), 0},
		{FIELD(version), UINT32_MAX},
		{FIELD(page_size), 0},
		{FIELD(page_size), 2 * PAGE},
		{FIELD(disksize), 0},
		{FIELD(disksize), DISKSIZE + 1},
		{FIELD(disksize), DISKSIZE / 2},
		{FIELD(disksize), 2 * DISKSIZE},
		{FIELD(disksize), UZ_DISKSIZE_MAX},
		{FIELD(disksize), UINT64_MAX - PAGE + 1},
		{FIELD(table_off), 0},
		{FIELD(table_off), 2 * PAGE},
		{FIELD(data_off), 0},
		{FIELD(data_off), 64 * PAGE},
		{FIELD(area_span), 0},
		{FIELD(area_span), MIB},
		{FIELD(area_span), UINT64_C(1) << 63},
	};
#undef FIELD
	struct uz_arena *a = new_arena();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct uz_superblock sb;

		assert_int_equal(pread(uz_arena_fd(a), &sb, sizeof(sb), 0), sizeof(sb));
		memcpy((char *)&sb + cases[i].off, &cases[i].value, cases[i].size);
		sb.sum = XXH3_64bits(&sb, offsetof(struct uz_superblock, sum));
		assert_superblock_refused(a, &sb);
	}
	uz_arena_free(a);
}

static void test_attach_file_size(void **state)
{
	struct uz_arena *a = new_arena(), *b;
	int fd = uz_arena_fd(a);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	for (off_t by = -(off_t)PAGE; by <= (off_t)PAGE; by += PAGE / 2) {
		assert_int_equal(ftruncate(fd, st.st_size + by), 0);
		if (by)
			assert_no_arena(fd);
	}
	assert_int_equal(ftruncate(fd, st.st_size), 0);
	assert_int_equal(uz_arena_attach(fd, &b), 0);
	uz_arena_free(b);
	uz_arena_free(a);
}

static void test_attach_other_files(void **state)
{
	static const char *const paths[] = {"/dev/null", "/dev/zero", "/proc/self/exe", "/"};
	int fd = memfd_create("empty", MFD_CLOEXEC), ends[2];

	assert_no_arena(-1);
	assert_no_arena(fd);
	close(fd);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_no_arena(fd);
		close(fd);
	}
	assert_int_equal(pipe(ends), 0);
	assert_no_arena(ends[0]);
	close(ends[0]);
	close(ends[1]);
}

/* --- addresses --- */

static void check_unit(struct uz_arena *a, unsigned n, uint32_t unit)
{
	const uint32_t within[] = {0, 1, n * PAGE / 2, n * PAGE - 1};
	uint64_t off = uz_arena_unit_off(a, n, unit);

	for (unsigned i = 0; i < 4; i++) {
		unsigned npages;
		uint32_t u, w;

		assert_true(uz_arena_locate(a, off + within[i], &npages, &u, &w));
		assert_int_equal(npages, n);
		assert_int_equal(u, unit);
		assert_int_equal(w, within[i]);
	}
	assert_ptr_equal(uz_arena_ptr(a, off), (char *)uz_arena_ptr(a, 0) + off);
}

static void test_addresses(void **state)
{
	struct uz_arena *a = new_arena();
	uint64_t end = 0; /* of the area before */
	unsigned npages = 99;
	uint32_t u, w;

	for (unsigned n = 1; n <= SIZES; n++) {
		uint32_t nunits = uz_arena_nunits(a, n);
		uint64_t start = uz_arena_unit_off(a, n, 0);

		assert_true((uint64_t)nunits * n * PAGE >= DISKSIZE);
		assert_true(start >= end);
		/* What no whole unit fits into belongs to none. */
		for (uint64_t off = end; off < start; off += PAGE)
			assert_false(uz_arena_locate(a, off, &npages, &u, &w));
		for (uint32_t unit = 0; unit < nunits; unit++) {
			assert_int_equal(uz_arena_unit_off(a, n, unit), start + unit * (n * PAGE));
			check_unit(a, n, unit);
		}
		end = start + (uint64_t)nunits * n * PAGE;
	}
	assert_true(end <= uz_arena_data_size(a));
	assert_false(uz_arena_locate(a, uz_arena_data_size(a), &npages, &u, &w));
	assert_false(uz_arena_locate(a, UINT64_MAX, &npages, &u, &w));
	uz_arena_free(a);
}

/* --- get, put and trim against a model --- */

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

static void model_init(struct model *m, struct uz_arena *a)
{
	*m = (struct model){.arena = a};
	for (unsigned n = 1; n <= SIZES; n++)
		m->used[n] = calloc(uz_arena_nunits(a, n), sizeof(bool));
}

static uint32_t members(const struct uz_bits *bits)
{
	uint32_t n = 0, at = uz_bits_next(bits, 0);

	for (; at != UZ_BITS_NONE; at = uz_bits_next(bits, at + 1))
		n++;
	return n;
}

/* The arena has been stopped, so that nothing is in transit: every unit is used, ready or cold. */
static void check_accounts(const struct model *m)
{
	for (unsigned n = 1; n <= SIZES; n++) {
		const struct area *ar = &m->arena->areas[n - 1];
		uint32_t used = 0;

		for (uint32_t u = 0; u < ar->nunits; u++)
			used += m->used[n][u];
		assert_int_equal(members(&ar->ready), ar->nready);
		assert_int_equal(used + ar->nready + members(&ar->cold) + ar->nunits - ar->fresh,
				 ar->nunits);
	}
}

/* Stop and free the arena, too. */
static void model_done(struct model *m)
{
	uz_arena_stop(m->arena);
	check_accounts(m);
	uz_arena_free(m->arena);
	for (unsigned n = 1; n <= SIZES; n++)
		free(m->used[n]);
}

static uint64_t *page_of(struct uz_arena *a, struct unit u, unsigned page)
{
	return uz_arena_ptr(a, uz_arena_unit_off(a, u.npages, u.number) + page * PAGE);
}

static uint64_t stamp_of(struct unit u, unsigned page)
{
	return (uint64_t)u.npages << 40 | (uint64_t)page << 32 | u.number;
}

static void stamp(struct uz_arena *a, struct unit u)
{
	for (unsigned i = 0; i < u.npages; i++)
		page_of(a, u, i)[0] = page_of(a, u, i)[PAGE / 8 - 1] = stamp_of(u, i);
}

static bool stamped(struct uz_arena *a, struct unit u)
{
	for (unsigned i = 0; i < u.npages; i++) {
		const uint64_t *page = page_of(a, u, i);

		if (page[0] != stamp_of(u, i) || page[PAGE / 8 - 1] != stamp_of(u, i))
			return false;
	}
	return true;
}

static void model_check(const struct model *m)
{
	struct uz_arena_stat st = stat_of(m->arena);

	assert_int_equal(st.used_pages, m->pages);
	assert_int_equal(st.used_max, m->max);
}

/* On a machine so busy that the refill thread does not run for UZ_ARENA_WAIT_MS, try again. */
static int64_t get_patiently(struct uz_arena *a, unsigned npages)
{
	int64_t got = -ENOMEM;

	for (unsigned i = 0; got == -ENOMEM && i < 10; i++)
		got = uz_arena_get(a, npages);
	return got;
}

static void model_took(struct model *m, struct unit u)
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

static void model_get(struct model *m, unsigned npages)
{
	int64_t got = get_patiently(m->arena, npages);

	assert_true(got >= 0);
	model_took(m, (struct unit){npages, (uint32_t)got});
}

static void model_put(struct model *m, unsigned i)
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
static unsigned model_trim(struct model *m, unsigned max, unsigned fail_percent)
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

static void test_units(void **state)
{
	struct uz_arena *a = started_arena();
	struct model m;

	model_init(&m, a);
	await_settled(a, RESERVE);
	for (unsigned round = 0; round < 40; round++) {
		unsigned puts = round % 2 ? 70 : 30; /* in a hundred: shrink and grow in turns */

		for (unsigned i = 0; i < 1000; i++) {
			if (m.nheld && (below(100) < puts || m.nheld == HELD_MAX))
				model_put(&m, below(m.nheld));
			else
				model_get(&m, 1 + below(SIZES));
			if (below(50) == 0)
				model_trim(&m, below(65), below(2) * 50);
			model_check(&m);
		}
		if (below(4) == 0) {
			uz_arena_reset_max(a);
			m.max = m.pages;
		}
		await_settled(a, RESERVE);
	}
	for (unsigned i = 0; i < m.nheld; i++)
		assert_true(stamped(a, m.held[i]));
	model_done(&m);
}

/* All that was used goes back to the kernel, down to the reserve; what it will not have stays
 * ready. */
static void test_trim(void **state)
{
	_Atomic unsigned calls = 0;
	struct uz_arena *a = new_arena();
	struct model m;
	uint64_t before;

	assert_int_equal(uz_arena_start(a, RESERVE, true, count_surplus, &calls), 0);
	model_init(&m, a);
	for (unsigned round = 0; round < 3; round++) {
		while (m.nheld < HELD_MAX)
			model_get(&m, 1 + m.nheld % SIZES);
		calls = 0; /* as some sizes were more in demand than others */
		while (m.nheld)
			model_put(&m, below(m.nheld));
		assert_true(calls > 0);
		await_settled(a, RESERVE);

		before = stat_of(a).ready_pages;
		while (model_trim(&m, 64, 100))
			;
		assert_true(stat_of(a).ready_pages >= before);
		await_settled(a, RESERVE);

		for (unsigned n = 1; n <= SIZES; n++) {
			model_get(&m, n);
			model_put(&m, 0);
		}
		while (model_trim(&m, 64, 0))
			;
		await_settled(a, RESERVE);
		/* Surplus begins above 3/2 of the reserve. */
		assert_in_range(stat_of(a).ready_pages, 0, RESERVE / PAGE * 3 / 2 + SIZES * SIZES);
		calls = 0;
	}
	model_done(&m);
}

static void put_number(struct model *m, unsigned n, uint32_t number)
{
	unsigned i = 0;

	while (m->held[i].npages != n || m->held[i].number != number)
		assert_true(++i < m->nheld);
	model_put(m, i);
}

static void put_row(struct model *m, unsigned n, uint32_t from, uint32_t to, uint32_t step)
{
	for (uint32_t number = from; number < to; number += step)
		put_number(m, n, number);
}

/* Take all that is surplus, which is this, from the top down. */
static void assert_trims(struct model *m, const struct uz_extent *expected, unsigned count)
{
	struct uz_extent e[64];

	assert_in_range(uz_arena_trim_begin(m->arena, e, 64), count, count);
	for (unsigned i = 0; i < count; i++) {
		assert_memory_equal(&e[i], &expected[i], sizeof(e[i]));
		assert_int_equal(punch(m->arena, &e[i]), 0);
		uz_arena_trim_end(m->arena, &e[i], true);
	}
	assert_int_equal(uz_arena_trim_begin(m->arena, e, 64), 0);
}

/* Neighbours leave in one extent, but not those that are neighbours only by number. What has left
 * before is no obstacle between those that leave now. */
static void test_trim_extents(void **state)
{
	enum { FIRST = 600, ALL = 1000 }; /* the reserve is below the first */
	struct uz_extent fifth[50];
	struct model m;

	model_init(&m, new_arena());
	assert_int_equal(uz_arena_start(m.arena, RESERVE, true, NULL, NULL), 0);
	for (unsigned n = 1; n <= 3; n++) {
		for (unsigned i = 0; i < ALL; i++)
			model_get(&m, n);
	}
	uz_arena_stop(m.arena); /* no refill comes between */
	while (model_trim(&m, 64, 0))
		; /* of sizes that have not been asked for */
	for (unsigned n = 1; n <= 3; n++) {
		while (m.arena->areas[n - 1].nready > 0)
			model_get(&m, n);
		put_row(&m, n, 0, m.arena->areas[n - 1].target, 1);
	}
	for (unsigned n = 1; n <= 3; n++)
		put_row(&m, n, FIRST + n * 50, FIRST + n * 50 + 250, 1);
	assert_trims(&m,
		     (struct uz_extent[]){
			     {1, FIRST + 50, 250}, {2, FIRST + 100, 250}, {3, FIRST + 150, 250}},
		     3);
	for (unsigned n = 1; n <= 3; n++)
		assert_int_equal(m.arena->areas[n - 1].nready, m.arena->areas[n - 1].target);
	model_done(&m);

	/* 250 units once more, every fifth of them first. */
	model_init(&m, new_arena());
	assert_int_equal(uz_arena_start(m.arena, MIB / 4, true, NULL, NULL), 0);
	for (unsigned i = 0; i < ALL; i++)
		model_get(&m, 1);
	uz_arena_stop(m.arena);
	while (model_trim(&m, 64, 0))
		;
	while (m.arena->areas[0].nready > 0)
		model_get(&m, 1);
	put_row(&m, 1, 0, m.arena->areas[0].target, 1);
	put_row(&m, 1, FIRST, FIRST + 250, 5);
	for (unsigned i = 0; i < 50; i++)
		fifth[i] = (struct uz_extent){1, FIRST + 245 - 5 * i, 1};
	assert_trims(&m, fifth, 50);
	for (unsigned i = 1; i < 5; i++)
		put_row(&m, 1, FIRST + i, FIRST + 250, 5);
	assert_trims(&m, &(struct uz_extent){1, FIRST + 1, 249}, 1);
	model_done(&m);
}

/* However refilling and putting interleave, surplus is not left without anyone's being told. */
static void test_surplus_is_told(void **state)
{
	const uint64_t reserve = 16 * MIB; /* refilled in large, slow batches */
	uint64_t end = uz_now_ns() + 2 * UZ_NSEC_PER_SEC;
	_Atomic unsigned calls = 0;
	struct uz_arena *a = new_arena();
	struct model m;

	assert_int_equal(uz_arena_start(a, reserve, true, count_surplus, &calls), 0);
	model_init(&m, a);
	while (uz_now_ns() < end) {
		for (unsigned i = 40 + below(60); i > 0; i--)
			model_get(&m, 8);
		/* Meet the refill thread at one point or another of its work. */
		for (uint64_t from = uz_now_ns(), ns = below(100000); uz_now_ns() - from < ns;)
			;
		while (m.nheld)
			model_put(&m, m.nheld - 1);
		if (!calls) {
			await_settled(a, reserve);
			usleep(2000); /* the refill thread may have it on its tongue */
		}
		if (!calls) {
			assert_int_equal(model_trim(&m, 64, 0), 0);
		}
		/* Told once is told until the next look. */
		calls = 0;
		while (model_trim(&m, 64, 0))
			;
	}
	model_done(&m);
}

/* --- the limit --- */

static void test_limit(void **state)
{
	struct uz_arena *a = started_arena();
	struct model m;

	model_init(&m, a);
	uz_arena_set_limit(a, 100 * PAGE + PAGE - 1);
	while (m.pages < 96)
		model_get(&m, 8);
	assert_int_equal(uz_arena_get(a, 5), -ENOSPC);
	model_get(&m, 3);
	assert_int_equal(uz_arena_get(a, 2), -ENOSPC);
	model_get(&m, 1);
	for (unsigned n = 1; n <= SIZES; n++)
		assert_int_equal(uz_arena_get(a, n), -ENOSPC);
	model_check(&m);

	uz_arena_set_limit(a, 50 * PAGE); /* lowered: what is used stays */
	model_check(&m);
	while (m.pages > 50) {
		assert_int_equal(uz_arena_get(a, 1), -ENOSPC);
		model_put(&m, 0);
	}
	while (m.pages < 50)
		model_get(&m, 1);
	assert_int_equal(uz_arena_get(a, 1), -ENOSPC);

	uz_arena_set_limit(a, 0);
	while (m.pages < 2000)
		model_get(&m, 1 + below(SIZES));
	model_check(&m);
	model_done(&m);
}

struct too_much {
	struct uz_arena *arena;
	atomic_bool stop;
	_Atomic unsigned complaints;
};

static void *ask_too_much(void *arg)
{
	struct too_much *t = arg;

	while (!atomic_load(&t->stop)) {
		if (uz_arena_get(t->arena, 8) != -ENOSPC)
			atomic_fetch_add(&t->complaints, 1);
	}
	return NULL;
}

/* What one thread is refused does not count against another. */
static void test_limit_is_exact(void **state)
{
	struct too_much t = {.arena = started_arena()};
	uint64_t end = uz_now_ns() + UZ_NSEC_PER_SEC / 2;
	pthread_t threads[2];
	struct model m;

	model_init(&m, t.arena);
	uz_arena_set_limit(t.arena, 100 * PAGE);
	while (m.pages < 95)
		model_get(&m, 5);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_too_much, &t), 0);
	for (int64_t unit = 0; unit >= 0 && uz_now_ns() < end;) {
		unit = uz_arena_get(t.arena, 1);
		if (unit >= 0)
			uz_arena_put(t.arena, 1, &(uint32_t){(uint32_t)unit}, 1);
		else
			atomic_fetch_add(&t.complaints, 1);
	}
	atomic_store(&t.stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(t.complaints, 0);
	model_done(&m);
}

/* --- a dry reserve --- */

#define GETTERS	    6
#define GETTER_KEEP 1500 /* units */

struct getter {
	struct uz_arena *arena;
	struct rng rng;
	unsigned npages; /* 0: any */
	unsigned failed, complaints;
	struct unit held[GETTER_KEEP];
	unsigned nheld;
};

static void *get_and_keep(void *arg)
{
	struct getter *g = arg;

	while (g->nheld + g->failed < GETTER_KEEP) {
		unsigned n = g->npages ? g->npages : 1 + rng_next(&g->rng) % SIZES;
		int64_t got = uz_arena_get(g->arena, n);
		struct unit u = {n, (uint32_t)got};

		if (got >= 0) {
			stamp(g->arena, u);
			g->held[g->nheld++] = u;
		} else if (got == -ENOMEM) {
			g->failed++;
		} else {
			g->complaints++;
			break;
		}
	}
	return NULL;
}

static void *check_and_put(void *arg)
{
	struct getter *g = arg;

	while (g->nheld) {
		struct unit u = g->held[--g->nheld];

		if (!stamped(g->arena, u))
			g->complaints++;
		uz_arena_put(g->arena, u.npages, &u.number, 1);
	}
	return NULL;
}

static void run_getters(struct getter *getters, void *(*fn)(void *arg))
{
	pthread_t threads[GETTERS];

	for (unsigned i = 0; i < GETTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, &getters[i]), 0);
	for (unsigned i = 0; i < GETTERS; i++)
		pthread_join(threads[i], NULL);
}

/* Faster than the refill thread: everyone gets units of his own. */
static void test_dry(void **state)
{
	static struct getter getters[GETTERS];
	struct uz_arena *a = started_arena();
	uint64_t pages = 0;
	unsigned failed = 0;

	for (unsigned i = 0; i < GETTERS; i++)
		getters[i] = (struct getter){.arena = a, .rng = {.state = i}, .npages = i % 3 * 4};
	run_getters(getters, get_and_keep);
	for (unsigned i = 0; i < GETTERS; i++) {
		failed += getters[i].failed;
		for (unsigned k = 0; k < getters[i].nheld; k++)
			pages += getters[i].held[k].npages;
	}
	assert_int_equal(stat_of(a).used_pages, pages);
	assert_in_range(failed, 0, GETTERS * GETTER_KEEP / 100); /* there is memory for all */
	assert_true(stat_of(a).dry > 0);
	assert_int_equal(stat_of(a).failed, failed);
	await_settled(a, RESERVE);

	run_getters(getters, check_and_put);
	for (unsigned i = 0; i < GETTERS; i++)
		assert_int_equal(getters[i].complaints, 0);
	assert_int_equal(stat_of(a).used_pages, 0);
	stop_and_free(a);
}

struct glutton {
	struct uz_arena *arena;
	atomic_bool sated;
};

static void *take_single_pages(void *arg)
{
	struct glutton *g = arg;

	for (unsigned i = 0; i < 15000 && !atomic_load(&g->sated); i++)
		uz_arena_get(g->arena, 1);
	atomic_store(&g->sated, true);
	return NULL;
}

/* Units of one size that are taken as fast as they are refilled do not hold up those of another. */
static void test_dry_elsewhere(void **state)
{
	struct glutton g = {.arena = new_arena()};
	pthread_t threads[2];
	unsigned got = 0;

	assert_int_equal(uz_arena_start(g.arena, 8 * RESERVE, true, NULL, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_single_pages, &g), 0);
	while (got < 1000 && !atomic_load(&g.sated))
		got += uz_arena_get(g.arena, SIZES) >= 0;
	atomic_store(&g.sated, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(got, 1000);
	stop_and_free(g.arena);
}

/* An arena on a tmpfs that holds no more than size bytes; NULL: no right to mount one. */
static struct uz_arena *cramped_arena(const char *size)
{
	struct uz_arena *a = new_arena(), *b = NULL;
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), mnt = -1, fd = -1;
	struct uz_superblock sb;
	struct stat st;

	if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) == 0 &&
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mnt >= 0)
		fd = openat(mnt, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0) {
		assert_int_equal(pread(uz_arena_fd(a), &sb, sizeof(sb), 0), sizeof(sb));
		assert_int_equal(pwrite(fd, &sb, sizeof(sb), 0), sizeof(sb));
		assert_int_equal(fstat(uz_arena_fd(a), &st), 0);
		assert_int_equal(ftruncate(fd, st.st_size), 0);
		assert_int_equal(uz_arena_attach(fd, &b), 0);
	}
	close(fd);
	close(mnt);
	close(fs);
	uz_arena_free(a);
	return b;
}

static void test_no_memory(void **state)
{
	struct uz_arena *a = cramped_arena("8m");
	struct model m;
	uint64_t start, took;
	int64_t got;

	if (!a)
		skip(); /* no CAP_SYS_ADMIN */
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	model_init(&m, a);
	while (m.pages < 3 * MIB / PAGE)
		model_get(&m, 4);
	for (;;) {
		start = uz_now_ns();
		got = uz_arena_get(a, 4);
		took = (uz_now_ns() - start) / UZ_NSEC_PER_MSEC;
		if (got < 0)
			break;
		model_took(&m, (struct unit){4, (uint32_t)got});
	}
	assert_int_equal(got, -ENOMEM);
	assert_in_range(took, UZ_ARENA_WAIT_MS, UZ_ARENA_WAIT_MS + 500);
	assert_int_equal(stat_of(a).failed, 1);
	assert_int_equal(stat_of(a).used_pages, m.pages);
	assert_true(file_memory(a) >= 7 * MIB);

	/* Memory that comes back is found again, by hand and through the kernel. */
	model_put(&m, 0);
	model_get(&m, 4);
	while (m.nheld)
		model_put(&m, 0);
	while (model_trim(&m, 64, 0))
		;
	while (m.pages < 3 * MIB / PAGE)
		model_get(&m, 8);
	assert_int_equal(stat_of(a).failed, 1);
	model_done(&m);
}

static void *get_one(void *arg)
{
	struct getter *g = arg;
	uint64_t start = uz_now_ns();
	int64_t got = uz_arena_get(g->arena, 4);

	g->failed = (unsigned)((uz_now_ns() - start) / UZ_NSEC_PER_MSEC);
	if (got >= 0)
		g->held[g->nheld++] = (struct unit){4, (uint32_t)got};
	return NULL;
}

/* Who waits for a unit has the next that is put back, at once. */
static void test_put_wakes(void **state)
{
	static struct getter g;
	struct uz_arena *a = cramped_arena("8m");
	struct model m;
	pthread_t thread;
	int64_t got;

	if (!a)
		skip(); /* no CAP_SYS_ADMIN */
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	model_init(&m, a);
	while ((got = uz_arena_get(a, 4)) >= 0)
		model_took(&m, (struct unit){4, (uint32_t)got});
	g.arena = a;
	/* A busy machine may take its time; not every time. */
	for (unsigned i = 0, ms = UZ_ARENA_WAIT_MS; ms > UZ_ARENA_WAIT_MS / 2; i++) {
		assert_true(i < 10);
		assert_int_equal(pthread_create(&thread, NULL, get_one, &g), 0);
		usleep(UZ_ARENA_WAIT_MS / 10 * 1000);
		model_put(&m, 0);
		pthread_join(thread, NULL);
		assert_int_equal(g.nheld, 1);
		model_took(&m, g.held[--g.nheld]);
		ms = g.failed;
	}
	m.max = stat_of(a).used_max;
	model_done(&m);
}

/* --- the reserve, shared out by demand --- */

static uint64_t wanted_pages(const struct uz_arena *a, unsigned n)
{
	return (uint64_t)a->areas[n - 1].target * n;
}

/* Most of the reserve is of the size that has been asked for lately. */
static void test_demand(void **state)
{
	static const unsigned sizes[] = {1, 8, 3};
	const uint64_t reserve = 4 * MIB;
	struct uz_arena *a;
	struct model m;

	assert_int_equal(uz_arena_new(1024 * MIB, &a), 0);
	assert_int_equal(uz_arena_start(a, reserve, true, NULL, NULL), 0);
	model_init(&m, a);
	for (unsigned n = 1; n <= SIZES; n++)
		assert_in_range(wanted_pages(a, n), reserve / PAGE / SIZES - 2 * SIZES,
				reserve / PAGE / SIZES + 2 * SIZES);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t sum = 0;

		for (uint64_t pages = 0; pages < 3 * reserve / PAGE; pages += sizes[i])
			model_get(&m, sizes[i]);
		while (m.nheld)
			model_put(&m, 0);
		for (unsigned ms = 0; wanted_pages(a, sizes[i]) < reserve / PAGE / 2; ms++) {
			assert_true(ms < 5000);
			usleep(1000);
		}
		for (unsigned n = 1; n <= SIZES; n++) {
			assert_true(a->areas[n - 1].target >= 4);
			sum += wanted_pages(a, n);
		}
		assert_in_range(sum, 0, reserve / PAGE);
		while (model_trim(&m, 64, 0))
			;
		await_settled(a, reserve);
	}
	model_done(&m);
}

/* --- rebuilding --- */

static bool is_used(void *context, unsigned npages, uint32_t unit)
{
	struct model *m = context;

	return m->used[npages][unit];
}

/* A process dies; of the units it held only some are named by the slot table. The rest of its
 * memory is the next one's reserve, and what is too much for that goes back to the kernel. */
static void test_restore(void **state)
{
	for (unsigned keep = 0; keep <= 100; keep += 25) {
		struct uz_arena *a = started_arena(), *b;
		uint32_t end[SIZES] = {0};
		_Atomic unsigned told = 0;
		struct model m, n;
		uint64_t memory;

		model_init(&m, a);
		while (m.nheld < HELD_MAX)
			model_get(&m, 1 + below(SIZES));
		assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
		uz_arena_stop(a);
		memory = file_memory(a);

		model_init(&n, b);
		for (unsigned i = 0; i < m.nheld; i++) {
			struct unit u = m.held[i];

			if (below(100) >= keep)
				continue;
			n.used[u.npages][u.number] = true;
			n.held[n.nheld++] = u;
			n.pages += u.npages;
			if (u.number >= end[u.npages - 1])
				end[u.npages - 1] = u.number + 1;
		}
		n.max = n.pages;
		uz_arena_survey(b);
		assert_int_equal(uz_arena_restore(b, end, is_used, &n), 0);
		model_check(&n);
		assert_int_equal(file_memory(b), memory);
		assert_int_equal(stat_of(b).table_bytes + (n.pages + stat_of(b).ready_pages) * PAGE,
				 memory);

		/* model_get() sees to it that none is handed out twice. */
		assert_int_equal(uz_arena_start(b, RESERVE, true, count_surplus, &told), 0);
		assert_int_equal(told != 0, keep < 100);
		while (n.nheld < HELD_MAX)
			model_get(&n, 1 + below(SIZES));
		while (n.nheld)
			model_put(&n, below(n.nheld));
		model_check(&n);
		model_done(&m);
		model_done(&n);
	}
}

static void set_page(struct uz_arena *a, unsigned npages, uint32_t unit, unsigned page, bool there)
{
	off_t off = (off_t)(a->sb->data_off + uz_arena_unit_off(a, npages, unit) + page * PAGE);
	int mode = there ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (there)
		assert_int_equal(pwrite(uz_arena_fd(a), "x", 1, off), 1);
	else
		assert_int_equal(fallocate(uz_arena_fd(a), mode, off, PAGE), 0);
}

static bool none_used(void *context, unsigned npages, uint32_t unit)
{
	return false;
}

static bool one_used(void *context, unsigned npages, uint32_t unit)
{
	return npages == 3 && unit == 12;
}

/* Units that were being populated or punched when the process died have memory in a part, which is
 * given back. What is used is left alone, whatever the survey finds there. */
static void test_survey_parts(void **state)
{
	static const uint32_t end[SIZES] = {[2] = 13};
	struct uz_arena *a = new_arena();
	uint64_t table = stat_of(a).table_bytes;
	uint32_t last = uz_arena_nunits(a, 8) - 1;

	for (unsigned page = 0; page < 3; page++) {
		set_page(a, 3, 4, page, true);
		set_page(a, 3, 5, page, true);
		set_page(a, 3, 9, page, true);
	}
	set_page(a, 3, 3, 2, true);  /* the end of a unit, before whole ones */
	set_page(a, 3, 6, 0, true);  /* the beginning, after them */
	set_page(a, 3, 12, 1, true); /* the middle, of the one that is used */
	set_page(a, 3, 13, 2, true); /* both ends */
	set_page(a, 3, 13, 0, true);
	set_page(a, 8, last, 7, true); /* the very last page */

	uz_arena_survey(a);
	assert_int_equal(file_memory(a), table + 15 * PAGE);
	for (unsigned n = 1; n <= SIZES; n++) {
		uint32_t surveyed = n == 3 ? 14 : n == 8 ? last + 1 : 0;
		uint64_t off = uz_arena_unit_off(a, n, surveyed);

		assert_int_equal(uz_arena_surveyed(a, uz_arena_unit_off(a, n, 0)), surveyed != 0);
		if (surveyed)
			assert_true(uz_arena_surveyed(a, off - 1));
		assert_false(n != 8 && uz_arena_surveyed(a, off));
	}
	assert_false(uz_arena_surveyed(a, uz_arena_data_size(a)));
	assert_false(uz_arena_surveyed(a, UINT64_MAX));
	assert_int_equal(uz_arena_restore(a, end, one_used, NULL), 0);
	assert_int_equal(file_memory(a), table + 10 * PAGE);
	assert_int_equal(stat_of(a).ready_pages, 9);
	assert_int_equal(stat_of(a).used_pages, 3);
	uz_arena_free(a);
}

/* KiB of page tables of this process. */
static unsigned long page_tables(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kib = 0;
	char line[256];

	assert_non_null(f);
	while (!kib && fgets(line, sizeof(line), f))
		sscanf(line, "VmPTE: %lu", &kib);
	fclose(f);
	assert_true(kib > 0);
	return kib;
}

/* Without a sanitizer's shadow memory, which has page tables, too. */
__attribute__((no_sanitize("address,thread"))) static void poke(volatile char *to, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		to[i] = 2;
}

/* In another process's arena, a first touch of what has memory takes none. */
static void test_survey_prepares(void **state)
{
	enum { UNITS = 4096 };
	static const uint32_t end[SIZES];
	struct uz_arena *a = new_arena(), *b;
	unsigned long before;
	uint64_t memory;

	for (unsigned n = 1; n <= SIZES; n += 3) {
		for (uint32_t unit = 0; unit < UNITS; unit += 1 + below(64))
			memset(uz_arena_ptr(a, uz_arena_unit_off(a, n, unit)), 1, n * PAGE);
	}
	memory = file_memory(a);
	assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
	uz_arena_survey(b);
	assert_int_equal(uz_arena_restore(b, end, none_used, NULL), 0);
	assert_int_equal(file_memory(b), memory);
	before = page_tables();
	for (unsigned n = 1; n <= SIZES; n += 3) {
		const struct area *ar = uz_area_of(b, n);

		for (uint32_t unit = uz_bits_next(&ar->ready, 0); unit != UZ_BITS_NONE;
		     unit = uz_bits_next(&ar->ready, unit + 1))
			poke(uz_arena_ptr(b, uz_arena_unit_off(b, n, unit)), n * PAGE);
	}
	/* The units spread over 384 KiB of them; sanitizers need a few for themselves. */
	assert_in_range(page_tables(), before, before + 16);
	assert_int_equal(file_memory(b), memory);
	uz_arena_free(a);
	uz_arena_free(b);
}

/* Private memory of units: zeroed, populated with them, the second call's in place of the first's.
 */
static void test_unit_meta(void **state)
{
	struct uz_arena *a = new_arena();
	uint32_t nunits = uz_arena_nunits(a, 3);
	uint64_t before = stat_of(a).meta_bytes;
	unsigned char *meta = uz_arena_unit_meta(a, 3, 24);

	assert_non_null(meta);
	memset(meta, 0xff, (size_t)nunits * 24);
	meta = uz_arena_unit_meta(a, 3, 48);
	assert_non_null(meta);
	for (size_t i = 0; i < (size_t)nunits * 48; i += 48)
		assert_int_equal(meta[i] | meta[i + 47], 0);
	assert_int_equal(uz_arena_start(a, RESERVE, true, NULL, NULL), 0);
	assert_true(stat_of(a).meta_bytes > before);
	stop_and_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_refuses),
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_attach),
		cmocka_unit_test(test_attach_damaged),
		cmocka_unit_test(test_attach_geometry),
		cmocka_unit_test(test_attach_file_size),
		cmocka_unit_test(test_attach_other_files),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_trim_extents),
		cmocka_unit_test(test_surplus_is_told),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_is_exact),
		cmocka_unit_test(test_dry),
		cmocka_unit_test(test_dry_elsewhere),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_put_wakes),
		cmocka_unit_test(test_demand),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_survey_parts),
		cmocka_unit_test(test_survey_prepares),
		cmocka_unit_test(test_unit_meta),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

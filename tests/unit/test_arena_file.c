/* SPDX-License-Identifier: MIT
 *
 * The arena's file and its superblock; addresses in it.
 */
#include "arena_fixture.h"

#include <sys/mman.h>
#include <xxhash.h>

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

static void flip(struct uz_superblock *sb, size_t bit)
{
	((unsigned char *)sb)[bit / 8] ^= (unsigned char)(1u << bit % 8);
}

/* Other sizes have superblocks that are right, too. */
static bool says_size(size_t bit)
{
	const size_t first = offsetof(struct uz_superblock, disksize) * 8;

	return bit >= first && bit < first + 64;
}

/* One bit is wrong: with the sum as it was, which the sum tells; and with the sum that belongs to
 * it, so that only a look at the field itself does. */
static void test_attach_damaged(void **state)
{
	const size_t sum_bit = offsetof(struct uz_superblock, sum) * 8;
	struct uz_arena *a = new_arena(), *b;
	struct uz_superblock good, sb;

	assert_int_equal(pread(uz_arena_fd(a), &good, sizeof(good), 0), sizeof(good));
	for (size_t bit = 0; bit < sizeof(sb) * 8; bit++) {
		sb = good;
		flip(&sb, bit);
		assert_superblock_refused(a, &sb);
		if (bit >= sum_bit || says_size(bit))
			continue;
		sb.sum = XXH3_64bits(&sb, offsetof(struct uz_superblock, sum));
		assert_superblock_refused(a, &sb);
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

/* A process that has the file changes the superblock after another one has checked it: that one
 * goes by what it has checked. */
static void test_superblock_changes_later(void **state)
{
	struct uz_arena *a = new_arena(), *b;
	uint64_t off = uz_arena_unit_off(a, 3, 5), size = uz_arena_data_size(a);
	struct uz_superblock sb;
	unsigned npages;
	uint32_t unit, within;

	assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
	memset(&sb, 0xff, sizeof(sb));
	assert_int_equal(pwrite(uz_arena_fd(a), &sb, sizeof(sb), 0), sizeof(sb));
	assert_int_equal(uz_arena_disksize(b), DISKSIZE);
	assert_int_equal(uz_arena_nslots(b), DISKSIZE / PAGE);
	assert_int_equal(uz_arena_data_size(b), size);
	assert_int_equal(uz_arena_unit_off(b, 3, 5), off);
	assert_true(uz_arena_locate(b, off, &npages, &unit, &within));
	assert_int_equal(npages, 3);
	assert_int_equal(unit, 5);
	assert_int_equal(stat_of(b).table_bytes, stat_of(a).table_bytes);
	assert_true(stat_of(b).table_bytes < size);
	uz_arena_free(a);
	uz_arena_free(b);
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

/* --- the bound --- */

/* Populate the data from off on until the kernel refuses. Returns the bytes that the file has. */
static uint64_t populate_all(struct uz_arena *a)
{
	uint64_t off = uz_arena_unit_off(a, 1, 0);
	char *data = uz_arena_ptr(a, off);

	while (off < uz_arena_data_size(a) && !madvise(data + off, 64 * PAGE, MADV_POPULATE_WRITE))
		off += 64 * PAGE;
	return file_memory(a);
}

static void test_bound(void **state)
{
	struct uz_arena *a = new_arena(), *b;
	uint64_t table = file_memory(a), most = table + 4 * MIB, there;
	int root = uz_arena_root(a);

	if (root < 0) {
		print_message("can't mount a tmpfs here\n");
		uz_arena_free(a);
		skip();
	}
	assert_int_equal(uz_arena_attach(uz_arena_fd(a), &b), 0);
	assert_int_equal(uz_arena_root(b), -1);
	assert_int_equal(uz_arena_bound(root, most), 0);
	there = populate_all(b); /* by whichever process */
	assert_in_range(there, most - MIB, most);
	assert_int_equal(uz_arena_bound(root, most + 2 * MIB), 0);
	assert_in_range(populate_all(b), most + MIB, most + 2 * MIB);
	/* What is there stays, and next to nothing is added. */
	assert_int_equal(uz_arena_bound(root, MIB), 0);
	assert_in_range(populate_all(b), most + MIB, most + 3 * MIB);
	assert_int_equal(uz_arena_bound(root, 0), 0);
	assert_true(populate_all(b) > most + 3 * MIB);
	assert_int_equal(uz_arena_bound(-1, MIB), -EBADF);
	uz_arena_free(a);
	uz_arena_free(b);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_refuses),
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_attach),
		cmocka_unit_test(test_attach_damaged),
		cmocka_unit_test(test_attach_geometry),
		cmocka_unit_test(test_attach_file_size),
		cmocka_unit_test(test_superblock_changes_later),
		cmocka_unit_test(test_attach_other_files),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

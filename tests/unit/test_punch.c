/* SPDX-License-Identifier: MIT
 *
 * The arena's surplus goes back to the kernel by way of the drain thread.
 */
#include "defer_fixture.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "arena/internal.h"
#include "arena/punch.h"
#include "waiting.h"

#define DISKSIZE (UINT64_C(128) << 20)
#define RESERVE	 (UINT64_C(2) << 20)
#define UNITS	 20000

#define EXTENT_MAX 1024 /* units a piece, at most; see arena/trim.c */

struct trimmer {
	struct uz_arena *arena;
	struct uz_punch punch;
	struct uz_defer *d;
	struct uz_defer_producer *p;
	uint32_t units[UNITS]; /* of one page */
};

static void kick(void *context)
{
	struct trimmer *t = context;

	uz_punch_request(&t->punch);
	uz_defer_kick(t->d);
}

static void trimmer_init(struct trimmer *t, struct uz_arena *a)
{
	struct uz_defer_config config = {.size = sizeof(config),
					 .ops = &ops,
					 .context = &books,
					 .spares = 4,
					 .max_age_ms = 5};

	open_books(PER_PAGE, false);
	t->arena = a;
	assert_int_equal(uz_defer_prepare(&config, &t->d), 0);
	assert_int_equal(uz_punch_init(&t->punch, a, uz_defer_event_fd(t->d)), 0);
	assert_int_equal(uz_defer_start(t->d, uz_punch_work, &t->punch), 0);
	assert_int_equal(uz_arena_start(a, RESERVE, true, kick, t), 0);
	t->p = new_producer(t->d);
	assert_true(uz_defer_push(t->p, 0)); /* whose drain tells the thread's number */
	uz_defer_flush(t->d);
	for (unsigned i = 0; i < UNITS;) {
		int64_t unit = get_waiting(a, 1);

		assert_true(unit >= 0 || unit == -ENOMEM); /* the refill thread has not run */
		if (unit >= 0)
			t->units[i++] = (uint32_t)unit;
	}
}

static void trimmer_done(struct trimmer *t)
{
	uz_defer_producer_free(t->p);
	uz_defer_free(t->d);
	uz_punch_done(&t->punch);
	uz_arena_stop(t->arena);
	uz_arena_free(t->arena);
}

static struct uz_arena_stat arena_stat(struct trimmer *t)
{
	struct uz_arena_stat st;

	uz_arena_stat(t->arena, &st);
	return st;
}

static uint64_t file_memory(struct trimmer *t)
{
	struct stat st;

	assert_int_equal(fstat(uz_arena_fd(t->arena), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Within two seconds all but the reserve is back with the kernel. */
static void await_trimmed(struct trimmer *t)
{
	uint64_t end = uz_now_ns() + 2 * UZ_NSEC_PER_SEC, memory, surplus;
	struct uz_arena_stat st;

	do {
		usleep(1000);
		memory = file_memory(t);
		st = arena_stat(t);
		surplus = memory - st.table_bytes - st.used_pages * PAGE;
	} while (surplus > 2 * RESERVE && uz_now_ns() < end);
	if (surplus > 2 * RESERVE)
		fail_msg("%" PRIu64 " KiB are still there", surplus >> 10);
}

/* The punches so far: nothing else goes through the ring. */
static unsigned punches(struct trimmer *t)
{
	await_sleep(t->d);
	return t->punch.ring.sq.sqe_tail;
}

/* Of all UNITS: full ones, and a rest of each size, since the reserve moves from size to size. */
static void expect_few_pieces(unsigned count)
{
	print_message("%u pieces\n", count);
	assert_in_range(count, UNITS / EXTENT_MAX, UNITS / EXTENT_MAX + 1 + UZ_UNIT_PAGES_MAX);
}

static void put_every(struct trimmer *t, unsigned from, unsigned step)
{
	for (unsigned i = from; i < UNITS; i += step)
		uz_arena_put(t->arena, 1, &t->units[i], 1);
}

static void test_trim(void **state)
{
	struct trimmer t;
	struct uz_arena *a;
	unsigned before;

	assert_int_equal(uz_arena_new(DISKSIZE, &a), 0);
	trimmer_init(&t, a);
	/* Every second one while the thread looks on; then those between, all before it can look:
	 * these leave in large pieces, together with the others, which have no memory any more. */
	put_every(&t, 0, 2);
	await_trimmed(&t);
	before = punches(&t);
	block_drain(t.p, 1);
	put_every(&t, 1, 2);
	open_gate();
	await_trimmed(&t);
	expect_few_pieces(punches(&t) - before);
	assert_int_equal(arena_stat(&t).used_pages, 0);
	trimmer_done(&t);
}

/* All at once: it leaves in as few pieces as can be. */
static void test_trim_in_a_row(void **state)
{
	struct trimmer t;
	struct uz_arena *a;
	unsigned before;

	assert_int_equal(uz_arena_new(DISKSIZE, &a), 0);
	trimmer_init(&t, a);
	before = punches(&t);
	block_drain(t.p, 1);
	put_every(&t, 0, 1);
	open_gate();
	await_trimmed(&t);
	expect_few_pieces(punches(&t) - before);
	trimmer_done(&t);
}

static uint32_t members(const struct uz_bits *bits)
{
	uint32_t n = 0, at = uz_bits_next(bits, 0);

	for (; at != UZ_BITS_NONE; at = uz_bits_next(bits, at + 1))
		n++;
	return n;
}

/* Stopped in the midst of it: no unit stays in transit. */
static void test_trim_and_stop(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		struct trimmer t;
		struct uz_arena *a;
		const struct area *ar;
		struct uz_arena_stat st;

		assert_int_equal(uz_arena_new(DISKSIZE, &a), 0);
		trimmer_init(&t, a);
		put_every(&t, 0, 2);
		uz_defer_producer_free(t.p);
		uz_defer_free(t.d);
		uz_punch_done(&t.punch);
		uz_arena_stop(a);
		st = arena_stat(&t);
		assert_int_equal(file_memory(&t),
				 st.table_bytes + (st.used_pages + st.ready_pages) * PAGE);
		ar = &a->areas[0];
		assert_int_equal(members(&ar->ready), ar->nready);
		assert_int_equal(ar->nready + members(&ar->cold) + UNITS / 2, ar->first_untouched);
		uz_arena_free(a);
	}
}

/* An arena whose memory the kernel will not take back, as soon as the file is sealed. */
static struct uz_arena *sealable_arena(void)
{
	int fd = memfd_create("sealable", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct uz_superblock sb;
	struct uz_arena *a, *b;
	struct stat st;

	assert_int_equal(uz_arena_new(DISKSIZE, &a), 0);
	assert_int_equal(pread(uz_arena_fd(a), &sb, sizeof(sb), 0), sizeof(sb));
	assert_int_equal(fstat(uz_arena_fd(a), &st), 0);
	assert_int_equal(pwrite(fd, &sb, sizeof(sb), 0), sizeof(sb));
	assert_int_equal(ftruncate(fd, st.st_size), 0);
	assert_int_equal(uz_arena_attach(fd, &b), 0);
	close(fd);
	uz_arena_free(a);
	return b;
}

/* What the kernel refuses stays ready, and is not offered to it over and over. */
static void test_trim_refused(void **state)
{
	struct trimmer t;
	struct uz_arena_stat st;
	unsigned long before = 1, after = 0;

	trimmer_init(&t, sealable_arena());
	assert_int_equal(fcntl(uz_arena_fd(t.arena), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	put_every(&t, 0, 2);
	/* The refill thread, where it is late, tells of it once more. */
	for (unsigned tries = 0; after != before; tries++) {
		assert_true(tries < 10);
		await_sleep(t.d);
		before = run_time(books.tid);
		usleep(200 * 1000);
		after = run_time(books.tid);
	}
	st = arena_stat(&t);
	assert_true(st.ready_pages >= UNITS / 2);
	assert_int_equal(file_memory(&t), st.table_bytes + (st.used_pages + st.ready_pages) * PAGE);
	for (unsigned i = 0; i < UNITS; i += 2)
		assert_true(get_waiting(t.arena, 1) >= 0);
	assert_int_equal(arena_stat(&t).used_pages, UNITS);
	trimmer_done(&t);
}

/* --- the ring --- */

static int run_sqe(struct io_uring *ring, uint8_t opcode, uint8_t flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int res;

	assert_non_null(sqe);
	io_uring_prep_rw(opcode, sqe, -1, NULL, 0, 0);
	sqe->flags = flags;
	assert_int_equal(io_uring_submit(ring), 1);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

static void test_ring_is_restricted(void **state)
{
	int fd = -1, event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct io_uring ring;
	uint64_t signals;

	assert_int_equal(uz_punch_ring_init(&ring, event), 0);
	for (unsigned op = 0; op < IORING_OP_LAST; op++) {
		bool allowed = op == IORING_OP_FALLOCATE;

		assert_int_equal(run_sqe(&ring, (uint8_t)op, 0), allowed ? -EBADF : -EACCES);
		assert_int_equal(read(event, &signals, sizeof(signals)), sizeof(signals));
	}
	assert_int_equal(run_sqe(&ring, IORING_OP_FALLOCATE, IOSQE_ASYNC), -EACCES);
	assert_int_equal(io_uring_register_files(&ring, &fd, 1), -EACCES);
	assert_int_equal(io_uring_unregister_eventfd(&ring), -EACCES);
	io_uring_queue_exit(&ring);
	close(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_trim_in_a_row),
		cmocka_unit_test(test_trim_and_stop),
		cmocka_unit_test(test_trim_refused),
		cmocka_unit_test(test_ring_is_restricted),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: MIT
 *
 * When the wake-up latency is held, with a socket for the device: each write to it is a packet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/latency.h"
#include "shared/shared.h"
#include "supervisor/latency_device.h"

#define HOLD	0
#define DROP	2000000000
#define NOTHING (-1)

#define PATIENCE_MS 10000

struct fixture {
	struct latency latency;
	int device, written;
};

static void setup(struct fixture *f, enum latency_hold hold)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	f->device = ends[0];
	f->written = ends[1];
	assert_int_equal(latency_init(&f->latency, f->device, hold), 0);
}

static void teardown(struct fixture *f)
{
	close(f->device);
	close(f->written);
}

/* The next thing written to the device within so long. */
static int32_t next(struct fixture *f, int ms)
{
	struct pollfd p = {f->written, POLLIN, 0};
	int32_t value;

	if (poll(&p, 1, ms) != 1)
		return NOTHING;
	assert_int_equal(read(f->written, &value, sizeof(value)), sizeof(value));
	return value;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void one_read(struct latency *l)
{
	latency_end(l, latency_begin(l));
}

/* As many as it takes: this thread may be held up between two of them, the other between the drop
 * that was read here and the moment from which it takes a hold again. */
static void read_until_held(struct fixture *f)
{
	uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000);
	int32_t value = NOTHING;

	while (value == NOTHING && now_ns() < until) {
		one_read(&f->latency);
		value = next(f, 0);
	}
	assert_int_equal(value, HOLD);
}

static void back_to_back(void **state)
{
	struct fixture f;

	setup(&f, LATENCY_HOLD_AUTO);
	latency_start(&f.latency);
	assert_int_equal(next(&f, 0), DROP); /* of an earlier server's */
	for (uint64_t i = 1; i <= 5; i++) {
		read_until_held(&f);
		assert_int_equal(next(&f, PATIENCE_MS), DROP);
		assert_int_equal(f.latency.holds, i);
	}
	assert_int_equal(next(&f, 20), NOTHING); /* and that is all, while nothing is read */
	assert_true(f.latency.held_ns > 0);
	latency_stop(&f.latency);
	assert_int_equal(next(&f, 0), DROP);
	teardown(&f);
}

/* One by one they don't count, however long that goes on; nor do they keep a hold. */
static void far_apart(void **state)
{
	struct fixture f;
	int32_t value = NOTHING;

	setup(&f, LATENCY_HOLD_AUTO);
	latency_start(&f.latency);
	assert_int_equal(next(&f, 0), DROP);
	for (int i = 0; i < 100; i++) {
		one_read(&f.latency);
		pause_ms(1);
	}
	assert_int_equal(next(&f, 0), NOTHING);

	read_until_held(&f);
	for (int i = 0; value == NOTHING && i < PATIENCE_MS; i++) {
		pause_ms(1);
		one_read(&f.latency);
		value = next(&f, 0);
	}
	assert_int_equal(value, DROP);
	latency_stop(&f.latency);
	teardown(&f);
}

/* As many together as there may be: only the first of them counts. */
static void side_by_side(void **state)
{
	struct fixture f;

	setup(&f, LATENCY_HOLD_AUTO);
	latency_start(&f.latency);
	assert_int_equal(next(&f, 0), DROP);
	for (int i = 0; i < 20; i++) {
		bool alone[16];

		for (int n = 0; n < 16; n++)
			alone[n] = latency_begin(&f.latency);
		assert_true(alone[0]);
		for (int n = 0; n < 16; n++)
			latency_end(&f.latency, alone[n]);
		pause_ms(1);
	}
	assert_int_equal(next(&f, 0), NOTHING);
	latency_stop(&f.latency);
	teardown(&f);
}

static void stop_while_held(void **state)
{
	struct fixture f;
	int32_t value = HOLD, last;

	setup(&f, LATENCY_HOLD_AUTO);
	latency_start(&f.latency);
	assert_int_equal(next(&f, 0), DROP);
	read_until_held(&f);
	latency_stop(&f.latency);
	do {
		last = value;
		value = next(&f, 0);
	} while (value != NOTHING);
	assert_int_equal(last, DROP);
	teardown(&f);
}

static void always(void **state)
{
	struct fixture f;

	setup(&f, LATENCY_HOLD_ALWAYS);
	assert_int_equal(next(&f, 0), NOTHING); /* another server serves */
	latency_start(&f.latency);
	assert_int_equal(next(&f, 0), HOLD);
	for (int i = 0; i < 100; i++)
		one_read(&f.latency);
	assert_int_equal(next(&f, 20), NOTHING);
	latency_stop(&f.latency);
	assert_int_equal(next(&f, 0), DROP);
	teardown(&f);
}

/* "never", and a system without the device. */
static void nothing_to_hold(void **state)
{
	static const enum latency_hold all[] = {LATENCY_HOLD_AUTO, LATENCY_HOLD_NEVER,
						LATENCY_HOLD_ALWAYS};

	assert_int_equal(latency_open(LATENCY_HOLD_NEVER), -1);
	latency_drop(-1);
	for (int i = 0; i < 3; i++) {
		struct latency l;

		assert_int_equal(latency_init(&l, -1, all[i]), 0);
		latency_start(&l);
		for (int n = 0; n < 100; n++)
			one_read(&l);
		latency_stop(&l);
		assert_int_equal(l.holds, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(back_to_back), cmocka_unit_test(far_apart),
		cmocka_unit_test(side_by_side), cmocka_unit_test(stop_while_held),
		cmocka_unit_test(always),	cmocka_unit_test(nothing_to_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

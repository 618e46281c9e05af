/* SPDX-License-Identifier: MIT
 *
 * The table of a device's life: no phase without a way on, no wait that nothing ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "supervisor/life.h"

static const enum phase stable[] = {
	PHASE_STARTING, PHASE_SERVING, PHASE_ASLEEP, PHASE_STOPPING, PHASE_ENDING, PHASE_ENDED,
};

/* Phases in which a child makes a step: exactly one of these two events follows. */
static bool has_child(enum phase phase)
{
	return life_step(phase, EVENT_DONE).action != ACTION_NONE;
}

/* Mark all that can be reached from phase, which came from the stable phase back. */
static void reach(enum phase phase, enum phase back, bool reached[PHASE_COUNT][PHASE_COUNT])
{
	if (life_is_stable(phase))
		back = phase;
	if (reached[phase][back])
		return;
	reached[phase][back] = true;
	for (enum event e = EVENT_NONE + 1; e < EVENT_COUNT; e++) {
		struct life_step step = life_step(phase, e);

		if (step.action != ACTION_NONE)
			reach(step.next == PHASE_BACK ? back : step.next, back, reached);
	}
}

static bool is_reached(bool reached[PHASE_COUNT][PHASE_COUNT], enum phase phase)
{
	for (enum phase back = 0; back < PHASE_COUNT; back++) {
		if (reached[phase][back])
			return true;
	}
	return false;
}

static void test_all_are_reached(void **state)
{
	bool reached[PHASE_COUNT][PHASE_COUNT] = {0};

	/* A new device; one whose supervisor was exec'd anew, or has died. */
	reach(PHASE_STARTING, PHASE_STARTING, reached);
	reach(PHASE_RENEWING, PHASE_SERVING, reached);
	reach(PHASE_ADOPTING, PHASE_SERVING, reached);
	for (enum phase p = 0; p < PHASE_COUNT; p++) {
		if (!is_reached(reached, p))
			fail_msg("no way leads to %s", phase_name(p));
	}
}

static void test_all_come_to_an_end(void **state)
{
	for (enum phase p = 0; p < PHASE_COUNT; p++) {
		bool reached[PHASE_COUNT][PHASE_COUNT] = {0};

		reach(p, PHASE_SERVING, reached);
		if (!is_reached(reached, PHASE_ENDED))
			fail_msg("no way leads from %s to the end", phase_name(p));
	}
}

static void test_children_are_waited_for(void **state)
{
	for (enum phase p = 0; p < PHASE_COUNT; p++) {
		bool failed = life_step(p, EVENT_FAILED).action != ACTION_NONE;

		if (has_child(p) != failed)
			fail_msg("%s knows one outcome of its child only", phase_name(p));
		if (!has_child(p))
			continue;
		/* Nothing but its end, or the machine's, leads to another child's beginning. */
		for (enum event e = EVENT_NONE + 1; e < EVENT_COUNT; e++) {
			struct life_step step = life_step(p, e);

			if (step.action != ACTION_NONE && e != EVENT_DONE && e != EVENT_FAILED &&
			    e != EVENT_SHUTDOWN && step.next != p)
				fail_msg("%s does not wait for its child", phase_name(p));
		}
	}
}

/* A failure changes nothing: but for the start's, it leads back to where the device came from. */
static void test_failures_lead_back(void **state)
{
	for (enum phase p = 0; p < PHASE_COUNT; p++) {
		if (has_child(p) && p != PHASE_ATTACHING && p != PHASE_UNDOING)
			assert_int_equal(life_step(p, EVENT_FAILED).next, PHASE_BACK);
	}
	assert_int_equal(life_step(PHASE_UPGRADING, EVENT_NO_STAND_BY).next, PHASE_BACK);
	assert_int_equal(life_step(PHASE_RENEWING, EVENT_NO_STAND_BY).next, PHASE_BACK);
}

static void test_stops_are_heard(void **state)
{
	static const enum phase at_rest[] = {PHASE_SERVING, PHASE_ASLEEP, PHASE_STOPPING};

	for (size_t i = 0; i < sizeof(at_rest) / sizeof(at_rest[0]); i++) {
		assert_int_equal(life_step(at_rest[i], EVENT_STOP).next, PHASE_DETACHING);
		assert_int_equal(life_step(at_rest[i], EVENT_STOP_FORCED).next, PHASE_DETACHING);
		assert_int_equal(life_step(at_rest[i], EVENT_LOST).next, PHASE_UNDOING);
	}
	assert_int_equal(life_step(PHASE_STOPPING, EVENT_DUE).next, PHASE_DETACHING);
	assert_int_equal(life_step(PHASE_DETACHING, EVENT_CANCEL).action, ACTION_CANCEL_STOP);
}

static void test_stable(void **state)
{
	unsigned n = 0;

	for (enum phase p = 0; p < PHASE_COUNT; p++)
		n += life_is_stable(p);
	assert_int_equal(n, sizeof(stable) / sizeof(stable[0]));
	for (size_t i = 0; i < n; i++)
		assert_true(life_is_stable(stable[i]));
}

static void test_names(void **state)
{
	for (enum phase p = 0; p < PHASE_COUNT; p++) {
		assert_non_null(phase_name(p));
		for (enum phase q = 0; q < p; q++)
			assert_string_not_equal(phase_name(p), phase_name(q));
	}
	assert_string_equal(phase_name(PHASE_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_are_reached),
		cmocka_unit_test(test_all_come_to_an_end),
		cmocka_unit_test(test_children_are_waited_for),
		cmocka_unit_test(test_failures_lead_back),
		cmocka_unit_test(test_stops_are_heard),
		cmocka_unit_test(test_stable),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

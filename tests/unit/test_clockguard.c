/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When the clock is not believed. */
#include "unit.h"

#include "base/cleanup.h"
#include "ctl/clockguard.h"

#define NOW INT64_C(1795341600)
#define BOOT INT64_C(5000)
#define DAY INT64_C(86400)

static void test_mount(void **state)
{
	static const struct {
		const char *what;
		int64_t newest_s;
		enum clock_event event;
		int64_t held_s;
	} rows[] = {
		{"used a moment ago", NOW, CLOCK_SAME, 0},
		{"used yesterday", NOW - DAY, CLOCK_SAME, 0},
		{"used the day before", NOW - DAY - 1, CLOCK_FAR, CLOCK_HOLD_S},
		{"no sign of life", 0, CLOCK_FAR, CLOCK_HOLD_S},
		{"a clock that is behind", NOW + 10 * DAY, CLOCK_SAME, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct clockguard g;

		ROW_EQUAL(rows[i].what,
			  clockguard_init(&g, NOW, BOOT, rows[i].newest_s),
			  rows[i].event);
		ROW_EQUAL(rows[i].what, clockguard_held(&g, BOOT), rows[i].held_s);
		ROW_EQUAL(rows[i].what, clockguard_held(&g, BOOT + CLOCK_HOLD_S), 0);
	}
}

static void test_steps(void **state)
{
	static const struct {
		const char *what;
		int64_t real_s, boot_s; /* that passed since the last look */
		enum clock_event event;
		int64_t step_s, held_s;
	} rows[] = {
		{"time passes", 10, 10, CLOCK_SAME, 0, 0},
		{"the machine sleeps for a week", 7 * DAY, 7 * DAY, CLOCK_SAME, 0, 0},
		{"dragged along", 70, 10, CLOCK_SAME, 0, 0},
		{"dragged along again", 70, 10, CLOCK_SAME, 0, 0},
		{"set ahead", 10 + 61, 10, CLOCK_FORWARD, 61, CLOCK_HOLD_S},
		{"time passes", 10, 10, CLOCK_SAME, 0, CLOCK_HOLD_S - 10},
		{"set far ahead", 10 * 365 * DAY, 0, CLOCK_FORWARD, 10 * 365 * DAY,
		 CLOCK_HOLD_S},
		{"set back", -10 * 365 * DAY, 0, CLOCK_BACK, -10 * 365 * DAY,
		 CLOCK_HOLD_S},
		{"time passes", CLOCK_HOLD_S, CLOCK_HOLD_S, CLOCK_SAME, 0, 0},
		{"set back a bit", -50, 10, CLOCK_SAME, 0, 0},
	};
	int64_t real_s = NOW, boot_s = BOOT;
	struct clockguard g;

	(void)state;
	assert_int_equal(clockguard_init(&g, real_s, boot_s, real_s), CLOCK_SAME);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int64_t step = 0;

		real_s += rows[i].real_s;
		boot_s += rows[i].boot_s;
		ROW_EQUAL(rows[i].what, clockguard_look(&g, real_s, boot_s, &step),
			  rows[i].event);
		ROW_EQUAL(rows[i].what, step, rows[i].step_s);
		ROW_EQUAL(rows[i].what, clockguard_held(&g, boot_s), rows[i].held_s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

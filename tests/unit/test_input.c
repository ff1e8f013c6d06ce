/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words that people write into `expires` and `protected`. */
#include "unit.h"

#include "ctl/input.h"

#define NOW 1795341600 /* 2026-11-22T10:00:00Z */

static void test_expires(void **state)
{
	static const struct {
		const char *word;
		int rc;
		time_t expires;
	} rows[] = {
		{"never", 0, 0},
		{"2h", 0, NOW + 7200},
		{"90m", 0, NOW + 5400},
		{"7d", 0, NOW + 7 * 86400},
		{"30", 0, NOW + 30},
		{"1s", 0, NOW + 1},
		{"2026-11-22T10:00:01Z", 0, NOW + 1},
		{"2026-11-22T12:00:00.75+01:30", 0, NOW + 1800},
		{"2026-11-22T08:00:01-02:00", 0, NOW + 1},
		{"9999-12-31T23:59:59Z", 0, EXPIRES_MAX},
		/* not in the future */
		{"0", -EINVAL, 0},
		{"0d", -EINVAL, 0},
		{"2026-11-22T10:00:00Z", -EINVAL, 0},
		{"2026-11-22T10:00:00.9Z", -EINVAL, 0},
		{"2026-11-22T11:59:59+02:00", -EINVAL, 0},
		{"1970-01-01T00:00:00Z", -EINVAL, 0},
		/* too far away */
		{"9999-12-31T23:59:59-00:01", -EINVAL, 0},
		{"92000000d", -EINVAL, 0},
		{"18446744073709551615", -EINVAL, 0},
		{"18446744073709551616s", -EINVAL, 0},
		{"999999999999999999999d", -EINVAL, 0},
		/* nothing of the kind */
		{"", -EINVAL, 0},
		{"Never", -EINVAL, 0},
		{"-2h", -EINVAL, 0},
		{"+2h", -EINVAL, 0},
		{"2 h", -EINVAL, 0},
		{"2w", -EINVAL, 0},
		{"1h30m", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"tomorrow", -EINVAL, 0},
		{"2026-11-22", -EINVAL, 0},
		{"2026-11-22T10:00Z", -EINVAL, 0},
		{"2026-02-30T10:00:00Z", -EINVAL, 0},
		{"2027-11-22T10:00:00", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(err_fini) struct err e = ERR_INIT;
		time_t expires = 42;

		ROW_EQUAL(rows[i].word,
			  input_parse_expires(rows[i].word, NOW, &expires, &e),
			  rows[i].rc);
		if (rows[i].rc == 0) {
			ROW_EQUAL(rows[i].word, expires, rows[i].expires);
			continue;
		}
		ROW_EQUAL(rows[i].word, expires, 42);
		ROW_EQUAL(rows[i].word, e.code, rows[i].rc);
		assert_non_null(e.msg);
		assert_non_null(e.hint);
	}
}

static void test_expires_sentences(void **state)
{
	static const struct {
		const char *word, *sentence;
	} rows[] = {
		{"soon", "'soon' is no time to expire at"},
		{"99999999d", "'99999999d' is too far away"},
		{"2001-01-01T00:00:00Z", "'2001-01-01T00:00:00Z' is not in the future"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(err_fini) struct err e = ERR_INIT;
		time_t expires;

		ROW_EQUAL(rows[i].word,
			  input_parse_expires(rows[i].word, NOW, &expires, &e),
			  -EINVAL);
		ROW_STRING(rows[i].word, err_text(&e), rows[i].sentence);
	}
}

/* A clock behind year 9999 leaves nothing to write but never. */
static void test_late_clock(void **state)
{
	time_t expires;

	(void)state;
	assert_int_equal(input_parse_expires("1s", EXPIRES_MAX, &expires, NULL),
			 -EINVAL);
	assert_int_equal(input_parse_expires("1s", EXPIRES_MAX + 10, &expires, NULL),
			 -EINVAL);
	assert_int_equal(input_parse_expires("never", EXPIRES_MAX, &expires, NULL), 0);
}

static void test_protected(void **state)
{
	static const struct {
		const char *word;
		int rc;
		bool on;
	} rows[] = {
		{"1", 0, true},          {"0", 0, false},      {"2", -EINVAL, false},
		{"yes", -EINVAL, false}, {"", -EINVAL, false}, {"01", -EINVAL, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool on = false;

		ROW_EQUAL(rows[i].word, input_parse_protected(rows[i].word, &on, NULL),
			  rows[i].rc);
		ROW_EQUAL(rows[i].word, on, rows[i].on);
	}
}

static void test_upkeep(void **state)
{
	static const struct {
		const char *text;
		int rc;
		struct input_upkeep ask;
	} rows[] = {
		{"gc", 0, {false, false, 0}},
		{"gc apply", 0, {false, true, 0}},
		{"gc unused=7", 0, {false, false, 7}},
		{"gc unused=36500 apply", 0, {false, true, 36500}},
		{"gc apply unused=1", 0, {false, true, 1}},
		{"doctor", 0, {true, false, 0}},
		{"doctor apply", 0, {true, true, 0}},
		{"", -EINVAL, {false, false, 0}},
		{"g", -EINVAL, {false, false, 0}},
		{"gcc", -EINVAL, {false, false, 0}},
		{"apply", -EINVAL, {false, false, 0}},
		{"apply gc", -EINVAL, {false, false, 0}},
		{"gc  apply", -EINVAL, {false, false, 0}},
		{"gc apply apply", -EINVAL, {false, false, 0}},
		{"gc appl", -EINVAL, {false, false, 0}},
		{"gc apply,", -EINVAL, {false, false, 0}},
		{"gc unused", -EINVAL, {false, false, 0}},
		{"gc unused=", -EINVAL, {false, false, 0}},
		{"gc unused=0", -EINVAL, {false, false, 0}},
		{"gc unused=-1", -EINVAL, {false, false, 0}},
		{"gc unused=7d", -EINVAL, {false, false, 0}},
		{"gc unused=36501", -EINVAL, {false, false, 0}},
		{"gc unused=99999999999999999999", -EINVAL, {false, false, 0}},
		{"gc unused=1 unused=2", -EINVAL, {false, false, 0}},
		{"doctor unused=7", -EINVAL, {false, false, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct input_upkeep ask = {.unused_days = 77};

		ROW_EQUAL(rows[i].text, input_parse_upkeep(rows[i].text, &ask, NULL),
			  rows[i].rc);
		if (rows[i].rc < 0) {
			ROW_EQUAL(rows[i].text, ask.unused_days, 77);
			continue;
		}
		ROW_EQUAL(rows[i].text, ask.doctor, rows[i].ask.doctor);
		ROW_EQUAL(rows[i].text, ask.apply, rows[i].ask.apply);
		ROW_EQUAL(rows[i].text, ask.unused_days, rows[i].ask.unused_days);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expires),
		cmocka_unit_test(test_expires_sentences),
		cmocka_unit_test(test_late_clock),
		cmocka_unit_test(test_protected),
		cmocka_unit_test(test_upkeep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

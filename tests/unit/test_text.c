/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/text.h"

static void test_str(void **state)
{
	struct str t = STR_INIT;
	char *s;

	(void)state;
	for (int i = 0; i < 1000; i++)
		str_printf(&t, "%d,", i % 10);
	str_add(&t, "end");
	str_addn(&t, "!??", 1);
	assert_int_equal(t.len, 2004);
	assert_string_equal(t.s + 1998, "9,end!");
	s = str_steal(&t);
	assert_non_null(s);
	assert_null(t.s);
	free(s);
	/* nothing appended is the empty string, not a failure */
	s = str_steal(&t);
	assert_string_equal(s, "");
	free(s);
}

static void test_str_failed(void **state)
{
	struct str t = STR_INIT;

	(void)state;
	str_add(&t, "x");
	str_addn(&t, "x", SIZE_MAX); /* cannot be had; nothing is read */
	assert_true(t.failed);
	str_add(&t, "y");
	assert_string_equal(t.s, "x");
	assert_null(str_steal(&t));
	assert_null(t.s);
}

static void test_json(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"", "\"\""},
		{"plain", "\"plain\""},
		{"q\" b\\ /", "\"q\\\" b\\\\ /\""},
		{"a\nb\tc\rd\x01\x1f\x7f", "\"a\\nb\\tc\\rd\\u0001\\u001f\\u007f\""},
		{"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x98",
		 "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x98\""},
		{"\xff", "\"\xef\xbf\xbd\""},
		{"\xc3", "\"\xef\xbf\xbd\""},                 /* cut */
		{"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\""}, /* cut */
		{"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""}, /* overlong */
		{"\xe0\x80\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
		{"\xed\xa0\x80",
		 "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* surrogate */
		{"\xf0\x80\x80\x80",
		 "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
		{"\xf4\x90\x80\x80",
		 "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(str_fini) struct str t = STR_INIT;

		str_json(&t, rows[i].in);
		ROW_STRING(rows[i].in, t.s, rows[i].out);
	}
}

static void test_uri(void **state)
{
	CLEAN(str_fini) struct str t = STR_INIT;

	(void)state;
	str_uri(&t, "/srv/a b&c=d%?#\xc3\xa4-._~");
	assert_string_equal(t.s, "/srv/a%20b%26c%3Dd%25%3F%23%C3%A4-._~");
}

static void test_parse_u64(void **state)
{
	static const struct {
		const char *in;
		int base;
		uint64_t max;
		int rc;
		uint64_t v;
	} rows[] = {
		{"0", 10, 10, 0, 0},
		{"10", 10, 10, 0, 10},
		{"11", 10, 10, -ERANGE, 0},
		{"007", 10, 10, 0, 7},
		{"18446744073709551615", 10, UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", 10, UINT64_MAX, -ERANGE, 0},
		{"99999999999999999999999", 10, UINT64_MAX, -ERANGE, 0},
		{"ff", 16, UINT64_MAX, 0, 255},
		{"Ff", 16, UINT64_MAX, 0, 255},
		{"755", 8, UINT64_MAX, 0, 0755},
		{"8", 8, UINT64_MAX, -EINVAL, 0},
		{"0x1", 16, UINT64_MAX, -EINVAL, 0},
		{"", 10, 10, -EINVAL, 0},
		{" 1", 10, 10, -EINVAL, 0},
		{"1 ", 10, 10, -EINVAL, 0},
		{"+1", 10, 10, -EINVAL, 0},
		{"-1", 10, 10, -EINVAL, 0},
		{"1a", 10, 10, -EINVAL, 0},
		{"a", 10, 10, -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t v = 4711;

		ROW_EQUAL(rows[i].in,
			  text_parse_u64(rows[i].in, rows[i].base, rows[i].max, &v),
			  rows[i].rc);
		assert_true(v == (rows[i].rc ? 4711 : rows[i].v));
	}
}

static void test_parse_size_and_duration(void **state)
{
	static const struct {
		const char *in;
		int size_rc;
		uint64_t size;
		int duration_rc;
		uint64_t duration;
	} rows[] = {
		{"0", 0, 0, 0, 0},
		{"90", 0, 90, 0, 90},
		{"3K", 0, 3072, -EINVAL, 0},
		{"3k", 0, 3072, -EINVAL, 0},
		{"64M", 0, 67108864, 0, 3840},
		{"1G", 0, 1073741824, -EINVAL, 0},
		{"2T", 0, UINT64_C(2) << 40, -EINVAL, 0},
		{"90s", -EINVAL, 0, 0, 90},
		{"5m", 0, 5242880, 0, 300},
		{"2h", -EINVAL, 0, 0, 7200},
		{"1d", -EINVAL, 0, 0, 86400},
		{"16777215T", 0, UINT64_C(16777215) << 40, -EINVAL, 0},
		{"16777216T", -ERANGE, 0, -EINVAL, 0},
		{"99999999999999999999m", -ERANGE, 0, -ERANGE, 0},
		{"", -EINVAL, 0, -EINVAL, 0},
		{"m", -EINVAL, 0, -EINVAL, 0},
		{"1mb", -EINVAL, 0, -EINVAL, 0},
		{"1 m", -EINVAL, 0, -EINVAL, 0},
		{"-1m", -EINVAL, 0, -EINVAL, 0},
		{"1.5m", -EINVAL, 0, -EINVAL, 0},
		{"1\r", -EINVAL, 0, -EINVAL, 0},
		{"99999999999999999999x", -EINVAL, 0, -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t v = 0;

		ROW_EQUAL(rows[i].in, text_parse_size(rows[i].in, &v), rows[i].size_rc);
		ROW_EQUAL(rows[i].in, v, rows[i].size);
		v = 0;
		ROW_EQUAL(rows[i].in, text_parse_duration(rows[i].in, &v),
			  rows[i].duration_rc);
		ROW_EQUAL(rows[i].in, v, rows[i].duration);
	}
}

static void test_parse_bool(void **state)
{
	static const struct {
		const char *in;
		int rc;
		bool v;
	} rows[] = {
		{"yes", 0, true},         {"no", 0, false},      {"true", 0, true},
		{"false", 0, false},      {"on", 0, true},       {"off", 0, false},
		{"1", 0, true},           {"0", 0, false},       {"YES", 0, true},
		{"", -EINVAL, false},     {"2", -EINVAL, false}, {"y", -EINVAL, false},
		{"yes ", -EINVAL, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool v = false;

		ROW_EQUAL(rows[i].in, text_parse_bool(rows[i].in, &v), rows[i].rc);
		ROW_EQUAL(rows[i].in, v, rows[i].v);
	}
}

static void test_time(void **state)
{
	static const struct {
		const char *in;
		int rc;
		const char *out;
	} rows[] = {
		{"2026-11-22T10:00:00Z", 0, "2026-11-22T10:00:00Z"},
		{"2026-11-22t10:00:00z", 0, "2026-11-22T10:00:00Z"},
		{"2026-11-22 10:00:00Z", 0, "2026-11-22T10:00:00Z"},
		{"2026-11-22T10:00:00.999Z", 0, "2026-11-22T10:00:00Z"},
		{"2026-11-22T10:00:00+02:30", 0, "2026-11-22T07:30:00Z"},
		{"2026-12-31T23:00:00-02:00", 0, "2027-01-01T01:00:00Z"},
		{"2024-02-29T00:00:00Z", 0, "2024-02-29T00:00:00Z"},
		{"2000-02-29T00:00:00Z", 0, "2000-02-29T00:00:00Z"},
		{"2016-12-31T23:59:60Z", 0, "2017-01-01T00:00:00Z"},
		{"1969-12-31T23:59:59Z", 0, "1969-12-31T23:59:59Z"},
		{"2026-02-29T00:00:00Z", -EINVAL, NULL},
		{"1900-02-29T00:00:00Z", -EINVAL, NULL},
		{"2026-13-01T00:00:00Z", -EINVAL, NULL},
		{"2026-00-01T00:00:00Z", -EINVAL, NULL},
		{"2026-01-32T00:00:00Z", -EINVAL, NULL},
		{"2026-01-01T24:00:00Z", -EINVAL, NULL},
		{"2026-01-01T00:60:00Z", -EINVAL, NULL},
		{"2026-01-01T00:00:61Z", -EINVAL, NULL},
		{"2026-01-01T00:00:00", -EINVAL, NULL},
		{"2026-01-01T00:00:00.Z", -EINVAL, NULL},
		{"2026-01-01T00:00:00Zx", -EINVAL, NULL},
		{"2026-01-01T00:00:00+0200", -EINVAL, NULL},
		{"2026-01-01T00:00:00+02:60", -EINVAL, NULL},
		{"2026-01-01T00:00:00+02:00x", -EINVAL, NULL},
		{"2026-01-01", -EINVAL, NULL},
		{"2026-1-1T00:00:00Z", -EINVAL, NULL},
		{"2026/01/01T00:00:00Z", -EINVAL, NULL},
		{"2026-01-01_00:00:00Z", -EINVAL, NULL},
		{"-026-01-01T00:00:00Z", -EINVAL, NULL},
		{"", -EINVAL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char buf[21];
		time_t t;

		ROW_EQUAL(rows[i].in, text_parse_time(rows[i].in, &t), rows[i].rc);
		if (rows[i].rc)
			continue;
		text_format_time(t, buf);
		ROW_STRING(rows[i].in, buf, rows[i].out);
	}
}

static void test_format_time_edges(void **state)
{
	static const struct {
		time_t t;
		const char *out;
	} rows[] = {
		{0, "1970-01-01T00:00:00Z"},
		{INT64_C(253402300799), "9999-12-31T23:59:59Z"},
		{INT64_C(253402300800), "9999-12-31T23:59:59Z"},
		{INT64_MAX, "9999-12-31T23:59:59Z"},
		{INT64_MIN, "0000-01-01T00:00:00Z"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char buf[21];

		text_format_time(rows[i].t, buf);
		assert_string_equal(buf, rows[i].out);
	}
}

#define TEN "abcdefghij"

static void test_check_name(void **state)
{
	static const struct {
		const char *in;
		int rc;
	} rows[] = {
		{"main", 0},
		{"7", 0},
		{"A-b_c.d9", 0},
		{TEN TEN TEN TEN TEN TEN "abc", 0},
		{TEN TEN TEN TEN TEN TEN "abcd", -ENAMETOOLONG},
		{TEN TEN TEN TEN TEN TEN "abc/", -EINVAL},
		{"", -EINVAL},
		{".", -EINVAL},
		{"..", -EINVAL},
		{".error", -EINVAL},
		{"-x", -EINVAL},
		{"_x", -EINVAL},
		{"a b", -EINVAL},
		{"a/b", -EINVAL},
		{"a@b", -EINVAL},
		{"a:b", -EINVAL},
		{"a\n", -EINVAL},
		{"\xc3\xa4", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ROW_EQUAL(rows[i].in, text_check_name(rows[i].in), rows[i].rc);
}

static void test_next_line(void **state)
{
	char buf[] = "one\n\nthree";
	char *cursor = buf;

	(void)state;
	assert_string_equal(text_next_line(&cursor), "one");
	assert_string_equal(text_next_line(&cursor), "");
	assert_string_equal(text_next_line(&cursor), "three");
	assert_null(text_next_line(&cursor));
	assert_null(text_next_line(&cursor));
	cursor = NULL;
	assert_null(text_next_line(&cursor));
}

static void test_format(void **state)
{
	CLEAN(clean_free) char *s = text_format("%s-%03d", "a", 7);

	(void)state;
	assert_string_equal(s, "a-007");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_str),
		cmocka_unit_test(test_str_failed),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_uri),
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_parse_size_and_duration),
		cmocka_unit_test(test_parse_bool),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_format_time_edges),
		cmocka_unit_test(test_check_name),
		cmocka_unit_test(test_next_line),
		cmocka_unit_test(test_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

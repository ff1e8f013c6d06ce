/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_pgwire.c - the first packets of clients, and the error that answers them.
 */
#include "unit.h"

#include "pg/pgwire.h"

#define V3 "\0\3\0\0"
#define CANCEL "\x04\xd2\x16\x2e"
#define SSL "\x04\xd2\x16\x2f"
#define GSS "\x04\xd2\x16\x30"

struct row {
	const char *row;
	const char *bytes;
	size_t len;
	enum pgwire_first is;
	size_t used;
};

static void test_first_packet(void **state)
{
	static const struct row rows[] = {
		{"nothing", "", 0, PGWIRE_MORE, 0},
		{"three bytes", "\0\0\0", 3, PGWIRE_MORE, 0},
		{"a length alone", "\0\0\0\x08", 4, PGWIRE_MORE, 0},
		{"tls", "\0\0\0\x08" SSL, 8, PGWIRE_ENCRYPT, 8},
		{"gss, more behind it", "\0\0\0\x08" GSS "\0\0", 10, PGWIRE_ENCRYPT, 8},
		{"cancel", "\0\0\0\x10" CANCEL "\0\0\0\1\0\0\0\2", 16, PGWIRE_CANCEL,
		 16},
		{"cancel, its key to come", "\0\0\0\x10" CANCEL "\0\0\0\1", 12,
		 PGWIRE_MORE, 0},
		{"startup", "\0\0\0\x09" V3 "\0", 9, PGWIRE_STARTUP, 9},
		{"startup of a version to come", "\0\0\0\x09\0\3\0\2\0", 9,
		 PGWIRE_STARTUP, 9},
		{"too short to be one", "\0\0\0\x07" V3, 8, PGWIRE_BAD, 0},
		{"of no length", "\0\0\0\0" V3, 8, PGWIRE_BAD, 0},
		{"too long", "\0\0\x27\x11" V3, 8, PGWIRE_BAD, 0},
		{"as long as Postgres takes", "\0\0\x27\x10" V3, 8, PGWIRE_MORE, 0},
		{"the length of a TLS hello", "\x16\x03\x01\x02\0\1\0\1", 8, PGWIRE_BAD,
		 0},
		{"words", "GET / HT", 8, PGWIRE_BAD, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t used = 0;

		ROW_EQUAL(rows[i].row,
			  pgwire_first_packet((const uint8_t *)rows[i].bytes,
					      rows[i].len, &used),
			  rows[i].is);
		ROW_EQUAL(rows[i].row, used, rows[i].used);
	}
}

static void test_is_cancel(void **state)
{
	(void)state;
	assert_true(pgwire_is_cancel((const uint8_t *)"\0\0\0\x10" CANCEL));
	/* later versions have longer keys */
	assert_true(pgwire_is_cancel((const uint8_t *)"\0\0\x01\x0c" CANCEL));
	assert_false(pgwire_is_cancel((const uint8_t *)"\0\0\0\x08" SSL));
	assert_false(pgwire_is_cancel((const uint8_t *)"\0\0\0\x29" V3));
	assert_false(pgwire_is_cancel((const uint8_t *)"GET / HT"));
}

static void test_error(void **state)
{
	static const char with_hint[] = "E\0\0\0\x22"
					"SFATAL\0VFATAL\0C57P03\0Mno\0Hso\0";
	struct str out = STR_INIT;

	(void)state;
	pgwire_error(&out, PGWIRE_CANNOT_CONNECT_NOW, "no", "so");
	assert_int_equal(out.len, 5 + 7 + 7 + 7 + 4 + 4 + 1);
	/* the length counts itself, not the type in front of it */
	assert_int_equal((unsigned char)out.s[4], out.len - 1);
	assert_memory_equal(out.s + 5, with_hint + 5, sizeof(with_hint) - 5);
	str_fini(&out);
	pgwire_error(&out, PGWIRE_CANNOT_CONNECT_NOW, "no", NULL);
	assert_int_equal(out.len, 5 + 7 + 7 + 7 + 4 + 1);
	assert_int_equal(out.s[out.len - 1], 0);
	str_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_packet),
		cmocka_unit_test(test_is_cancel),
		cmocka_unit_test(test_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/text.h"
#include "pg/pgconf.h"
#include "pg/pgwire.h"

#include <errno.h>

/* ---- pg_hba.conf and pg_ident.conf ---- */

static void test_hba(void **state)
{
	CLEAN(clean_free) char *hba = pgconf_hba();

	(void)state;
	assert_non_null(strstr(hba, "local replication all reject\n"));
	assert_non_null(strstr(hba, "local all all peer map=pgbranchfs\n"));
	assert_null(strstr(hba, "trust"));
}

#define IDENT_HEAD "# made by pgbranchfs at each start\n"
#define IDENT_TAIL "pgbranchfs /^(.*)$ \\1\n"

static void test_ident(void **state)
{
	static const struct {
		const char *row;
		const char *admins[4];
		const char *superuser, *expect;
	} rows[] = {
		{"nobody", {NULL}, "postgres", IDENT_HEAD IDENT_TAIL},
		{"two",
		 {"root", "ann", NULL},
		 "postgres",
		 IDENT_HEAD "pgbranchfs \"root\" \"postgres\"\n"
			    "pgbranchfs \"ann\" \"postgres\"\n" IDENT_TAIL},
		{"repeated",
		 {"root", "root", "root", NULL},
		 "admin",
		 IDENT_HEAD "pgbranchfs \"root\" \"admin\"\n" IDENT_TAIL},
		{"quoted",
		 {"DOM\\a b", NULL},
		 "the \"boss\"",
		 IDENT_HEAD
		 "pgbranchfs \"DOM\\a b\" \"the \"\"boss\"\"\"\n" IDENT_TAIL},
		{"regular expression",
		 {"/.*", NULL},
		 "postgres",
		 IDENT_HEAD IDENT_TAIL},
		{"two lines", {"a\nb", NULL}, "postgres", IDENT_HEAD IDENT_TAIL},
		{"bad superuser", {"root", NULL}, "a\nb", IDENT_HEAD IDENT_TAIL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(clean_free)
		char *got = pgconf_ident(rows[i].admins, rows[i].superuser, NULL, 0);

		ROW_STRING(rows[i].row, got, rows[i].expect);
	}
}

/* ---- the filter of postgresql.conf ---- */

struct fake_file {
	const char *path, *text; /* text NULL: reading gives rc */
	int rc;
};

#define FILES_MAX 8

static int fake_read(void *ctx, const char *path, char **ret_text)
{
	for (const struct fake_file *f = ctx; f->path; f++)
		if (!strcmp(f->path, path)) {
			if (!f->text)
				return f->rc;
			*ret_text = strdup(f->text);
			return 0;
		}
	return -ENOENT;
}

static int fake_list(void *ctx, const char *path,
		     void (*add)(void *to, const char *name), void *to)
{
	size_t n = strlen(path);
	int rc = -ENOENT;

	for (const struct fake_file *f = ctx; f->path; f++)
		if (!strncmp(f->path, path, n) && f->path[n] == '/') {
			add(to, f->path + n + 1);
			rc = 0;
		}
	return rc;
}

#define CONF_HEAD "# made by pgbranchfs at each start\n"
#define LEFT_OUT "# left out by pgbranchfs: "

static const struct {
	const char *row;
	struct fake_file files[FILES_MAX];
	int rc;
	const char *text; /* NULL: the own file is used */
	const char *dropped;
} filter_rows[] = {
	{"missing", {{NULL, NULL, 0}}, 0, CONF_HEAD, ""},
	{"plain", {{"postgresql.conf", "a = 1\n", 0}}, 0, NULL, NULL},
	{"commented", {{"postgresql.conf", "#include '/etc/x'\n", 0}}, 0, NULL, NULL},
	{"other name",
	 {{"postgresql.conf", "includes = '/etc/x'\n", 0}},
	 0,
	 NULL,
	 NULL},
	{"symlink", {{"postgresql.conf", NULL, -ELOOP}}, 0, CONF_HEAD, ""},
	{"broken disk", {{"postgresql.conf", NULL, -EIO}}, -EIO, NULL, NULL},
	{"inside",
	 {{"postgresql.conf", "include 'b.conf'\n", 0}, {"b.conf", "b = 1\n", 0}},
	 0,
	 NULL,
	 NULL},
	{"absolute",
	 {{"postgresql.conf", "a = 1\ninclude '/etc/x.conf' # c\nz = 1\n", 0}},
	 0,
	 CONF_HEAD "a = 1\n" LEFT_OUT "include '/etc/x.conf' # c\nz = 1\n",
	 "postgresql.conf: include '/etc/x.conf' # c\n"},
	{"written differently",
	 {{"postgresql.conf", "  INCLUDE_dir='/etc/conf.d'\n", 0}},
	 0,
	 CONF_HEAD LEFT_OUT "INCLUDE_dir='/etc/conf.d'\n",
	 "postgresql.conf: INCLUDE_dir='/etc/conf.d'\n"},
	{"unquoted",
	 {{"postgresql.conf", "include_if_exists /etc/x#y\n", 0}},
	 0,
	 CONF_HEAD LEFT_OUT "include_if_exists /etc/x#y\n",
	 "postgresql.conf: include_if_exists /etc/x#y\n"},
	{"climbing",
	 {{"postgresql.conf", "include 'a/../../x'\n", 0}},
	 0,
	 CONF_HEAD LEFT_OUT "include 'a/../../x'\n",
	 "postgresql.conf: include 'a/../../x'\n"},
	{"nested",
	 {{"postgresql.conf", "include 'd/b.conf'\nz = 1", 0},
	  {"d/b.conf", "b = 1\ninclude '/etc/x'\ninclude 'c.conf'", 0},
	  {"d/c.conf", "c = 1\n", 0}},
	 0,
	 CONF_HEAD "b = 1\n" LEFT_OUT "include '/etc/x'\nc = 1\nz = 1\n",
	 "d/b.conf: include '/etc/x'\n"},
	{"directory in order",
	 {{"postgresql.conf", "include_dir 'd'\ninclude '/x'\n", 0},
	  {"d/20.conf", "b = 2\n", 0},
	  {"d/10.conf", "b = 1\n", 0},
	  {"d/.hidden.conf", "b = 3\n", 0},
	  {"d/30.conf.bak", "b = 4\n", 0}},
	 0,
	 CONF_HEAD "b = 1\nb = 2\n" LEFT_OUT "include '/x'\n",
	 "postgresql.conf: include '/x'\n"},
	{"symlink inside",
	 {{"postgresql.conf", "include 'l.conf'\n", 0}, {"l.conf", NULL, -ELOOP}},
	 0,
	 CONF_HEAD LEFT_OUT "include 'l.conf'\n",
	 "postgresql.conf: include 'l.conf'\n"},
	{"missing include stays",
	 {{"postgresql.conf", "include 'm'\ninclude_if_exists 'n'\ninclude '/x'\n", 0}},
	 0,
	 CONF_HEAD "include '/D/m'\n" LEFT_OUT "include '/x'\n",
	 "postgresql.conf: include '/x'\n"},
	{"quote in name",
	 {{"postgresql.conf", "include 'it''s'\ninclude '/x'\n", 0},
	  {"it's", "q = 1\n", 0}},
	 0,
	 CONF_HEAD "q = 1\n" LEFT_OUT "include '/x'\n",
	 "postgresql.conf: include '/x'\n"},
};

static void test_filter(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(filter_rows); i++) {
		CLEAN(clean_free) char *text = NULL, *dropped = NULL;
		struct pgconf_source src = {fake_read, fake_list,
					    (void *)filter_rows[i].files};
		const char *row = filter_rows[i].row;

		ROW_EQUAL(row, pgconf_filter(&src, "/D", &text, &dropped),
			  filter_rows[i].rc);
		ROW_STRING(row, text ? text : "(own)",
			   filter_rows[i].text ? filter_rows[i].text : "(own)");
		ROW_STRING(row, dropped ? dropped : "(none)",
			   filter_rows[i].dropped ? filter_rows[i].dropped : "(none)");
	}
}

/* A file that includes itself ends, as in Postgres, by its depth. */
static void test_filter_recursion(void **state)
{
	struct fake_file files[] = {
		{"postgresql.conf", "a = 1\ninclude 'postgresql.conf'\n", 0},
		{NULL, NULL, 0},
	};
	struct pgconf_source src = {fake_read, fake_list, files};
	CLEAN(clean_free) char *text = NULL, *dropped = NULL;

	(void)state;
	assert_int_equal(pgconf_filter(&src, "/D", &text, &dropped), 0);
	assert_string_equal(dropped, "postgresql.conf: include 'postgresql.conf'\n");
}

static void test_may_set(void **state)
{
	static const struct {
		const char *text;
		bool may;
	} rows[] = {
		{"", false},
		{"port = 1\n", false},
		{"#external_pid_file = 'x'\n", false},
		{"external_pid_files = 'x'\n", false},
		{"port = 1 # external_pid_file\n", false},
		{"external_pid_file = 'x'", true},
		{"port = 1\r\n \tExternal_Pid_File='x'\n", true},
		{"\n\ninclude_dir 'd'\n", true},
		{"include_if_exists = 'd'\n", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ROW_EQUAL(rows[i].text,
			  pgconf_may_set(rows[i].text, "external_pid_file"),
			  rows[i].may);
}

/* ---- first packets and the error answer ---- */

static void test_first_packet(void **state)
{
	static const struct {
		const char *row;
		uint8_t bytes[16];
		size_t len;
		enum pgwire_first kind;
		size_t used;
	} rows[] = {
		{"nothing", {0}, 0, PGWIRE_MORE, 0},
		{"half a length", {0, 0, 0}, 3, PGWIRE_MORE, 0},
		{"length only", {0, 0, 0, 8}, 4, PGWIRE_MORE, 0},
		{"too short", {0, 0, 0, 7}, 4, PGWIRE_BAD, 0},
		{"too long", {0, 0, 0x27, 0x11}, 4, PGWIRE_BAD, 0},
		{"longest", {0, 0, 0x27, 0x10}, 4, PGWIRE_MORE, 0},
		{"tls hello", {0x16, 3, 1, 2}, 4, PGWIRE_BAD, 0},
		{"ssl", {0, 0, 0, 8, 4, 210, 22, 47}, 8, PGWIRE_ENCRYPT, 8},
		{"gss", {0, 0, 0, 8, 4, 210, 22, 48}, 8, PGWIRE_ENCRYPT, 8},
		{"cancel",
		 {0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2},
		 16,
		 PGWIRE_CANCEL,
		 16},
		{"startup 3.0", {0, 0, 0, 9, 0, 3, 0, 0, 0}, 9, PGWIRE_STARTUP, 9},
		{"startup 3.2", {0, 0, 0, 9, 0, 3, 0, 2, 0}, 9, PGWIRE_STARTUP, 9},
		{"startup and more",
		 {0, 0, 0, 8, 0, 3, 0, 0, 'p'},
		 9,
		 PGWIRE_STARTUP,
		 8},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t used = 0;

		ROW_EQUAL(rows[i].row,
			  pgwire_first_packet(rows[i].bytes, rows[i].len, &used),
			  rows[i].kind);
		ROW_EQUAL(rows[i].row, used, rows[i].used);
	}
}

static void test_error_bytes(void **state)
{
	static const char expect[] = "E\0\0\0\x2d"
				     "SFATAL\0VFATAL\0C57P03\0Mno way\0Htry later\0";
	static const char without[] = "E\0\0\0\x22"
				      "SFATAL\0VFATAL\0C57P03\0Mno way\0";
	struct str out = STR_INIT;

	(void)state;
	pgwire_error(&out, PGWIRE_CANNOT_CONNECT_NOW, "no way", "try later");
	/* the array's own NUL is the one that ends the fields */
	assert_int_equal(out.len, sizeof(expect));
	assert_memory_equal(out.s, expect, sizeof(expect));
	assert_int_equal((unsigned char)out.s[4], out.len - 1);
	str_fini(&out);

	out = (struct str)STR_INIT;
	pgwire_error(&out, PGWIRE_CANNOT_CONNECT_NOW, "no way", NULL);
	assert_int_equal(out.len, sizeof(without));
	assert_memory_equal(out.s, without, sizeof(without));
	str_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hba),
		cmocka_unit_test(test_ident),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_filter_recursion),
		cmocka_unit_test(test_may_set),
		cmocka_unit_test(test_first_packet),
		cmocka_unit_test(test_error_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

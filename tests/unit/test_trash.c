/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Branches in the trash on disk: their names, what they keep, how they come back, and
 * what a crash or damage leaves of them.
 */
#include "storefix.h"

#include "store/trash_name.h"

static void test_names(void **state)
{
	static const struct {
		const char *name;
		time_t t;
		long usec;
		const char *text;
	} rows[] = {
		{"a", 1795341600, -1, "a@2026-11-22T10:00:00Z"},
		{"a", 1795341600, 0, "a@2026-11-22T10:00:00.000000Z"},
		{"x.y-z_1", 1795341661, 999999, "x.y-z_1@2026-11-22T10:01:01.999999Z"},
		{"a23456789012345678901234567890123456789012345678901234567890123", 0,
		 7,
		 "a23456789012345678901234567890123456789012345678901234567890123"
		 "@1970-01-01T00:00:00.000007Z"},
	};
	static const char *const bad[] = {
		"",
		"a",
		"@2026-11-22T10:00:00Z",
		"a@",
		"a@2026-11-22",
		"a@2026-11-22T10:00:00",
		"a@2026-11-22t10:00:00Z",
		"a@2026-11-22T10:00:00z",
		"a@2026-11-22 10:00:00Z",
		"a@2026-02-30T10:00:00Z",
		"a@2026-11-22T10:00:60Z",
		"a@2026-11-22T10:00:00.1Z",
		"a@2026-11-22T10:00:00.12345xZ",
		"a@2026-11-22T10:00:00+00:00",
		"a@2026-11-22T10:00:00Z.ini",
		"a@a@2026-11-22T10:00:00Z",
		"-a@2026-11-22T10:00:00Z",
		"a/b@2026-11-22T10:00:00Z",
		("a234567890123456789012345678901234567890123456789012345678901234"
		 "@2026-11-22T10:00:00Z"),
	};
	char text[TRASH_NAME_MAX], name[NAME_LEN_MAX + 1];
	time_t t;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		trash_name_format(rows[i].name, rows[i].t, rows[i].usec, text);
		ROW_STRING(rows[i].text, text, rows[i].text);
		ROW_EQUAL(text, trash_name_parse(text, name, &t), 0);
		ROW_STRING(text, name, rows[i].name);
		ROW_EQUAL(text, t, rows[i].t);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ROW_EQUAL(bad[i], trash_name_parse(bad[i], name, &t), -EINVAL);
}

/* Discards the branch of this name; what it is called in the trash. */
static void discard(struct fixture *fx, const char *name,
		    char ret_name[static TRASH_NAME_MAX])
{
	struct branch *b = registry_find(fx->reg, name);
	struct err e = ERR_INIT;
	struct branch_info info;

	assert_non_null(b);
	if (registry_trash(fx->reg, b, &e) < 0)
		fail_msg("%s", err_text(&e));
	branch_info(b, &info);
	assert_true(info.discarded);
	assert_string_equal(info.name, name);
	memcpy(ret_name, info.trash_name, TRASH_NAME_MAX);
	branch_put(b);
}

static int restore(struct fixture *fx, const char *trash_name, const char *name,
		   time_t expires)
{
	struct branch *b = registry_find_trashed(fx->reg, trash_name);
	int rc = b ? registry_restore(fx->reg, b, name, expires, NULL) : -ENOENT;

	branch_put(b);
	return rc;
}

static struct branch_info info_of(struct fixture *fx, const char *name)
{
	struct branch *b = registry_find(fx->reg, name);
	struct branch_info info;

	assert_non_null(b);
	branch_info(b, &info);
	branch_put(b);
	return info;
}

static bool is_there(struct fixture *fx, const char *name)
{
	struct branch *b = registry_find(fx->reg, name);

	branch_put(b);
	return b != NULL;
}

static void check_file(struct fixture *fx, const char *name, const char *file,
		       const char *text)
{
	struct branch *b = registry_find(fx->reg, name);

	assert_non_null(b);
	expect(b, file, text);
	branch_put(b);
}

static unsigned count_trash(struct fixture *fx)
{
	struct branch **list;
	unsigned n = 0;

	assert_int_equal(registry_list_trash(fx->reg, &list), 0);
	while (list[n])
		n++;
	branch_list_free(list);
	return n;
}

static void test_there_and_back(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *child, *again;
	uint32_t no = branch_no(a);
	char name[TRASH_NAME_MAX];

	assert_int_equal(write_in(a, "base/1", "changed"), 0);
	child = make(fx, "child", a);
	assert_int_equal(write_in(a, "mine", "not synced"), 0);
	branch_put(child);
	for (int round = 0; round < 2; round++) {
		discard(fx, "a", name);
		assert_false(is_there(fx, "a"));
		assert_null(registry_find_no(fx->reg, no));
		again = registry_find_trashed_no(fx->reg, no);
		assert_ptr_equal(again, a); /* whoever held it has the same one */
		branch_put(again);
		assert_true(info_of(fx, "child").parent_gone);
		/* nobody reclaims what it stands on, nor its number */
		assert_int_equal(registry_flush(fx->reg), 0);
		assert_int_equal(registry_reclaim(fx->reg), 0);
		if (round == 1) {
			branch_put(a);
			reopen(fx);
			assert_int_equal(registry_reclaim(fx->reg), 0);
			assert_true(info_of(fx, "child").parent_gone);
			a = make(fx, "other", fx->main);
			assert_true(branch_no(a) > no);
			branch_put(a);
			a = registry_find_trashed(fx->reg, name);
			assert_int_equal(branch_no(a), no);
		}
		assert_int_equal(restore(fx, name, "a", 0), 0);
		assert_int_equal(restore(fx, name, "b", 0), -ENOENT);
		assert_false(info_of(fx, "a").discarded);
		assert_string_equal(info_of(fx, "a").trash_name, "");
		assert_int_equal(info_of(fx, "a").no, no);
		assert_false(info_of(fx, "child").parent_gone);
		check_file(fx, "a", "base/1", "changed");
		check_file(fx, "a", "mine", "not synced");
		check_file(fx, "child", "base/1", "changed");
		assert_int_equal(count_trash(fx), 0);
	}
	branch_put(a);
	reopen(fx);
	check_file(fx, "a", "mine", "not synced");
	assert_int_equal(info_of(fx, "a").no, no);
}

static void test_names_taken(void **state)
{
	struct fixture *fx = *state;
	char first[TRASH_NAME_MAX], name[TRASH_NAME_MAX];
	struct err e = ERR_INIT;

	branch_put(make(fx, "a", fx->main));
	discard(fx, "a", first);
	for (unsigned i = 1; i < 5; i++) {
		branch_put(make(fx, "a", fx->main));
		discard(fx, "a", name);
		assert_int_equal(count_trash(fx), i + 1);
	}
	branch_put(make(fx, "a", fx->main));
	assert_int_equal(restore(fx, first, "a", 0), -EEXIST);
	assert_int_equal(restore(fx, first, "-x", 0), -EINVAL);
	assert_int_equal(restore(fx, first, "x@y", 0), -EINVAL);
	assert_int_equal(count_trash(fx), 5);
	assert_int_equal(restore(fx, first, "b", 4242), 0);
	assert_int_equal(info_of(fx, "b").expires, 4242);
	reopen(fx);
	assert_int_equal(info_of(fx, "b").expires, 4242);
	assert_int_equal(count_trash(fx), 4);
	assert_int_equal(registry_trash(fx->reg, fx->main, &e), -EPERM);
	assert_string_equal(err_text(&e), "branch 'main' is protected");
	err_fini(&e);
}

static void test_purge(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	unsigned before = count_layers(fx);
	char name[TRASH_NAME_MAX];

	assert_int_equal(write_in(a, "mine", "words"), 0);
	assert_int_equal(count_layers(fx), before + 1);
	branch_put(a);
	discard(fx, "a", name);
	reopen(fx);
	a = registry_find_trashed(fx->reg, name);
	assert_int_equal(registry_purge(fx->reg, a, NULL), 0);
	assert_int_equal(registry_purge(fx->reg, a, NULL), -ENOENT);
	assert_int_equal(registry_restore(fx->reg, a, "a", 0, NULL), -ENOENT);
	branch_put(a);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	assert_int_equal(count_trash(fx), 0);
	reopen(fx);
	assert_int_equal(count_trash(fx), 0);
	assert_false(is_there(fx, "a"));
}

/* Does the record of this file hold its name? */
static bool holds_name(struct fixture *fx, const char *file)
{
	struct branch_meta m;

	get_meta(fx, file, &m);
	return strcmp(m.name, file) == 0;
}

static void rename_record(struct fixture *fx, const char *from, const char *to)
{
	char a[128], b[128];

	(void)snprintf(a, sizeof(a), "branches/%s.ini", from);
	(void)snprintf(b, sizeof(b), "branches/%s.ini", to);
	move_file(fx, a, b);
	reopen(fx);
}

/* A crash between the file's new name and the one in it, both ways. */
static void test_half_moved(void **state)
{
	static const char there[] = "a@2026-11-22T10:00:00Z";
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);

	assert_int_equal(write_in(a, "mine", "words"), 0);
	branch_put(a);
	rename_record(fx, "a", there);
	assert_false(is_there(fx, "a"));
	assert_int_equal(count_trash(fx), 1);
	assert_true(holds_name(fx, there));
	rename_record(fx, there, "b");
	check_file(fx, "b", "mine", "words");
	assert_int_equal(count_trash(fx), 0);
	assert_true(holds_name(fx, "b"));
}

/* A record in the trash that cannot be read costs that branch, and keeps its layers. */
static void test_damaged(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	char name[TRASH_NAME_MAX];
	unsigned layers;

	assert_int_equal(write_in(a, "mine", "words"), 0);
	branch_put(a);
	branch_put(make(fx, "b", fx->main));
	discard(fx, "a", name);
	layers = count_layers(fx);
	write_record(fx, name, "[branch]\nno = 77\n");
	reopen(fx);
	assert_int_equal(count_trash(fx), 0);
	assert_true(is_there(fx, "b"));
	check_file(fx, "main", "base/1", "table");
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), layers);
}

/* Copied by hand: two claim one number, and neither is believed. */
static void test_twins(void **state)
{
	struct fixture *fx = *state;
	CLEAN(clean_free) char *text = NULL;
	char name[TRASH_NAME_MAX];

	branch_put(make(fx, "a", fx->main));
	branch_put(make(fx, "b", fx->main));
	text = read_record(fx, "a");
	discard(fx, "a", name);
	write_record(fx, "a", text);
	reopen(fx);
	assert_false(is_there(fx, "a"));
	assert_int_equal(count_trash(fx), 0);
	assert_true(is_there(fx, "b"));
}

#define STORE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names), STORE_TEST(test_there_and_back),
		STORE_TEST(test_names_taken), STORE_TEST(test_purge),
		STORE_TEST(test_half_moved),  STORE_TEST(test_damaged),
		STORE_TEST(test_twins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stores whose records were lost, swapped, copied or replaced: what does not depend on
 * them is served, nothing wrong is served, and nothing is lost when they are put back.
 */
#include "storefix.h"

#include <signal.h>
#include <sys/resource.h>

static void discard(struct fixture *fx, const char *name)
{
	struct branch *b = registry_find(fx->reg, name);
	struct err e = ERR_INIT;

	assert_non_null(b);
	if (registry_discard(fx->reg, b, &e) < 0)
		fail_msg("%s", err_text(&e));
	branch_put(b);
}

static void expect_inner_name(struct fixture *fx, const char *name)
{
	struct branch_meta m;

	get_meta(fx, name, &m);
	ROW_STRING(name, m.name, name);
}

static void test_swapped_records(void **state)
{
	struct fixture *fx = *state;
	unsigned before;

	make_with(fx, "a", "main", "of a");
	make_with(fx, "b", "main", "of b");
	before = count_layers(fx);
	move_file(fx, "branches/a.ini", "branches/t");
	move_file(fx, "branches/b.ini", "branches/a.ini");
	move_file(fx, "branches/t", "branches/b.ini");
	reopen(fx);
	expect_branch(fx, "a", NULL);
	expect_branch(fx, "b", NULL);
	expect_branch(fx, "main", "table");
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	move_file(fx, "branches/a.ini", "branches/t");
	move_file(fx, "branches/b.ini", "branches/a.ini");
	move_file(fx, "branches/t", "branches/b.ini");
	reopen(fx);
	expect_branch(fx, "a", "of a");
	expect_branch(fx, "b", "of b");
}

static void test_rename_writes_name(void **state)
{
	struct fixture *fx = *state;
	struct err e = ERR_INIT;
	struct branch *a;

	make_with(fx, "a", "main", "of a");
	expect_inner_name(fx, "a");
	a = registry_find(fx->reg, "a");
	assert_int_equal(registry_rename(fx->reg, a, "z", &e), 0);
	branch_put(a);
	expect_inner_name(fx, "z");
	reopen(fx);
	expect_branch(fx, "a", NULL);
	expect_branch(fx, "z", "of a");
}

/* A rename that a crash cut short: the file has its new name, the record not yet. */
static void test_rename_cut_short(void **state)
{
	struct fixture *fx = *state;

	make_with(fx, "a", "main", "of a");
	move_file(fx, "branches/a.ini", "branches/z.ini");
	reopen(fx);
	expect_branch(fx, "a", NULL);
	expect_branch(fx, "z", "of a");
	expect_inner_name(fx, "z");
	/* and so the old name is free for others */
	make_with(fx, "a", "main", "another");
	reopen(fx);
	expect_branch(fx, "a", "another");
	expect_branch(fx, "z", "of a");
}

static void limit_file_size(rlim_t max)
{
	struct rlimit lim;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &lim), 0);
	lim.rlim_cur = max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
}

/* The rename is durable, but the record cannot be written: its old name is not free. */
static void test_rename_half_done(void **state)
{
	struct fixture *fx = *state;
	struct branch_spec spec = {.name = "a", .mode = 0700};
	struct err e = ERR_INIT;
	struct branch_meta m;
	struct branch *a, *b;

	make_with(fx, "a", "main", "of a");
	a = registry_find(fx->reg, "a");
	(void)signal(SIGXFSZ, SIG_IGN);
	limit_file_size(0);
	assert_int_equal(registry_rename(fx->reg, a, "z", &e), 0);
	branch_put(a);
	get_meta(fx, "z", &m);
	assert_string_equal(m.name, "a");
	spec.parent = fx->main;
	assert_int_equal(registry_create(fx->reg, &spec, &b, &e), -EFBIG);
	assert_non_null(strstr(err_text(&e), "record of branch 'z'"));
	limit_file_size(RLIM_INFINITY);
	make_with(fx, "a", "main", "another");
	expect_inner_name(fx, "z");
	reopen(fx);
	expect_branch(fx, "z", "of a");
	expect_branch(fx, "a", "another");
	err_fini(&e);
}

/* The same file, but its old name is taken, by a good record or by a bad one. */
static void test_old_name_taken(void **state)
{
	static const char *const others[] = {"good", "damaged", "directory"};
	struct fixture *fx = *state;

	make_with(fx, "a", "main", "of a");
	make_with(fx, "b", "main", "of b");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		CLEAN(clean_free) char *a = read_record(fx, "a");

		move_file(fx, "branches/b.ini", "branches/t");
		move_file(fx, "branches/a.ini", "branches/b.ini");
		if (i == 0)
			write_record(fx, "a", a);
		else if (i == 1)
			write_record(fx, "a", "junk");
		else
			assert_int_equal(mkdirat(registry_dirfd(fx->reg),
						 "branches/a.ini", 0700),
					 0);
		reopen(fx);
		expect_branch(fx, "a", i == 0 ? "of a" : NULL);
		expect_branch(fx, "b", NULL);
		expect_branch(fx, "main", "table");
		assert_int_equal(
			fd_remove_tree(registry_dirfd(fx->reg), "branches/a.ini"), 0);
		write_record(fx, "a", a);
		move_file(fx, "branches/t", "branches/b.ini");
		reopen(fx);
		expect_branch(fx, "a", "of a");
		expect_branch(fx, "b", "of b");
	}
}

/* Records of builds that did not write the name. */
static void test_nameless(void **state)
{
	struct fixture *fx = *state;
	struct branch_meta m;

	make_with(fx, "a", "main", "of a");
	get_meta(fx, "a", &m);
	m.name[0] = '\0';
	put_meta(fx, "a", &m);
	reopen(fx);
	expect_branch(fx, "a", "of a");
	expect_inner_name(fx, "a");
}

/* Nobody knows which of two is right, and one of them would spoil the other. */
static void test_twins(void **state)
{
	struct fixture *fx = *state;

	make_with(fx, "a", "main", "of a");
	make_with(fx, "b", "main", "of b");
	for (int same_top = 0; same_top < 2; same_top++) {
		CLEAN(clean_free) char *right = read_record(fx, "b");
		struct branch_meta a, b;

		get_meta(fx, "a", &a);
		get_meta(fx, "b", &b);
		if (same_top)
			b.top = a.top;
		else
			b.no = a.no;
		put_meta(fx, "b", &b);
		reopen(fx);
		expect_branch(fx, "a", NULL);
		expect_branch(fx, "b", NULL);
		expect_branch(fx, "main", "table");
		write_record(fx, "b", right);
		reopen(fx);
		expect_branch(fx, "a", "of a");
		expect_branch(fx, "b", "of b");
	}
}

/* A parent's record of before the freeze: its writes would show in the child. */
static void test_stale_parent(void **state)
{
	struct fixture *fx = *state;
	CLEAN(clean_free) char *stale = NULL, *right = NULL;

	make_with(fx, "a", "main", "of a");
	stale = read_record(fx, "a");
	make_with(fx, "b", "a", NULL);
	right = read_record(fx, "a");
	assert_string_not_equal(stale, right);
	write_record(fx, "a", stale);
	reopen(fx);
	expect_branch(fx, "a", NULL);
	expect_branch(fx, "b", "of a");
	write_record(fx, "a", right);
	reopen(fx);
	expect_branch(fx, "a", "of a");
	expect_branch(fx, "b", "of a");
}

/* The name of a damaged record is not free: making a branch would overwrite it. */
static void test_name_of_damaged(void **state)
{
	struct fixture *fx = *state;
	struct branch_spec spec = {.name = "a", .mode = 0700};
	CLEAN(clean_free) char *right = NULL;
	CLEAN(clean_free) char *after = NULL;
	struct err e = ERR_INIT;
	struct branch *b;

	make_with(fx, "a", "main", "of a");
	make_with(fx, "b", "main", "of b");
	right = read_record(fx, "a");
	write_record(fx, "a", "junk");
	reopen(fx);
	spec.parent = fx->main;
	assert_int_equal(registry_create(fx->reg, &spec, &b, &e), -EEXIST);
	assert_non_null(strstr(err_text(&e), "branches/a.ini is damaged"));
	b = registry_find(fx->reg, "b");
	assert_int_equal(registry_rename(fx->reg, b, "a", &e), -EEXIST);
	branch_put(b);
	after = read_record(fx, "a");
	assert_string_equal(after, "junk");
	write_record(fx, "a", right);
	reopen(fx);
	expect_branch(fx, "a", "of a");
	err_fini(&e);
}

/* A layer that only the damaged branch still needs, besides one that is discarded. */
static void test_layers_are_kept(void **state)
{
	struct fixture *fx = *state;
	CLEAN(clean_free) char *right = NULL;
	unsigned before;

	make_with(fx, "a", "main", "of a");
	make_with(fx, "b", "a", "of b");
	before = count_layers(fx);
	right = read_record(fx, "a");
	write_record(fx, "a", "junk");
	reopen(fx);
	discard(fx, "b");
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	/* what was made since is no secret */
	make_with(fx, "c", "main", "of c");
	discard(fx, "c");
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	write_record(fx, "a", right);
	reopen(fx);
	expect_branch(fx, "a", "of a");
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before - 1); /* b's */
}

/* The newest branch, whose layer is not on disk: its numbers are seen nowhere. */
static void test_numbers_are_kept(void **state)
{
	struct fixture *fx = *state;
	CLEAN(clean_free) char *right = NULL;
	struct branch_meta a, c;

	make_with(fx, "a", "main", NULL);
	right = read_record(fx, "a");
	get_meta(fx, "a", &a);
	write_record(fx, "a", "junk");
	reopen(fx);
	make_with(fx, "c", "main", "of c");
	get_meta(fx, "c", &c);
	assert_int_not_equal(a.no, c.no);
	assert_int_not_equal(a.top, c.top);
	write_record(fx, "a", right);
	reopen(fx);
	expect_branch(fx, "a", "table");
	expect_branch(fx, "c", "of c");
}

/* What stands where a record should: nobody may wait for a fifo's writer. */
static void test_other_kinds(void **state)
{
	static const char *const rows[] = {"fifo", "directory", "symlink", "socket"};
	static const char path[] = "branches/a.ini";
	struct fixture *fx = *state;
	int fd;

	make_with(fx, "a", "main", "of a");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fd = registry_dirfd(fx->reg);
		move_file(fx, path, "a.ini");
		if (i == 0)
			assert_int_equal(mkfifoat(fd, path, 0600), 0);
		else if (i == 1)
			assert_int_equal(mkdirat(fd, path, 0700), 0);
		else if (i == 2)
			assert_int_equal(symlinkat("../a.ini", fd, path), 0);
		else
			assert_int_equal(mknodat(fd, path, S_IFSOCK | 0600, 0), 0);
		(void)alarm(30); /* instead of hanging */
		reopen(fx);
		(void)alarm(0);
		expect_branch(fx, "a", NULL);
		expect_branch(fx, "main", "table");
		fd = registry_dirfd(fx->reg);
		assert_int_equal(fd_remove_tree(fd, path), 0);
		move_file(fx, "a.ini", path);
		reopen(fx);
		expect_branch(fx, "a", "of a");
	}
}

/* A record that was given another name may need its layers again. */
static void test_stray_file(void **state)
{
	struct fixture *fx = *state;
	unsigned before;

	make_with(fx, "a", "main", "of a");
	before = count_layers(fx);
	move_file(fx, "branches/a.ini", "branches/a.ini.bak");
	reopen(fx);
	expect_branch(fx, "a", NULL);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	move_file(fx, "branches/a.ini.bak", "branches/a.ini");
	reopen(fx);
	expect_branch(fx, "a", "of a");
}

static void refuse(struct fixture *fx, const char *sentence)
{
	struct err e = ERR_INIT;
	struct registry *r = NULL;

	ROW_EQUAL(sentence, registry_open(fx->store, &r, &e) < 0, 1);
	if (!strstr(err_text(&e), sentence))
		fail_msg("'%s' does not say '%s'", err_text(&e), sentence);
	err_fini(&e);
}

/* Where nothing can be served, the sentence names the file, and nothing is removed. */
static void test_nothing_left(void **state)
{
	static const struct {
		const char *path, *sentence;
	} rows[] = {
		{"branches/main.ini", "branches/main.ini is missing"},
		{"layers/00000001/layer.ini", "branches/main.ini or what it names"},
		{"format", "is not a store"},
		{"branches", "store/branches: "},
		{"layers", "branches/main.ini or what it names"},
	};
	struct fixture *fx = *state;
	char from[160], to[160];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		branch_put(fx->main);
		fx->reg = registry_close(fx->reg);
		(void)snprintf(from, sizeof(from), "%s/%s", fx->store, rows[i].path);
		(void)snprintf(to, sizeof(to), "%s/away", fx->dir);
		assert_int_equal(rename(from, to), 0);
		refuse(fx, rows[i].sentence);
		assert_int_equal(rename(to, from), 0);
		fx->main = NULL;
		reopen(fx);
		expect_branch(fx, "main", "table");
	}
}

/* A branch is left out with its layer's record; others with the same base are not. */
static void test_layer_records(void **state)
{
	struct fixture *fx = *state;
	struct branch_meta a, c;
	char path_a[48], path_c[48];

	make_with(fx, "a", "main", "of a");
	make_with(fx, "b", "a", "of b");
	make_with(fx, "c", "main", "of c");
	make_with(fx, "d", "c", "of d");
	get_meta(fx, "a", &a);
	get_meta(fx, "c", &c);
	(void)snprintf(path_a, sizeof(path_a), "layers/%08x/layer.ini", a.base);
	(void)snprintf(path_c, sizeof(path_c), "layers/%08x/layer.ini", c.base);
	move_file(fx, path_a, "t");
	reopen(fx);
	expect_branch(fx, "a", NULL);
	expect_branch(fx, "b", NULL);
	expect_branch(fx, "c", "of c");
	expect_branch(fx, "d", "of d");
	move_file(fx, path_c, path_a);
	move_file(fx, "t", path_c); /* swapped */
	reopen(fx);
	expect_branch(fx, "a", NULL);
	expect_branch(fx, "c", NULL);
	expect_branch(fx, "main", "table");
	move_file(fx, path_c, "t");
	move_file(fx, path_a, path_c);
	move_file(fx, "t", path_a);
	reopen(fx);
	expect_branch(fx, "b", "of b");
	expect_branch(fx, "d", "of d");
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_swapped_records),
		CASE(test_rename_writes_name),
		CASE(test_rename_cut_short),
		CASE(test_rename_half_done),
		CASE(test_old_name_taken),
		CASE(test_nameless),
		CASE(test_twins),
		CASE(test_stale_parent),
		CASE(test_name_of_damaged),
		CASE(test_layers_are_kept),
		CASE(test_numbers_are_kept),
		CASE(test_other_kinds),
		CASE(test_stray_file),
		CASE(test_nothing_left),
		CASE(test_layer_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

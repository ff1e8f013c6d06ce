/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers whose files were lost, cut or replaced: what they hold gives EIO, all else is
 * as it was, and all is there again when they are put back.
 */
#include "storefix.h"

#define BIG (4 * 8192)

struct stack {
	uint64_t fid;       /* of "big": four blocks, the first one rewritten in b */
	uint64_t dir;       /* of base/ */
	uint32_t low, high; /* the layers with all of it, and with the one block */
	char full[48], delta[48], map[48], names[48];
};

static int read_big(struct fixture *fx, const char *branch, char *ret_sum)
{
	struct branch *b = registry_find(fx->reg, branch);
	CLEAN(clean_free) char *text = NULL;
	struct node_attr a;
	struct overlay *o;
	size_t len = 0;
	int rc;

	assert_non_null(b);
	o = data_of(b);
	rc = overlay_lookup(o, OVERLAY_ROOT, "big", &a); /* as the mount does */
	if (rc == 0)
		rc = overlay_read_file(o, "big", BIG, &text, &len);
	if (rc == 0) {
		assert_int_equal(len, BIG);
		ret_sum[0] = text[0];
		ret_sum[1] = text[BIG - 1];
	}
	branch_put(b);
	return rc;
}

/* What each branch's big says: first and last byte, or an error. */
static void expect_big(struct fixture *fx, const char *row, const char *branch, int rc,
		       const char *want)
{
	char got[3] = "";

	ROW_EQUAL(row, read_big(fx, branch, got), rc);
	if (rc == 0)
		ROW_STRING(row, got, want);
}

static void make_stack(struct fixture *fx, struct stack *st)
{
	CLEAN(clean_free) char *bytes = malloc(BIG);
	struct branch *b;
	struct branch_meta m;
	struct node_attr a;
	struct overlay *o;
	struct cowfile *f;

	assert_non_null(bytes);
	memset(bytes, 'm', BIG);
	o = data_of(fx->main);
	assert_int_equal(overlay_write_file(o, "big", bytes, BIG, 0600), 0);
	b = make(fx, "b", fx->main);
	o = data_of(b);
	assert_int_equal(overlay_walk(o, "big", &a), 0);
	st->fid = a.fid;
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	assert_int_equal(cowfile_write(f, "b", 1, 0), 0);
	overlay_close(o, f);
	assert_int_equal(write_in(b, "base/of-b", "new in b"), 0);
	assert_int_equal(overlay_walk(o, "base", &a), 0);
	st->dir = a.fid;
	branch_put(b);
	get_meta(fx, "b", &m);
	st->low = m.base;
	st->high = m.top;
	(void)snprintf(st->full, 48, "layers/%08x/full/%llx", st->low,
		       (unsigned long long)st->fid);
	(void)snprintf(st->delta, 48, "layers/%08x/delta/%llx", st->high,
		       (unsigned long long)st->fid);
	(void)snprintf(st->map, 48, "layers/%08x/map/%llx", st->high,
		       (unsigned long long)st->fid);
	(void)snprintf(st->names, 48, "layers/%08x/names/%llx", st->high,
		       (unsigned long long)st->dir);
	reopen(fx);
	expect_big(fx, "before", "main", 0, "mm");
	expect_big(fx, "before", "b", 0, "bm");
}

/* Replaces path by something else, or takes it away; the old one is kept. */
static void replace(struct fixture *fx, const char *path, const char *by)
{
	int fd = registry_dirfd(fx->reg), to;

	move_file(fx, path, "kept");
	if (strcmp(by, "fifo") == 0) {
		ROW_EQUAL(path, mkfifoat(fd, path, 0600), 0);
	} else if (strcmp(by, "directory") == 0) {
		ROW_EQUAL(path, mkdirat(fd, path, 0700), 0);
	} else if (strcmp(by, "half") == 0) {
		char *text;
		size_t len;

		assert_int_equal(fd_read_file(fd, "kept", BIG, &text, &len), 0);
		assert_int_equal(fd_replace_file(fd, path, text, len / 2, 0600, 0), 0);
		free(text);
	} else if (strcmp(by, "empty") == 0) {
		to = openat(fd, path, O_CREAT | O_WRONLY, 0600);
		assert_true(to >= 0);
		assert_int_equal(close(to), 0);
	}
}

static void put_back(struct fixture *fx, const char *path)
{
	assert_int_equal(fd_remove_tree(registry_dirfd(fx->reg), path), 0);
	move_file(fx, "kept", path);
}

/* Bytes that are asked of a part that is not whole are an error, never zeros. */
static void test_parts_of_a_file(void **state)
{
	struct stack st;
	const struct {
		const char *row, *path, *by;
		int main_rc, b_rc;
		const char *b;
	} rows[] = {
		{"no full", st.full, "", -EIO, -EIO, NULL},
		{"fifo for full", st.full, "fifo", -EIO, -EIO, NULL},
		{"directory for full", st.full, "directory", -EIO, -EIO, NULL},
		{"no delta", st.delta, "", 0, -EIO, NULL},
		{"fifo for delta", st.delta, "fifo", 0, -EIO, NULL},
		{"directory for delta", st.delta, "directory", 0, -EIO, NULL},
		{"empty map", st.map, "empty", 0, -EIO, NULL},
		{"half a map", st.map, "half", 0, -EIO, NULL},
		{"fifo for a map", st.map, "fifo", 0, -EIO, NULL},
		{"directory for a map", st.map, "directory", 0, -EIO, NULL},
		/* as a crash leaves it: what no fsync had promised */
		{"no map", st.map, "", 0, 0, "mm"},
	};
	struct fixture *fx = *state;

	make_stack(fx, &st);
	(void)alarm(60); /* instead of hanging */
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		replace(fx, rows[i].path, rows[i].by);
		reopen(fx);
		expect_big(fx, rows[i].row, "main", rows[i].main_rc, "mm");
		expect_big(fx, rows[i].row, "b", rows[i].b_rc, rows[i].b);
		expect_branch(fx, "b", "table");
		put_back(fx, rows[i].path);
		reopen(fx);
		expect_big(fx, rows[i].row, "main", 0, "mm");
		expect_big(fx, rows[i].row, "b", 0, "bm");
	}
	(void)alarm(0);
}

/* The part below was cut: what stands on it says how long it was. */
static void test_short_part(void **state)
{
	struct fixture *fx = *state;
	struct branch *b;
	struct overlay *o;
	struct node_attr a;
	struct cowfile *f;
	struct stack st;
	char buf[8];

	make_stack(fx, &st);
	replace(fx, st.full, "half");
	reopen(fx);
	expect_big(fx, "half a full", "b", -EIO, NULL);
	b = registry_find(fx->reg, "b");
	o = data_of(b);
	assert_int_equal(overlay_walk(o, "big", &a), 0);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	assert_int_equal(cowfile_read(f, buf, 1, 0), 1); /* its own block */
	assert_int_equal(cowfile_read(f, buf, 1, BIG / 4), 1);
	assert_int_equal(cowfile_read(f, buf, 1, BIG - 1), -EIO);
	assert_int_equal(cowfile_seek(f, BIG / 4, SEEK_HOLE), -EIO);
	/* an edge that has to be copied up from there */
	assert_int_equal(cowfile_write(f, "x", 1, BIG - 1), -EIO);
	overlay_close(o, f);
	branch_put(b);
	put_back(fx, st.full);
	reopen(fx);
	expect_big(fx, "whole again", "b", 0, "bm");
}

static bool count_name(void *ctx, const char *name, uint64_t fid, mode_t type,
		       uint64_t cookie)
{
	unsigned *n = ctx;

	(void)name;
	(void)fid;
	(void)type;
	(void)cookie;
	(*n)++;
	return true;
}

static int list(struct fixture *fx, const char *branch, uint64_t dir, unsigned *ret_n)
{
	struct branch *b = registry_find(fx->reg, branch);
	struct overlay *o;
	int rc;

	assert_non_null(b);
	o = data_of(b);
	*ret_n = 0;
	rc = overlay_readdir(o, dir, 0, count_name, ret_n);
	branch_put(b);
	return rc;
}

/* A name without its file is an error; its directory is not. */
static void test_name_without_file(void **state)
{
	struct fixture *fx = *state;
	struct node_attr a;
	struct overlay *o;
	struct stack st;
	unsigned before, n;

	make_stack(fx, &st);
	assert_int_equal(list(fx, "main", OVERLAY_ROOT, &before), 0);
	replace(fx, st.full, "");
	reopen(fx);
	assert_int_equal(list(fx, "main", OVERLAY_ROOT, &n), 0);
	assert_int_equal(n, before);
	o = data_of(fx->main);
	assert_int_equal(overlay_lookup(o, OVERLAY_ROOT, "big", &a), -EIO);
	expect(fx->main, "PG_VERSION", "15\n");
	put_back(fx, st.full);
}

/* One directory of one layer: the branch has all its others. */
static void test_directory_of_names(void **state)
{
	static const char *const rows[] = {"fifo", "empty"};
	struct fixture *fx = *state;
	struct node_attr a;
	struct branch *b;
	struct overlay *o;
	struct stack st;
	unsigned n;

	make_stack(fx, &st);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		replace(fx, st.names, rows[i]);
		reopen(fx);
		b = registry_find(fx->reg, "b");
		expect(b, "PG_VERSION", "15\n");
		o = data_of(b);
		assert_int_equal(overlay_lookup(o, st.dir, "of-b", &a), -EIO);
		assert_int_equal(overlay_lookup(o, st.dir, "1", &a), -EIO);
		ROW_EQUAL(rows[i],
			  overlay_mknod(o, st.dir, "x", S_IFREG | 0600, &a) < 0, 1);
		assert_int_equal(list(fx, "b", st.dir, &n), -EIO);
		assert_int_equal(list(fx, "b", OVERLAY_ROOT, &n), 0);
		assert_int_equal(list(fx, "main", st.dir, &n), 0);
		expect(fx->main, "base/1", "table");
		branch_put(b);
		put_back(fx, st.names);
		reopen(fx);
		b = registry_find(fx->reg, "b");
		expect(b, "base/of-b", "new in b");
		branch_put(b);
	}
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_parts_of_a_file),
		CASE(test_short_part),
		CASE(test_name_without_file),
		CASE(test_directory_of_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * storefix.h - a store with a small tree, opened; for tests of what happens to it
 * between one registry_close and the next registry_open.
 */
#ifndef TESTS_STOREFIX_H
#define TESTS_STOREFIX_H

#include "base/fd.h"
#include "store/branch_meta.h"
#include "store/cowfile.h"
#include "store/import.h"
#include "store/registry.h"
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

struct fixture {
	char dir[48];
	char store[64];
	struct registry *reg;
	struct branch *main;
};

static inline void put_file(const char *dir, const char *name, const char *text)
{
	char path[160];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static inline void put_dir(const char *dir, const char *name)
{
	char path[160];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

/* Something like a data directory. */
static inline void make_source(const char *src)
{
	put_dir(src, "");
	put_file(src, "PG_VERSION", "15\n");
	put_file(src, "postmaster.pid", "1\n");
	put_file(src, "standby.signal", "");
	put_dir(src, "base");
	put_dir(src, "base/pgsql_tmp");
	put_file(src, "base/pgsql_tmp/t1", "junk");
	put_file(src, "base/1", "table");
	put_dir(src, "pg_replslot");
	put_dir(src, "pg_replslot/slot");
	put_file(src, "pg_replslot/slot/state", "x");
}

static inline void reopen(struct fixture *fx)
{
	struct err e = ERR_INIT;

	branch_put(fx->main);
	registry_close(fx->reg);
	if (registry_open(fx->store, &fx->reg, &e) < 0)
		fail_msg("%s", err_text(&e));
	fx->main = registry_find(fx->reg, MAIN_BRANCH);
	err_fini(&e);
}

static inline int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	struct err e = ERR_INIT;
	char src[64];
	int fd;

	assert_non_null(fx);
	(void)snprintf(fx->dir, sizeof(fx->dir), "/tmp/pbf-reg.XXXXXX");
	assert_non_null(mkdtemp(fx->dir));
	(void)snprintf(src, sizeof(src), "%s/src", fx->dir);
	(void)snprintf(fx->store, sizeof(fx->store), "%s/store", fx->dir);
	make_source(src);
	assert_int_equal(store_create(fx->store, &fd, &e), 0);
	assert_int_equal(store_import(fd, src, true, 7, 8, NULL, NULL, &e), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(registry_open(fx->store, &fx->reg, &e), 0);
	fx->main = registry_find(fx->reg, MAIN_BRANCH);
	assert_non_null(fx->main);
	*state = fx;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *fx = *state;

	branch_put(fx->main);
	registry_close(fx->reg);
	assert_int_equal(fd_remove_tree(AT_FDCWD, fx->dir), 0);
	free(fx);
	return 0;
}

static inline struct branch *make(struct fixture *fx, const char *name,
				  struct branch *parent)
{
	struct branch_spec spec = {.name = name, .parent = parent, .mode = 0700};
	struct err e = ERR_INIT;
	struct branch *b;

	if (registry_create(fx->reg, &spec, &b, &e) < 0)
		fail_msg("%s", err_text(&e));
	return b;
}

/* Its data, borrowed: for tests in which nothing unloads it meanwhile. */
static inline struct overlay *data_of(struct branch *b)
{
	struct overlay *o;

	assert_int_equal(branch_data_get(b, &o), 0);
	overlay_put(o);
	return o;
}

static inline int write_in(struct branch *b, const char *path, const char *text)
{
	CLEAN(overlay_putp) struct overlay *o = NULL;
	int rc = branch_data_get(b, &o);

	return rc < 0 ? rc : overlay_write_file(o, path, text, strlen(text), 0600);
}

static inline void expect(struct branch *b, const char *path, const char *want)
{
	CLEAN(overlay_putp) struct overlay *o = NULL;
	CLEAN(clean_free) char *text = NULL;
	int rc;

	assert_int_equal(branch_data_get(b, &o), 0);
	rc = overlay_read_file(o, path, 4096, &text, NULL);
	if (!want)
		ROW_EQUAL(path, rc, -ENOENT);
	else
		ROW_EQUAL(path, rc, 0);
	if (want)
		ROW_STRING(path, text, want);
}

static inline unsigned count_layers(struct fixture *fx)
{
	DIR *d = fdopendir(openat(registry_dirfd(fx->reg), "layers", O_RDONLY));
	struct dirent *ent;
	unsigned n = 0;

	assert_non_null(d);
	while ((ent = readdir(d)) != NULL)
		n += ent->d_name[0] != '.';
	(void)closedir(d);
	return n;
}

static inline char *read_record(struct fixture *fx, const char *name)
{
	char path[128], *text;

	(void)snprintf(path, sizeof(path), "branches/%s.ini", name);
	if (fd_read_file(registry_dirfd(fx->reg), path, 4096, &text, NULL) < 0)
		fail_msg("cannot read %s", path);
	return text;
}

static inline void write_record(struct fixture *fx, const char *name, const char *text)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "branches/%s.ini", name);
	assert_int_equal(fd_replace_file(registry_dirfd(fx->reg), path, text,
					 strlen(text), 0600, 0),
			 0);
}

static inline void get_meta(struct fixture *fx, const char *name, struct branch_meta *m)
{
	CLEAN(clean_free) char *text = read_record(fx, name);

	ROW_EQUAL(name, branch_meta_decode(text, m), 0);
}

static inline void put_meta(struct fixture *fx, const char *name,
			    const struct branch_meta *m)
{
	CLEAN(clean_free) char *text = branch_meta_encode(m);

	write_record(fx, name, text);
}

static inline void move_file(struct fixture *fx, const char *from, const char *to)
{
	int fd = registry_dirfd(fx->reg);

	ROW_EQUAL(from, renameat(fd, from, fd, to), 0);
}

/* A branch of parent with this in base/1; NULL: nothing of its own. */
static inline void make_with(struct fixture *fx, const char *name, const char *parent,
			     const char *text)
{
	struct branch *p = registry_find(fx->reg, parent), *b;

	assert_non_null(p);
	b = make(fx, name, p);
	if (text)
		assert_int_equal(write_in(b, "base/1", text), 0);
	branch_put(b);
	branch_put(p);
}

/* Is the branch there, and says base/1 this?  NULL: it must not be there. */
static inline void expect_branch(struct fixture *fx, const char *name, const char *want)
{
	struct branch *b = registry_find(fx->reg, name);

	ROW_EQUAL(name, b != NULL, want != NULL);
	if (b)
		expect(b, "base/1", want);
	branch_put(b);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a branch takes on disk: right after every kind of change, without bringing its
 * index into memory, and without looking again when nothing changed.
 */
#include "storefix.h"

#include "store/registry_priv.h"

#include <linux/falloc.h>

#define MIB (1024 * 1024)

static uint64_t own_bytes(struct branch *b)
{
	uint64_t bytes;

	assert_int_equal(branch_own_bytes(b, &bytes), 0);
	return bytes;
}

static uint64_t shared_bytes(struct fixture *fx)
{
	uint64_t bytes;

	assert_int_equal(registry_shared_bytes(fx->reg, &bytes), 0);
	return bytes;
}

/* The same by asking for each file, as du does. */
struct sum {
	struct overlay *o;
	uint64_t fids[64], blocks;
	size_t n;
};

static bool collect(void *ctx, const char *name, uint64_t fid, mode_t type,
		    uint64_t cookie)
{
	struct sum *s = ctx;

	(void)name;
	(void)cookie;
	if (S_ISREG(type)) {
		assert_true(s->n < ARRAY_SIZE(s->fids));
		s->fids[s->n++] = fid;
	}
	return true;
}

static uint64_t du(struct branch *b)
{
	struct sum s = {NULL, {0}, 0, 0};
	struct node_attr a;

	s.o = data_of(b);
	assert_int_equal(overlay_readdir(s.o, OVERLAY_ROOT, 0, collect, &s), 0);
	assert_int_equal(overlay_walk(s.o, "base", &a), 0);
	assert_int_equal(overlay_readdir(s.o, a.fid, 0, collect, &s), 0);
	for (size_t i = 0; i < s.n; i++) {
		assert_int_equal(overlay_getattr(s.o, s.fids[i], &a), 0);
		s.blocks += a.blocks;
	}
	return s.blocks * 512;
}

static struct cowfile *open_path(struct branch *b, const char *path)
{
	struct overlay *o;
	struct node_attr a;
	struct cowfile *f;

	o = data_of(b);
	assert_int_equal(overlay_walk(o, path, &a), 0);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	return f;
}

static void discard(struct fixture *fx, struct branch *b)
{
	struct err e = ERR_INIT;

	assert_int_equal(registry_discard(fx->reg, b, &e), 0);
	branch_put(b);
	assert_int_equal(registry_reclaim(fx->reg), 0);
}

static void test_follows_changes(void **state)
{
	struct fixture *fx = *state;
	CLEAN(clean_free) char *buf = malloc(MIB);
	struct branch *b = make(fx, "b", fx->main), *c;
	struct overlay *o;
	struct cowfile *f;

	assert_non_null(buf);
	memset(buf, 'x', MIB);
	assert_int_equal(own_bytes(b), 0);
	/* copied up */
	f = open_path(b, "base/1");
	assert_int_equal(cowfile_write(f, "T", 1, 0), 0);
	assert_true(own_bytes(b) > 0);
	assert_int_equal(own_bytes(b), du(b));
	/* longer, twice: the second figure is not the first one kept */
	assert_int_equal(cowfile_write(f, buf, MIB, 0), 0);
	assert_true(own_bytes(b) >= MIB);
	assert_int_equal(cowfile_write(f, buf, MIB, MIB), 0);
	assert_true(own_bytes(b) >= 2 * MIB);
	assert_int_equal(own_bytes(b), du(b));
	/* room, and a hole */
	assert_int_equal(cowfile_fallocate(f, 0, 2 * MIB, MIB), 0);
	assert_true(own_bytes(b) >= 3 * MIB);
	assert_int_equal(cowfile_fallocate(f,
					   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   MIB, MIB),
			 0);
	assert_true(own_bytes(b) < 3 * MIB);
	assert_int_equal(own_bytes(b), du(b));
	/* shorter */
	assert_int_equal(cowfile_truncate(f, 0), 0);
	assert_true(own_bytes(b) < MIB);
	assert_int_equal(own_bytes(b), du(b));
	/* unlinked, and free at the last close */
	assert_int_equal(cowfile_write(f, buf, MIB, 0), 0);
	o = data_of(b);
	{
		struct node_attr base;

		assert_int_equal(overlay_walk(o, "base", &base), 0);
		assert_int_equal(overlay_unlink(o, base.fid, "1"), 0);
	}
	assert_true(own_bytes(b) >= MIB);
	overlay_close(o, f);
	assert_true(own_bytes(b) < MIB);
	/* what a child stands on is not only the branch's any more, until it goes */
	assert_int_equal(overlay_write_file(o, "big", buf, MIB, 0600), 0);
	assert_true(own_bytes(b) >= MIB);
	assert_true(shared_bytes(fx) < MIB);
	c = make(fx, "c", b);
	assert_int_equal(own_bytes(b), 0);
	assert_int_equal(own_bytes(c), 0);
	assert_true(shared_bytes(fx) >= MIB && shared_bytes(fx) < 2 * MIB);
	discard(fx, c);
	assert_true(own_bytes(b) >= MIB);
	assert_int_equal(own_bytes(b), du(b));
	assert_true(shared_bytes(fx) < MIB);
	branch_put(b);
}

/* Of a discarded parent's layer two grandchildren have nothing for themselves. */
static void test_shared_from_below(void **state)
{
	struct fixture *fx = *state;
	CLEAN(clean_free) char *buf = calloc(1, MIB);
	struct branch *b = make(fx, "b", fx->main), *c, *d;
	struct overlay *o;

	assert_non_null(buf);
	o = data_of(b);
	assert_int_equal(overlay_write_file(o, "big", buf, MIB, 0600), 0);
	c = make(fx, "c", b);
	assert_int_equal(write_in(c, "small", "x"), 0);
	d = make(fx, "d", c);
	discard(fx, b);
	assert_int_equal(own_bytes(c), 0);
	assert_int_equal(own_bytes(d), 0);
	assert_true(shared_bytes(fx) >= MIB && shared_bytes(fx) < 2 * MIB);
	discard(fx, d);
	assert_true(own_bytes(c) >= MIB);
	assert_true(shared_bytes(fx) < MIB);
	branch_put(c);
}

static void test_loads_nothing(void **state)
{
	struct fixture *fx = *state;
	struct branch *b;
	uint64_t before;

	make_with(fx, "b", "main", "words of its own");
	b = registry_find(fx->reg, "b");
	before = own_bytes(b);
	branch_put(b);
	reopen(fx);
	b = registry_find(fx->reg, "b");
	assert_true(before > 0);
	assert_int_equal(own_bytes(b), before);
	assert_null(b->data);
	assert_false(b->top->loaded);
	branch_put(b);
}

static void test_looks_once(void **state)
{
	struct fixture *fx = *state;
	char path[64];
	struct branch *b;
	uint64_t before;

	make_with(fx, "b", "main", NULL);
	b = registry_find(fx->reg, "b");
	assert_int_equal(write_in(b, "new", "text"), 0);
	before = own_bytes(b);
	(void)snprintf(path, sizeof(path), "%s/full/strange", b->top->dir);
	assert_int_equal(
		fd_replace_file(registry_dirfd(fx->reg), path, "x", 1, 0600, 0), 0);
	assert_int_equal(own_bytes(b), before);
	assert_int_equal(write_in(b, "new2", "text"), 0);
	assert_true(own_bytes(b) > before);
	/* a file system that cannot be read is no zero */
	(void)snprintf(path, sizeof(path), "%s/full", b->top->dir);
	move_file(fx, path, "away");
	put_file(fx->store, path, "");
	assert_int_equal(write_in(b, "base/1", "y"), 0);
	assert_int_equal(branch_own_bytes(b, &before), -ENOTDIR);
	assert_int_equal(unlinkat(registry_dirfd(fx->reg), path, 0), 0);
	move_file(fx, "away", path);
	assert_int_equal(branch_own_bytes(b, &before), 0);
	branch_put(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_follows_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_from_below, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_loads_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_looks_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

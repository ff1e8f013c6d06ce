/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers that are merged: what can be seen stays, in memory and over a mount, whoever
 * has the branch open; what has a name stays a layer; what a crash leaves is found.
 */
#include "store/check.h"
#include "store/checkpoint.h"
#include "store/layer_priv.h"
#include "store/overlay_priv.h"
#include "store/registry_priv.h"
#include "store/squash.h"
#include "storefix.h"

#include <sys/stat.h>

/* As a branch that was made and discarded: the layers below the top are one more. */
static void freeze(struct fixture *fx, struct branch *b)
{
	struct branch *child = make(fx, "passing", b);
	struct err e = ERR_INIT;

	assert_int_equal(registry_discard(fx->reg, child, &e), 0);
	branch_put(child);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(registry_flush(fx->reg), 0);
}

static unsigned depth(struct branch *b)
{
	struct branch_info info;

	branch_info(b, &info);
	return info.depth;
}

/* In steps of step_bytes; how it ended. */
static int squash(struct fixture *fx, uint64_t step_bytes)
{
	int rc = 1;

	for (unsigned i = 0; rc > 0 && i < 100000; i++)
		rc = registry_squash(fx->reg, 2, step_bytes);
	if (rc == 0)
		rc = registry_reclaim(fx->reg);
	return rc;
}

static void fill(struct branch *b, const char *path, size_t len, int c)
{
	CLEAN(clean_free) char *buf = malloc(len);

	assert_non_null(buf);
	memset(buf, c, len);
	assert_int_equal(overlay_write_file(data_of(b), path, buf, len, 0600), 0);
}

static struct cowfile *open_in(struct branch *b, const char *path)
{
	struct node_attr a;
	struct cowfile *f;

	assert_int_equal(overlay_walk(data_of(b), path, &a), 0);
	assert_int_equal(overlay_open(data_of(b), a.fid, &f), 0);
	return f;
}

/* One byte of a file. */
static int byte_at(struct branch *b, const char *path, uint64_t off)
{
	struct cowfile *f = open_in(b, path);
	uint8_t c;

	assert_int_equal(cowfile_read(f, &c, 1, off), 1);
	overlay_close(data_of(b), f);
	return c;
}

static void put_byte(struct branch *b, const char *path, uint64_t off, uint8_t c)
{
	struct cowfile *f = open_in(b, path);

	assert_int_equal(cowfile_write(f, &c, 1, off), 0);
	overlay_close(data_of(b), f);
}

/* Changes of every kind, a layer each. */
static void make_history(struct fixture *fx, struct branch *b)
{
	struct node_attr a;

	fill(b, "big", 400000, 'a');
	freeze(fx, b);
	put_byte(b, "big", 100000, 'b');
	assert_int_equal(write_in(b, "gone", "no more"), 0);
	assert_int_equal(write_in(b, "moved", "it"), 0);
	freeze(fx, b);
	put_byte(b, "big", 300000, 'c');
	assert_int_equal(overlay_unlink(data_of(b), OVERLAY_ROOT, "gone"), 0);
	assert_int_equal(overlay_unlink(data_of(b), OVERLAY_ROOT, "PG_VERSION"), 0);
	assert_int_equal(overlay_rename(data_of(b), OVERLAY_ROOT, "moved", OVERLAY_ROOT,
					"here", 0),
			 0);
	freeze(fx, b);
	assert_int_equal(write_in(b, "base/1", "changed"), 0);
	assert_int_equal(
		overlay_symlink(data_of(b), OVERLAY_ROOT, "link", "base/1", &a), 0);
	assert_int_equal(
		overlay_mknod(data_of(b), OVERLAY_ROOT, "dir", S_IFDIR | 0750, &a), 0);
	assert_int_equal(write_in(b, "dir/in", "deep"), 0);
	freeze(fx, b);
}

static void expect_history(struct branch *b)
{
	CLEAN(clean_free) char *target = NULL;
	struct node_attr a;

	expect(b, "gone", NULL);
	expect(b, "moved", NULL);
	expect(b, "PG_VERSION", NULL);
	expect(b, "here", "it");
	expect(b, "base/1", "changed");
	expect(b, "dir/in", "deep");
	assert_int_equal(overlay_walk(data_of(b), "dir", &a), 0);
	assert_int_equal(a.mode, S_IFDIR | 0750);
	assert_int_equal(overlay_walk(data_of(b), "link", &a), 0);
	assert_int_equal(overlay_readlink(data_of(b), a.fid, &target), 0);
	assert_string_equal(target, "base/1");
	assert_int_equal(byte_at(b, "big", 0), 'a');
	assert_int_equal(byte_at(b, "big", 100000), 'b');
	assert_int_equal(byte_at(b, "big", 300000), 'c');
	assert_int_equal(byte_at(b, "big", 399999), 'a');
}

/* Steps of every size; the tree is loaded, or not. */
static void test_squash(void **state)
{
	static const struct {
		const char *row;
		uint64_t step;
		bool loaded;
	} rows[] = {
		{"at once, asleep", UINT64_MAX, false},
		{"at once, loaded", UINT64_MAX, true},
		{"byte by byte, asleep", 1, false},
		{"byte by byte, loaded", 1, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture *fx;
		unsigned count;

		setup((void **)&fx);
		make_history(fx, fx->main);
		assert_true(depth(fx->main) >= 5);
		if (!rows[i].loaded)
			assert_true(registry_unload(fx->reg, 0, &count) >= 0);
		ROW_EQUAL(rows[i].row, squash(fx, rows[i].step), 0);
		ROW_EQUAL(rows[i].row, depth(fx->main), 2);
		ROW_EQUAL(rows[i].row, count_layers(fx), 1);
		expect_history(fx->main);
		assert_int_equal(write_in(fx->main, "base/1", "and on"), 0);
		expect(fx->main, "base/1", "and on");
		assert_int_equal(write_in(fx->main, "base/1", "changed"), 0);
		reopen(fx);
		ROW_EQUAL(rows[i].row, depth(fx->main), 2);
		expect_history(fx->main);
		teardown((void **)&fx);
	}
}

/* Numbers, times, and who shares a file: nothing of it changes. */
static void test_attributes_stay(void **state)
{
	static const char *const paths[] = {"big", "dir", "dir/in", "here", "link", ""};
	struct fixture *fx = *state;
	struct node_attr before[ARRAY_SIZE(paths)], a;
	uint64_t next;

	make_history(fx, fx->main);
	assert_int_equal(overlay_walk(data_of(fx->main), "dir/in", &a), 0);
	a.mode = 0640;
	assert_int_equal(
		overlay_setattr(data_of(fx->main), a.fid, SET_MODE, &a, &before[0]), 0);
	freeze(fx, fx->main);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		assert_int_equal(overlay_walk(data_of(fx->main), paths[i], &before[i]),
				 0);
	next = atomic_load(&data_of(fx->main)->next_fid);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
			assert_int_equal(overlay_walk(data_of(fx->main), paths[i], &a),
					 0);
			ROW_EQUAL(paths[i], a.fid, before[i].fid);
			ROW_EQUAL(paths[i], a.mode, before[i].mode);
			ROW_EQUAL(paths[i], a.nlink, before[i].nlink);
			ROW_EQUAL(paths[i], a.size_bytes, before[i].size_bytes);
			ROW_EQUAL(paths[i], a.mtime.tv_sec, before[i].mtime.tv_sec);
			ROW_EQUAL(paths[i], a.mtime.tv_nsec, before[i].mtime.tv_nsec);
		}
		/* what was given out is not given out again */
		assert_true(atomic_load(&data_of(fx->main)->next_fid) >= next);
		reopen(fx);
	}
}

/* What a branch does not have of its original, it does not have from then on either. */
static void test_fresh_layer(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "child", fx->main);
	struct node_attr a, slots, after;

	expect(fx->main, "postmaster.pid", "1\n");
	assert_int_equal(overlay_walk(data_of(b), "pg_replslot", &slots), 0);
	assert_int_equal(write_in(b, "base/1", "one"), 0);
	freeze(fx, b);
	assert_int_equal(write_in(b, "base/1", "two"), 0);
	freeze(fx, b);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	branch_put(b);
	for (unsigned round = 0; round < 2; round++) {
		b = registry_find(fx->reg, "child");
		assert_int_equal(depth(b), 3);
		expect(b, "base/1", "two");
		expect(b, "postmaster.pid", NULL);
		expect(b, "standby.signal", NULL);
		assert_int_equal(overlay_walk(data_of(b), "pg_replslot/slot", &a),
				 -ENOENT);
		assert_int_equal(overlay_walk(data_of(b), "pg_replslot", &after), 0);
		assert_int_equal(after.fid, slots.fid);
		branch_put(b);
		reopen(fx);
	}
	expect(fx->main, "postmaster.pid", "1\n");
}

/* A layer that a branch was made of stays. */
static void test_names_stay(void **state)
{
	struct fixture *fx = *state;
	struct branch *kept;

	assert_int_equal(write_in(fx->main, "base/1", "one"), 0);
	freeze(fx, fx->main);
	assert_int_equal(write_in(fx->main, "base/1", "two"), 0);
	kept = make(fx, "kept", fx->main);
	assert_int_equal(write_in(fx->main, "base/1", "three"), 0);
	freeze(fx, fx->main);
	assert_int_equal(write_in(fx->main, "base/1", "four"), 0);
	freeze(fx, fx->main);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	/* below the one with the name: the first one, and "one"; above it: two */
	assert_int_equal(depth(fx->main), 4);
	expect(kept, "base/1", "two");
	expect(fx->main, "base/1", "four");
	branch_put(kept);
	reopen(fx);
	expect_branch(fx, "kept", "two");
	expect(fx->main, "base/1", "four");
}

/* So does one that a checkpoint stands on, until that is dropped. */
static void test_checkpoint_stays(void **state)
{
	const struct checkpoint_spec spec = {.name = "kept", .kind = CHECKPOINT_NAMED};
	struct fixture *fx = *state;
	struct checkpoint_info info;
	struct err e = ERR_INIT;
	uint64_t held;

	assert_int_equal(write_in(fx->main, "base/1", "one"), 0);
	freeze(fx, fx->main);
	assert_int_equal(write_in(fx->main, "base/1", "two"), 0);
	assert_int_equal(checkpoint_take(fx->reg, fx->main, &spec, &info, &e), 0);
	assert_int_equal(registry_flush(fx->reg), 0);
	fill(fx->main, "base/1", 40000, 'x');
	freeze(fx, fx->main);
	assert_int_equal(write_in(fx->main, "base/1", "four"), 0);
	freeze(fx, fx->main);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	assert_int_equal(depth(fx->main), 4);
	assert_int_equal(checkpoint_held_bytes(fx->reg, info.no, info.seq, &held), 0);
	reopen(fx);
	{
		struct branch_spec back = {.name = "back",
					   .parent = fx->main,
					   .checkpoint_of = info.no,
					   .checkpoint_seq = info.seq,
					   .mode = 0700};
		struct branch *b;

		assert_int_equal(registry_create(fx->reg, &back, &b, &e), 0);
		expect(b, "base/1", "two");
		assert_int_equal(registry_discard(fx->reg, b, &e), 0);
		branch_put(b);
	}
	expect(fx->main, "base/1", "four");
	assert_int_equal(checkpoint_drop(fx->reg, info.no, info.seq, &e), 0);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	assert_int_equal(depth(fx->main), 2);
	expect(fx->main, "base/1", "four");
}

/* A branch that is made of the run meanwhile: it stays as it is. */
static void test_given_up(void **state)
{
	struct fixture *fx = *state;
	struct branch *late;

	make_history(fx, fx->main);
	assert_int_equal(registry_squash(fx->reg, 2, 1), 1);
	late = make(fx, "late", fx->main);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	expect_history(fx->main);
	expect_history(late);
	assert_true(count_layers(fx) <= 2);
	branch_put(late);
	reopen(fx);
	expect_history(fx->main);
}

/* The branch goes while its layers are merged. */
static void test_branch_goes(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "going", fx->main);
	struct err e = ERR_INIT;

	make_history(fx, b);
	assert_int_equal(registry_squash(fx->reg, 2, 1), 1);
	assert_int_equal(registry_discard(fx->reg, b, &e), 0);
	branch_put(b);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	assert_int_equal(count_layers(fx), 1);
	expect(fx->main, "base/1", "table");
}

/* An open file whose name went before has bytes that the merged layer has not. */
static void test_nameless_file(void **state)
{
	struct fixture *fx = *state;
	struct cowfile *f, *named;
	char buf[8] = "";

	assert_int_equal(write_in(fx->main, "doomed", "bytes"), 0);
	assert_int_equal(write_in(fx->main, "named", "alive"), 0);
	freeze(fx, fx->main);
	f = open_in(fx->main, "doomed");
	named = open_in(fx->main, "named");
	assert_int_equal(overlay_unlink(data_of(fx->main), OVERLAY_ROOT, "doomed"), 0);
	freeze(fx, fx->main);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	assert_int_equal(depth(fx->main), 4);
	assert_int_equal(cowfile_read(f, buf, sizeof(buf), 0), 5);
	assert_string_equal(buf, "bytes");
	overlay_close(data_of(fx->main), f);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	assert_int_equal(depth(fx->main), 2);
	assert_int_equal(cowfile_read(named, buf, sizeof(buf), 0), 5);
	assert_string_equal(buf, "alive");
	assert_int_equal(cowfile_write(named, "A", 1, 0), 0);
	overlay_close(data_of(fx->main), named);
	expect(fx->main, "named", "Alive");
}

/* Somebody who reads a file all the time, between two meetings. */
struct reader {
	struct cowfile *f;
	pthread_barrier_t meet;
};

static void *read_on(void *arg)
{
	struct reader *rd = arg;

	(void)pthread_rwlock_rdlock(&rd->f->lock); /* nobody else has it yet */
	(void)pthread_barrier_wait(&rd->meet);
	(void)pthread_barrier_wait(&rd->meet);
	(void)pthread_rwlock_unlock(&rd->f->lock);
	return NULL;
}

/* A file that is read all the time keeps it waiting, and nobody else. */
static void test_busy_file(void **state)
{
	struct fixture *fx = *state;
	struct reader rd;
	struct cowfile *f;
	pthread_t thread;

	make_history(fx, fx->main);
	f = open_in(fx->main, "big");
	rd.f = f;
	assert_int_equal(pthread_barrier_init(&rd.meet, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &rd), 0);
	(void)pthread_barrier_wait(&rd.meet);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	assert_true(depth(fx->main) > 2);
	expect(fx->main, "base/1", "changed");
	(void)pthread_barrier_wait(&rd.meet);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_barrier_destroy(&rd.meet), 0);
	assert_int_equal(squash(fx, UINT64_MAX), 0);
	assert_int_equal(depth(fx->main), 2);
	overlay_close(data_of(fx->main), f);
	expect_history(fx->main);
}

static void on_leftover(void *ctx, const struct leftover *l)
{
	(void)l;
	++*(unsigned *)ctx;
}

/* What is on its way is no leftover; what a crash left of it is one, and goes. */
static void test_leftovers(void **state)
{
	struct fixture *fx = *state;
	unsigned n = 0, layers;

	make_history(fx, fx->main);
	layers = count_layers(fx);
	assert_int_equal(registry_squash(fx->reg, 2, 1), 1);
	assert_int_equal(count_layers(fx), layers + 1);
	assert_int_equal(check_leftovers(fx->reg, on_leftover, &n), 0);
	assert_int_equal(n, 0);
	/* as a crash would: the directory is there, and nobody names it */
	assert_int_equal(mkdirat(registry_dirfd(fx->reg), "layers/00000fff", 0700), 0);
	reopen(fx);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), layers);
	expect_history(fx->main);
}

/* Damage is not covered up: what cannot be read stays as it is. */
static void test_damage(void **state)
{
	struct fixture *fx = *state;
	struct node_attr a;
	char path[64];
	unsigned layers;

	make_history(fx, fx->main);
	assert_int_equal(overlay_walk(data_of(fx->main), "big", &a), 0);
	reopen(fx);
	layers = count_layers(fx);
	for (struct layer *l = fx->main->top->parent; l; l = l->parent) {
		(void)snprintf(path, sizeof(path), "%s/map/%llx", l->dir,
			       (unsigned long long)a.fid);
		if (faccessat(registry_dirfd(fx->reg), path, F_OK, 0) == 0)
			break;
	}
	assert_int_equal(
		fd_replace_file(registry_dirfd(fx->reg), path, "?", 1, 0600, 0), 0);
	assert_int_equal(squash(fx, UINT64_MAX), -EIO);
	assert_int_equal(count_layers(fx), layers);
	assert_int_equal(squash(fx, UINT64_MAX), 0); /* not at once again */
	assert_int_equal(count_layers(fx), layers);
	expect(fx->main, "base/1", "changed");
}

/* Layers whose parents go round in a circle cost the branch on them, and no more. */
static void test_circle(void **state)
{
	static const struct layer_meta ring[] = {{.id = 0x70, .parent = 0x71},
						 {.id = 0x71, .parent = 0x72},
						 {.id = 0x72, .parent = 0x70}};
	struct fixture *fx = *state;
	struct branch_meta m;

	make_with(fx, "lost", "main", "lost");
	get_meta(fx, "lost", &m);
	for (size_t i = 0; i < ARRAY_SIZE(ring); i++) {
		CLEAN(clean_free) char *text = layer_meta_encode(&ring[i]);
		char path[48];

		(void)snprintf(path, sizeof(path), "layers/%08x", ring[i].id);
		assert_int_equal(fd_mkdir(registry_dirfd(fx->reg), path, 0700), 0);
		(void)snprintf(path, sizeof(path), "layers/%08x/layer.ini", ring[i].id);
		assert_int_equal(fd_replace_file(registry_dirfd(fx->reg), path, text,
						 strlen(text), 0600, 0),
				 0);
	}
	m.base = 0x70;
	put_meta(fx, "lost", &m);
	reopen(fx);
	expect_branch(fx, "lost", NULL);
	expect(fx->main, "base/1", "table");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_squash),
		cmocka_unit_test_setup_teardown(test_attributes_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fresh_layer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_checkpoint_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_branch_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nameless_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_busy_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leftovers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_circle, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers that nobody used for a while are compressed: what is read stays the same, what
 * is damaged is refused, and what was cut short changes nothing.
 */
#include "base/bytes.h"
#include "store/chill.h"
#include "store/coldfile.h"
#include "store/layer_priv.h"
#include "store/overlay_priv.h"
#include "store/registry_priv.h"
#include "store/squash.h"
#include "storefix.h"

#include <sys/random.h>
#include <sys/stat.h>

#define BIG 700001 /* some frames, and a piece of one */

static uint8_t want[BIG], noise[BIG];

static void fill_patterns(void)
{
	assert_int_equal(getrandom(noise, 200000, 0), 200000);
	for (size_t i = 0; i < BIG; i++)
		want[i] = (uint8_t)(i < 200000 || i > 400000 ? i / 1000 : 0);
}

static void put_bytes(struct branch *b, const char *path, const void *buf, size_t len)
{
	assert_int_equal(overlay_write_file(data_of(b), path, buf, len, 0640), 0);
}

/* Every layer below main's top looks as if nobody had used it since 1970. */
static void age(struct fixture *fx)
{
	static const struct timespec old[2] = {{1, 0}, {1, 0}};
	unsigned count;

	assert_true(registry_unload(fx->reg, 0, &count) >= 0);
	for (struct layer *l = fx->main->top->parent; l; l = l->parent) {
		char path[48];

		(void)snprintf(path, sizeof(path), "%s/layer.ini", l->dir);
		assert_int_equal(utimensat(registry_dirfd(fx->reg), path, old, 0), 0);
	}
}

static int chill(struct fixture *fx, uint64_t step)
{
	int rc = 1;

	for (unsigned i = 0; rc > 0 && i < 10000; i++)
		rc = registry_chill(fx->reg, 60, step);
	return rc;
}

static void freeze(struct fixture *fx)
{
	struct branch *child = make(fx, "passing", fx->main);
	struct err e = ERR_INIT;

	assert_int_equal(registry_discard(fx->reg, child, &e), 0);
	branch_put(child);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(registry_flush(fx->reg), 0);
}

/* A whole file and a delta over it, both sealed; one that is all noise. */
static void make_layers(struct fixture *fx)
{
	struct cowfile *f;
	struct node_attr a;

	fill_patterns();
	put_bytes(fx->main, "big", want, BIG);
	put_bytes(fx->main, "noise", noise, 200000);
	freeze(fx);
	assert_int_equal(overlay_walk(data_of(fx->main), "big", &a), 0);
	assert_int_equal(overlay_open(data_of(fx->main), a.fid, &f), 0);
	memset(want + 300000, 'd', 100000);
	assert_int_equal(cowfile_write(f, want + 300000, 100000, 300000), 0);
	overlay_close(data_of(fx->main), f);
	freeze(fx);
}

/* By reads of every size, and as holes and data. */
static void expect_big(struct branch *b)
{
	static uint8_t got[BIG + 10];
	struct cowfile *f;
	struct node_attr a;

	assert_int_equal(overlay_walk(data_of(b), "big", &a), 0);
	assert_int_equal(a.size_bytes, BIG);
	assert_int_equal(a.mode, S_IFREG | 0640);
	assert_int_equal(overlay_open(data_of(b), a.fid, &f), 0);
	assert_int_equal(cowfile_read(f, got, sizeof(got), 0), BIG);
	assert_memory_equal(got, want, BIG);
	for (uint64_t off = 0, len = 1; off < BIG; off += len, len = len * 3 % 70001) {
		uint64_t n = BIG - off < len ? BIG - off : len;

		assert_int_equal(cowfile_read(f, got, len, off), n);
		assert_memory_equal(got, want + off, n);
	}
	for (int64_t off = 0; off >= 0 && off < BIG;) {
		int64_t hole = cowfile_seek(f, (uint64_t)off, SEEK_HOLE);
		int64_t data = cowfile_seek(f, (uint64_t)hole, SEEK_DATA);

		for (int64_t i = hole; i < (data < 0 ? BIG : data); i++)
			assert_int_equal(want[i], 0);
		off = data;
	}
	overlay_close(data_of(b), f);
}

/* How many files the part has, over all layers below main's top. */
static unsigned count_part(struct fixture *fx, const char *part)
{
	unsigned n = 0;

	for (struct layer *l = fx->main->top->parent; l; l = l->parent) {
		struct dirent *ent;
		char path[48];
		DIR *d;
		int fd;

		(void)snprintf(path, sizeof(path), "%s/%s", l->dir, part);
		fd = openat(registry_dirfd(fx->reg), path, O_RDONLY | O_DIRECTORY);
		d = fd >= 0 ? fdopendir(fd) : NULL;
		while (d && (ent = readdir(d)) != NULL)
			n += ent->d_name[0] != '.';
		if (d)
			(void)closedir(d);
	}
	return n;
}

static void test_chill(void **state)
{
	struct fixture *fx = *state;
	struct node_attr before, a;
	uint64_t plain, cold;
	unsigned full;

	make_layers(fx);
	assert_int_equal(overlay_walk(data_of(fx->main), "big", &before), 0);
	assert_int_equal(branch_own_bytes(fx->main, &plain), 0);
	full = count_part(fx, "full");
	/* in use, or used a moment ago */
	assert_int_equal(chill(fx, UINT64_MAX), 0);
	assert_int_equal(count_part(fx, "cold"), 0);
	age(fx);
	assert_int_equal(chill(fx, 1), 0);
	assert_int_equal(count_part(fx, "cold"), 2);
	assert_int_equal(count_part(fx, "full"), full - 1); /* the noise is there */
	assert_int_equal(count_part(fx, "delta"), 0);
	assert_int_equal(branch_own_bytes(fx->main, &cold), 0);
	assert_true(cold < plain / 2 + 250000);
	for (unsigned round = 0; round < 2; round++) {
		expect_big(fx->main);
		assert_int_equal(overlay_walk(data_of(fx->main), "big", &a), 0);
		assert_int_equal(a.fid, before.fid);
		assert_int_equal(a.mtime.tv_sec, before.mtime.tv_sec);
		assert_int_equal(a.mtime.tv_nsec, before.mtime.tv_nsec);
		reopen(fx);
	}
	/* the verdict on the noise is not asked for again */
	age(fx);
	assert_int_equal(registry_chill(fx->reg, 60, UINT64_MAX), 0);
}

/* Written over, truncated, merged: a cold layer is one like any other. */
static void test_write_over(void **state)
{
	struct fixture *fx = *state;
	struct cowfile *f;
	struct node_attr a;

	make_layers(fx);
	age(fx);
	assert_int_equal(chill(fx, UINT64_MAX), 0);
	assert_int_equal(overlay_walk(data_of(fx->main), "big", &a), 0);
	assert_int_equal(overlay_open(data_of(fx->main), a.fid, &f), 0);
	want[5] = 'x';
	want[BIG - 1] = 'y';
	assert_int_equal(cowfile_write(f, "x", 1, 5), 0);
	assert_int_equal(cowfile_write(f, "y", 1, BIG - 1), 0);
	assert_int_equal(cowfile_sync(f, 0), 0);
	overlay_close(data_of(fx->main), f);
	expect_big(fx->main);
	freeze(fx);
	for (int rc = 1; rc > 0;) {
		rc = registry_squash(fx->reg, 2, 100000);
		assert_true(rc >= 0);
	}
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(overlay_depth(data_of(fx->main)), 2);
	expect_big(fx->main);
	reopen(fx);
	expect_big(fx->main);
	age(fx);
	assert_int_equal(chill(fx, UINT64_MAX), 0);
	assert_true(count_part(fx, "cold") > 0);
	expect_big(fx->main);
}

/* What a crash leaves between the steps: both are there, and the plain one counts. */
static void test_both_there(void **state)
{
	struct fixture *fx = *state;
	struct node_attr a;
	char path[64];

	make_layers(fx);
	assert_int_equal(overlay_walk(data_of(fx->main), "big", &a), 0);
	for (struct layer *l = fx->main->top->parent; l; l = l->parent) {
		(void)snprintf(path, sizeof(path), "%s/cold", l->dir);
		assert_int_equal(fd_mkdir(registry_dirfd(fx->reg), path, 0700), 0);
		(void)snprintf(path, sizeof(path), "%s/cold/%llx", l->dir,
			       (unsigned long long)a.fid);
		if (l->parent &&
		    l->parent->parent) /* not in the first: no part there */
			assert_int_equal(fd_replace_file(registry_dirfd(fx->reg), path,
							 "half", 4, 0600, 0),
					 0);
	}
	reopen(fx);
	expect_big(fx->main);
	age(fx);
	assert_int_equal(chill(fx, UINT64_MAX), 0);
	expect_big(fx->main);
	assert_int_equal(count_part(fx, "delta"), 0);
}

static void put_junk(struct fixture *fx, struct layer *l, uint64_t fid)
{
	CLEAN(clean_fd) int fd = -1;
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/delta", l->dir);
	assert_true(mkdirat(registry_dirfd(fx->reg), path, 0700) == 0 ||
		    errno == EEXIST);
	layer_part_path(l, PART_DELTA, fid, path);
	fd = openat(registry_dirfd(fx->reg), path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, want, 300000, 0), 300000);
}

/* A delta without a map, as a crash leaves it, counts for nothing, also later. */
static void test_left_behind(void **state)
{
	static uint8_t got[200001];
	struct fixture *fx = *state;
	struct node_attr big, plain;
	struct cowfile *f;

	make_layers(fx);
	assert_int_equal(overlay_walk(data_of(fx->main), "big", &big), 0);
	assert_int_equal(overlay_walk(data_of(fx->main), "noise", &plain), 0);
	age(fx);
	put_junk(fx, fx->main->top->parent->parent, big.fid); /* beside a whole one */
	put_junk(fx, fx->main->top->parent, plain.fid);       /* over one */
	assert_int_equal(chill(fx, UINT64_MAX), 0);
	expect_big(fx->main);
	assert_int_equal(overlay_open(data_of(fx->main), plain.fid, &f), 0);
	assert_int_equal(cowfile_read(f, got, sizeof(got), 0), 200000);
	assert_memory_equal(got, noise, 200000);
	overlay_close(data_of(fx->main), f);
}

/* Each byte of a compressed file, changed: EIO or the right bytes, never others. */
static void test_damage(void **state)
{
	struct fixture *fx = *state;
	CLEAN(clean_free) char *file = NULL;
	static uint8_t got[BIG];
	struct node_attr a;
	unsigned refused = 0, tried = 0;
	char path[64];
	size_t len;

	make_layers(fx);
	assert_int_equal(overlay_walk(data_of(fx->main), "big", &a), 0);
	age(fx);
	assert_int_equal(chill(fx, UINT64_MAX), 0);
	(void)snprintf(path, sizeof(path), "%s/cold/%llx", fx->main->top->parent->dir,
		       (unsigned long long)a.fid);
	assert_int_equal(
		fd_read_file(registry_dirfd(fx->reg), path, 1 << 20, &file, &len), 0);
	for (size_t i = 0; i <= len; i += i < 120 ? 1 : 37) {
		struct cowfile *f;
		ssize_t n = -EIO;
		unsigned count;

		if (i < len)
			file[i] = (char)(file[i] ^ 0x10);
		assert_int_equal(fd_replace_file(registry_dirfd(fx->reg), path, file,
						 i < len ? len : len - 1, 0600, 0),
				 0);
		if (i < len)
			file[i] = (char)(file[i] ^ 0x10);
		reopen(fx);
		if (overlay_open(data_of(fx->main), a.fid, &f) == 0) {
			n = cowfile_read(f, got, BIG, 0);
			overlay_close(data_of(fx->main), f);
		}
		tried++;
		refused += n == -EIO;
		if (n != -EIO) {
			assert_int_equal(n, BIG);
			assert_memory_equal(got, want, BIG);
		}
		assert_true(registry_unload(fx->reg, 0, &count) >= 0);
	}
	assert_true(refused > tried * 9 / 10);
	expect(fx->main, "base/1", "table"); /* nothing else suffers */
}

/* Random bytes through the codec, and what it refuses. */
static void test_codec(void **state)
{
	struct cold_index x, y;
	uint8_t *buf;
	size_t len;

	(void)state;
	assert_int_equal(cold_index_init(&x, 0x1a3, true, 150000, 65536), 0);
	assert_int_equal(x.n, 3);
	assert_int_equal(cold_frame_len(&x, 2), 150000 - 2 * 65536);
	len = cold_index_bytes(&x);
	for (uint32_t i = 0; i < 4; i++)
		x.offs[i] = len + 100 * (uint64_t)i;
	assert_int_equal(cold_index_encode(&x, &buf), 0);
	assert_int_equal(cold_index_decode(buf, len, len + 300, 0x1a3, &y), 0);
	assert_int_equal(y.size_bytes, 150000);
	assert_true(y.delta);
	cold_index_fini(&y);
	assert_int_equal(cold_index_decode(buf, len, len + 299, 0x1a3, &y), -EBADMSG);
	assert_int_equal(cold_index_decode(buf, len, len + 300, 0x1a4, &y), -EBADMSG);
	assert_int_equal(cold_index_decode(buf, len - 1, len + 300, 0x1a3, &y),
			 -EBADMSG);
	for (size_t bit = 0; bit < len * 8; bit++) {
		buf[bit / 8] = (uint8_t)(buf[bit / 8] ^ 1U << bit % 8);
		assert_int_equal(cold_index_decode(buf, len, len + 300, 0x1a3, &y),
				 -EBADMSG);
		buf[bit / 8] = (uint8_t)(buf[bit / 8] ^ 1U << bit % 8);
	}
	free(buf);
	cold_index_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codec),
		cmocka_unit_test_setup_teardown(test_chill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

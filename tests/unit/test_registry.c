/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Branches on disk: made, renamed, discarded, reopened; what a copy must not
 * have; damaged records that cost only what they describe.
 */
#include "storefix.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>

/* Descriptors of files that were removed: their space is not free. */
static unsigned count_removed_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *ent;
	unsigned n = 0;

	assert_non_null(d);
	while ((ent = readdir(d)) != NULL) {
		char target[256];
		ssize_t len =
			readlinkat(dirfd(d), ent->d_name, target, sizeof(target) - 1);

		target[len > 0 ? len : 0] = '\0';
		n += strstr(target, "(deleted)") != NULL;
	}
	(void)closedir(d);
	return n;
}

static void test_fresh_copy(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b1", fx->main), *c;

	expect(fx->main, "postmaster.pid", "1\n");
	expect(fx->main, "pg_replslot/slot/state", "x");
	for (int round = 0; round < 2; round++) {
		expect(b, "PG_VERSION", "15\n");
		expect(b, "base/1", "table");
		expect(b, "postmaster.pid", NULL);
		expect(b, "standby.signal", NULL);
		expect(b, "pg_replslot/slot/state", NULL);
		expect(b, "base/pgsql_tmp/t1", NULL);
		/* a lock file of its own, also in the second round */
		assert_int_equal(write_in(b, "postmaster.pid", "2\n"), 0);
		assert_int_equal(write_in(b, "pg_replslot/mine", "slot"), 0);
		c = make(fx, round ? "c1" : "c0", b);
		expect(c, "postmaster.pid", NULL);
		expect(c, "pg_replslot/mine", NULL);
		expect(b, "pg_replslot/mine", "slot");
		branch_put(c);
		branch_put(b);
		reopen(fx);
		b = registry_find(fx->reg, "b1");
		expect(b, "pg_replslot/mine", "slot");
		expect(b, "postmaster.pid", "2\n");
		assert_int_equal(
			overlay_unlink(data_of(b), OVERLAY_ROOT, "postmaster.pid"), 0);
		expect(b, "postmaster.pid", NULL);
	}
	branch_put(b);
}

/* The original of a copy keeps its slots, and its subscriptions for itself. */
static void test_import_by_copy(void **state)
{
	struct fixture *fx = *state;
	struct err e = ERR_INIT;
	struct branch_info info;
	char src[64];
	int fd;

	branch_info(fx->main, &info);
	assert_true(info.prepared); /* moved: there is no original any more */
	branch_put(fx->main);
	registry_close(fx->reg);
	(void)snprintf(src, sizeof(src), "%s/src2", fx->dir);
	(void)snprintf(fx->store, sizeof(fx->store), "%s/store2", fx->dir);
	make_source(src);
	assert_int_equal(store_create(fx->store, &fd, &e), 0);
	assert_int_equal(store_import(fd, src, false, 7, 8, NULL, NULL, &e), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(registry_open(fx->store, &fx->reg, &e), 0);
	fx->main = registry_find(fx->reg, MAIN_BRANCH);
	expect(fx->main, "base/1", "table");
	expect(fx->main, "pg_replslot/slot/state", NULL);
	branch_info(fx->main, &info);
	assert_false(info.prepared);
	assert_int_equal(access(src, F_OK), 0);
	err_fini(&e);
}

static void test_isolation(void **state)
{
	struct fixture *fx = *state;
	struct branch *b[6];
	char text[32], name[16];

	b[0] = branch_get(fx->main);
	for (int i = 1; i < 6; i++) { /* a chain, each with words of its own */
		(void)snprintf(name, sizeof(name), "b%d", i);
		b[i] = make(fx, name, b[i - 1]);
		(void)snprintf(text, sizeof(text), "level %d", i);
		assert_int_equal(write_in(b[i], "base/1", text), 0);
		assert_int_equal(write_in(b[i], name, text), 0);
	}
	expect(b[0], "base/1", "table");
	for (int i = 1; i < 6; i++) {
		(void)snprintf(text, sizeof(text), "level %d", i);
		expect(b[i], "base/1", text);
		for (int j = 1; j < 6; j++) {
			(void)snprintf(name, sizeof(name), "b%d", j);
			(void)snprintf(text, sizeof(text), "level %d", j);
			expect(b[i], name, j <= i ? text : NULL);
		}
	}
	for (int i = 0; i < 6; i++)
		branch_put(b[i]);
}

/* What nobody fsynced is there after a clean end all the same. */
static void test_unsynced(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b1", fx->main);
	struct overlay *o;
	struct node_attr a;
	struct cowfile *f;

	o = data_of(b);
	assert_int_equal(overlay_walk(o, "base/1", &a), 0);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	assert_int_equal(cowfile_write(f, "T", 1, 0), 0);
	overlay_close(o, f);
	branch_put(b);
	reopen(fx);
	b = registry_find(fx->reg, "b1");
	expect(b, "base/1", "Table");
	expect(fx->main, "base/1", "table");
	branch_put(b);
}

/* Many files with writes that nobody fsynced, and few descriptors. */
static void test_few_descriptors(void **state)
{
	struct fixture *fx = *state;
	struct rlimit lim, low;
	char name[16];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	low = lim;
	low.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	reopen(fx); /* the cache takes its bound from the limit */
	for (int i = 0; i < 300; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		ROW_EQUAL(name, write_in(fx->main, name, name), 0);
	}
	for (int i = 0; i < 300; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		expect(fx->main, name, name);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		int rc;
	} rows[] = {
		{"ok", 0},
		{"main", -EEXIST},
		{"", -EINVAL},
		{".hidden", -EINVAL},
		{"-dash", -EINVAL},
		{"a/b", -EINVAL},
		{"new\nline", -EINVAL},
		{"..", -EINVAL},
		{"a.b-c_d", 0},
		{"ok", -EEXIST},
		{"\303\244", -EINVAL},
		{"a23456789012345678901234567890123456789012345678901234567890123", 0},
		{"a234567890123456789012345678901234567890123456789012345678901234",
		 -ENAMETOOLONG},
	};
	struct fixture *fx = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct branch_spec spec = {.name = rows[i].name, .parent = fx->main};
		struct err e = ERR_INIT;
		struct branch *b = NULL;

		ROW_EQUAL(rows[i].name, registry_create(fx->reg, &spec, &b, &e),
			  rows[i].rc);
		assert_true((rows[i].rc < 0) == (e.msg != NULL));
		branch_put(b);
		err_fini(&e);
	}
}

static void test_rename_and_discard(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *b = make(fx, "b", a);
	struct branch_info info;
	struct err e = ERR_INIT;

	assert_int_equal(registry_rename(fx->reg, a, "b", &e), -EEXIST);
	assert_int_equal(registry_rename(fx->reg, a, "z", &e), 0);
	assert_null(registry_find(fx->reg, "a"));
	branch_info(b, &info);
	assert_string_equal(info.parent, "z");
	assert_false(info.parent_gone);
	assert_int_equal(registry_discard(fx->reg, fx->main, &e), -EPERM);
	assert_int_equal(registry_discard(fx->reg, a, &e), 0);
	assert_int_equal(registry_discard(fx->reg, a, &e), -ENOENT);
	branch_put(a);
	branch_info(b, &info);
	assert_true(info.parent_gone);
	assert_string_equal(info.parent, "z");
	branch_put(b);
	reopen(fx);
	assert_null(registry_find(fx->reg, "z"));
	b = registry_find(fx->reg, "b");
	assert_non_null(b);
	branch_info(b, &info);
	assert_true(info.parent_gone);
	assert_string_equal(info.parent, "z");
	expect(b, "base/1", "table");
	branch_put(b);
	err_fini(&e);
}

static void test_reclaim(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *b;
	struct err e = ERR_INIT;
	unsigned before = count_layers(fx);

	assert_int_equal(write_in(a, "x", "1"), 0);
	b = make(fx, "b", a); /* freezes a's top */
	assert_int_equal(write_in(b, "y", "2"), 0);
	assert_int_equal(write_in(a, "x", "3"), 0);
	assert_int_equal(count_layers(fx), before + 3);
	assert_int_equal(registry_discard(fx->reg, a, &e), 0);
	branch_put(a);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before + 2); /* b stands on the frozen one */
	expect(b, "x", "1");
	assert_int_equal(registry_discard(fx->reg, b, &e), 0);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	assert_int_equal(count_removed_open(), 0); /* though we still hold the branch */
	branch_put(b);
	/* what a crash leaves is found at the next mount */
	assert_int_equal(mkdirat(registry_dirfd(fx->reg), "layers/000000ff", 0700), 0);
	reopen(fx);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	expect(fx->main, "base/1", "table");
	/* a number that would make the counting begin anew is no layer's */
	assert_int_equal(mkdirat(registry_dirfd(fx->reg), "layers/ffffffff", 0700), 0);
	reopen(fx);
	b = make(fx, "b", fx->main);
	assert_int_equal(write_in(b, "x", "1"), 0);
	branch_put(b);
	reopen(fx);
	b = registry_find(fx->reg, "b");
	assert_non_null(b);
	expect(b, "x", "1");
	branch_put(b);
	err_fini(&e);
}

static void damage(struct fixture *fx, const char *path)
{
	int fd = openat(registry_dirfd(fx->reg), path, O_RDWR);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, 20), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, 20), 1);
	assert_int_equal(close(fd), 0);
}

/* A damaged record costs its branch, and no layer is taken for an orphan then. */
static void test_damaged_record(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *b = make(fx, "b", fx->main);
	unsigned before;

	assert_int_equal(write_in(a, "x", "1"), 0);
	assert_int_equal(write_in(b, "x", "2"), 0);
	before = count_layers(fx);
	branch_put(a);
	branch_put(b);
	damage(fx, "branches/a.ini");
	reopen(fx);
	assert_null(registry_find(fx->reg, "a"));
	b = registry_find(fx->reg, "b");
	assert_non_null(b);
	expect(b, "x", "2");
	branch_put(b);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), before);
	damage(fx, "branches/a.ini"); /* mended */
	reopen(fx);
	a = registry_find(fx->reg, "a");
	assert_non_null(a);
	expect(a, "x", "1");
	branch_put(a);
}

/* Two records for one branch, as a careless copy leaves them. */
static void test_copied_record(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *b;
	CLEAN(clean_free) char *text = NULL;
	size_t len;

	branch_put(a);
	assert_int_equal(fd_read_file(registry_dirfd(fx->reg), "branches/a.ini", 4096,
				      &text, &len),
			 0);
	assert_int_equal(fd_replace_file(registry_dirfd(fx->reg), "branches/c.ini",
					 text, len, 0600, 0),
			 0);
	reopen(fx);
	a = registry_find(fx->reg, "a");
	b = registry_find(fx->reg, "c");
	assert_true((a != NULL) != (b != NULL)); /* one of them, never both */
	branch_put(a);
	branch_put(b);
}

static void test_second_daemon(void **state)
{
	struct fixture *fx = *state;
	struct registry *other;
	struct err e = ERR_INIT;

	assert_int_equal(registry_open(fx->store, &other, &e), -EBUSY);
	assert_non_null(strstr(err_text(&e), "mounted already"));
	assert_int_equal(registry_open(fx->dir, &other, &e), -EINVAL);
	assert_non_null(strstr(err_text(&e), "not a store"));
	err_fini(&e);
}

/* An unlinked file's bytes last as long as it is open, and go then. */
static void test_unlinked_open(void **state)
{
	struct fixture *fx = *state;
	struct overlay *o;
	struct node_attr a;
	struct cowfile *f;
	char buf[8] = "";

	o = data_of(fx->main);
	assert_int_equal(overlay_mknod(o, OVERLAY_ROOT, "t", S_IFREG | 0600, &a), 0);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	assert_int_equal(cowfile_write(f, "abc", 3, 0), 0);
	assert_int_equal(overlay_unlink(o, OVERLAY_ROOT, "t"), 0);
	assert_int_equal(cowfile_read(f, buf, 8, 0), 3);
	assert_string_equal(buf, "abc");
	assert_int_equal(cowfile_write(f, "d", 1, 3), 0);
	assert_int_equal(cowfile_sync(f, 0), 0);
	assert_int_equal(overlay_getattr(o, a.fid, &a), 0);
	assert_int_equal(a.nlink, 0);
	overlay_close(o, f);
	assert_int_equal(overlay_getattr(o, a.fid, &a), -ESTALE);
	/* the same for a file of a lower layer */
	assert_int_equal(overlay_walk(o, "base/1", &a), 0);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	{
		struct node_attr dir;

		assert_int_equal(overlay_walk(o, "base", &dir), 0);
		assert_int_equal(overlay_unlink(o, dir.fid, "1"), 0);
	}
	assert_int_equal(cowfile_read(f, buf, 8, 0), 5);
	overlay_close(o, f);
	expect(fx->main, "base/1", NULL);
}

struct writer {
	pthread_t thread;
	struct overlay *o;
	struct cowfile *f;
	atomic_uint_fast64_t written;
	atomic_bool stop;
};

static void *write_on(void *arg)
{
	struct writer *w = arg;

	while (!atomic_load(&w->stop)) {
		uint64_t n = atomic_load(&w->written) + 1;

		if (cowfile_write(w->f, &n, sizeof(n), 0) < 0)
			return w;
		atomic_store(&w->written, n);
	}
	return NULL;
}

static uint64_t number_in(struct branch *b)
{
	struct node_attr a;
	struct overlay *o;
	struct cowfile *f;
	uint64_t n = 0;

	o = data_of(b);
	assert_int_equal(overlay_walk(o, "n", &a), 0);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	assert_int_equal(cowfile_read(f, &n, sizeof(n), 0), sizeof(n));
	overlay_close(o, f);
	return n;
}

/* A branch of a file that is being written: it stands still, and lacks nothing. */
static void check_still(struct fixture *fx, struct writer *w, const char *name)
{
	uint64_t before = atomic_load(&w->written), n;
	struct branch *b = make(fx, name, fx->main);
	struct err e = ERR_INIT;

	n = number_in(b);
	assert_true(n >= before);
	before = atomic_load(&w->written);
	while (atomic_load(&w->written) < before + 2)
		(void)sched_yield();
	assert_int_equal(number_in(b), n);
	assert_int_equal(registry_discard(fx->reg, b, &e), 0);
	branch_put(b);
}

/* On one processor a writer who waited for the freeze runs as soon as it is over. */
static void test_branching_under_writes(void **state)
{
	struct fixture *fx = *state;
	struct writer w = {0};
	struct node_attr a;
	cpu_set_t all, one;
	void *rc;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(write_in(fx->main, "n", "12345678"), 0);
	w.o = data_of(fx->main);
	assert_int_equal(overlay_walk(w.o, "n", &a), 0);
	assert_int_equal(overlay_open(w.o, a.fid, &w.f), 0);
	assert_int_equal(pthread_create(&w.thread, NULL, write_on, &w), 0);
	while (!atomic_load(&w.written))
		(void)sched_yield();
	for (unsigned i = 0; i < 200; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "b%u", i);
		check_still(fx, &w, name);
	}
	atomic_store(&w.stop, true);
	assert_int_equal(pthread_join(w.thread, &rc), 0);
	assert_null(rc);
	overlay_close(w.o, w.f);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fresh_copy),
		CASE(test_import_by_copy),
		CASE(test_few_descriptors),
		CASE(test_isolation),
		CASE(test_unsynced),
		CASE(test_names),
		CASE(test_rename_and_discard),
		CASE(test_reclaim),
		CASE(test_damaged_record),
		CASE(test_copied_record),
		CASE(test_second_daemon),
		CASE(test_unlinked_open),
		CASE(test_branching_under_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

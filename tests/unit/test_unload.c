/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Branches that are taken out of memory while nobody uses them: what comes back is what
 * went, what an fsync owes is done before, and who uses a tree keeps it.
 */
#include "store/layer_priv.h"
#include "store/overlay_priv.h"
#include "store/registry_priv.h"
#include "storefix.h"

#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

/* Descriptors of files in the store's layers and run directories. */
static unsigned count_open(struct fixture *fx)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *ent;
	unsigned n = 0;
	char layers[80], run[80];

	(void)snprintf(layers, sizeof(layers), "%s/layers/", fx->store);
	(void)snprintf(run, sizeof(run), "%s/run/", fx->store);
	assert_non_null(d);
	while ((ent = readdir(d)) != NULL) {
		char target[256];
		ssize_t len =
			readlinkat(dirfd(d), ent->d_name, target, sizeof(target) - 1);

		target[len > 0 ? len : 0] = '\0';
		n += strncmp(target, layers, strlen(layers)) == 0 ||
		     strncmp(target, run, strlen(run)) == 0;
	}
	(void)closedir(d);
	return n;
}

static bool is_loaded(struct branch *b)
{
	struct branch_info info;

	branch_info(b, &info);
	return info.loaded;
}

/* How many trees went, or the error. */
static int unload_after(struct fixture *fx, int64_t rest_ms)
{
	unsigned count;
	int rc = registry_unload(fx->reg, rest_ms, &count);

	return rc < 0 ? rc : (int)count;
}

/* All that may go goes; then nothing of b is left. */
static void unload(struct fixture *fx, struct branch *b)
{
	assert_true(unload_after(fx, 0) >= 0);
	assert_false(is_loaded(b));
}

/* How many layers of the chain have their index in memory. */
static unsigned count_indexes(struct branch *b)
{
	unsigned n = 0;

	for (struct layer *l = b->top; l; l = l->parent) {
		READ_SCOPE(&l->lock);
		n += l->loaded;
	}
	return n;
}

static void mknod_in(struct branch *b, const char *name, mode_t mode,
		     struct node_attr *ret_attr)
{
	assert_int_equal(overlay_mknod(data_of(b), OVERLAY_ROOT, name, mode, ret_attr),
			 0);
}

static void walk_in(struct branch *b, const char *path, struct node_attr *ret_attr)
{
	ROW_EQUAL(path, overlay_walk(data_of(b), path, ret_attr), 0);
}

/* Writes over part of a file, with no fsync. */
static void patch_in(struct branch *b, const char *path, const char *text, uint64_t off)
{
	struct overlay *o = data_of(b);
	struct node_attr a;
	struct cowfile *f;

	walk_in(b, path, &a);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	assert_int_equal(cowfile_write(f, text, strlen(text), off), 0);
	overlay_close(o, f);
}

/* One of everything, in the branch's own layer and over those below it. */
static void make_changes(struct branch *b)
{
	struct timespec when[2] = {{1000, 7}, {2000, 9}};
	struct overlay *o = data_of(b);
	struct node_attr a, dir, in = {.mode = 0640};

	walk_in(b, "base", &dir);
	patch_in(b, "base/1", "T", 0);
	assert_int_equal(write_in(b, "new", "new"), 0);
	assert_int_equal(
		overlay_rename(o, OVERLAY_ROOT, "PG_VERSION", dir.fid, "version", 0),
		0);
	walk_in(b, "base/version", &a);
	assert_int_equal(overlay_link(o, a.fid, OVERLAY_ROOT, "linked", &a), 0);
	assert_int_equal(overlay_setattr(o, a.fid, SET_MODE, &in, &a), 0);
	assert_int_equal(overlay_unlink(o, OVERLAY_ROOT, "standby.signal"), -ENOENT);
	assert_int_equal(overlay_symlink(o, OVERLAY_ROOT, "sym", "to/there", &a), 0);
	mknod_in(b, "dir", S_IFDIR | 01750, &a);
	in.atime = when[0];
	in.mtime = when[1];
	assert_int_equal(overlay_setattr(o, a.fid, SET_ATIME | SET_MTIME, &in, &a), 0);
	assert_int_equal(write_in(b, "dir/file", "in it"), 0);
	assert_int_equal(overlay_setattr(o, a.fid, SET_MTIME, &in, &a), 0);
	assert_int_equal(write_in(b, "postmaster.pid", "9\n"), 0);
	assert_int_equal(overlay_rmdir(o, OVERLAY_ROOT, "pg_replslot"), 0);
	assert_int_equal(write_in(b, "gone", "x"), 0);
	assert_int_equal(overlay_unlink(o, OVERLAY_ROOT, "gone"), 0);
}

static void expect_changes(struct branch *b)
{
	CLEAN(clean_free) char *target = NULL;
	struct node_attr a, linked;

	expect(b, "base/1", "Table");
	expect(b, "new", "new");
	expect(b, "PG_VERSION", NULL);
	expect(b, "base/version", "15\n");
	expect(b, "linked", "15\n");
	walk_in(b, "base/version", &a);
	walk_in(b, "linked", &linked);
	assert_int_equal(a.fid, linked.fid);
	assert_int_equal(a.nlink, 2);
	assert_int_equal(a.mode, S_IFREG | 0640);
	walk_in(b, "sym", &a);
	assert_int_equal(overlay_readlink(data_of(b), a.fid, &target), 0);
	assert_string_equal(target, "to/there");
	walk_in(b, "dir", &a);
	assert_int_equal(a.mode, S_IFDIR | 01750);
	assert_int_equal(a.mtime.tv_sec, 2000);
	assert_int_equal(a.mtime.tv_nsec, 9);
	expect(b, "dir/file", "in it");
	expect(b, "postmaster.pid", "9\n");
	expect(b, "pg_replslot/slot/state", NULL);
	assert_int_equal(overlay_walk(data_of(b), "pg_replslot", &a), -ENOENT);
	expect(b, "gone", NULL);
	walk_in(b, "", &a);
	assert_int_equal(a.nlink, 2 + 2); /* base and dir */
}

static void test_same_again(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main);

	make_changes(b);
	for (int round = 0; round < 3; round++) {
		unload(fx, b);
		assert_int_equal(count_open(fx), 0);
		assert_int_equal(count_indexes(b), 0);
		expect_changes(b);
		assert_true(is_loaded(b));
		patch_in(b, "new", "new", 0);
	}
	expect(fx->main, "base/1", "table");
	branch_put(b);
}

/* Nothing that was written waits in memory: a copy of the store has it. */
static void test_made_durable(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main);
	struct registry *copy;
	struct err e = ERR_INIT;
	char path[80], *argv[] = {"cp", "-a", fx->store, path, NULL};
	int status;
	pid_t pid;

	make_changes(b);
	unload(fx, b);
	for (struct layer *l = b->top; l; l = l->parent)
		assert_true(layer_is_settled_locked(l));
	(void)snprintf(path, sizeof(path), "%s/copy", fx->dir);
	assert_int_equal(posix_spawnp(&pid, "cp", NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	branch_put(b);
	assert_int_equal(registry_open(path, &copy, &e), 0);
	b = registry_find(copy, "b");
	assert_non_null(b);
	expect_changes(b);
	branch_put(b);
	registry_close(copy);
}

/* Who has a reference, a file or only looked a moment ago keeps the tree. */
static void test_kept(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main);
	struct overlay *o;
	struct node_attr a;
	struct cowfile *f;
	char buf[8] = "";

	assert_int_equal(branch_data_get(b, &o), 0);
	mknod_in(b, "t", S_IFREG | 0600, &a);
	assert_int_equal(overlay_open(o, a.fid, &f), 0);
	assert_int_equal(cowfile_write(f, "abc", 3, 0), 0);
	assert_int_equal(overlay_unlink(o, OVERLAY_ROOT, "t"), 0);
	assert_int_equal(unload_after(fx, 0), 0);
	assert_int_equal(cowfile_read(f, buf, 8, 0), 3);
	assert_string_equal(buf, "abc");
	overlay_close(o, f);
	overlay_put(o);
	/* the time counts from the look that finds nobody */
	assert_int_equal(unload_after(fx, 3600 * 1000), 0);
	assert_true(is_loaded(b));
	assert_int_equal(unload_after(fx, 0), 1);
	assert_false(is_loaded(b));
	expect(b, "base/1", "table");
	assert_int_equal(unload_after(fx, 3600 * 1000), 0);
	assert_true(is_loaded(b));
	branch_put(b);
}

/* A layer that two stand on is in memory as long as one of them is. */
static void test_shared_layers(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *b = make(fx, "b", a);
	struct overlay *o;

	expect(a, "base/1", "table");
	assert_int_equal(branch_data_get(b, &o), 0);
	unload(fx, a);
	assert_int_equal(count_indexes(a),
			 layer_depth(a->top) - 1); /* all but its own */
	expect(b, "base/1", "table");
	overlay_put(o);
	unload(fx, b);
	assert_int_equal(count_indexes(a), 0);
	assert_int_equal(count_indexes(b), 0);
	expect(a, "base/1", "table");
	branch_put(a);
	branch_put(b);
}

/* What a freeze sealed and nobody flushed stays, though nobody uses it any more. */
static void test_unflushed_layer(void **state)
{
	struct fixture *fx = *state;
	struct branch *p = make(fx, "p", fx->main), *c;
	struct err e = ERR_INIT;
	struct layer *sealed;

	patch_in(p, "base/1", "T", 0);
	c = make(fx, "c", p);
	sealed = c->top->parent;
	assert_false(atomic_load(&sealed->durable));
	assert_int_equal(registry_discard(fx->reg, p, &e), 0);
	branch_put(p); /* its tree goes, and had the only hold */
	assert_true(sealed->loaded);
	assert_false(layer_is_settled_locked(sealed));
	assert_int_equal(registry_flush(fx->reg), 0);
	assert_true(atomic_load(&sealed->durable));
	assert_false(sealed->loaded);
	expect(c, "base/1", "Table");
	/* and if somebody uses it: taking that out of memory flushes it */
	patch_in(c, "base/1", "t", 0);
	p = make(fx, "p", c);
	sealed = p->top->parent;
	assert_false(atomic_load(&sealed->durable));
	unload(fx, c);
	assert_true(atomic_load(&sealed->durable));
	expect(p, "base/1", "table");
	branch_put(p);
	branch_put(c);
}

/* The branch is frozen, discarded, renamed while it is not in memory. */
static void test_changed_asleep(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main), *c;
	struct err e = ERR_INIT;

	make_changes(b);
	unload(fx, b);
	c = make(fx, "c", b);
	expect(c, "base/1", "Table");
	patch_in(c, "base/1", "c", 0);
	assert_int_equal(registry_rename(fx->reg, b, "z", &e), 0);
	expect_changes(b);
	unload(fx, b);
	assert_int_equal(branch_wait_durable(c), 0);
	assert_int_equal(registry_discard(fx->reg, b, &e), 0);
	branch_put(b);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	expect(c, "base/1", "cable");
	branch_put(c);
}

/* What is in the trash is used by nobody. */
static void test_trashed(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main);
	struct err e = ERR_INIT;

	make_changes(b);
	assert_int_equal(registry_trash(fx->reg, b, &e), 0);
	assert_true(is_loaded(b));
	unload(fx, b);
	assert_int_equal(registry_restore(fx->reg, b, "b", 0, &e), 0);
	expect_changes(b);
	branch_put(b);
}

/* The kernel may still know the number of something that was removed. */
static void test_numbers(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main);
	struct node_attr a, again;
	struct overlay *run;

	mknod_in(b, "x", S_IFREG | 0600, &a);
	assert_int_equal(overlay_unlink(data_of(b), OVERLAY_ROOT, "x"), 0);
	unload(fx, b);
	mknod_in(b, "x", S_IFREG | 0600, &again);
	assert_true(again.fid > a.fid);

	for (int round = 0; round < 2; round++) {
		assert_int_equal(branch_run_get(b, &run), 0);
		assert_int_equal(overlay_lookup(run, OVERLAY_ROOT, "s", &again),
				 -ENOENT);
		assert_int_equal(
			overlay_mknod(run, OVERLAY_ROOT, "s", S_IFSOCK | 0700, &again),
			0);
		assert_true(!round || again.fid > a.fid);
		a = again;
		assert_int_equal(unload_after(fx, 0), 0 + !round);
		assert_true(is_loaded(b));
		overlay_put(run);
		unload(fx, b);
	}
	branch_put(b);
}

static void count_call(void *ctx)
{
	++*(int *)ctx;
}

/* A watch goes with the tree, and can be set on the next one. */
static void test_watch(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main);
	int calls = 0;

	overlay_watch(data_of(b), "new", count_call, &calls);
	assert_int_equal(write_in(b, "new", "1"), 0);
	assert_int_equal(calls, 1);
	unload(fx, b);
	assert_int_equal(write_in(b, "new", "1"), 0);
	assert_int_equal(calls, 1);
	overlay_watch(data_of(b), "new", count_call, &calls);
	assert_int_equal(write_in(b, "new", "1"), 0);
	assert_int_equal(calls, 2);
	branch_put(b);
}

/* What is damaged meanwhile costs what it describes, and is well again when mended. */
static void test_damaged_asleep(void **state)
{
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main);
	char map[BFILE_PATH_MAX], away[BFILE_PATH_MAX + 4], names[BFILE_PATH_MAX];
	struct node_attr a;
	struct overlay *o;

	make_changes(b);
	walk_in(b, "base/1", &a);
	layer_part_path(b->top, PART_MAP, a.fid, map);
	layer_part_path(b->top, PART_NAMES, OVERLAY_ROOT, names);
	unload(fx, b);
	(void)snprintf(away, sizeof(away), "%s.no", map);
	move_file(fx, map, away);
	put_dir(fx->store, map); /* anything but a map */
	expect(b, "new", "new");
	assert_int_equal(overlay_open(data_of(b), a.fid, &(struct cowfile *){NULL}),
			 -EIO);
	unload(fx, b);
	assert_int_equal(unlinkat(registry_dirfd(fx->reg), map, AT_REMOVEDIR), 0);
	move_file(fx, away, map);
	expect_changes(b);
	/* the whole layer */
	unload(fx, b);
	(void)snprintf(away, sizeof(away), "%s.no", b->top->dir);
	move_file(fx, b->top->dir, away);
	put_file(fx->store, b->top->dir, "not a directory");
	assert_int_equal(branch_data_get(b, &o), -EIO);
	assert_false(is_loaded(b));
	assert_int_equal(count_indexes(b), 0); /* nor of those below it */
	expect(fx->main, "base/1", "table");
	assert_int_equal(unlinkat(registry_dirfd(fx->reg), b->top->dir, 0), 0);
	move_file(fx, away, b->top->dir);
	expect_changes(b);
	branch_put(b);
}

static char *fault_dir;

/* What an fsync refused once is refused for ever, so it must not be forgotten. */
static void test_failed_fsync(void **state)
{
#ifdef ENABLE_FAULT_POINTS
	struct fixture *fx = *state;
	struct branch *b = make(fx, "b", fx->main), *c = make(fx, "c", fx->main);
	struct node_attr a;
	struct cowfile *f;
	char line[80];

	patch_in(b, "base/1", "T", 0);
	patch_in(c, "base/1", "T", 0);
	walk_in(b, "base/1", &a);
	(void)snprintf(line, sizeof(line), "bfile.fdatasync EIO %08x\n", b->top->id);
	put_file(fault_dir, "fault", line);
	assert_int_equal(unload_after(fx, 0), -EIO);
	put_file(fault_dir, "fault", "");
	assert_true(is_loaded(b));
	assert_false(is_loaded(c)); /* its neighbour goes all the same */
	assert_int_equal(unload_after(fx, 0), -EIO);
	assert_true(is_loaded(b));
	assert_int_equal(overlay_open(data_of(b), a.fid, &f), 0);
	assert_int_equal(cowfile_sync(f, 0), -EIO);
	overlay_close(data_of(b), f);
	branch_put(b);
	branch_put(c);
#else
	(void)state;
	skip();
#endif
}

/* --- while others read, write, branch and discard --- */

#define CROWD 3
#define CROWD_FILES 4

struct crowd {
	struct fixture *fx;
	struct branch *b;
	atomic_uint counts[CROWD_FILES]; /* as written in the files */
	pthread_mutex_t locks[CROWD_FILES];
	atomic_bool stop;
	atomic_uint next;
	atomic_int rc; /* of the last step that failed */
};

static void file_of(unsigned i, char name[static 8])
{
	(void)snprintf(name, 8, "n%u", i);
}

/* One more in a file, by a way that leaves it unsynced, renamed or made anew. */
static int count_on(struct crowd *w, unsigned i, unsigned how)
{
	CLEAN(overlay_putp) struct overlay *o = NULL;
	char name[8], text[16];
	unsigned n;
	int rc;

	LOCK_SCOPE(&w->locks[i]);
	n = atomic_load(&w->counts[i]) + 1;
	file_of(i, name);
	(void)snprintf(text, sizeof(text), "%u.%u", i, n);
	rc = branch_data_get(w->b, &o);
	if (rc == 0 && how % 3 == 0)
		rc = overlay_unlink(o, OVERLAY_ROOT, name);
	if (rc == 0)
		rc = overlay_write_file(o, name, text, strlen(text), 0600);
	if (rc == 0 && how % 3 == 1)
		rc = overlay_rename(o, OVERLAY_ROOT, name, OVERLAY_ROOT, text, 0);
	if (rc == 0 && how % 3 == 1)
		rc = overlay_rename(o, OVERLAY_ROOT, text, OVERLAY_ROOT, name, 0);
	atomic_store(&w->counts[i], n);
	return rc;
}

static int check_count(struct crowd *w, unsigned i)
{
	CLEAN(overlay_putp) struct overlay *o = NULL;
	CLEAN(clean_free) char *text = NULL;
	char name[8], want[16];
	int rc;

	LOCK_SCOPE(&w->locks[i]);
	file_of(i, name);
	(void)snprintf(want, sizeof(want), "%u.%u", i, atomic_load(&w->counts[i]));
	rc = branch_data_get(w->b, &o);
	if (rc == 0)
		rc = overlay_read_file(o, name, 64, &text, NULL);
	if (rc == 0 && strcmp(text, want) != 0) {
		print_error("%s has %s, not %s\n", name, text, want);
		rc = -EBADMSG;
	}
	return rc;
}

/* cmocka's checks work on the main thread only. */
static void *crowd_main(void *arg)
{
	struct crowd *w = arg;
	unsigned seed = atomic_fetch_add(&w->next, 1) * 7919 + 1;

	while (!atomic_load(&w->stop)) {
		struct timespec pause = {0, (long)(seed >> 8) % 2000 * 1000};
		unsigned i;
		int rc;

		seed = seed * 1103515245 + 12345;
		i = (seed >> 17) % CROWD_FILES;
		rc = seed >> 16 & 1 ? count_on(w, i, seed >> 20) : check_count(w, i);
		if (rc < 0)
			atomic_store(&w->rc, rc);
		(void)nanosleep(&pause, NULL); /* without it, it never rests */
	}
	return NULL;
}

static void test_crowd(void **state)
{
	struct fixture *fx = *state;
	struct crowd w = {.fx = fx, .b = make(fx, "b", fx->main)};
	const char *env = getenv("PGBRANCHFS_UNLOADS");
	int want = env ? atoi(env) : 150, went = 0;
	pthread_t threads[CROWD];
	struct err e = ERR_INIT;
	unsigned made = 0;

	for (unsigned i = 0; i < CROWD_FILES; i++) {
		char name[8], text[8];

		file_of(i, name);
		(void)snprintf(text, sizeof(text), "%u.0", i);
		(void)pthread_mutex_init(&w.locks[i], NULL);
		assert_int_equal(write_in(w.b, name, text), 0);
	}
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, crowd_main, &w), 0);
	while (went < want && !atomic_load(&w.rc)) {
		char name[16];
		struct branch *c;
		int rc = unload_after(fx, 0);

		assert_true(rc >= 0);
		went += rc;
		if (went < (int)made * 10)
			continue;
		/* a freeze, and a branch that shares the layers and goes again */
		(void)snprintf(name, sizeof(name), "c%u", made++);
		c = make(fx, name, w.b);
		expect(c, "base/1", "table");
		assert_int_equal(registry_discard(fx->reg, c, &e), 0);
		branch_put(c);
		assert_int_equal(registry_reclaim(fx->reg), 0);
	}
	atomic_store(&w.stop, true);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&w.rc), 0);
	unload(fx, w.b);
	assert_int_equal(count_open(fx), 0);
	for (unsigned i = 0; i < CROWD_FILES; i++)
		assert_int_equal(check_count(&w, i), 0);
	branch_put(w.b);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* The file that says what fails is looked for once. */
static int fault_setup(void **state)
{
	char path[80];

	if (unit_dir_make(state) < 0)
		return -1;
	fault_dir = *state;
	(void)snprintf(path, sizeof(path), "%s/fault", fault_dir);
	return setenv("PGBRANCHFS_FAULT_FILE", path, 1);
}

static int fault_teardown(void **state)
{
	int rc = fd_remove_tree(AT_FDCWD, fault_dir);

	(void)state;
	free(fault_dir);
	return rc;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_same_again),
		CASE(test_made_durable),
		CASE(test_kept),
		CASE(test_shared_layers),
		CASE(test_unflushed_layer),
		CASE(test_changed_asleep),
		CASE(test_trashed),
		CASE(test_numbers),
		CASE(test_watch),
		CASE(test_damaged_asleep),
		CASE(test_failed_fsync),
		CASE(test_crowd),
	};

	return cmocka_run_group_tests(tests, fault_setup, fault_teardown);
}

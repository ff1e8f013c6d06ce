/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same random operations on a branch and on a plain directory, compared after
 * each step by result and now and then as a whole.  Between them the branch is
 * frozen, branched, written on, taken out of memory, its layers merged, reopened.  The
 * seed is printed; PGBRANCHFS_SEED and PGBRANCHFS_OPS choose others.
 */
#include "base/fd.h"
#include "store/cowfile.h"
#include "store/import.h"
#include "store/overlay.h"
#include "store/registry.h"
#include "store/squash.h"
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define NAMES 12
#define MAX_SIZE 100000

/* An open file in both worlds. */
struct both {
	int fd;
	struct cowfile *f;
};

struct world {
	char dir[64]; /* holds "plain" and "store" */
	int plain;    /* O_PATH of the plain directory */
	struct registry *reg;
	struct branch *branch;
	struct overlay *o;
	unsigned made;     /* branches so far */
	uint64_t squashed; /* layers that were merged */
	struct both held;  /* a file that stays open for a while; f is NULL: none */
	uint64_t rng;
	uint8_t buf_a[MAX_SIZE * 2], buf_b[MAX_SIZE * 2];
};

static uint64_t rnd(struct world *w, uint64_t n)
{
	w->rng = w->rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (w->rng >> 33) % n;
}

/* A path of one or two components, often one that exists. */
static void pick(struct world *w, char path[static 32])
{
	unsigned d = (unsigned)rnd(w, 5), n = (unsigned)rnd(w, NAMES);

	if (d < 3)
		(void)snprintf(path, 32, "d%u/n%u", d, n);
	else
		(void)snprintf(path, 32, "%s%u", n < 3 ? "d" : "n", n);
}

/* Resolves all but the last component in the overlay. */
static int parent_of(struct world *w, const char *path, uint64_t *dir,
		     const char **name)
{
	char head[32];
	const char *slash = strrchr(path, '/');
	struct node_attr a;
	int rc;

	*name = slash ? slash + 1 : path;
	*dir = OVERLAY_ROOT;
	if (!slash)
		return 0;
	(void)snprintf(head, sizeof(head), "%.*s", (int)(slash - path), path);
	rc = overlay_walk(w->o, head, &a);
	if (rc == 0 && !S_ISDIR(a.mode))
		rc = -ENOTDIR;
	*dir = a.fid;
	return rc;
}

static int result(int rc)
{
	return rc < 0 ? -errno : 0;
}

/* Where the way to the name is no directory, one error is as good as another. */
static void same(const char *what, const char *path, int rc, int want)
{
	if (getenv("PGBRANCHFS_TRACE"))
		print_message("%s %s: %d\n", what, path, want);
	if (rc < 0 && want < 0 && strchr(path, '/'))
		return;
	if (rc != want)
		fail_msg("%s %s: %s, want %s", what, path, strerror(-rc),
			 strerror(-want));
}

static int open_both(struct world *w, const char *path, struct both *b)
{
	struct node_attr a;
	struct stat st;
	int rc;

	if (fstatat(w->plain, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return -1;
	b->fd = openat(w->plain, path, O_RDWR);
	assert_true(b->fd >= 0);
	rc = overlay_walk(w->o, path, &a);
	same("walk", path, rc == 0 ? 0 : -EIO, 0);
	rc = overlay_open(w->o, a.fid, &b->f);
	assert_int_equal(rc, 0);
	return 0;
}

static void close_both(struct world *w, struct both *b)
{
	overlay_close(w->o, b->f);
	assert_int_equal(close(b->fd), 0);
}

static void op_create(struct world *w, const char *path)
{
	struct node_attr a;
	const char *name;
	uint64_t dir;
	int want, rc = parent_of(w, path, &dir, &name);
	int fd = openat(w->plain, path, O_CREAT | O_EXCL | O_RDWR, 0640);

	want = result(fd);
	if (rc == 0)
		rc = overlay_mknod(w->o, dir, name, S_IFREG | 0640, &a);
	if (fd >= 0)
		assert_int_equal(close(fd), 0);
	same("create", path, rc, want);
}

static void op_mkdir(struct world *w, const char *path)
{
	struct node_attr a;
	const char *name;
	uint64_t dir;
	int want = result(mkdirat(w->plain, path, 0750));
	int rc = parent_of(w, path, &dir, &name);

	if (rc == 0)
		rc = overlay_mknod(w->o, dir, name, S_IFDIR | 0750, &a);
	same("mkdir", path, rc, want);
}

static void op_symlink(struct world *w, const char *path)
{
	struct node_attr a;
	const char *name;
	uint64_t dir;
	int want = result(symlinkat("some/where", w->plain, path));
	int rc = parent_of(w, path, &dir, &name);

	if (rc == 0)
		rc = overlay_symlink(w->o, dir, name, "some/where", &a);
	same("symlink", path, rc, want);
}

static void op_unlink(struct world *w, const char *path)
{
	const char *name;
	uint64_t dir;
	int want = result(unlinkat(w->plain, path, 0));
	int rc = parent_of(w, path, &dir, &name);

	if (rc == 0)
		rc = overlay_unlink(w->o, dir, name);
	same("unlink", path, rc, want);
}

static void op_rmdir(struct world *w, const char *path)
{
	const char *name;
	uint64_t dir;
	int want = result(unlinkat(w->plain, path, AT_REMOVEDIR));
	int rc = parent_of(w, path, &dir, &name);

	if (rc == 0)
		rc = overlay_rmdir(w->o, dir, name);
	same("rmdir", path, rc, want);
}

static void op_rename(struct world *w, const char *from, const char *to)
{
	unsigned flags = rnd(w, 4) == 0 ? RENAME_NOREPLACE : 0;
	const char *name, *newname;
	uint64_t dir, newdir;
	size_t len = strlen(from);
	int want, rc;

	if (strncmp(from, to, len) == 0 && to[len] == '/')
		return; /* into itself: the kernel stops that before us */
	if (strncmp(from, to, strlen(to)) == 0 && from[strlen(to)] == '/')
		return;
	want = result(renameat2(w->plain, from, w->plain, to, flags));
	rc = parent_of(w, from, &dir, &name);
	if (rc == 0)
		rc = parent_of(w, to, &newdir, &newname);
	if (rc == 0)
		rc = overlay_rename(w->o, dir, name, newdir, newname, flags);
	/* one error or another where two apply */
	if (rc < 0 && want < 0)
		return;
	same(from, to, rc, want);
}

static void op_link(struct world *w, const char *from, const char *to)
{
	struct node_attr a, b;
	const char *name;
	uint64_t dir;
	int want = result(linkat(w->plain, from, w->plain, to, 0));
	int rc = overlay_walk(w->o, from, &a);

	if (rc == 0 && strchr(from, '/')) { /* walk does not mind a file on the way */
		const char *base;
		uint64_t d;

		rc = parent_of(w, from, &d, &base);
	}
	if (rc == 0)
		rc = parent_of(w, to, &dir, &name);
	if (rc == 0)
		rc = overlay_link(w->o, a.fid, dir, name, &b);
	if (rc < 0 && want < 0)
		return;
	same("link", to, rc, want);
}

static void op_write(struct world *w, const char *path)
{
	uint64_t off = rnd(w, MAX_SIZE), len = 1 + rnd(w, 30000);
	struct both b;

	if (open_both(w, path, &b) < 0)
		return;
	if (rnd(w, 2)) { /* as Postgres writes */
		off = off / 8192 * 8192;
		len = 8192;
	}
	memset(w->buf_a, (int)rnd(w, 256), len);
	assert_int_equal(pwrite(b.fd, w->buf_a, len, (off_t)off), len);
	assert_int_equal(cowfile_write(b.f, w->buf_a, len, off), 0);
	if (rnd(w, 3) == 0)
		assert_int_equal(cowfile_sync(b.f, 1), 0);
	close_both(w, &b);
}

static void op_truncate(struct world *w, const char *path)
{
	uint64_t size = rnd(w, 4) ? rnd(w, MAX_SIZE) : 0;
	struct both b;

	if (open_both(w, path, &b) < 0)
		return;
	assert_int_equal(ftruncate(b.fd, (off_t)size), 0);
	assert_int_equal(cowfile_truncate(b.f, size), 0);
	close_both(w, &b);
}

static void op_fallocate(struct world *w, const char *path)
{
	static const int modes[] = {
		0,
		FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	int mode = modes[rnd(w, ARRAY_SIZE(modes))];
	uint64_t off = rnd(w, MAX_SIZE), len = 1 + rnd(w, 40000);
	struct both b;
	int want;

	if (open_both(w, path, &b) < 0)
		return;
	want = result(fallocate(b.fd, mode, (off_t)off, (off_t)len));
	if (want != -EOPNOTSUPP)
		assert_int_equal(cowfile_fallocate(b.f, mode, off, len), want);
	close_both(w, &b);
}

static void op_chmod(struct world *w, const char *path)
{
	struct node_attr a, in = {.mode = (mode_t)(0600 + rnd(w, 0100))};
	struct stat st;

	if (fstatat(w->plain, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    S_ISLNK(st.st_mode))
		return;
	/* the plain directory would refuse anyone but root */
	in.mode = rnd(w, 8) || geteuid() != 0
			  ? in.mode | (S_ISDIR(st.st_mode) ? 0700 : 0)
			  : 0500;
	assert_int_equal(fchmodat(w->plain, path, in.mode, 0), 0);
	assert_int_equal(overlay_walk(w->o, path, &a), 0);
	assert_int_equal(overlay_setattr(w->o, a.fid, SET_MODE, &in, &a), 0);
}

/* --- comparing --- */

/* Returns the length. */
static ssize_t compare_open(struct world *w, const char *path, const struct both *b)
{
	ssize_t want = pread(b->fd, w->buf_a, sizeof(w->buf_a), 0);
	ssize_t got = cowfile_read(b->f, w->buf_b, sizeof(w->buf_b), 0);

	assert_int_equal(got, want);
	for (ssize_t i = 0; i < want; i++)
		if (w->buf_a[i] != w->buf_b[i])
			fail_msg("%s differs at byte %zd: want %02x, got %02x", path, i,
				 w->buf_a[i], w->buf_b[i]);
	return want;
}

static void compare_bytes(struct world *w, const char *path)
{
	struct both b;
	ssize_t want;

	assert_int_equal(open_both(w, path, &b), 0);
	want = compare_open(w, path, &b);
	/* no data in what we call a hole, and an end to both */
	for (uint64_t off = 0; off < (uint64_t)want;) {
		int64_t data = cowfile_seek(b.f, off, SEEK_DATA);
		uint64_t end = data < 0 ? (uint64_t)want : (uint64_t)data;

		for (uint64_t i = off; i < end; i++)
			assert_int_equal(w->buf_a[i], 0);
		if (data < 0)
			break;
		off = (uint64_t)cowfile_seek(b.f, end, SEEK_HOLE);
		assert_true(off > end);
	}
	close_both(w, &b);
}

static void join(char sub[static 256], const char *dir, const char *name)
{
	bool root = strcmp(dir, ".") == 0;

	(void)snprintf(sub, 256, "%s%s%.16s", root ? "" : dir, root ? "" : "/", name);
}

struct listing {
	char names[NAMES * 4][16];
	unsigned n;
};

static bool on_entry(void *ctx, const char *name, uint64_t fid, mode_t type,
		     uint64_t cookie)
{
	struct listing *ls = ctx;

	(void)fid;
	(void)type;
	(void)cookie;
	assert_true(ls->n < ARRAY_SIZE(ls->names));
	(void)snprintf(ls->names[ls->n++], 16, "%s", name);
	return true;
}

static void compare_dir(struct world *w, const char *path, uint64_t fid)
{
	struct listing ls = {.n = 0};
	DIR *d = fdopendir(openat(w->plain, path, O_RDONLY | O_DIRECTORY));
	struct dirent *ent;
	unsigned n = 0;

	assert_non_null(d);
	assert_int_equal(overlay_readdir(w->o, fid, 0, on_entry, &ls), 0);
	while ((ent = readdir(d)) != NULL) {
		char sub[256];
		struct node_attr a;
		struct stat st;

		if (ent->d_name[0] == '.')
			continue;
		n++;
		join(sub, path, ent->d_name);
		assert_int_equal(fstatat(w->plain, sub, &st, AT_SYMLINK_NOFOLLOW), 0);
		if (overlay_walk(w->o, sub, &a) != 0)
			fail_msg("%s is missing", sub);
		ROW_EQUAL(sub, a.mode, st.st_mode);
		if (S_ISDIR(st.st_mode)) {
			compare_dir(w, sub, a.fid);
		} else {
			ROW_EQUAL(sub, a.size_bytes, st.st_size);
			ROW_EQUAL(sub, a.nlink, st.st_nlink);
		}
		if (S_ISREG(st.st_mode))
			compare_bytes(w, sub);
	}
	if (n != ls.n)
		fail_msg("%s has %u entries, want %u", path, ls.n, n);
	(void)closedir(d);
}

/* --- between the operations --- */

static void use_branch(struct world *w, struct branch *b)
{
	w->branch = b;
	assert_int_equal(branch_data_get(b, &w->o), 0);
	overlay_put(w->o); /* borrowed: the branch has it until it is unloaded */
}

/* A file stays open, whatever becomes of its name and of the layers. */
static void op_hold(struct world *w, const char *path)
{
	if (!w->held.f && open_both(w, path, &w->held) < 0)
		w->held.f = NULL;
	if (w->held.f)
		compare_open(w, "a file that was held", &w->held);
}

static void let_go(struct world *w)
{
	if (!w->held.f)
		return;
	compare_open(w, "a file that was held", &w->held);
	close_both(w, &w->held);
	w->held.f = NULL;
}

/* Nobody but the branch and main stands on the layers; then they can be merged. */
static void op_discard(struct world *w)
{
	struct branch **list;
	struct err e = ERR_INIT;
	struct branch_info info;

	assert_int_equal(registry_list(w->reg, &list), 0);
	for (struct branch **b = list; *b; b++) {
		branch_info(*b, &info);
		if (branch_no(*b) != branch_no(w->branch) && !info.is_protected)
			assert_int_equal(registry_discard(w->reg, *b, &e), 0);
	}
	branch_list_free(list);
	same("discard", "all", 0, 0);
}

/* Some steps, between which everything else happens. */
static void op_squash(struct world *w)
{
	unsigned steps = 1 + (unsigned)rnd(w, 3);
	int rc = 1;

	if (rnd(w, 2))
		assert_int_equal(branch_wait_durable(w->branch), 0);
	while (rc > 0 && steps-- > 0)
		rc = registry_squash(w->reg, 2, 1 + rnd(w, 100000));
	same("squash", "all", rc < 0 ? rc : 0, 0);
	if (rnd(w, 2))
		assert_int_equal(registry_reclaim(w->reg), 0);
}

static void count_squashed(struct world *w)
{
	struct registry_stats st;

	registry_stats(w->reg, &st);
	w->squashed += st.layers_merged;
}

/* Makes a branch; goes on with it, or with the parent. */
static void op_branch(struct world *w)
{
	struct err e = ERR_INIT;
	char name[16];
	struct branch_spec spec = {.name = name, .parent = w->branch, .mode = 0700};
	struct branch *child;

	let_go(w);
	(void)snprintf(name, sizeof(name), "b%u", w->made++);
	if (registry_create(w->reg, &spec, &child, &e) < 0)
		fail_msg("mkdir %s: %s", name, err_text(&e));
	same("branch", name, 0, 0);
	if (rnd(w, 2)) {
		branch_put(w->branch);
		use_branch(w, child);
	} else {
		branch_put(child);
	}
	if (rnd(w, 2))
		assert_int_equal(branch_wait_durable(w->branch), 0);
}

/* As when nobody used it for a while. */
static void op_unload(struct world *w)
{
	unsigned count;

	let_go(w);
	same("unload", "all", registry_unload(w->reg, 0, &count), 0);
	assert_true(count > 0);
	use_branch(w, w->branch);
}

static void op_reopen(struct world *w)
{
	struct err e = ERR_INIT;
	struct branch_info info;
	char store[80];

	branch_info(w->branch, &info);
	let_go(w);
	/* what no fsync covered is not promised over a crash; this is no crash */
	assert_int_equal(branch_wait_durable(w->branch), 0);
	branch_put(w->branch);
	count_squashed(w);
	registry_close(w->reg);
	(void)snprintf(store, sizeof(store), "%s/store", w->dir);
	if (registry_open(store, &w->reg, &e) < 0)
		fail_msg("%s", err_text(&e));
	use_branch(w, registry_find(w->reg, info.name));
}

static void sync_all(struct world *w, const char *path)
{
	DIR *d = fdopendir(openat(w->plain, path, O_RDONLY | O_DIRECTORY));
	struct dirent *ent;

	while ((ent = readdir(d)) != NULL) {
		char sub[256];
		struct both b;
		struct stat st;

		if (ent->d_name[0] == '.')
			continue;
		join(sub, path, ent->d_name);
		assert_int_equal(fstatat(w->plain, sub, &st, AT_SYMLINK_NOFOLLOW), 0);
		if (S_ISDIR(st.st_mode))
			sync_all(w, sub);
		else if (open_both(w, sub, &b) == 0) {
			assert_int_equal(cowfile_sync(b.f, 0), 0);
			close_both(w, &b);
		}
	}
	(void)closedir(d);
}

static void step(struct world *w)
{
	char a[32], b[32];

	pick(w, a);
	pick(w, b);
	switch (rnd(w, 26)) {
	case 0 ... 3:
		op_create(w, a);
		break;
	case 4:
		op_mkdir(w, a);
		break;
	case 5:
		op_symlink(w, a);
		break;
	case 6 ... 7:
		op_unlink(w, a);
		break;
	case 8:
		op_rmdir(w, a);
		break;
	case 9 ... 10:
		op_rename(w, a, b);
		break;
	case 11:
		op_link(w, a, b);
		break;
	case 12 ... 17:
		op_write(w, a);
		break;
	case 18 ... 19:
		op_truncate(w, a);
		break;
	case 20 ... 21:
		op_fallocate(w, a);
		break;
	case 22:
		op_chmod(w, a);
		break;
	case 23:
		if (rnd(w, 8) == 0)
			let_go(w);
		op_hold(w, a);
		break;
	default:
		if (rnd(w, 8) == 0)
			op_branch(w);
		else if (rnd(w, 12) == 0)
			op_discard(w);
		else if (rnd(w, 2) == 0)
			op_squash(w);
		else if (rnd(w, 4) == 0)
			op_unload(w);
	}
}

static uint64_t env_number(const char *name, uint64_t fallback)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : fallback;
}

static void test_random(void **state)
{
	static struct world w; /* too large for the stack */
	struct err e = ERR_INIT;
	char path[80];
	uint64_t seed, ops = env_number("PGBRANCHFS_OPS", 10000);
	int fd;

	(void)state;
	assert_int_equal(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
	seed = env_number("PGBRANCHFS_SEED", seed);
	print_message("seed %#llx, %llu operations\n", (unsigned long long)seed,
		      (unsigned long long)ops);
	w.rng = seed;
	(void)snprintf(w.dir, sizeof(w.dir), "/tmp/pbf-random.XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	(void)snprintf(path, sizeof(path), "%s/plain", w.dir);
	assert_int_equal(mkdir(path, 0700), 0);
	w.plain = open(path, O_PATH | O_DIRECTORY);
	assert_int_equal(mkdirat(w.plain, "d0", 0750), 0);
	(void)snprintf(path, sizeof(path), "%s/store", w.dir);
	assert_int_equal(store_create(path, &fd, &e), 0);
	{
		char src[80];

		(void)snprintf(src, sizeof(src), "%s/plain", w.dir);
		assert_int_equal(store_import(fd, src, false, 0, 0, NULL, NULL, &e), 0);
	}
	assert_int_equal(close(fd), 0);
	if (registry_open(path, &w.reg, &e) < 0)
		fail_msg("%s", err_text(&e));
	use_branch(&w, registry_find(w.reg, MAIN_BRANCH));
	for (uint64_t i = 1; i <= ops; i++) {
		step(&w);
		if (i % 250 == 0)
			compare_dir(&w, ".", OVERLAY_ROOT);
		if (i % 1000 == 0) {
			sync_all(&w, ".");
			assert_int_equal(overlay_fsyncdir(w.o, OVERLAY_ROOT), 0);
			op_reopen(&w);
			compare_dir(&w, ".", OVERLAY_ROOT);
		}
	}
	let_go(&w);
	count_squashed(&w);
	print_message("%u branches, depth %u, %llu layers merged\n", w.made,
		      overlay_depth(w.o), (unsigned long long)w.squashed);
	assert_true(ops < 10000 || w.squashed > 0);
	branch_put(w.branch);
	registry_close(w.reg);
	assert_int_equal(close(w.plain), 0);
	assert_int_equal(fd_remove_tree(AT_FDCWD, w.dir), 0);
	err_fini(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

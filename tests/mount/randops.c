/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * randops.c - the same random system calls on a directory of the mount and on a plain
 * one; result, errno and content must be the same.
 *
 *	randops run SEED FIRST COUNT MNT BRANCH PLAIN   does operations FIRST and on
 *	randops compare DIR PLAIN
 *
 * Every BRANCH_EVERY operations a branch of the branch is made, and the tree is
 *compared in it: the kernel has nothing of it in its cache, so this reads through the
 *daemon. Then it goes on in the child or in the parent, there with files still open.
 *The branch that it ended in is the last line of the output.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORK_DIR "data/random"
#define BRANCH_EVERY 1000
#define HANDLES 8
#define SIZE_MAX_BYTES 200000
#define IO_MAX 50000
#define DEPTH_MAX 10

/* Side 0 is the mount, side 1 the plain directory. */
struct handle {
	int fd[2];
	bool append;
};

static struct handle handles[HANDLES];
static int roots[2] = {-1, -1};
static uint64_t rng, op_no;
static const char *op_name;
static bool trace;
static uint8_t buf[2][IO_MAX];

static uint64_t next_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static uint64_t below(uint64_t n)
{
	return next_random() % n;
}

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
{
	va_list ap;

	printf("FAILED at operation %llu (%s): ", (unsigned long long)op_no, op_name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

/* Both sides' result; on a failure the errno, negative. */
static void same(long long a, long long b, const char *what)
{
	if (trace)
		fprintf(stderr, "%llu %s %s: %lld %lld\n", (unsigned long long)op_no,
			op_name, what, a, b);
	if (a != b)
		die("%s: the mount says %lld (%s), the plain directory %lld (%s)", what,
		    a, a < 0 ? strerror((int)-a) : "", b,
		    b < 0 ? strerror((int)-b) : "");
}

/* Does a call on both sides; `side` and `root` are for its arguments. */
#define BOTH(what, call)                                                               \
	({                                                                             \
		long long got_[2];                                                     \
		for (int side = 0; side < 2; side++) {                                 \
			int root = roots[side];                                        \
			(void)root;                                                    \
			got_[side] = (call);                                           \
			if (got_[side] < 0)                                            \
				got_[side] = -errno;                                   \
		}                                                                      \
		same(got_[0], got_[1], what);                                          \
		got_[0];                                                               \
	})

/* One to three components out of few names, so that they meet. */
static char *random_path(char *path)
{
	static const char letters[] = "abcdefghijL";
	unsigned n = 1 + (unsigned)below(3);
	char *p = path;

	for (unsigned i = 0; i < n; i++) {
		char c = letters[below(sizeof(letters) - 1)];
		size_t len = c == 'L' ? 255 : 1;

		if (i)
			*p++ = '/';
		memset(p, c, len);
		p += len;
	}
	*p = '\0';
	return path;
}

static struct handle *random_handle(void)
{
	struct handle *h = &handles[below(HANDLES)];

	return h->fd[0] < 0 ? NULL : h;
}

static void handle_close(struct handle *h)
{
	if (h->fd[0] < 0)
		return;
	(void)BOTH("close", close(h->fd[side]));
	h->fd[0] = h->fd[1] = -1;
}

static void compare_fds(const struct handle *h)
{
	struct stat st[2];

	(void)BOTH("fstat", fstat(h->fd[side], &st[side]));
	same(st[0].st_size, st[1].st_size, "st_size");
	same((long long)st[0].st_nlink, (long long)st[1].st_nlink, "st_nlink");
	same(st[0].st_mode, st[1].st_mode, "st_mode");
}

static void fill(uint8_t *to, size_t n)
{
	uint64_t x = next_random();

	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(x >> (i % 8 * 5)) ^ (uint8_t)(i >> 8);
}

/* --- operations --- */

static void op_open(void)
{
	static const int extra[] = {0,       0,        O_TRUNC, O_EXCL,
				    O_DSYNC, O_APPEND, O_CREAT, O_TRUNC | O_CREAT};
	struct handle *h = &handles[below(HANDLES)];
	int flags = O_RDWR | extra[below(sizeof(extra) / sizeof(extra[0]))];
	char path[PATH_MAX];

	handle_close(h);
	if (below(3))
		flags |= O_CREAT;
	if (!(flags & O_CREAT))
		flags &= ~O_EXCL;
	random_path(path);
	(void)BOTH(path, (h->fd[side] = openat(root, path, flags, 0640)) < 0 ? -1 : 0);
	h->append = flags & O_APPEND;
	if (h->fd[0] >= 0)
		compare_fds(h);
}

static void op_close(void)
{
	handle_close(&handles[below(HANDLES)]);
}

static void op_write(void)
{
	struct handle *h = random_handle();
	size_t n = 1 + below(below(4) ? 100 : IO_MAX);
	off_t off = (off_t)below(SIZE_MAX_BYTES - IO_MAX);

	if (!h)
		return;
	if (below(3) == 0) { /* as a server does */
		n = 8192;
		off = off / 8192 * 8192;
	}
	fill(buf[0], n);
	(void)BOTH("write", h->append ? write(h->fd[side], buf[0], n)
				      : pwrite(h->fd[side], buf[0], n, off));
	compare_fds(h);
}

static void op_read(void)
{
	struct handle *h = random_handle();
	size_t n = 1 + below(IO_MAX);
	off_t off = (off_t)below(SIZE_MAX_BYTES);
	long long got;

	if (!h)
		return;
	got = BOTH("read", pread(h->fd[side], buf[side], n, off));
	if (got > 0 && memcmp(buf[0], buf[1], (size_t)got) != 0)
		die("read of %zu bytes at %lld differs", n, (long long)off);
}

static void op_truncate(void)
{
	struct handle *h = random_handle();
	off_t size = (off_t)below(SIZE_MAX_BYTES);
	char path[PATH_MAX];

	if (h && below(2)) {
		(void)BOTH("ftruncate", ftruncate(h->fd[side], size));
		compare_fds(h);
		return;
	}
	random_path(path);
	h = &handles[below(HANDLES)];
	handle_close(h);
	(void)BOTH(path, (h->fd[side] = openat(root, path, O_WRONLY)) < 0 ? -1 : 0);
	if (h->fd[0] >= 0)
		(void)BOTH(path, ftruncate(h->fd[side], size));
	handle_close(h);
}

/* Not every file system has all modes: then the plain side is written to. */
static long long plain_fallocate(int fd, int mode, off_t off, off_t len)
{
	static const char zeros[IO_MAX];
	struct stat st;
	ssize_t n;

	if (fallocate(fd, mode, off, len) == 0)
		return 0;
	if (errno != EOPNOTSUPP || !(mode & FALLOC_FL_ZERO_RANGE) || fstat(fd, &st) < 0)
		return -1;
	if (mode & FALLOC_FL_KEEP_SIZE && off + len > st.st_size)
		len = st.st_size - off;
	n = len > 0 ? pwrite(fd, zeros, (size_t)len, off) : 0;
	return n < 0 ? -1 : 0;
}

static void op_fallocate(void)
{
	static const int modes[] = {0,
				    FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	struct handle *h = random_handle();
	int mode = modes[below(sizeof(modes) / sizeof(modes[0]))];
	off_t off = (off_t)below(SIZE_MAX_BYTES - IO_MAX),
	      len = 1 + (off_t)below(IO_MAX);

	if (!h || h->append)
		return;
	(void)BOTH("fallocate", side ? plain_fallocate(h->fd[side], mode, off, len)
				     : fallocate(h->fd[side], mode, off, len));
	compare_fds(h);
}

static void op_rename(void)
{
	char from[PATH_MAX], to[PATH_MAX];
	unsigned flags = below(4) ? 0 : RENAME_NOREPLACE;

	random_path(from);
	random_path(to);
	(void)BOTH(from, renameat2(root, from, root, to, flags));
}

static void op_link(void)
{
	char from[PATH_MAX], to[PATH_MAX];

	random_path(from);
	random_path(to);
	(void)BOTH(from, linkat(root, from, root, to, 0));
}

static void op_unlink(void)
{
	char path[PATH_MAX];

	random_path(path);
	(void)BOTH(path, unlinkat(root, path, 0));
}

static void op_mkdir(void)
{
	char path[PATH_MAX];

	random_path(path);
	(void)BOTH(path, mkdirat(root, path, 0750));
}

static void op_rmdir(void)
{
	char path[PATH_MAX];

	random_path(path);
	(void)BOTH(path, unlinkat(root, path, AT_REMOVEDIR));
}

static void op_symlink(void)
{
	char path[PATH_MAX], target[PATH_MAX];

	random_path(path);
	random_path(target);
	(void)BOTH(path, symlinkat(target, root, path));
}

static void op_chmod(void)
{
	char path[PATH_MAX];
	mode_t mode = 0600 | (mode_t)below(0200);
	struct stat st;

	random_path(path);
	/* the modes of directories are left alone: they must stay open */
	if (fstatat(roots[1], path, &st, 0) == 0 && S_ISDIR(st.st_mode))
		return;
	(void)BOTH(path, fchmodat(root, path, mode, 0));
}

static void op_stat(void)
{
	char path[PATH_MAX];
	struct stat st[2];

	random_path(path);
	if (BOTH(path, fstatat(root, path, &st[side], AT_SYMLINK_NOFOLLOW)) < 0)
		return;
	same(st[0].st_mode, st[1].st_mode, "st_mode");
	if (S_ISDIR(st[0].st_mode))
		return; /* sizes and link counts of directories are each its own */
	same(st[0].st_size, st[1].st_size, "st_size");
	same((long long)st[0].st_nlink, (long long)st[1].st_nlink, "st_nlink");
}

static void op_mmap(void)
{
	struct handle *h = random_handle();
	struct stat st;
	size_t at, n;

	if (!h || fstat(h->fd[1], &st) < 0 || st.st_size == 0)
		return;
	at = below((uint64_t)st.st_size);
	n = 1 + below(5000);
	if (n > (size_t)st.st_size - at)
		n = (size_t)st.st_size - at;
	fill(buf[0], n);
	for (int side = 0; side < 2; side++) {
		uint8_t *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
				    MAP_SHARED, h->fd[side], 0);

		if (map == MAP_FAILED)
			die("mmap: %s", strerror(errno));
		memcpy(map + at, buf[0], n);
		if (at % 3 == 0 && msync(map, (size_t)st.st_size, MS_SYNC) < 0)
			die("msync: %s", strerror(errno));
		(void)munmap(map, (size_t)st.st_size); /* its own map */
	}
}

static void op_copy_range(void)
{
	struct handle *in = random_handle(), *out = random_handle();
	uint64_t from = below(SIZE_MAX_BYTES), to = below(SIZE_MAX_BYTES - IO_MAX);
	size_t len = 1 + below(IO_MAX);

	/* within one file the pieces that it is done in would show */
	if (!in || !out || in == out || out->append)
		return;
	for (int side = 0; side < 2; side++) {
		ssize_t n = pread(in->fd[side], buf[side], len, (off_t)from);
		off_t in_off = (off_t)from, out_off = (off_t)to;
		struct stat a, b;

		if (n < 0 || fstat(in->fd[side], &a) < 0 ||
		    fstat(out->fd[side], &b) < 0)
			die("read: %s", strerror(errno));
		if (a.st_ino == b.st_ino)
			return;
		while (n > 0) {
			ssize_t did =
				copy_file_range(in->fd[side], &in_off, out->fd[side],
						&out_off, (size_t)n, 0);

			if (did <= 0)
				die("copy_file_range: %s", strerror(errno));
			n -= did;
		}
	}
	compare_fds(out);
}

static void op_fsync(void)
{
	struct handle *h = random_handle();

	if (h)
		(void)BOTH("fsync",
			   below(2) ? fsync(h->fd[side]) : fdatasync(h->fd[side]));
}

static void op_fsyncdir(void)
{
	(void)BOTH("fsync of the directory", fsync(root));
}

static const struct {
	const char *name;
	unsigned weight;
	void (*fn)(void);
} ops[] = {
	{"open", 20, op_open},        {"close", 5, op_close},
	{"write", 25, op_write},      {"read", 15, op_read},
	{"truncate", 5, op_truncate}, {"fallocate", 5, op_fallocate},
	{"rename", 8, op_rename},     {"link", 4, op_link},
	{"unlink", 5, op_unlink},     {"mkdir", 6, op_mkdir},
	{"rmdir", 3, op_rmdir},       {"symlink", 2, op_symlink},
	{"chmod", 2, op_chmod},       {"stat", 4, op_stat},
	{"mmap", 4, op_mmap},         {"copy_file_range", 2, op_copy_range},
	{"fsync", 3, op_fsync},       {"fsyncdir", 1, op_fsyncdir},
};

static void one_op(uint64_t seed)
{
	unsigned total = 0, at;
	size_t i;

	rng = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (op_no + 1) << 20;
	(void)next_random();
	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].weight;
	at = (unsigned)below(total);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	op_name = ops[i].name;
	ops[i].fn();
}

/* --- comparing trees --- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void compare_bytes(const int dir[2], const char *name, off_t size)
{
	int fd[2];
	off_t off;

	for (int side = 0; side < 2; side++) {
		fd[side] = openat(dir[side], name, O_RDONLY);
		if (fd[side] < 0)
			die("compare: open %s: %s", name, strerror(errno));
	}
	for (off = 0; off <= size; off += IO_MAX) {
		long long n =
			BOTH("compare: read", pread(fd[side], buf[side], IO_MAX, off));

		if (n <= 0)
			break;
		for (long long i = 0; i < n; i++)
			if (buf[0][i] != buf[1][i])
				die("compare: %s differs at byte %lld", name,
				    (long long)off + i);
	}
	(void)close(fd[0]); /* only read */
	(void)close(fd[1]);
}

static unsigned compare_dirs(const int dir[2]);

static unsigned compare_entry(const int dir[2], const char *name)
{
	char target[2][PATH_MAX];
	struct stat st[2];
	int sub[2];
	unsigned n = 1;

	(void)BOTH(name, fstatat(dir[side], name, &st[side], AT_SYMLINK_NOFOLLOW));
	same(st[0].st_mode, st[1].st_mode, name);
	if (S_ISDIR(st[0].st_mode)) {
		for (int side = 0; side < 2; side++) {
			sub[side] = openat(dir[side], name, O_RDONLY | O_DIRECTORY);
			if (sub[side] < 0)
				die("compare: open %s: %s", name, strerror(errno));
		}
		n += compare_dirs(sub);
		(void)close(sub[0]); /* directories */
		(void)close(sub[1]);
		return n;
	}
	same(st[0].st_size, st[1].st_size, name);
	same((long long)st[0].st_nlink, (long long)st[1].st_nlink, name);
	if (S_ISREG(st[0].st_mode)) {
		compare_bytes(dir, name, st[0].st_size);
	} else {
		memset(target, 0, sizeof(target));
		(void)BOTH(name,
			   readlinkat(dir[side], name, target[side], PATH_MAX - 1));
		if (strcmp(target[0], target[1]) != 0)
			die("compare: %s points elsewhere", name);
	}
	return n;
}

static unsigned compare_dirs(const int dir[2])
{
	struct dirent **list[2];
	unsigned total = 0;
	int n[2];

	for (int side = 0; side < 2; side++) {
		n[side] = scandirat(dir[side], ".", &list[side], NULL, by_name);
		if (n[side] < 0)
			die("compare: cannot list: %s", strerror(errno));
	}
	for (int i = 0; i < n[0] || i < n[1]; i++) {
		const char *a = i < n[0] ? list[0][i]->d_name : "(nothing)";
		const char *b = i < n[1] ? list[1][i]->d_name : "(nothing)";

		if (strcmp(a, b) != 0)
			die("compare: the mount has %s where %s should be", a, b);
		if (strcmp(a, ".") != 0 && strcmp(a, "..") != 0)
			total += compare_entry(dir, a);
	}
	for (int side = 0; side < 2; side++) {
		while (n[side] > 0)
			free(list[side][--n[side]]);
		free(list[side]);
	}
	return total;
}

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static unsigned compare_paths(const char *path, const char *plain)
{
	const int dir[2] = {open_dir(path), open_dir(plain)};
	unsigned n;

	op_name = "compare";
	n = compare_dirs(dir);
	(void)close(dir[0]); /* directories */
	(void)close(dir[1]);
	return n;
}

/* --- branches --- */

struct place {
	const char *mnt, *plain;
	char branch[64];
	unsigned depth;
};

static char *work_path(const struct place *p, const char *branch, char *path)
{
	(void)snprintf(path, PATH_MAX, "%s/%s/" WORK_DIR, p->mnt, branch);
	return path;
}

/* What is in the kernel's cache is not in a branch yet: fsync, or close. */
static void hand_over(void)
{
	for (size_t i = 0; i < HANDLES; i++)
		if (handles[i].fd[0] >= 0)
			(void)BOTH("fsync", fsync(handles[i].fd[side]));
}

static void make_branch(struct place *p)
{
	char path[PATH_MAX], child[64];
	unsigned n;

	op_name = "branch";
	hand_over();
	(void)snprintf(child, sizeof(child), "r%llu", (unsigned long long)op_no);
	(void)snprintf(path, sizeof(path), "%s/%s@%s", p->mnt, child, p->branch);
	if (mkdir(path, 0700) < 0)
		die("mkdir %s: %s", path, strerror(errno));
	n = compare_paths(work_path(p, child, path), p->plain);
	if (p->depth >= DEPTH_MAX || below(4) == 0) {
		printf("%s, made of %s: %u objects; on in %s\n", child, p->branch, n,
		       p->branch);
		return;
	}
	printf("%s, made of %s: %u objects; on in %s\n", child, p->branch, n, child);
	for (size_t i = 0; i < HANDLES; i++)
		handle_close(&handles[i]);
	(void)close(roots[0]); /* a directory */
	roots[0] = open_dir(path);
	(void)snprintf(p->branch, sizeof(p->branch), "%s", child);
	p->depth++;
}

static int run(char **argv)
{
	uint64_t seed = strtoull(argv[0], NULL, 10);
	uint64_t first = strtoull(argv[1], NULL, 10);
	uint64_t count = strtoull(argv[2], NULL, 10);
	struct place p = {.mnt = argv[3], .plain = argv[5]};
	char path[PATH_MAX];

	(void)snprintf(p.branch, sizeof(p.branch), "%s", argv[4]);
	/* a rough guess is enough, it only keeps the depth within bounds */
	p.depth = (unsigned)(first / BRANCH_EVERY * 3 / 4);
	op_name = "start";
	roots[0] = open_dir(work_path(&p, p.branch, path));
	roots[1] = open_dir(p.plain);
	for (size_t i = 0; i < HANDLES; i++)
		handles[i].fd[0] = handles[i].fd[1] = -1;
	for (op_no = first; op_no < first + count; op_no++) {
		one_op(seed);
		if (op_no % BRANCH_EVERY == BRANCH_EVERY - 1)
			make_branch(&p);
	}
	op_name = "end";
	for (size_t i = 0; i < HANDLES; i++)
		handle_close(&handles[i]);
	printf("%s\n", p.branch);
	return 0;
}

int main(int argc, char **argv)
{
	trace = getenv("RANDOPS_TRACE") != NULL;
	(void)umask(022);
	op_name = "start";
	if (argc == 8 && strcmp(argv[1], "run") == 0)
		return run(argv + 2);
	if (argc == 4 && strcmp(argv[1], "compare") == 0) {
		printf("%u objects are the same\n", compare_paths(argv[2], argv[3]));
		return 0;
	}
	fprintf(stderr, "usage: randops run SEED FIRST COUNT MNT BRANCH PLAIN\n"
			"       randops compare DIR PLAIN\n");
	return 2;
}

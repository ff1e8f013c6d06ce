/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsx.c - random system calls on a few files, compared with an image in memory.
 *
 *	fsx -n OPERATIONS [-s SEED] [-b MNT] [-e EVERY] DIR
 *
 * DIR is a directory; with -b it is one below MNT/BRANCH/data, and every EVERY
 * operations a branch of BRANCH is made while the files are open, so that
 * what was written until then lies in one more sealed layer.  The files are then
 * compared in the new branch, too, which has nothing of them in the kernel's cache.
 *
 * Each operation follows from the seed and its number.  On a difference the last
 * operations are printed and the bytes around it.
 */
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
#include <time.h>
#include <unistd.h>

#define FILES 3
#define FILE_MAX (256 * 1024)
#define IO_MAX (64 * 1024)
#define DIRECT_ALIGN 4096
#define LOG_LINES 40
#define LOG_WIDTH 120

struct file {
	char name[16];
	int fd;
	bool direct; /* fd is O_DIRECT */
	size_t size;
	uint8_t image[FILE_MAX]; /* zeros behind size */
};

static struct file files[FILES];
static uint8_t *buf; /* IO_MAX, aligned for O_DIRECT */
static uint64_t rng, op_no;
static char history[LOG_LINES][LOG_WIDTH];
static unsigned branches;
static char branch[NAME_MAX + 1], below_data[PATH_MAX]; /* with -b: the parts of DIR */

static uint64_t next_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static size_t below(size_t n)
{
	return (size_t)(next_random() % n);
}

static void __attribute__((format(printf, 1, 2))) note(const char *fmt, ...)
{
	char *line = history[op_no % LOG_LINES];
	int n = snprintf(line, LOG_WIDTH, "%llu ", (unsigned long long)op_no);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line + n, LOG_WIDTH - (size_t)n, fmt, ap);
	va_end(ap);
}

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	for (uint64_t i = op_no < LOG_LINES ? 0 : op_no - LOG_LINES + 1; i <= op_no;
	     i++)
		printf("  %s\n", history[i % LOG_LINES]);
	printf("FAILED at operation %llu: ", (unsigned long long)op_no);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" (errno %d, %s)\n", saved, strerror(saved));
	exit(1);
}

static void compare(const struct file *f, const uint8_t *got, size_t off, size_t len,
		    const char *by)
{
	size_t i = 0;

	if (memcmp(got, f->image + off, len) == 0)
		return;
	while (got[i] == f->image[off + i])
		i++;
	errno = 0;
	die("%s of %s: byte %zu (block %zu) is %02x, should be %02x; %zu bytes at %zu, "
	    "size %zu",
	    by, f->name, off + i, (off + i) / 8192, got[i], f->image[off + i], len, off,
	    f->size);
}

static void check_size(const struct file *f)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		die("fstat");
	if ((size_t)st.st_size != f->size)
		die("%s has %lld bytes, should have %zu", f->name,
		    (long long)st.st_size, f->size);
}

static void fill(uint8_t *to, size_t n)
{
	uint64_t x = next_random() | 1;

	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(x >> (i % 7 * 8)) ^ (uint8_t)(i >> 8);
}

/* A range: anywhere, or in whole blocks as a server does. */
static void pick_range(const struct file *f, size_t *ret_off, size_t *ret_len)
{
	size_t unit = below(3) ? 1 : 8192;
	size_t len = 1 + below(below(3) ? 3000 : IO_MAX);
	size_t off = below(2) && f->size ? below(f->size) : below(FILE_MAX);

	if (f->direct)
		unit = DIRECT_ALIGN;
	off = off / unit * unit;
	len = (len + unit - 1) / unit * unit;
	if (len > IO_MAX)
		len = IO_MAX;
	if (off + len > FILE_MAX)
		off = FILE_MAX - len;
	*ret_off = off;
	*ret_len = len;
}

static void grow(struct file *f, size_t end)
{
	if (end > f->size)
		f->size = end;
}

static void open_file(struct file *f, bool direct)
{
	f->fd = open(f->name, O_RDWR | O_CREAT | (direct ? O_DIRECT : 0), 0600);
	f->direct = direct;
	if (f->fd < 0 && direct && errno == EINVAL) { /* not on this file system */
		f->fd = open(f->name, O_RDWR | O_CREAT, 0600);
		f->direct = false;
	}
	if (f->fd < 0)
		die("open %s", f->name);
}

/* --- operations --- */

static void op_write(struct file *f)
{
	size_t off, len;

	pick_range(f, &off, &len);
	note("write %s %zu+%zu%s", f->name, off, len, f->direct ? " direct" : "");
	fill(buf, len);
	if (pwrite(f->fd, buf, len, (off_t)off) != (ssize_t)len)
		die("pwrite");
	memcpy(f->image + off, buf, len);
	grow(f, off + len);
}

static void op_read(struct file *f)
{
	size_t off, len, want;
	ssize_t n;

	pick_range(f, &off, &len);
	note("read %s %zu+%zu%s", f->name, off, len, f->direct ? " direct" : "");
	want = off >= f->size ? 0 : f->size - off < len ? f->size - off : len;
	n = pread(f->fd, buf, len, (off_t)off);
	if (n != (ssize_t)want)
		die("pread gave %zd, not %zu", n, want);
	compare(f, buf, off, want, "read");
}

static void op_append(struct file *f)
{
	size_t len = 1 + below(4000);
	int fd;

	if (f->size + len > FILE_MAX)
		return;
	note("append %s %zu+%zu", f->name, f->size, len);
	fd = open(f->name, O_WRONLY | O_APPEND);
	fill(buf, len);
	if (fd < 0 || write(fd, buf, len) != (ssize_t)len || close(fd) < 0)
		die("append");
	memcpy(f->image + f->size, buf, len);
	f->size += len;
}

static void op_truncate(struct file *f)
{
	size_t size = below(4) ? below(FILE_MAX) : f->size / 8192 * 8192;

	note("truncate %s %zu to %zu", f->name, f->size, size);
	if (ftruncate(f->fd, (off_t)size) < 0)
		die("ftruncate");
	if (size < f->size)
		memset(f->image + size, 0, f->size - size);
	f->size = size;
}

static void op_reopen(struct file *f)
{
	bool direct = below(3) == 0;
	bool empty = below(12) == 0;

	note("reopen %s%s%s", f->name, direct ? " direct" : "", empty ? " empty" : "");
	if (close(f->fd) < 0)
		die("close");
	if (empty) {
		int fd = open(f->name, O_WRONLY | O_TRUNC);

		if (fd < 0 || close(fd) < 0)
			die("open with O_TRUNC");
		memset(f->image, 0, f->size);
		f->size = 0;
	}
	open_file(f, direct);
}

static void op_fallocate(struct file *f)
{
	static const int modes[] = {0,
				    FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	int mode = modes[below(sizeof(modes) / sizeof(modes[0]))];
	size_t off, len, end;

	pick_range(f, &off, &len);
	note("fallocate %s mode %d %zu+%zu", f->name, mode, off, len);
	if (fallocate(f->fd, mode, (off_t)off, (off_t)len) < 0) {
		if (errno == EOPNOTSUPP && mode & ~FALLOC_FL_KEEP_SIZE)
			return; /* not on this file system */
		die("fallocate");
	}
	end = off + len < f->size ? off + len : f->size;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && end > off)
		memset(f->image + off, 0, end - off);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grow(f, off + len);
}

static uint8_t *map_file(const struct file *f, size_t len)
{
	uint8_t *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);

	if (map == MAP_FAILED)
		die("mmap");
	return map;
}

static void op_map_write(struct file *f)
{
	size_t off, len;
	uint8_t *map;

	pick_range(f, &off, &len);
	if (off >= f->size)
		return;
	if (len > f->size - off)
		len = f->size - off;
	note("map write %s %zu+%zu", f->name, off, len);
	map = map_file(f, f->size);
	fill(buf, len);
	memcpy(map + off, buf, len);
	memcpy(f->image + off, buf, len);
	if (below(3) == 0 && msync(map, f->size, MS_SYNC) < 0)
		die("msync");
	(void)munmap(map, f->size); /* our own */
}

static void op_map_read(struct file *f)
{
	uint8_t *map;
	size_t page = 4096, tail;

	if (f->size == 0)
		return;
	note("map read %s %zu", f->name, f->size);
	map = map_file(f, f->size);
	compare(f, map, 0, f->size, "mapping");
	tail = (page - f->size % page) % page;
	for (size_t i = 0; i < tail; i++)
		if (map[f->size + i] != 0)
			die("the mapping of %s is not zero behind its end, byte %zu",
			    f->name, f->size + i);
	(void)munmap(map, f->size); /* our own */
}

static void op_copy_range(struct file *in)
{
	struct file *out = &files[below(FILES)];
	size_t from, to, len, left;
	off_t in_off, out_off;

	pick_range(in, &from, &len);
	pick_range(out, &to, &left);
	if (from >= in->size || in->direct || out->direct)
		return;
	if (len > in->size - from)
		len = in->size - from;
	if (to + len > FILE_MAX)
		to = FILE_MAX - len;
	if (in == out && from < to + len && to < from + len)
		return; /* refused */
	note("copy %s %zu+%zu to %s %zu", in->name, from, len, out->name, to);
	in_off = (off_t)from;
	out_off = (off_t)to;
	for (left = len; left > 0;) {
		ssize_t n =
			copy_file_range(in->fd, &in_off, out->fd, &out_off, left, 0);

		if (n <= 0)
			die("copy_file_range gave %zd", n);
		left -= (size_t)n;
	}
	memmove(out->image + to, in->image + from, len);
	grow(out, to + len);
}

static void op_sync(struct file *f)
{
	bool data = below(2);

	note("%s %s", data ? "fdatasync" : "fsync", f->name);
	if ((data ? fdatasync(f->fd) : fsync(f->fd)) < 0)
		die("fsync");
}

/* Asks the daemon again, not the kernel's cache. */
static void op_forget(struct file *f)
{
	note("drop cache %s", f->name);
	if (fdatasync(f->fd) < 0 ||
	    posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		die("dropping the cache");
}

/* What is said to be a hole reads as zeros; data and holes take turns to the end. */
static void op_seek(struct file *f)
{
	off_t data, hole = 0;

	note("seek %s", f->name);
	while ((size_t)hole < f->size) {
		data = lseek(f->fd, hole, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			die("SEEK_DATA");
		if (data < 0)
			data = (off_t)f->size;
		for (off_t i = hole; i < data; i++)
			if (f->image[i] != 0)
				die("%s: byte %lld is in a hole", f->name,
				    (long long)i);
		if ((size_t)data >= f->size)
			break;
		hole = lseek(f->fd, data, SEEK_HOLE);
		if (hole <= data || (size_t)hole > f->size)
			die("SEEK_HOLE behind %lld gave %lld", (long long)data,
			    (long long)hole);
	}
}

static void op_rename(struct file *f)
{
	char other[32];

	(void)snprintf(other, sizeof(other), "%s.moved", f->name);
	note("rename %s and back", f->name);
	if (rename(f->name, other) < 0 || (below(2) && fsync(f->fd) < 0) ||
	    rename(other, f->name) < 0)
		die("rename");
}

static const struct {
	unsigned weight;
	void (*fn)(struct file *f);
} ops[] = {
	{22, op_write},     {22, op_read},     {5, op_append},    {7, op_truncate},
	{4, op_reopen},     {8, op_fallocate}, {9, op_map_write}, {7, op_map_read},
	{5, op_copy_range}, {3, op_sync},      {4, op_forget},    {2, op_seek},
	{1, op_rename},
};

static void one_op(uint64_t seed)
{
	unsigned total = 0, at;
	struct file *f;
	size_t i;

	rng = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (op_no + 1) << 20;
	(void)next_random();
	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].weight;
	f = &files[below(FILES)];
	at = (unsigned)below(total);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	note("nothing");
	ops[i].fn(f);
	check_size(f);
}

static void compare_whole(struct file *f, const char *path, const char *by)
{
	uint8_t *all = malloc(FILE_MAX + 1);
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (!all || fd < 0)
		die("open %s", path);
	n = pread(fd, all, FILE_MAX + 1, 0);
	if (n != (ssize_t)f->size)
		die("%s: %zd bytes in %s, should be %zu", by, n, path, f->size);
	compare(f, all, 0, f->size, by);
	(void)close(fd); /* read only */
	free(all);
}

static void __attribute__((format(printf, 2, 3)))
put_path(char *path, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(path, PATH_MAX, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= PATH_MAX)
		die("a path is too long");
}

/* Freezes what was written: the files stay open over it. */
static void make_branch(const char *mnt)
{
	char path[PATH_MAX], name[64];

	note("branch %u", branches);
	for (size_t i = 0; i < FILES; i++)
		if (fsync(files[i].fd) < 0)
			die("fsync");
	(void)snprintf(name, sizeof(name), "fsx%d-%u", (int)getpid(), branches++);
	put_path(path, "%s/%s@%s", mnt, name, branch);
	if (mkdir(path, 0700) < 0)
		die("mkdir %s", path);
	for (size_t i = 0; i < FILES; i++) {
		put_path(path, "%s/%s/data/%s/%s", mnt, name, below_data,
			 files[i].name);
		compare_whole(&files[i], path, "branch");
	}
	put_path(path, "%s/%s", mnt, name);
	/* every third one lives on, so that layers are shared and not, by turns */
	if (branches % 3 && rmdir(path) < 0)
		die("rmdir %s", path);
}

/* DIR is MNT/BRANCH/data/...; its parts. */
static bool take_apart(const char *mnt, const char *dir)
{
	size_t len = strlen(mnt);
	const char *slash;

	if (strncmp(dir, mnt, len) != 0 || dir[len] != '/')
		return false;
	dir += len + 1;
	slash = strchr(dir, '/');
	if (!slash || strncmp(slash, "/data/", 6) != 0 ||
	    (size_t)(slash - dir) >= sizeof(branch))
		return false;
	memcpy(branch, dir, (size_t)(slash - dir));
	(void)snprintf(below_data, sizeof(below_data), "%s", slash + 6);
	return true;
}

int main(int argc, char **argv)
{
	uint64_t count = 1000, seed = (uint64_t)time(NULL), every = 1000;
	const char *mnt = NULL;
	int c;

	while ((c = getopt(argc, argv, "n:s:b:e:")) != -1) {
		if (c == 'n')
			count = strtoull(optarg, NULL, 10);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 10);
		else if (c == 'e')
			every = strtoull(optarg, NULL, 10);
		else if (c == 'b')
			mnt = optarg;
		else
			optind = argc; /* the usage */
	}
	if (optind != argc - 1 || (mnt && !take_apart(mnt, argv[optind])) ||
	    chdir(argv[optind]) < 0 ||
	    posix_memalign((void **)&buf, DIRECT_ALIGN, IO_MAX) != 0) {
		fprintf(stderr,
			"usage: fsx [-n OPS] [-s SEED] [-b MNT] [-e EVERY] DIR\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %llu, %llu operations in %s\n", (unsigned long long)seed,
	       (unsigned long long)count, argv[optind]);
	for (size_t i = 0; i < FILES; i++) {
		(void)snprintf(files[i].name, sizeof(files[i].name), "fsx-%zu", i);
		(void)unlink(files[i].name); /* of an earlier run */
		open_file(&files[i], false);
	}
	for (op_no = 1; op_no <= count; op_no++) {
		one_op(seed);
		if (mnt && op_no % every == 0)
			make_branch(mnt);
	}
	for (size_t i = 0; i < FILES; i++) {
		compare_whole(&files[i], files[i].name, "end");
		if (close(files[i].fd) < 0)
			die("close");
	}
	free(buf);
	printf("%llu operations, %u branches: no difference\n",
	       (unsigned long long)count, branches);
	return 0;
}

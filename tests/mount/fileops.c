/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fileops.c - what POSIX says about files and directories, errno by errno.
 *
 *	fileops prepare DIR   makes what the cases find there already
 *	fileops run DIR       runs all cases; they use it up
 *	fileops inodes DIR    prints "inode path" of all below DIR
 *	fileops hold DIR N    opens N files below DIR, reads a byte of each, closes them
 *	fileops many DIR N    makes N files and works on them while all are open
 *
 * In a branch what was prepared lies in lower layers.  On a plain directory all cases
 * must pass too: that proves the test itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOW_BYTES 40000 /* of a prepared file: not a whole number of blocks */
#define LOW_FILES 40
#define LOW_DIRS 8
#define MANY_NAMES 5000

static unsigned failures, checks;
static const char *current;

#define CHECK(cond)                                                                    \
	do {                                                                           \
		checks++;                                                              \
		if (!(cond)) {                                                         \
			printf("FAILED: %s, line %d: %s (errno %d, %s)\n", current,    \
			       __LINE__, #cond, errno, strerror(errno));               \
			failures++;                                                    \
		}                                                                      \
	} while (0)
/* The call must fail with that errno. */
#define FAILS(call, code)                                                              \
	do {                                                                           \
		errno = 0;                                                             \
		CHECK((call) < 0 && errno == (code));                                  \
	} while (0)

static uint8_t pattern(uint64_t off)
{
	return (uint8_t)(off * 7 + off / 8192 + 1);
}

static bool is_pattern(int fd, uint64_t from, uint64_t to)
{
	uint8_t buf[4096];

	while (from < to) {
		size_t want = to - from < sizeof(buf) ? to - from : sizeof(buf);
		ssize_t n = pread(fd, buf, want, (off_t)from);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != pattern(from + (uint64_t)i))
				return false;
		from += (uint64_t)n;
	}
	return true;
}

static bool is_byte(int fd, uint64_t from, uint64_t to, uint8_t value)
{
	uint8_t buf[4096];

	while (from < to) {
		size_t want = to - from < sizeof(buf) ? to - from : sizeof(buf);
		ssize_t n = pread(fd, buf, want, (off_t)from);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != value)
				return false;
		from += (uint64_t)n;
	}
	return true;
}

static void make_patterned(const char *path)
{
	uint8_t buf[LOW_BYTES];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = pattern(i);
	CHECK(fd >= 0);
	CHECK(write(fd, buf, sizeof(buf)) == (ssize_t)sizeof(buf));
	CHECK(close(fd) == 0);
}

/* The size of a path, or -1. */
static long long size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (long long)st.st_size : -1;
}

static long links_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? (long)st.st_nlink : -1;
}

static ino_t ino_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static int touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	return fd < 0 ? fd : close(fd);
}

/* --- what the cases find --- */

static void prepare(void)
{
	char path[64];

	current = "prepare";
	CHECK(mkdir("low", 0700) == 0);
	for (int i = 0; i < LOW_FILES; i++) {
		(void)snprintf(path, sizeof(path), "low/f%d", i);
		make_patterned(path);
	}
	for (int i = 0; i < LOW_DIRS; i++) {
		(void)snprintf(path, sizeof(path), "low/d%d", i);
		CHECK(mkdir(path, 0750) == 0);
		(void)snprintf(path, sizeof(path), "low/d%d/x", i);
		make_patterned(path);
		(void)snprintf(path, sizeof(path), "low/d%d/sub", i);
		CHECK(mkdir(path, 0700) == 0);
		(void)snprintf(path, sizeof(path), "low/d%d/sub/y", i);
		make_patterned(path);
	}
	CHECK(symlink("f0", "low/sym") == 0);
	make_patterned("low/h1");
	CHECK(link("low/h1", "low/h2") == 0);
	CHECK(mkdir("low/empty", 0700) == 0);
}

/* --- opening --- */

static void case_open_flags(void)
{
	int fd;

	FAILS(open("no", O_RDONLY), ENOENT);
	fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0640);
	CHECK(fd >= 0);
	CHECK(write(fd, "hello", 5) == 5);
	CHECK(close(fd) == 0);
	FAILS(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	FAILS(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	FAILS(open("f/x", O_RDONLY), ENOTDIR);
	FAILS(open(".", O_WRONLY), EISDIR);
	FAILS(open("low/f0", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
	FAILS(open("low/sym", O_RDONLY | O_NOFOLLOW), ELOOP);
	fd = open("f", O_RDWR | O_TRUNC);
	CHECK(fd >= 0 && size_of("f") == 0);
	CHECK(close(fd) == 0);
	fd = open("low/f1", O_RDWR | O_TRUNC);
	CHECK(fd >= 0 && size_of("low/f1") == 0);
	CHECK(pwrite(fd, "z", 1, 20000) == 1);
	CHECK(is_byte(fd, 0, 20000, 0) && size_of("low/f1") == 20001);
	CHECK(close(fd) == 0);
	fd = open("low/f2", O_RDONLY);
	FAILS(write(fd, "x", 1), EBADF);
	FAILS(ftruncate(fd, 1), EINVAL);
	CHECK(is_pattern(fd, 0, LOW_BYTES));
	CHECK(close(fd) == 0);
}

static void case_append(void)
{
	int a = open("a", O_WRONLY | O_CREAT | O_APPEND, 0600);
	int b = open("a", O_WRONLY | O_APPEND), r = open("a", O_RDONLY);
	char buf[8] = "";

	CHECK(write(a, "ab", 2) == 2 && write(b, "cd", 2) == 2 &&
	      write(a, "ef", 2) == 2);
	CHECK(pread(r, buf, 7, 0) == 6 && strcmp(buf, "abcdef") == 0);
	CHECK(lseek(a, 0, SEEK_CUR) == 6);
	CHECK(close(a) == 0 && close(b) == 0 && close(r) == 0);
	a = open("low/f3", O_RDWR | O_APPEND);
	CHECK(write(a, "tail", 4) == 4 && size_of("low/f3") == LOW_BYTES + 4);
	CHECK(is_pattern(a, 0, LOW_BYTES));
	CHECK(pread(a, buf, 4, LOW_BYTES) == 4 && memcmp(buf, "tail", 4) == 0);
	CHECK(close(a) == 0);
}

static void case_dsync(void)
{
	static const int flags[] = {O_DSYNC, O_SYNC};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		int fd = open("low/f4", O_RDWR | flags[i]);

		CHECK(fd >= 0 && pwrite(fd, "sync", 4, 8190) == 4);
		CHECK(is_pattern(fd, 0, 8190) && is_pattern(fd, 8194, LOW_BYTES));
		CHECK(pwrite(fd, "s", 1, 8190) == 1);
		CHECK(close(fd) == 0);
	}
}

static void case_direct(void)
{
	void *buf = NULL;
	int fd = open("low/f5", O_RDWR | O_DIRECT);

	if (fd < 0 && errno == EINVAL) {
		printf("no O_DIRECT here\n");
		return;
	}
	CHECK(fd >= 0 && posix_memalign(&buf, 8192, 16384) == 0);
	if (fd < 0 || !buf)
		return;
	memset(buf, 'D', 8192);
	CHECK(pwrite(fd, buf, 8192, 8192) == 8192);
	CHECK(pread(fd, buf, 16384, 0) == 16384);
	CHECK(((uint8_t *)buf)[8191] == pattern(8191));
	CHECK(((uint8_t *)buf)[8192] == 'D' && ((uint8_t *)buf)[16383] == 'D');
	CHECK(close(fd) == 0);
	free(buf);
	fd = open("low/f5", O_RDONLY); /* cached reads see it as well */
	CHECK(is_pattern(fd, 0, 8192) && is_byte(fd, 8192, 16384, 'D') &&
	      is_pattern(fd, 16384, LOW_BYTES));
	CHECK(close(fd) == 0);
}

/* --- names --- */

static void case_unlink_open(void)
{
	static const char *const names[] = {"u", "low/f6"};
	struct stat st;

	make_patterned("u");
	for (size_t i = 0; i < 2; i++) {
		int fd = open(names[i], O_RDWR);

		CHECK(unlink(names[i]) == 0 && !exists(names[i]));
		CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0);
		CHECK(is_pattern(fd, 0, LOW_BYTES));
		CHECK(pwrite(fd, "more", 4, LOW_BYTES) == 4 && fsync(fd) == 0);
		CHECK(fstat(fd, &st) == 0 && st.st_size == LOW_BYTES + 4);
		CHECK(ftruncate(fd, 100) == 0 && is_pattern(fd, 0, 100));
		CHECK(touch(names[i]) == 0 && size_of(names[i]) == 0);
		CHECK(is_pattern(fd, 0, 100) && close(fd) == 0);
		FAILS(unlink("no"), ENOENT);
	}
	FAILS(unlink("low/d0"), EISDIR);
}

static void case_rename_open(void)
{
	int fd = open("low/f7", O_RDWR), old = open("low/f8", O_RDWR);

	CHECK(fd >= 0 && old >= 0 && pwrite(fd, "A", 1, 0) == 1);
	CHECK(rename("low/f7", "low/f8") == 0 && !exists("low/f7"));
	CHECK(pwrite(fd, "B", 1, 1) == 1);
	CHECK(pwrite(old, "C", 1, 0) == 1 && is_pattern(old, 1, LOW_BYTES));
	CHECK(close(fd) == 0 && close(old) == 0);
	fd = open("low/f8", O_RDONLY);
	CHECK(is_byte(fd, 0, 1, 'A') && is_byte(fd, 1, 2, 'B') &&
	      is_pattern(fd, 2, LOW_BYTES));
	CHECK(close(fd) == 0);
	CHECK(rename("low/f9", "moved") == 0 && size_of("moved") == LOW_BYTES);
	CHECK(rename("moved", "low/f9") == 0 && size_of("low/f9") == LOW_BYTES);
	FAILS(rename("no", "x"), ENOENT);
	FAILS(rename("low/f9", "low/d0"), EISDIR);
	FAILS(rename("low/d0", "low/f9"), ENOTDIR);
	FAILS(rename("low/d0", "low/d0/sub/in"), EINVAL);
	CHECK(rename("low/f9", "low/f9") == 0 && exists("low/f9"));
}

static void case_rename_noreplace(void)
{
	CHECK(touch("n1") == 0 && touch("n2") == 0);
	FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n2", RENAME_NOREPLACE), EEXIST);
	FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "low/f10", RENAME_NOREPLACE), EEXIST);
	CHECK(exists("n1") && size_of("low/f10") == LOW_BYTES);
	CHECK(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n3", RENAME_NOREPLACE) == 0);
	CHECK(renameat2(AT_FDCWD, "low/f10", AT_FDCWD, "n1", RENAME_NOREPLACE) == 0);
	CHECK(size_of("n1") == LOW_BYTES && !exists("low/f10") && exists("n3"));
}

static void case_rename_dir(void)
{
	int fd = open("low/d1/sub/y", O_RDWR);
	ino_t ino = ino_of("low/d1/sub");

	CHECK(rename("low/d1", "moved-dir") == 0 && !exists("low/d1"));
	CHECK(size_of("moved-dir/x") == LOW_BYTES);
	CHECK(ino != 0 && ino_of("moved-dir/sub") == ino);
	CHECK(pwrite(fd, "Q", 1, 0) == 1 && close(fd) == 0);
	fd = open("moved-dir/sub/y", O_RDONLY);
	CHECK(is_byte(fd, 0, 1, 'Q') && is_pattern(fd, 1, LOW_BYTES) && close(fd) == 0);
	FAILS(rename("moved-dir", "low/d2"), ENOTEMPTY);
	CHECK(rename("moved-dir", "low/empty") == 0 && exists("low/empty/sub/y"));
	CHECK(mkdir("low/d1", 0700) == 0 && !exists("low/d1/x"));
	CHECK(unlink("low/empty/x") == 0 && rename("low/empty", "low/e2") == 0);
	CHECK(!exists("low/e2/x") && exists("low/e2/sub/y"));
	CHECK(rename("low/d2/sub", "low/d1/sub") == 0 && exists("low/d1/sub/y"));
	CHECK(rename("low/d2/x", "low/d1/x") == 0 && rmdir("low/d2") == 0);
}

static void case_links(void)
{
	int fd;

	CHECK(links_of("low/h1") == 2 && ino_of("low/h1") == ino_of("low/h2"));
	fd = open("low/h1", O_RDWR);
	CHECK(pwrite(fd, "L", 1, 12345) == 1 && close(fd) == 0);
	fd = open("low/h2", O_RDONLY);
	CHECK(is_byte(fd, 12345, 12346, 'L') && is_pattern(fd, 0, 12345) &&
	      is_pattern(fd, 12346, LOW_BYTES));
	CHECK(link("low/h2", "h3") == 0 && links_of("low/h1") == 3);
	CHECK(unlink("low/h1") == 0 && links_of("h3") == 2);
	CHECK(unlink("low/h2") == 0 && links_of("h3") == 1);
	CHECK(is_byte(fd, 12345, 12346, 'L') && close(fd) == 0);
	CHECK(size_of("h3") == LOW_BYTES);
	CHECK(link("low/f11", "l1") == 0 && links_of("low/f11") == 2);
	fd = open("l1", O_RDWR);
	CHECK(ftruncate(fd, 10) == 0 && close(fd) == 0 && size_of("low/f11") == 10);
	CHECK(rename("l1", "low/f11") == 0 && exists("l1")); /* one file: nothing */
	CHECK(rename("low/f12", "l1") == 0 && links_of("low/f11") == 1);
	FAILS(link("l1", "low/f11"), EEXIST);
	FAILS(link("no", "x"), ENOENT);
	FAILS(link("low/d3", "x"), EPERM);
}

static void case_symlinks(void)
{
	char buf[PATH_MAX + 1], longest[PATH_MAX];
	struct stat st;

	memset(buf, 0, sizeof(buf));
	CHECK(readlink("low/sym", buf, sizeof(buf)) == 2 && strcmp(buf, "f0") == 0);
	CHECK(size_of("low/sym") == LOW_BYTES);
	CHECK(lstat("low/sym", &st) == 0 && st.st_size == 2 && S_ISLNK(st.st_mode));
	CHECK(symlink("no such place", "dangling") == 0);
	FAILS(open("dangling", O_RDONLY), ENOENT);
	FAILS(symlink("x", "dangling"), EEXIST);
	FAILS(readlink("low/f13", buf, sizeof(buf)), EINVAL);
	CHECK(symlink("loop", "loop") == 0);
	FAILS(open("loop", O_RDONLY), ELOOP);
	memset(longest, 'x', sizeof(longest));
	longest[1000] = '\0';
	CHECK(symlink(longest, "long") == 0);
	CHECK(readlink("long", buf, sizeof(buf)) == 1000);
	CHECK(rename("low/sym", "s2") == 0 && unlink("s2") == 0 && !exists("low/sym"));
	CHECK(unlink("loop") == 0 && unlink("dangling") == 0);
}

static void case_dirs(void)
{
	FAILS(mkdir("low/d4", 0700), EEXIST);
	FAILS(mkdir("low/f14", 0700), EEXIST);
	FAILS(mkdir("no/x", 0700), ENOENT);
	FAILS(mkdir("low/f14/x", 0700), ENOTDIR);
	FAILS(rmdir("low/d4"), ENOTEMPTY);
	FAILS(rmdir("low/f14"), ENOTDIR);
	FAILS(rmdir("no"), ENOENT);
	FAILS(rmdir("low/d4/."), EINVAL);
	CHECK(unlink("low/d4/x") == 0 && unlink("low/d4/sub/y") == 0);
	FAILS(rmdir("low/d4"), ENOTEMPTY);
	CHECK(rmdir("low/d4/sub") == 0 && rmdir("low/d4") == 0 && !exists("low/d4"));
	CHECK(mkdir("low/d4", 0700) == 0 && !exists("low/d4/x"));
}

/* Goes on in a directory after it was removed. */
static void case_dead_dir(void)
{
	int fd;

	CHECK(mkdir("dead", 0700) == 0);
	fd = open("dead", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0 && rmdir("dead") == 0);
	FAILS(openat(fd, "x", O_CREAT | O_WRONLY, 0600), ENOENT);
	FAILS(mkdirat(fd, "x", 0700), ENOENT);
	CHECK(close(fd) == 0);
}

static void case_names(void)
{
	char name[300];

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	CHECK(touch(name) == 0 && exists(name));
	CHECK(link(name, "n") == 0 && rename("n", "nn") == 0 && unlink("nn") == 0);
	name[255] = 'n';
	name[256] = '\0';
	FAILS(touch(name), ENAMETOOLONG);
	FAILS(mkdir(name, 0700), ENAMETOOLONG);
	FAILS(symlink("x", name), ENAMETOOLONG);
	FAILS(rename("low/f15", name), ENAMETOOLONG);
	FAILS(link("low/f15", name), ENAMETOOLONG);
	FAILS(unlink(name), ENAMETOOLONG);
	CHECK(touch("new\nline") == 0 && exists("new\nline"));
	CHECK(touch("\xc3\xa4 \xff") == 0 && exists("\xc3\xa4 \xff"));
	CHECK(touch("w.x") == 0 && touch("d101.0") == 0 && touch("data") == 0);
}

static int count_names(DIR *d)
{
	struct dirent *e;
	int n = 0;

	rewinddir(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	return n;
}

/* Every name is seen once, also while names before and behind are taken away. */
static void case_readdir(void)
{
	static uint8_t seen[MANY_NAMES];
	struct dirent *e;
	char name[32];
	DIR *d;
	int n = 0;

	CHECK(mkdir("many", 0700) == 0 && chdir("many") == 0);
	for (int i = 0; i < MANY_NAMES; i++) {
		(void)snprintf(name, sizeof(name), "name-%d", i);
		CHECK(mknod(name, S_IFREG | 0600, 0) == 0);
	}
	d = opendir(".");
	CHECK(d && count_names(d) == MANY_NAMES);
	if (!d)
		return;
	rewinddir(d);
	memset(seen, 0, sizeof(seen));
	while ((e = readdir(d))) {
		int i;

		if (sscanf(e->d_name, "name-%d", &i) != 1)
			continue;
		CHECK(i >= 0 && i < MANY_NAMES && !seen[i]);
		seen[i] = 1;
		n++;
		CHECK(unlink(e->d_name) == 0);
		if (n % 100 == 0) { /* what is new may show or not */
			(void)snprintf(name, sizeof(name), "new-%d", n);
			CHECK(touch(name) == 0);
		}
	}
	CHECK(n == MANY_NAMES);
	CHECK(count_names(d) == MANY_NAMES / 100);
	CHECK(closedir(d) == 0 && chdir("..") == 0);
	FAILS(rmdir("many"), ENOTEMPTY);
}

static void case_seekdir(void)
{
	char third[NAME_MAX + 1] = "";
	struct dirent *e;
	DIR *d = opendir("low");
	long at = 0;
	int i;

	CHECK(d != NULL);
	for (i = 0; d && i < 5 && (e = readdir(d)); i++) {
		if (i == 2)
			at = telldir(d);
		if (i == 3)
			(void)snprintf(third, sizeof(third), "%s", e->d_name);
	}
	if (!d)
		return;
	seekdir(d, at);
	e = readdir(d);
	CHECK(e && strcmp(e->d_name, third) == 0);
	CHECK(closedir(d) == 0);
}

/* --- attributes --- */

static void case_chmod(void)
{
	static const mode_t modes[] = {0000, 0400, 0200, 0644, 01777};
	struct stat st;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		int fd = open("low/f16", O_RDWR);

		CHECK(fd >= 0 && fchmod(fd, modes[i]) == 0);
		CHECK(stat("low/f16", &st) == 0 && (st.st_mode & 07777) == modes[i]);
		CHECK(pwrite(fd, "M", 1, (off_t)(i * 8192)) == 1 && fsync(fd) == 0);
		CHECK(is_byte(fd, i * 8192, i * 8192 + 1, 'M'));
		if (geteuid() != 0 && !(modes[i] & 0400))
			FAILS(open("low/f16", O_RDONLY), EACCES);
		if (geteuid() != 0 && !(modes[i] & 0200))
			FAILS(open("low/f16", O_WRONLY), EACCES);
		CHECK(fchmod(fd, 0600) == 0 && close(fd) == 0);
	}
	CHECK(chmod("low/d5", 0500) == 0);
	CHECK(stat("low/d5", &st) == 0 && (st.st_mode & 07777) == 0500);
	if (geteuid() != 0)
		FAILS(touch("low/d5/new"), EACCES);
	CHECK(chmod("low/d5", 0700) == 0 && touch("low/d5/new") == 0);
	FAILS(chmod("no", 0600), ENOENT);
}

static void case_umask(void)
{
	struct stat st;
	mode_t old = umask(027);

	CHECK(close(open("masked", O_CREAT | O_WRONLY, 0666)) == 0);
	CHECK(stat("masked", &st) == 0 && (st.st_mode & 07777) == 0640);
	CHECK(mkdir("masked-dir", 0777) == 0);
	CHECK(stat("masked-dir", &st) == 0 && (st.st_mode & 07777) == 0750);
	umask(old);
}

static void case_times(void)
{
	const struct timespec then[2] = {{1000000000, 1}, {1111111111, 123456789}};
	static const char *const names[] = {"low/f17", "low/d6", "t"};
	struct stat st;

	CHECK(touch("t") == 0);
	for (size_t i = 0; i < 3; i++) {
		CHECK(utimensat(AT_FDCWD, names[i], then, 0) == 0);
		CHECK(stat(names[i], &st) == 0 && st.st_mtim.tv_sec == 1111111111 &&
		      st.st_mtim.tv_nsec == 123456789);
		CHECK(utimensat(AT_FDCWD, names[i], NULL, 0) == 0);
		CHECK(stat(names[i], &st) == 0 && st.st_mtim.tv_sec > 1700000000);
	}
}

static void case_ids(void)
{
	struct stat st;

	CHECK(stat("low/f18", &st) == 0);
	CHECK(chown("low/f18", st.st_uid, st.st_gid) == 0);
	if (geteuid() != 0)
		FAILS(chown("low/f18", st.st_uid + 1, st.st_gid), EPERM);
}

/* --- bytes --- */

static void case_truncate(void)
{
	int fd = open("low/f19", O_RDWR);

	CHECK(ftruncate(fd, 10000) == 0 && size_of("low/f19") == 10000);
	CHECK(ftruncate(fd, 30000) == 0 && size_of("low/f19") == 30000);
	CHECK(is_pattern(fd, 0, 10000) && is_byte(fd, 10000, 30000, 0));
	FAILS(ftruncate(fd, -1), EINVAL);
	CHECK(close(fd) == 0);
	CHECK(truncate("low/f20", 5) == 0 && size_of("low/f20") == 5);
	FAILS(truncate("low/d6", 0), EISDIR);
	FAILS(truncate("no", 0), ENOENT);
}

static void case_fallocate(void)
{
	int fd = open("low/f21", O_RDWR);

	CHECK(fallocate(fd, 0, 0, LOW_BYTES) == 0 && is_pattern(fd, 0, LOW_BYTES));
	CHECK(fallocate(fd, 0, LOW_BYTES, 10000) == 0);
	CHECK(size_of("low/f21") == LOW_BYTES + 10000);
	CHECK(is_byte(fd, LOW_BYTES, LOW_BYTES + 10000, 0));
	CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000) == 0);
	CHECK(size_of("low/f21") == LOW_BYTES + 10000);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 10000) ==
	      0);
	CHECK(is_pattern(fd, 0, 5000) && is_byte(fd, 5000, 15000, 0) &&
	      is_pattern(fd, 15000, LOW_BYTES));
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 20000, 100) < 0) {
		CHECK(errno == EOPNOTSUPP);
		printf("no ZERO_RANGE here\n");
	} else {
		CHECK(is_pattern(fd, 15000, 20000) && is_byte(fd, 20000, 20100, 0) &&
		      is_pattern(fd, 20100, LOW_BYTES));
		CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 49000, 3000) == 0 &&
		      size_of("low/f21") == 52000);
		CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 51000,
				3000) == 0 &&
		      size_of("low/f21") == 52000);
	}
	FAILS(fallocate(fd, 0, -1, 10), EINVAL);
	FAILS(fallocate(fd, 0, 0, 0), EINVAL);
	CHECK(close(fd) == 0);
	fd = open("low/f21", O_RDONLY);
	FAILS(fallocate(fd, 0, 0, 10), EBADF);
	CHECK(close(fd) == 0);
}

static void case_mmap(void)
{
	int fd = open("low/f22", O_RDWR), other = open("low/f22", O_RDONLY);
	uint8_t *shared =
		mmap(NULL, LOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint8_t *private =
		mmap(NULL, LOW_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	CHECK(shared != MAP_FAILED && private != MAP_FAILED);
	if (shared == MAP_FAILED || private == MAP_FAILED)
		return;
	CHECK(shared[100] == pattern(100) && private[100] == pattern(100));
	shared[100] = 'S';
	private[200] = 'P';
	CHECK(pwrite(fd, "W", 1, 20000) == 1 && shared[20000] == 'W');
	CHECK(msync(shared, LOW_BYTES, MS_SYNC) == 0);
	CHECK(is_byte(other, 100, 101, 'S') && is_pattern(other, 101, 20000));
	shared[LOW_BYTES - 1] = 'E';
	CHECK(munmap(shared, LOW_BYTES) == 0 && munmap(private, LOW_BYTES) == 0);
	CHECK(is_byte(other, LOW_BYTES - 1, LOW_BYTES, 'E'));
	CHECK(close(fd) == 0 && close(other) == 0);
}

static void case_sparse(void)
{
	int fd = open("sparse", O_RDWR | O_CREAT, 0600);
	const off_t far = (off_t)1 << 32;
	struct stat st;

	CHECK(pwrite(fd, "end", 3, far) == 3 && fsync(fd) == 0);
	CHECK(size_of("sparse") == far + 3);
	CHECK(is_byte(fd, (uint64_t)far - 20000, (uint64_t)far, 0));
	CHECK(lseek(fd, 0, SEEK_END) == far + 3);
	CHECK(lseek(fd, 0, SEEK_DATA) >= 0);
	FAILS(lseek(fd, far + 3, SEEK_DATA), ENXIO);
	CHECK(close(fd) == 0);
	CHECK(stat("sparse", &st) == 0 && st.st_blocks < 1000);
	fd = open("low/f23", O_RDWR);
	CHECK(pwrite(fd, "end", 3, 1 << 20) == 3);
	CHECK(is_pattern(fd, 0, LOW_BYTES) && is_byte(fd, LOW_BYTES, 1 << 20, 0));
	CHECK(close(fd) == 0);
}

static void case_sync(void)
{
	int fd = open("low/f24", O_RDWR), dir = open(".", O_RDONLY | O_DIRECTORY);

	CHECK(fsync(fd) == 0 && fdatasync(fd) == 0);
	CHECK(pwrite(fd, "F", 1, 0) == 1 && fdatasync(fd) == 0);
	CHECK(touch("synced") == 0 && fsync(dir) == 0 && fdatasync(dir) == 0);
	CHECK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) == 0);
	CHECK(close(fd) == 0 && close(dir) == 0);
}

static void case_copy_range(void)
{
	int in = open("low/f25", O_RDONLY), out = open("copy", O_RDWR | O_CREAT, 0600);
	off_t from = 0, to = 0;

	while (from < LOW_BYTES) {
		ssize_t n = copy_file_range(in, &from, out, &to, LOW_BYTES, 0);

		CHECK(n > 0);
		if (n <= 0)
			break;
	}
	CHECK(is_pattern(out, 0, LOW_BYTES) && size_of("copy") == LOW_BYTES);
	CHECK(copy_file_range(in, &from, out, &to, 1, 0) == 0);
	CHECK(close(in) == 0 && close(out) == 0);
}

static void case_special(void)
{
	struct stat st;

	CHECK(mkfifo("fifo", 0600) == 0);
	CHECK(lstat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
	FAILS(mkfifo("fifo", 0600), EEXIST);
	CHECK(rename("fifo", "fifo2") == 0 && unlink("fifo2") == 0);
	if (geteuid() != 0)
		FAILS(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), EPERM);
}

static void case_statvfs(void)
{
	struct statvfs st;

	CHECK(statvfs(".", &st) == 0 && st.f_namemax == 255 && st.f_blocks > 0);
}

static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
	{"open-flags", case_open_flags},
	{"append", case_append},
	{"dsync", case_dsync},
	{"direct", case_direct},
	{"unlink-open", case_unlink_open},
	{"rename-open", case_rename_open},
	{"rename-noreplace", case_rename_noreplace},
	{"rename-dir", case_rename_dir},
	{"links", case_links},
	{"symlinks", case_symlinks},
	{"dirs", case_dirs},
	{"dead-dir", case_dead_dir},
	{"names", case_names},
	{"readdir", case_readdir},
	{"seekdir", case_seekdir},
	{"chmod", case_chmod},
	{"umask", case_umask},
	{"times", case_times},
	{"ids", case_ids},
	{"truncate", case_truncate},
	{"fallocate", case_fallocate},
	{"mmap", case_mmap},
	{"sparse", case_sparse},
	{"sync", case_sync},
	{"copy-range", case_copy_range},
	{"special", case_special},
	{"statvfs", case_statvfs},
};

static void run(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		current = cases[i].name;
		cases[i].fn();
	}
}

/* --- other uses --- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void walk(int dirfd, const char *path,
		 void (*fn)(int dirfd, const char *name, const char *path,
			    const struct stat *st))
{
	struct dirent **list = NULL;
	int n = scandirat(dirfd, ".", &list, NULL, by_name);

	CHECK(n >= 0);
	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		char below[PATH_MAX];
		struct stat st;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			(void)snprintf(below, sizeof(below), "%s/%s", path, name);
			CHECK(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
			/* readdir and stat agree */
			CHECK(st.st_ino == list[i]->d_ino);
			fn(dirfd, name, below, &st);
			if (S_ISDIR(st.st_mode)) {
				int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY);

				CHECK(fd >= 0);
				walk(fd, below, fn);
				(void)close(fd);
			}
		}
		free(list[i]);
	}
	free(list);
}

static void print_ino(int dirfd, const char *name, const char *path,
		      const struct stat *st)
{
	(void)dirfd;
	(void)name;
	/* the second name of a file has the number of the first */
	printf("%llu %s\n", (unsigned long long)st->st_ino,
	       st->st_nlink > 1 && S_ISREG(st->st_mode) ? "linked" : path);
}

static int *held;
static unsigned held_count, held_max;

static void hold_one(int dirfd, const char *name, const char *path,
		     const struct stat *st)
{
	char c;
	int fd;

	(void)path;
	if (!S_ISREG(st->st_mode) || held_count == held_max)
		return;
	fd = openat(dirfd, name, O_RDWR);
	CHECK(fd >= 0);
	CHECK(pread(fd, &c, 1, 0) >= 0);
	held[held_count++] = fd;
}

static void raise_limit(unsigned fds)
{
	struct rlimit lim;

	CHECK(getrlimit(RLIMIT_NOFILE, &lim) == 0);
	if (lim.rlim_cur < fds + 20)
		lim.rlim_cur = lim.rlim_max < fds + 20 ? lim.rlim_max : fds + 20;
	CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
}

static void hold(int dirfd)
{
	raise_limit(held_max);
	walk(dirfd, ".", hold_one);
	CHECK(held_count == held_max);
	for (unsigned i = 0; i < held_count; i++)
		CHECK(close(held[i]) == 0);
}

static void many(void)
{
	char name[32], buf[16];

	raise_limit(held_max);
	for (unsigned i = 0; i < held_max; i++) {
		(void)snprintf(name, sizeof(name), "many-%u", i);
		held[i] = open(name, O_RDWR | O_CREAT, 0600);
		CHECK(held[i] >= 0 &&
		      pwrite(held[i], name, sizeof(buf), 8000) == (ssize_t)sizeof(buf));
		/* files with unwritten bytes keep their descriptors */
		for (unsigned k = i - 49; i % 50 == 49 && k <= i; k++)
			CHECK(fsync(held[k]) == 0);
	}
	for (unsigned i = 0; i < held_max; i++) {
		(void)snprintf(name, sizeof(name), "many-%u", i);
		if (i % 2)
			CHECK(unlink(name) == 0);
		/* the pages of the kernel's cache must not answer */
		CHECK(posix_fadvise(held[i], 0, 0, POSIX_FADV_DONTNEED) == 0);
		CHECK(pread(held[i], buf, sizeof(buf), 8000) == (ssize_t)sizeof(buf) &&
		      strcmp(buf, name) == 0);
	}
	for (unsigned i = 0; i < held_max; i++)
		CHECK(close(held[i]) == 0);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";
	int dirfd;

	current = verb;
	if (argc < 3 || chdir(argv[2]) < 0) {
		fprintf(stderr,
			"usage: fileops prepare|run|inodes|hold|many DIR [N]\n");
		return 2;
	}
	held_max = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 1;
	held = calloc(held_max, sizeof(*held));
	dirfd = open(".", O_RDONLY | O_DIRECTORY);
	if (!held || dirfd < 0)
		return 2;
	if (!strcmp(verb, "prepare"))
		prepare();
	else if (!strcmp(verb, "run"))
		run();
	else if (!strcmp(verb, "inodes"))
		walk(dirfd, ".", print_ino);
	else if (!strcmp(verb, "hold"))
		hold(dirfd);
	else if (!strcmp(verb, "many"))
		many();
	free(held);
	(void)close(dirfd);
	if (strcmp(verb, "inodes") != 0)
		printf("%s %s: %u checks, %u failed\n", verb, argv[2], checks,
		       failures);
	return failures ? 1 : 0;
}

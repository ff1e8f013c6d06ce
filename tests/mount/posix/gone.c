/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gone.c - what has no name any more and is still held. */
#include "suite.h"

static void unlinked_open(void)
{
	static const char *const names[] = {"u", "low/f0"};
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
		CHECK(is_pattern(fd, 0, 100) && fdatasync(fd) == 0);
		CHECK(fallocate(fd, 0, 0, 5000) == 0 && is_byte(fd, 100, 5000, 0));
		CHECK(close(fd) == 0);
	}
}

static void unlinked_attributes(void)
{
	const struct timespec both[2] = {{1000000000, 1}, {1111111111, 2}};
	int fd = open("low/f0", O_RDWR);
	char path[64];
	struct stat st;
	int again;

	CHECK(unlink("low/f0") == 0);
	CHECK(fchmod(fd, 0640) == 0 && futimens(fd, both) == 0);
	CHECK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0640 &&
	      st.st_mtim.tv_sec == 1111111111 && st.st_nlink == 0);
	CHECK(fchown(fd, st.st_uid, st.st_gid) == 0);
	/* opened once more */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR);
	CHECK(again >= 0 && pwrite(again, "x", 1, 0) == 1 && close(again) == 0);
	CHECK(is_byte(fd, 0, 1, 'x') && is_pattern(fd, 1, LOW_BYTES));
	CHECK(fsync(fd) == 0 && syncfs(fd) == 0 && close(fd) == 0);
}

/*
 * Times are written when the kernel likes, also after the last close: that the file is
 * gone is nobody's error, least of all of the next syncfs.
 */
static void unlinked_times(void)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY);
	char name[32];

	(void)syncfs(dir); /* what was reported before is not ours */
	for (int i = 0; i < 50; i++) {
		int fd;

		(void)snprintf(name, sizeof(name), "t%d", i);
		fd = open(name, O_RDWR | O_CREAT, 0600);
		CHECK(write(fd, name, sizeof(name)) == (ssize_t)sizeof(name));
		CHECK(i % 2 || unlink(name) == 0);
		CHECK(close(fd) == 0);
		CHECK(i % 2 == 0 || unlink(name) == 0);
	}
	CHECK(unlink("low/h1") == 0 && unlink("low/h2") == 0 && unlink("low/f1") == 0);
	CHECK(syncfs(dir) == 0 && close(dir) == 0);
}

static void dead_dir_is_dead(const char *name)
{
	const struct timespec both[2] = {{1000000000, 1}, {1111111111, 2}};
	int fd = open(name, O_RDONLY | O_DIRECTORY);
	struct stat st;
	DIR *d;

	CHECK(fd >= 0 && rmdir(name) == 0);
	CHECK(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink == 0);
	CHECK(fchmod(fd, 0711) == 0 && futimens(fd, both) == 0);
	CHECK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0711 &&
	      st.st_mtim.tv_sec == 1111111111);
	FAILS(openat(fd, "x", O_CREAT | O_WRONLY, 0600), ENOENT);
	FAILS(mkdirat(fd, "x", 0700), ENOENT);
	FAILS(symlinkat("x", fd, "x"), ENOENT);
	FAILS(linkat(AT_FDCWD, "low/f0", fd, "x", 0), ENOENT);
	FAILS(renameat(AT_FDCWD, "low/f0", fd, "x"), ENOENT);
	FAILS(faccessat(fd, "x", F_OK, 0), ENOENT);
	CHECK(fsync(fd) == 0);
	d = fdopendir(fd);
	CHECK(d && !readdir(d) && closedir(d) == 0);
}

static void dead_dirs(void)
{
	CHECK(mkdir("dead", 0700) == 0);
	dead_dir_is_dead("dead");
	dead_dir_is_dead("low/empty");
}

static void dead_cwd(void *arg)
{
	char buf[PATH_MAX];
	struct stat st;

	CHECK(chdir(arg) == 0);
	CHECK(rmdir("../empty2") == 0 && stat(".", &st) == 0 && st.st_nlink == 0);
	FAILS(getcwd(buf, sizeof(buf)) ? 0 : -1, ENOENT);
	FAILS(touch("x"), ENOENT);
	CHECK(access("..", F_OK) == 0 && chdir("..") == 0);
}

static void dead_others(void)
{
	static char empty[] = "low/empty2";
	int fd = open("low/fifo", O_RDWR), link = open("low/sym", O_PATH | O_NOFOLLOW);
	char buf[8] = "";
	struct stat st;

	CHECK(unlink("low/fifo") == 0 && fstat(fd, &st) == 0 && st.st_nlink == 0 &&
	      S_ISFIFO(st.st_mode));
	CHECK(write(fd, "abc", 3) == 3 && read(fd, buf, 8) == 3 &&
	      fchmod(fd, 0640) == 0);
	CHECK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0640 && close(fd) == 0);
	CHECK(rename("low/f2", "low/sym") == 0 && fstat(link, &st) == 0 &&
	      st.st_nlink == 0 && close(link) == 0);
	/* one that was replaced by a directory that replaces */
	fd = open("low/empty", O_RDONLY | O_DIRECTORY);
	CHECK(rename("low/d", "low/empty") == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && close(fd) == 0);
	CHECK(in_child(dead_cwd, empty));
}

const struct posix_case gone_cases[] = {
	{"unlinked-open", unlinked_open},
	{"unlinked-attributes", unlinked_attributes},
	{"unlinked-times", unlinked_times},
	{"dead-dirs", dead_dirs},
	{"dead-others", dead_others},
	{NULL, NULL},
};

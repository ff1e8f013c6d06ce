/* SPDX-License-Identifier: GPL-2.0-or-later */
/* names.c - opening and naming: flags, lengths, what a path runs into. */
#include "suite.h"

static void open_create(void)
{
	int fd;

	FAILS(open("no", O_RDONLY), ENOENT);
	FAILS(open("no/x", O_RDWR | O_CREAT, 0600), ENOENT);
	FAILS(open("", O_RDONLY), ENOENT);
	fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0640);
	CHECK(fd >= 0 && write(fd, "hello", 5) == 5 && close(fd) == 0);
	FAILS(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	FAILS(open("low/f0", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
	FAILS(open("low/sym", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
	FAILS(open("low/d", O_CREAT | O_WRONLY, 0600), EISDIR);
	FAILS(open("low/d", O_WRONLY), EISDIR);
	FAILS(open("low/d", O_RDWR), EISDIR);
	FAILS(open("low/d/", O_CREAT | O_WRONLY, 0600), EISDIR);
	/* created with no right to read or write, and yet open */
	fd = open("closed", O_RDWR | O_CREAT | O_EXCL, 0);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1 && mode_of("closed") == 0);
	CHECK(close(fd) == 0);
	/* through a symlink that leads nowhere yet */
	CHECK(symlink("target", "to") == 0);
	fd = open("to", O_WRONLY | O_CREAT, 0600);
	CHECK(fd >= 0 && close(fd) == 0 && size_of("target") == 0);
}

static void open_kinds(void)
{
	int fd;

	FAILS(open("low/f0", O_RDONLY | O_DIRECTORY), ENOTDIR);
	FAILS(open("low/sym", O_RDONLY | O_NOFOLLOW), ELOOP);
	FAILS(open("low/sym", O_RDONLY | O_DIRECTORY), ENOTDIR);
	fd = open("low/d", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0);
	FAILS(write(fd, "x", 1), EBADF);
	FAILS(ftruncate(fd, 0), EINVAL);
	FAILS(read(fd, &fd, 1), EISDIR);
	CHECK(close(fd) == 0);
	fd = open("low/f1", O_RDONLY);
	FAILS(write(fd, "x", 1), EBADF);
	FAILS(ftruncate(fd, 1), EINVAL);
	CHECK(is_pattern(fd, 0, LOW_BYTES) && close(fd) == 0);
	fd = open("low/f1", O_WRONLY);
	FAILS(read(fd, &fd, 1), EBADF);
	CHECK(close(fd) == 0);
	fd = open("low/f1", O_PATH);
	CHECK(fd >= 0);
	FAILS(read(fd, &fd, 1), EBADF);
	CHECK(close(fd) == 0);
	/* a directory opened by openat, "..", and a path from it */
	fd = open("low/d/sub", O_RDONLY | O_DIRECTORY);
	CHECK(faccessat(fd, "../x", F_OK, 0) == 0 && faccessat(fd, "..", F_OK, 0) == 0);
	CHECK(faccessat(fd, "../../f0", R_OK, 0) == 0 && close(fd) == 0);
}

static void open_truncate(void)
{
	int fd = open("low/f2", O_RDWR | O_TRUNC);

	CHECK(fd >= 0 && size_of("low/f2") == 0);
	CHECK(pwrite(fd, "z", 1, 20000) == 1);
	CHECK(is_byte(fd, 0, 20000, 0) && size_of("low/f2") == 20001);
	CHECK(close(fd) == 0);
	fd = open("low/f3", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	CHECK(fd >= 0 && size_of("low/f3") == 0 && mode_of("low/f3") == 0600);
	CHECK(close(fd) == 0);
	/* one that is open elsewhere, and its bytes are gone for both */
	fd = open("low/f4", O_RDONLY);
	CHECK(is_pattern(fd, 0, LOW_BYTES));
	CHECK(close(open("low/f4", O_WRONLY | O_TRUNC)) == 0);
	CHECK(read(fd, &fd, sizeof(fd)) == 0 && close(fd) == 0);
}

static void open_tmpfile(void)
{
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 && on_branch()) {
		leave_out("FUSE of libfuse 3.14 has no O_TMPFILE");
		CHECK(errno == EOPNOTSUPP);
		return;
	}
	CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 0);
	CHECK(write(fd, "x", 1) == 1 && close(fd) == 0);
}

static void name_lengths(void)
{
	char name[300], short_buf[10];

	memset(name, 'n', sizeof(name));
	name[NAME_MAX] = '\0';
	CHECK(touch(name) == 0 && exists(name));
	CHECK(link(name, "n") == 0 && rename("n", "nn") == 0 && unlink("nn") == 0);
	CHECK(rename(name, "short") == 0 && rename("short", name) == 0);
	CHECK(unlink(name) == 0 && mkdir(name, 0700) == 0 && rmdir(name) == 0);
	CHECK(symlink("x", name) == 0 && unlink(name) == 0);
	CHECK(mkfifo(name, 0600) == 0 && unlink(name) == 0);
	name[NAME_MAX] = 'n';
	name[NAME_MAX + 1] = '\0';
	FAILS(touch(name), ENAMETOOLONG);
	FAILS(open(name, O_RDONLY), ENAMETOOLONG);
	FAILS(access(name, F_OK), ENAMETOOLONG);
	FAILS(mkdir(name, 0700), ENAMETOOLONG);
	FAILS(mkfifo(name, 0600), ENAMETOOLONG);
	FAILS(symlink("x", name), ENAMETOOLONG);
	FAILS(rename("low/f0", name), ENAMETOOLONG);
	FAILS(rename(name, "low/f0"), ENAMETOOLONG);
	FAILS(link("low/f0", name), ENAMETOOLONG);
	FAILS(unlink(name), ENAMETOOLONG);
	FAILS(rmdir(name), ENAMETOOLONG);
	FAILS(chmod(name, 0600), ENAMETOOLONG);
	FAILS(truncate(name, 0), ENAMETOOLONG);
	FAILS(readlink(name, short_buf, 10), ENAMETOOLONG);
}

static void name_bytes(void)
{
	static const char *const names[] = {
		"new\nline", "\xc3\xa4 \xff", "w",    "w.00000000", "d101.0",
		"data",      "...",           " ",    "\\",         "-",
		"t.0",       ".tmp",          "\x01", "names",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CHECK(touch(names[i]) == 0 && exists(names[i]));
		CHECK(unlink(names[i]) == 0 && !exists(names[i]));
		CHECK(mkdir(names[i], 0700) == 0 && rmdir(names[i]) == 0);
	}
}

/* Paths of PATH_MAX, with the NUL, work; one byte more does not. */
static void path_lengths(void)
{
	char path[PATH_MAX + 2], component[202];
	size_t at = 0;
	int up = open(".", O_RDONLY | O_DIRECTORY);

	memset(component, 'p', sizeof(component));
	component[200] = '\0';
	while (at + 201 < PATH_MAX - 10) {
		CHECK(mkdir(component, 0700) == 0 && chdir(component) == 0);
		memcpy(path + at, component, 200);
		path[at + 200] = '/';
		at += 201;
	}
	CHECK(fchdir(up) == 0 && close(up) == 0);
	memset(path + at, 'e', sizeof(path) - at);
	path[PATH_MAX - 1] = '\0';
	CHECK(touch(path) == 0 && exists(path) && size_of(path) == 0);
	CHECK(chmod(path, 0640) == 0 && truncate(path, 5) == 0 && unlink(path) == 0);
	CHECK(mkdir(path, 0700) == 0 && rmdir(path) == 0);
	path[PATH_MAX - 1] = 'e';
	path[PATH_MAX] = '\0';
	FAILS(touch(path), ENAMETOOLONG);
	FAILS(mkdir(path, 0700), ENAMETOOLONG);
	FAILS(unlink(path), ENAMETOOLONG);
}

/* Whatever goes on through a file fails. */
static void not_a_directory(void)
{
	char buf[10];

	FAILS(open("low/f0/x", O_RDONLY), ENOTDIR);
	FAILS(open("low/f0/x", O_CREAT | O_WRONLY, 0600), ENOTDIR);
	FAILS(mkdir("low/f0/x", 0700), ENOTDIR);
	FAILS(rmdir("low/f0/x"), ENOTDIR);
	FAILS(unlink("low/f0/x"), ENOTDIR);
	FAILS(rename("low/f0/x", "y"), ENOTDIR);
	FAILS(rename("low/f1", "low/f0/x"), ENOTDIR);
	FAILS(link("low/f0/x", "y"), ENOTDIR);
	FAILS(link("low/f1", "low/f0/x"), ENOTDIR);
	FAILS(symlink("x", "low/f0/x"), ENOTDIR);
	FAILS(readlink("low/f0/x", buf, 10), ENOTDIR);
	FAILS(mkfifo("low/f0/x", 0600), ENOTDIR);
	FAILS(chmod("low/f0/x", 0600), ENOTDIR);
	FAILS(truncate("low/f0/x", 0), ENOTDIR);
	FAILS(access("low/f0/.", F_OK), ENOTDIR);
	FAILS(open("low/f0/", O_RDONLY), ENOTDIR);
}

static void loops(void)
{
	char name[8], to[8];

	CHECK(symlink("b", "a") == 0 && symlink("a", "b") == 0);
	FAILS(open("a", O_RDONLY), ELOOP);
	FAILS(open("a/x", O_CREAT | O_WRONLY, 0600), ELOOP);
	FAILS(access("a", F_OK), ELOOP);
	FAILS(mkdir("a/x", 0700), ELOOP);
	FAILS(rename("a/x", "y"), ELOOP);
	FAILS(link("a/x", "y"), ELOOP);
	FAILS(truncate("a", 0), ELOOP);
	FAILS(chmod("a", 0600), ELOOP);
	/* 40 in a row are followed, 41 not */
	CHECK(symlink("low/f0", "s0") == 0);
	for (int i = 1; i <= 40; i++) {
		(void)snprintf(name, sizeof(name), "s%d", i);
		(void)snprintf(to, sizeof(to), "s%d", i - 1);
		CHECK(symlink(to, name) == 0);
	}
	CHECK(size_of("s39") == LOW_BYTES);
	FAILS(open("s40", O_RDONLY), ELOOP);
}

const struct posix_case names_cases[] = {
	{"open-create", open_create},
	{"open-kinds", open_kinds},
	{"open-truncate", open_truncate},
	{"open-tmpfile", open_tmpfile},
	{"name-lengths", name_lengths},
	{"name-bytes", name_bytes},
	{"path-lengths", path_lengths},
	{"not-a-directory", not_a_directory},
	{"loops", loops},
	{NULL, NULL},
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rename.c - rename in all its corners. */
#include "suite.h"

static void rename_files(void)
{
	CHECK(rename("low/f0", "moved") == 0 && size_of("moved") == LOW_BYTES);
	CHECK(!exists("low/f0") && rename("moved", "low/f0") == 0);
	CHECK(size_of("low/f0") == LOW_BYTES);
	FAILS(rename("no", "x"), ENOENT);
	FAILS(rename("low/f0", "no/x"), ENOENT);
	FAILS(rename("low/f0", ""), ENOENT);
	FAILS(rename("low/f0", "low/d"), EISDIR);
	FAILS(rename("low/f0", "low/empty"), EISDIR);
	FAILS(rename("low/f0", "x/"), ENOTDIR);
	CHECK(rename("low/f0", "low/f0") == 0 && exists("low/f0"));
	/* over a file, a symlink, a fifo */
	CHECK(rename("low/f1", "low/f2") == 0 && !exists("low/f1"));
	CHECK(rename("low/f2", "low/sym") == 0 && size_of("low/sym") == LOW_BYTES);
	CHECK(S_ISREG(lstat_of("low/sym").st_mode) && exists("low/f0"));
	CHECK(rename("low/f3", "low/fifo") == 0 && size_of("low/fifo") == LOW_BYTES);
	/* a name that was below may come back */
	make_patterned("low/f1");
	CHECK(rename("low/f1", "low/f3") == 0 && size_of("low/f3") == LOW_BYTES);
}

/* Two names of one file: both stay. */
static void rename_same_file(void)
{
	CHECK(rename("low/h1", "low/h2") == 0);
	CHECK(exists("low/h1") && exists("low/h2") && links_of("low/h1") == 2);
	CHECK(link("low/f0", "l") == 0 && rename("l", "low/f0") == 0 && exists("l"));
	CHECK(links_of("l") == 2);
	CHECK(rename("low/f1", "l") == 0 && links_of("low/f0") == 1);
	FAILS(renameat2(AT_FDCWD, "low/h1", AT_FDCWD, "low/h2", RENAME_NOREPLACE),
	      EEXIST);
}

static void rename_open(void)
{
	int fd = open("low/f0", O_RDWR), old = open("low/f1", O_RDWR);
	struct stat st;

	CHECK(fd >= 0 && old >= 0 && pwrite(fd, "A", 1, 0) == 1);
	CHECK(rename("low/f0", "low/f1") == 0 && !exists("low/f0"));
	CHECK(pwrite(fd, "B", 1, 1) == 1);
	CHECK(pwrite(old, "C", 1, 0) == 1 && is_pattern(old, 1, LOW_BYTES));
	CHECK(fstat(old, &st) == 0 && st.st_nlink == 0 && fsync(old) == 0);
	CHECK(close(fd) == 0 && close(old) == 0);
	fd = open("low/f1", O_RDONLY);
	CHECK(is_byte(fd, 0, 1, 'A') && is_byte(fd, 1, 2, 'B') &&
	      is_pattern(fd, 2, LOW_BYTES));
	CHECK(close(fd) == 0);
}

static void rename_noreplace(void)
{
	CHECK(touch("n1") == 0 && touch("n2") == 0);
	FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n2", RENAME_NOREPLACE), EEXIST);
	FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "low/f0", RENAME_NOREPLACE), EEXIST);
	FAILS(renameat2(AT_FDCWD, "low/d", AT_FDCWD, "low/empty", RENAME_NOREPLACE),
	      EEXIST);
	CHECK(exists("n1") && size_of("low/f0") == LOW_BYTES);
	CHECK(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n3", RENAME_NOREPLACE) == 0);
	CHECK(renameat2(AT_FDCWD, "low/f0", AT_FDCWD, "n1", RENAME_NOREPLACE) == 0);
	CHECK(size_of("n1") == LOW_BYTES && !exists("low/f0") && exists("n3"));
	FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n3",
			RENAME_NOREPLACE | RENAME_EXCHANGE),
	      EINVAL);
	if (on_branch()) {
		leave_out("exchange is not offered: no one step on disk does it");
		FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n3", RENAME_EXCHANGE),
		      EINVAL);
	} else {
		CHECK(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n3", RENAME_EXCHANGE) == 0);
		CHECK(size_of("n3") == LOW_BYTES && size_of("n1") == 0);
		CHECK(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n3", RENAME_EXCHANGE) == 0);
	}
	CHECK(size_of("n1") == LOW_BYTES && size_of("n3") == 0);
}

static void rename_dirs(void)
{
	int fd = open("low/d/sub/y", O_RDWR);
	ino_t ino = ino_of("low/d/sub");

	CHECK(rename("low/d", "moved") == 0 && !exists("low/d"));
	CHECK(size_of("moved/x") == LOW_BYTES);
	CHECK(ino != 0 && ino_of("moved/sub") == ino);
	CHECK(pwrite(fd, "Q", 1, 0) == 1 && close(fd) == 0);
	fd = open("moved/sub/y", O_RDONLY);
	CHECK(is_byte(fd, 0, 1, 'Q') && is_pattern(fd, 1, LOW_BYTES) && close(fd) == 0);
	CHECK(rename("moved", "low/empty") == 0 && exists("low/empty/sub/y"));
	CHECK(!exists("moved") && mkdir("low/d", 0700) == 0 && !exists("low/d/x"));
	CHECK(unlink("low/empty/x") == 0 && rename("low/empty", "low/e2") == 0);
	CHECK(!exists("low/e2/x") && exists("low/e2/sub/y"));
	CHECK(rename("low/e2/sub", "low/d/sub") == 0 && exists("low/d/sub/y"));
	CHECK(rmdir("low/e2") == 0 && rename("low/d/", "low/d3/") == 0);
	/* ".." goes with it */
	CHECK(rename("low/d3/sub", "sub") == 0 && ino_of("sub/..") == ino_of("."));
}

static void rename_dir_errors(void)
{
	FAILS(rename("low/d", "low/f0"), ENOTDIR);
	FAILS(rename("low/empty", "low/sym"), ENOTDIR);
	FAILS_AS(rename("low/empty", "low/d"), ENOTEMPTY, EEXIST);
	FAILS_AS(rename("low/f0", "low/d/"), ENOTDIR, EISDIR);
	FAILS(rename("low/d", "low/d/sub/in"), EINVAL);
	FAILS(rename("low/d", "low/d/in"), EINVAL);
	FAILS_AS(rename("low/d/sub", "low/d"), ENOTEMPTY, EEXIST);
	FAILS_AS(rename("low/d/.", "x"), EBUSY, EINVAL);
	FAILS_AS(rename("low/d/..", "x"), EBUSY, EINVAL);
	FAILS_AS(rename("low/d", "low/empty/."), EBUSY, EINVAL);
	FAILS_AS(rename("low/d", "low/empty/.."), EBUSY, ENOTEMPTY);
	CHECK(rename("low/d", "low/d") == 0);
	/* over an empty one that is emptied here, whose names below are hidden */
	CHECK(unlink("low/d/x") == 0 && unlink("low/d/sub/y") == 0);
	CHECK(rmdir("low/d/sub") == 0 && rename("low/empty", "low/d") == 0);
	CHECK(!exists("low/empty") && !exists("low/d/x"));
	/* only whiteouts, and something made again among them */
	CHECK(touch("low/d/x") == 0 && size_of("low/d/x") == 0);
	FAILS_AS(rename("low/empty2", "low/d"), ENOTEMPTY, EEXIST);
}

/* Symlinks and fifos are renamed, not what they lead to. */
static void rename_others(void)
{
	char buf[10] = "";

	CHECK(rename("low/sym", "s") == 0 && !exists("low/sym"));
	CHECK(readlink("s", buf, 9) == 2 && strcmp(buf, "f0") == 0);
	CHECK(size_of("low/f0") == LOW_BYTES);
	CHECK(rename("low/fifo", "p") == 0 && S_ISFIFO(lstat_of("p").st_mode));
	CHECK(rename("p", "s") == 0 && S_ISFIFO(lstat_of("s").st_mode));
	CHECK(symlink("low", "dir") == 0 && rename("dir", "dir2") == 0);
	CHECK(exists("low") && exists("dir2/f0"));
	FAILS(rename("dir2/", "x"), ENOTDIR);
}

const struct posix_case rename_cases[] = {
	{"rename-files", rename_files},   {"rename-same-file", rename_same_file},
	{"rename-open", rename_open},     {"rename-noreplace", rename_noreplace},
	{"rename-dirs", rename_dirs},     {"rename-dir-errors", rename_dir_errors},
	{"rename-others", rename_others}, {NULL, NULL},
};

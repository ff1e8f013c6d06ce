/* SPDX-License-Identifier: GPL-2.0-or-later */
/* links.c - hard links and symlinks. */
#include "suite.h"

static void hard_links(void)
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
	CHECK(link("low/f0", "l") == 0 && chmod("l", 0640) == 0);
	CHECK(mode_of("low/f0") == 0640);
	CHECK(truncate("l", 10) == 0 && size_of("low/f0") == 10);
}

static void link_errors(void)
{
	FAILS(link("low/f0", "low/f1"), EEXIST);
	FAILS(link("low/f0", "low/d"), EEXIST);
	FAILS(link("low/f0", "low/sym"), EEXIST);
	FAILS(link("no", "x"), ENOENT);
	FAILS(link("low/f0", "no/x"), ENOENT);
	FAILS(link("low/d", "x"), EPERM);
	FAILS(link(".", "x"), EPERM);
	CHECK(links_of("low/f0") == 1);
}

/* Files that are no regular ones have links as well. */
static void link_others(void)
{
	char buf[8] = "";

	CHECK(link("low/sym", "s") == 0 && links_of("low/sym") == 2);
	CHECK(S_ISLNK(lstat_of("s").st_mode) && ino_of("s") == ino_of("low/sym"));
	CHECK(unlink("low/sym") == 0 && links_of("s") == 1);
	CHECK(readlink("s", buf, 7) == 2);
	CHECK(linkat(AT_FDCWD, "s", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW) < 0);
	CHECK(symlink("low/f0", "s2") == 0);
	CHECK(linkat(AT_FDCWD, "s2", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW) == 0);
	CHECK(S_ISREG(lstat_of("followed").st_mode) && links_of("low/f0") == 2);
	CHECK(link("low/fifo", "p") == 0 && links_of("p") == 2);
	CHECK(unlink("low/fifo") == 0 && links_of("p") == 1);
}

static void link_many(void)
{
	char name[32];

	for (int i = 0; i < 1000; i++) {
		(void)snprintf(name, sizeof(name), "l%d", i);
		CHECK(link("low/f0", name) == 0);
	}
	CHECK(links_of("low/f0") == 1001 && links_of("l999") == 1001);
	for (int i = 0; i < 1000; i += 2) {
		(void)snprintf(name, sizeof(name), "l%d", i);
		CHECK(unlink(name) == 0);
	}
	CHECK(links_of("low/f0") == 501);
}

/* By an open descriptor: /proc/self/fd leads to the file itself. */
static void link_by_fd(void)
{
	char path[64];
	int fd = open("low/f0", O_RDWR);

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "again", AT_SYMLINK_FOLLOW) == 0);
	CHECK(links_of("again") == 2);
	CHECK(unlink("again") == 0 && unlink("low/f0") == 0);
	/* its last name is gone: it stays so */
	FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "again", AT_SYMLINK_FOLLOW), ENOENT);
	CHECK(close(fd) == 0);
}

static void symlinks(void)
{
	char buf[PATH_MAX + 1], longest[PATH_MAX + 1];

	memset(buf, 0, sizeof(buf));
	CHECK(readlink("low/sym", buf, sizeof(buf)) == 2 && strcmp(buf, "f0") == 0);
	CHECK(readlink("low/sym", buf, 1) == 1);
	CHECK(size_of("low/sym") == LOW_BYTES && lstat_of("low/sym").st_size == 2);
	CHECK(symlink("no such place", "dangling") == 0);
	FAILS(open("dangling", O_RDONLY), ENOENT);
	FAILS(symlink("x", "dangling"), EEXIST);
	FAILS(symlink("x", "low/f0"), EEXIST);
	FAILS(symlink("", "empty"), ENOENT);
	FAILS(symlink("x", "no/x"), ENOENT);
	FAILS(readlink("low/f1", buf, sizeof(buf)), EINVAL);
	FAILS(readlink("low/d", buf, sizeof(buf)), EINVAL);
	FAILS(readlink("no", buf, sizeof(buf)), ENOENT);
	memset(longest, 'x', sizeof(longest));
	longest[PATH_MAX - 1] = '\0';
	CHECK(symlink(longest, "long") == 0 &&
	      lstat_of("long").st_size == PATH_MAX - 1);
	CHECK(readlink("long", buf, sizeof(buf)) == PATH_MAX - 1);
	CHECK(memcmp(buf, longest, PATH_MAX - 1) == 0);
	longest[PATH_MAX - 1] = 'x';
	longest[PATH_MAX] = '\0';
	FAILS(symlink(longest, "longer"), ENAMETOOLONG);
	CHECK(unlink("low/sym") == 0 && !exists("low/sym") && exists("low/f0"));
	CHECK(symlink("low/d", "dir") == 0 && exists("dir/x"));
	FAILS(rmdir("dir"), ENOTDIR);
	CHECK(unlink("dir") == 0 && exists("low/d"));
}

const struct posix_case link_cases[] = {
	{"hard-links", hard_links},
	{"link-errors", link_errors},
	{"link-others", link_others},
	{"link-many", link_many},
	{"link-by-fd", link_by_fd},
	{"symlinks", symlinks},
	{NULL, NULL},
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dirs.c - making, removing and listing directories. */
#include "suite.h"

#define MANY 4000

static void dirs_basic(void)
{
	CHECK(rmdir("low/empty") == 0 && !exists("low/empty"));
	FAILS(mkdir("low/d", 0700), EEXIST);
	FAILS(mkdir("low/f0", 0700), EEXIST);
	FAILS(mkdir("low/sym", 0700), EEXIST);
	FAILS(mkdir("no/x", 0700), ENOENT);
	FAILS(mkdir(".", 0700), EEXIST);
	FAILS(mkdir("..", 0700), EEXIST);
	FAILS_AS(rmdir("low/d"), ENOTEMPTY, EEXIST);
	FAILS(rmdir("low/f0"), ENOTDIR);
	FAILS(rmdir("low/sym"), ENOTDIR);
	FAILS(rmdir("no"), ENOENT);
	FAILS(rmdir("low/d/."), EINVAL);
	FAILS_AS(rmdir("low/d/.."), ENOTEMPTY, EEXIST);
	FAILS_AS(unlink("low/d"), EISDIR, EPERM);
	FAILS_AS(unlink("low/empty2"), EISDIR, EPERM);
	FAILS(unlink("no"), ENOENT);
	FAILS(unlinkat(AT_FDCWD, "low/f0", AT_REMOVEDIR), ENOTDIR);
	CHECK(unlink("low/d/x") == 0 && unlink("low/d/sub/y") == 0);
	FAILS_AS(rmdir("low/d"), ENOTEMPTY, EEXIST);
	CHECK(rmdir("low/d/sub") == 0 && rmdir("low/d/") == 0 && !exists("low/d"));
	CHECK(mkdir("low/d/", 0700) == 0 && !exists("low/d/x"));
	CHECK(mkdir("x", 0) == 0 && mode_of("x") == 0 && rmdir("x") == 0);
}

/* 2, and one for each directory in it. */
static void dir_links(void)
{
	CHECK(links_of("low/empty") == 2 && links_of("low/d") == 3);
	CHECK(links_of("low") == 5);
	CHECK(mkdir("a", 0700) == 0 && links_of("a") == 2);
	CHECK(mkdir("a/1", 0700) == 0 && mkdir("a/2", 0700) == 0 && links_of("a") == 4);
	CHECK(touch("a/f") == 0 && symlink("1", "a/s") == 0 && links_of("a") == 4);
	CHECK(rmdir("a/1") == 0 && links_of("a") == 3);
	CHECK(rename("low/d/sub", "a/sub") == 0);
	CHECK(links_of("low/d") == 2 && links_of("a") == 4);
	CHECK(rename("a/2", "a/sub2") == 0 && links_of("a") == 4);
	CHECK(rename("a/sub2", "low/empty") == 0 && links_of("a") == 3 &&
	      links_of("low") == 5);
	CHECK(rmdir("low/empty") == 0 && links_of("low") == 4);
	CHECK(mkdir("low/empty", 0700) == 0 && links_of("low") == 5);
	CHECK(unlink("low/d/x") == 0 && rmdir("low/d") == 0 && links_of("low") == 4);
	CHECK(touch("low/d") == 0 && links_of("low") == 4);
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

static void list_types(void)
{
	DIR *d = opendir("low");
	unsigned dots = 0, n = 0;
	struct dirent *e;

	CHECK(d != NULL);
	while (d && (e = readdir(d))) {
		struct stat st;
		bool dot = strcmp(e->d_name, ".") == 0, dotdot;

		dotdot = strcmp(e->d_name, "..") == 0;
		dots += dot || dotdot;
		n++;
		CHECK(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0);
		CHECK(e->d_type == DT_UNKNOWN || e->d_type == IFTODT(st.st_mode));
		/* a mount point and ".." may differ */
		CHECK(dotdot || e->d_ino == st.st_ino);
	}
	CHECK(dots == 2 && n == 2 + LOW_EACH + 3 + 2 + 2);
	if (d)
		CHECK(closedir(d) == 0);
	FAILS(opendir("low/f0") ? 0 : -1, ENOTDIR);
	FAILS(opendir("no") ? 0 : -1, ENOENT);
}

static void make_many(int count)
{
	char name[32];

	for (int i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "name-%d", i);
		CHECK(mknod(name, S_IFREG | 0600, 0) == 0);
	}
}

/* Every name is seen once, also while names before and behind are taken away. */
static void list_large(void)
{
	static uint8_t seen[MANY];
	struct dirent *e;
	char name[32];
	DIR *d;
	int n = 0;

	CHECK(mkdir("many", 0700) == 0 && chdir("many") == 0);
	make_many(MANY);
	d = opendir(".");
	CHECK(d && count_names(d) == MANY);
	if (!d)
		return;
	rewinddir(d);
	while ((e = readdir(d))) {
		int i;

		if (sscanf(e->d_name, "name-%d", &i) != 1)
			continue;
		CHECK(i >= 0 && i < MANY && !seen[i]);
		seen[i] = 1;
		n++;
		CHECK(unlink(e->d_name) == 0);
		if (n % 100 == 0) { /* what is new may show or not */
			(void)snprintf(name, sizeof(name), "new-%d", n);
			CHECK(touch(name) == 0);
		}
	}
	CHECK(n == MANY);
	CHECK(count_names(d) == MANY / 100);
	CHECK(closedir(d) == 0 && chdir("..") == 0);
	FAILS_AS(rmdir("many"), ENOTEMPTY, EEXIST);
}

static void list_seek(void)
{
	char names[LOW_EACH + 8][NAME_MAX + 1];
	long at[LOW_EACH + 8];
	struct dirent *e;
	DIR *d = opendir("low");
	int n = 0;

	CHECK(d != NULL);
	if (!d)
		return;
	at[0] = telldir(d);
	while (n < LOW_EACH + 7 && (e = readdir(d))) {
		(void)snprintf(names[n], sizeof(names[n]), "%s", e->d_name);
		at[++n] = telldir(d);
	}
	CHECK(n > LOW_EACH);
	for (int i = n - 1; i >= 0; i--) {
		seekdir(d, at[i]);
		e = readdir(d);
		CHECK(e && strcmp(e->d_name, names[i]) == 0);
	}
	/* positions hold while others go */
	seekdir(d, at[n / 2]);
	for (int i = 0; i < n / 2; i++)
		if (names[i][0] == 'f' && names[i][2] == '\0')
			CHECK(unlinkat(dirfd(d), names[i], 0) == 0);
	seekdir(d, at[n / 2]);
	e = readdir(d);
	CHECK(e && strcmp(e->d_name, names[n / 2]) == 0);
	CHECK(closedir(d) == 0);
}

/* rewinddir shows what came and went since. */
static void list_rewind(void)
{
	DIR *d = opendir("low/d");

	CHECK(d && count_names(d) == 2);
	if (!d)
		return;
	CHECK(touch("low/d/new") == 0 && count_names(d) == 3);
	CHECK(unlink("low/d/x") == 0 && unlink("low/d/new") == 0 &&
	      count_names(d) == 1);
	CHECK(rename("low/d/sub", "low/d/bus") == 0 && count_names(d) == 1);
	CHECK(rename("low/d/bus", "bus") == 0 && count_names(d) == 0);
	CHECK(closedir(d) == 0);
}

static void dirs_deep(void)
{
	int up = open(".", O_RDONLY | O_DIRECTORY), depth = 0;

	for (; depth < 300; depth++)
		CHECK(mkdir("deep", 0700) == 0 && chdir("deep") == 0);
	CHECK(touch("bottom") == 0 && unlink("bottom") == 0);
	for (; depth > 0; depth--)
		CHECK(chdir("..") == 0 && rmdir("deep") == 0);
	CHECK(fchdir(up) == 0 && close(up) == 0);
}

const struct posix_case dir_cases[] = {
	{"dirs-basic", dirs_basic}, {"dir-links", dir_links},
	{"list-types", list_types}, {"list-large", list_large},
	{"list-seek", list_seek},   {"list-rewind", list_rewind},
	{"dirs-deep", dirs_deep},   {NULL, NULL},
};

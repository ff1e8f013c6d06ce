/* SPDX-License-Identifier: GPL-2.0-or-later */
/* times.c - which times change when, and setting them. */
#include "suite.h"

enum { M = 1, C = 2 };

/* Which of an object's times are later than they were? */
static int moved(const struct stat *from, const struct stat *to)
{
	return (after(&to->st_mtim, &from->st_mtim) ? M : 0) |
	       (after(&to->st_ctim, &from->st_ctim) ? C : 0);
}

static struct stat before[2];

static void remember(const char *path, const char *path2)
{
	before[0] = lstat_of(path);
	before[1] = path2 ? lstat_of(path2) : before[0];
	next_tick();
}

static int changed(int i, const char *path)
{
	struct stat st = lstat_of(path);

	return moved(&before[i], &st);
}

#define ON(path, path2, call) (remember(path, path2), CHECK((call) == 0))

/* What changes a directory's entries changes both of its times. */
static void times_of_parent(void)
{
	ON("low", NULL, touch("low/new"));
	CHECK(changed(0, "low") == (M | C));
	ON("low", NULL, touch("low/new")); /* it is there: nothing */
	CHECK(changed(0, "low") == 0);
	ON("low", NULL, mkdir("low/dir", 0700));
	CHECK(changed(0, "low") == (M | C));
	ON("low", NULL, mkfifo("low/pipe", 0600));
	CHECK(changed(0, "low") == (M | C));
	ON("low", NULL, symlink("x", "low/s2"));
	CHECK(changed(0, "low") == (M | C));
	ON("low", NULL, link("low/f0", "low/l"));
	CHECK(changed(0, "low") == (M | C));
	ON("low", NULL, unlink("low/f1"));
	CHECK(changed(0, "low") == (M | C));
	ON("low", NULL, rmdir("low/empty"));
	CHECK(changed(0, "low") == (M | C));
	ON("low", NULL, rename("low/f2", "low/f22"));
	CHECK(changed(0, "low") == (M | C));
	ON("low", "low/d", rename("low/f3", "low/d/f3"));
	CHECK(changed(0, "low") == (M | C) && changed(1, "low/d") == (M | C));
	/* not the content of what is in it, nor what fails */
	ON("low", NULL, truncate("low/f0", 1));
	CHECK(changed(0, "low") == 0);
	remember("low", NULL);
	FAILS(mkdir("low/d", 0700), EEXIST);
	FAILS(unlink("low/no"), ENOENT);
	FAILS(open("low/f0", O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK(changed(0, "low") == 0);
}

/* Times of the bytes. */
static void times_of_file(void)
{
	int fd = open("low/f0", O_RDWR);
	char c;

	ON("low/f0", NULL, pwrite(fd, "w", 1, 0) - 1);
	CHECK(changed(0, "low/f0") == (M | C));
	ON("low/f0", NULL, pwrite(fd, "w", 0, 0));
	CHECK(changed(0, "low/f0") == 0);
	ON("low/f0", NULL, pread(fd, &c, 1, 0) - 1);
	CHECK(changed(0, "low/f0") == 0);
	ON("low/f0", NULL, ftruncate(fd, 100));
	CHECK(changed(0, "low/f0") == (M | C));
	ON("low/f0", NULL, ftruncate(fd, 100));
	CHECK(changed(0, "low/f0") == (M | C));
	ON("low/f0", NULL, truncate("low/f0", 1000));
	CHECK(changed(0, "low/f0") == (M | C));
	ON("low/f0", NULL, fallocate(fd, 0, 5000, 100));
	CHECK(changed(0, "low/f0") == (M | C));
	ON("low/f0", NULL, close(open("low/f0", O_WRONLY | O_TRUNC)));
	CHECK(changed(0, "low/f0") == (M | C));
	ON("low/f0", NULL, close(open("low/f0", O_RDWR)) + fsync(fd));
	CHECK(changed(0, "low/f0") == 0);
	CHECK(close(fd) == 0);
}

/* What changes an object but not its bytes, by kind. */
static void times_of_change(void)
{
	static const char *const paths[] = {"low/f1",   "low/d",   "low/fifo",
					    "new-file", "new-dir", "new-fifo"};

	CHECK(touch("new-file") == 0 && mkdir("new-dir", 0700) == 0 &&
	      mkfifo("new-fifo", 0600) == 0);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const char *p = paths[i];
		bool dir = S_ISDIR(lstat_of(p).st_mode);

		ON(p, NULL, chmod(p, 0750));
		CHECK(changed(0, p) == C);
		ON(p, NULL, chown(p, lstat_of(p).st_uid, lstat_of(p).st_gid));
		CHECK((changed(0, p) & M) == 0);
		ON(p, NULL, rename(p, "moved"));
		CHECK(changed(0, "moved") == C);
		CHECK(rename("moved", p) == 0);
		if (dir)
			continue;
		ON(p, NULL, link(p, "link"));
		CHECK(changed(0, p) == C && changed(0, "link") == C);
		ON(p, NULL, unlink("link"));
		CHECK(changed(0, p) == C);
		CHECK(link(p, "link") == 0 && touch("over") == 0);
		ON(p, NULL, rename("over", "link"));
		CHECK(changed(0, p) == C && unlink("link") == 0);
	}
	ON("low/sym", NULL, rename("low/sym", "s"));
	CHECK(changed(0, "s") == C);
	ON("s", NULL, link("s", "s2"));
	CHECK(changed(0, "s") == C);
	ON("s", NULL, unlink("s2"));
	CHECK(changed(0, "s") == C);
}

static bool is_time(const struct timespec *t, time_t sec, long nsec)
{
	return t->tv_sec == sec && t->tv_nsec == nsec;
}

static void set_times(void)
{
	static const char *const paths[] = {"low/f2", "low/d", "low/fifo", "low/sym",
					    "t-file", "t-dir", "t-fifo",   "t-sym"};
	const struct timespec both[2] = {{1000000000, 1}, {1111111111, 123456789}};
	const struct timespec atime[2] = {{1222222222, 999999999}, {0, UTIME_OMIT}};
	const struct timespec mtime[2] = {{0, UTIME_OMIT}, {-5, 7}};
	const struct timespec none[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
	const struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};

	CHECK(touch("t-file") == 0 && mkdir("t-dir", 0700) == 0 &&
	      mkfifo("t-fifo", 0600) == 0 && symlink("nowhere", "t-sym") == 0);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const char *p = paths[i];
		const int flags = AT_SYMLINK_NOFOLLOW;
		struct stat st, last;

		remember(p, NULL);
		CHECK(utimensat(AT_FDCWD, p, atime, flags) == 0);
		st = lstat_of(p);
		CHECK(is_time(&st.st_atim, 1222222222, 999999999));
		CHECK(moved(&before[0], &st) == C);
		CHECK(is_time(&st.st_mtim, before[0].st_mtim.tv_sec,
			      before[0].st_mtim.tv_nsec));
		remember(p, NULL);
		CHECK(utimensat(AT_FDCWD, p, both, flags) == 0);
		st = lstat_of(p);
		CHECK(is_time(&st.st_atim, 1000000000, 1) &&
		      is_time(&st.st_mtim, 1111111111, 123456789));
		CHECK(after(&st.st_ctim, &before[0].st_ctim));
		CHECK(utimensat(AT_FDCWD, p, mtime, flags) == 0);
		last = lstat_of(p);
		CHECK(is_time(&last.st_atim, 1000000000, 1) &&
		      is_time(&last.st_mtim, -5, 7));
		next_tick();
		CHECK(utimensat(AT_FDCWD, p, none, flags) == 0);
		st = lstat_of(p);
		CHECK(moved(&last, &st) == 0);
		CHECK(utimensat(AT_FDCWD, p, now, flags) == 0);
		st = lstat_of(p);
		CHECK(after(&st.st_atim, &before[0].st_ctim) &&
		      is_time(&st.st_mtim, -5, 7));
		CHECK(utimensat(AT_FDCWD, p, NULL, flags) == 0);
		st = lstat_of(p);
		CHECK(after(&st.st_mtim, &before[0].st_ctim));
	}
	FAILS(utimensat(AT_FDCWD, "no", both, 0), ENOENT);
	FAILS(utimensat(AT_FDCWD, "low/f0",
			(struct timespec[2]){{0, 1000000000}, {0, 0}}, 0),
	      EINVAL);
}

/* A time that was set stays over writes to others, fsync and chmod. */
static void times_stay(void)
{
	const struct timespec both[2] = {{1000000000, 1}, {1111111111, 2}};
	int fd = open("low/f3", O_RDWR);
	struct stat st;

	CHECK(pwrite(fd, "x", 1, 0) == 1 && futimens(fd, both) == 0 && fsync(fd) == 0);
	CHECK(fchmod(fd, 0640) == 0 && close(fd) == 0);
	fd = open("low/f3", O_RDONLY);
	CHECK(is_byte(fd, 0, 1, 'x') && fstat(fd, &st) == 0 && close(fd) == 0);
	CHECK(is_time(&st.st_mtim, 1111111111, 2));
	CHECK(is_time(&st.st_atim, 1000000000, 1) || !on_branch());
}

/* Who only reads may not set times, who owns may. */
static void times_rights(void)
{
	const struct timespec both[2] = {{1, 1}, {2, 2}};

	CHECK(chmod("low/f4", 0400) == 0 &&
	      utimensat(AT_FDCWD, "low/f4", both, 0) == 0);
	CHECK(utimensat(AT_FDCWD, "low/f4", NULL, 0) == 0);
}

const struct posix_case time_cases[] = {
	{"times-of-parent", times_of_parent},
	{"times-of-file", times_of_file},
	{"times-of-change", times_of_change},
	{"set-times", set_times},
	{"times-stay", times_stay},
	{"times-rights", times_rights},
	{NULL, NULL},
};

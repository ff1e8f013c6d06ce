/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fileops.c - work on many files at once, for the mount's tests.
 *
 *	fileops inodes DIR    prints "inode path" of all below DIR
 *	fileops hold DIR N    opens N files below DIR, reads a byte of each, closes them
 *	fileops many DIR N    makes N files and works on them while all are open
 *	fileops begin-rm DIR  all of a rm -rf of a branch but its last step
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

static unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *ent;
	unsigned n = 0;

	CHECK(d != NULL);
	while (d && (ent = readdir(d)) != NULL)
		n += strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0;
	if (d)
		CHECK(closedir(d) == 0);
	return n;
}

/* Some tools know what is in data before they remove the first file, others look. */
static void begin_rm(void)
{
	DIR *early = opendir("data");
	unsigned n = 0;

	CHECK(early != NULL && count_entries("data") > 10);
	CHECK(unlink("status") == 0);
	CHECK(count_entries("data") == 0 && count_entries("data/base") == 0);
	CHECK(unlink("data/PG_VERSION") == 0);
	CHECK(rmdir("data/base") == 0);
	while (early && readdir(early) != NULL)
		n++;
	CHECK(n > 10); /* what was opened before is what it was */
	CHECK(early && closedir(early) == 0);
	CHECK(rmdir("data") == 0);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";
	int dirfd;

	current = verb;
	if (argc < 3 || chdir(argv[2]) < 0) {
		fprintf(stderr, "usage: fileops inodes|hold|many|begin-rm DIR [N]\n");
		return 2;
	}
	held_max = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 1;
	held = calloc(held_max, sizeof(*held));
	dirfd = open(".", O_RDONLY | O_DIRECTORY);
	if (!held || dirfd < 0)
		return 2;
	if (!strcmp(verb, "inodes"))
		walk(dirfd, ".", print_ino);
	else if (!strcmp(verb, "hold"))
		hold(dirfd);
	else if (!strcmp(verb, "many"))
		many();
	else if (!strcmp(verb, "begin-rm"))
		begin_rm();
	free(held);
	(void)close(dirfd);
	if (strcmp(verb, "inodes") != 0)
		printf("%s %s: %u checks, %u failed\n", verb, argv[2], checks,
		       failures);
	return failures ? 1 : 0;
}

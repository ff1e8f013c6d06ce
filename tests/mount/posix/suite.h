/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * suite.h - what the cases of the POSIX suite share: checks, small helpers, and the
 * tables of cases, one a topic.
 *
 * A case runs in a directory of its own that is empty but for `low`, which prepare
 * made: in a branch, what is in low lies in the layers below.
 */
#ifndef TESTS_MOUNT_POSIX_SUITE_H
#define TESTS_MOUNT_POSIX_SUITE_H

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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOW_BYTES 40000 /* of a prepared file: not a whole number of blocks */
#define LOW_EACH 6      /* prepared files of a case: low/f0... */

/* Counts; a failure names the case and the line. */
void check(bool good, const char *what, const char *file, int line);
#define CHECK(cond) check((cond), #cond, __FILE__, __LINE__)
/* The call must fail with that errno. */
#define FAILS(call, code)                                                              \
	do {                                                                           \
		errno = 0;                                                             \
		CHECK((call) < 0 && errno == (code));                                  \
	} while (0)
/* The same, for what must not succeed but may give one of two. */
#define FAILS_AS(call, one, other)                                                     \
	do {                                                                           \
		errno = 0;                                                             \
		CHECK((call) < 0 && (errno == (one) || errno == (other)));             \
	} while (0)

/* Says that this file system is not asked for something, and why. */
void leave_out(const char *why);

/*
 * Where a branch differs from a local file system by design the case asks this: true
 * on data/ of a branch.
 */
bool on_branch(void);

/* The pattern of prepared files. */
uint8_t pattern(uint64_t off);
bool is_pattern(int fd, uint64_t from, uint64_t to);
bool is_byte(int fd, uint64_t from, uint64_t to, uint8_t value);
void make_patterned(const char *path);

long long size_of(const char *path); /* -1: not there */
long links_of(const char *path);
ino_t ino_of(const char *path);
mode_t mode_of(const char *path); /* permission bits */
bool exists(const char *path);
int touch(const char *path);
struct stat lstat_of(const char *path);
/* Is a later than b? */
bool after(const struct timespec *a, const struct timespec *b);
/* Lets the clock of the file systems, which ticks with the kernel, go on. */
void next_tick(void);

/* Runs fn in a child; true if it made no failed check. */
bool in_child(void (*fn)(void *arg), void *arg);
/* A child that goes on beside us; join it with child_done. */
pid_t start_child(void (*fn)(void *arg), void *arg);
bool child_done(pid_t pid);
struct posix_case {
	const char *name;
	void (*fn)(void);
};

/* Each ends with a row without a name. */
extern const struct posix_case names_cases[], rename_cases[], link_cases[], dir_cases[],
	byte_cases[], alloc_cases[], map_cases[], time_cases[], access_cases[],
	special_cases[], lock_cases[], parallel_cases[], gone_cases[];

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * suite.c - runs the POSIX suite.
 *
 *	posix prepare DIR         makes what the cases find there already
 *	posix run DIR [CASE]      runs the cases, which use it up
 *	posix run-branch DIR      the same on data/ of a branch, where some answers
 *differ
 *
 * On a plain directory all cases must pass too: that proves the suite itself.
 */
#include "suite.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define CHILD_SECONDS 120

static const struct posix_case *const topics[] = {
	names_cases, rename_cases, link_cases,     dir_cases,    byte_cases,
	alloc_cases, map_cases,    time_cases,     access_cases, special_cases,
	lock_cases,  gone_cases,   parallel_cases,
};
#define TOPICS (sizeof(topics) / sizeof(topics[0]))

static unsigned failures, checks;
static const char *current = "start";
static bool branch;

void check(bool good, const char *what, const char *file, int line)
{
	const char *base = strrchr(file, '/');

	checks++;
	if (good)
		return;
	printf("FAILED: %s, %s:%d: %s (errno %d, %s)\n", current,
	       base ? base + 1 : file, line, what, errno, strerror(errno));
	failures++;
}

void leave_out(const char *why)
{
	printf("%s: left out: %s\n", current, why);
}

bool on_branch(void)
{
	return branch;
}

/* --- helpers --- */

uint8_t pattern(uint64_t off)
{
	return (uint8_t)(off * 7 + off / 8192 + 1);
}

static bool is_like(int fd, uint64_t from, uint64_t to, int value)
{
	uint8_t buf[4096];

	while (from < to) {
		size_t want = to - from < sizeof(buf) ? to - from : sizeof(buf);
		ssize_t n = pread(fd, buf, want, (off_t)from);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] !=
			    (value < 0 ? pattern(from + (uint64_t)i) : (uint8_t)value))
				return false;
		from += (uint64_t)n;
	}
	return true;
}

bool is_pattern(int fd, uint64_t from, uint64_t to)
{
	return is_like(fd, from, to, -1);
}

bool is_byte(int fd, uint64_t from, uint64_t to, uint8_t value)
{
	return is_like(fd, from, to, value);
}

void make_patterned(const char *path)
{
	uint8_t buf[LOW_BYTES];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = pattern(i);
	CHECK(fd >= 0);
	CHECK(write(fd, buf, sizeof(buf)) == (ssize_t)sizeof(buf));
	CHECK(close(fd) == 0);
}

struct stat lstat_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		memset(&st, 0xff, sizeof(st));
	return st;
}

long long size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (long long)st.st_size : -1;
}

long links_of(const char *path)
{
	return (long)lstat_of(path).st_nlink;
}

ino_t ino_of(const char *path)
{
	return lstat_of(path).st_ino;
}

mode_t mode_of(const char *path)
{
	return lstat_of(path).st_mode & 07777;
}

bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

int touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	return fd < 0 ? fd : close(fd);
}

bool after(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

void next_tick(void)
{
	struct timespec from, now;

	/* a tick may come late, and a time from between two be newer than the next */
	(void)clock_gettime(CLOCK_REALTIME, &from);
	do
		(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (!after(&now, &from));
}

pid_t start_child(void (*fn)(void *arg), void *arg)
{
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		failures = 0;
		(void)alarm(CHILD_SECONDS);
		fn(arg);
		(void)fflush(stdout);
		_exit(failures ? 1 : 0);
	}
	return pid;
}

bool child_done(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

bool in_child(void (*fn)(void *arg), void *arg)
{
	return child_done(start_child(fn, arg));
}

/* --- prepare --- */

static void prepare_low(void)
{
	char path[64];

	CHECK(mkdir("low", 0700) == 0);
	for (int i = 0; i < LOW_EACH; i++) {
		(void)snprintf(path, sizeof(path), "low/f%d", i);
		make_patterned(path);
	}
	CHECK(mkdir("low/d", 0750) == 0 && mkdir("low/d/sub", 0700) == 0);
	make_patterned("low/d/x");
	make_patterned("low/d/sub/y");
	CHECK(mkdir("low/empty", 0700) == 0 && mkdir("low/empty2", 0700) == 0);
	CHECK(symlink("f0", "low/sym") == 0 && mkfifo("low/fifo", 0600) == 0);
	make_patterned("low/h1");
	CHECK(link("low/h1", "low/h2") == 0);
}

static void prepare_case(const struct posix_case *c)
{
	CHECK(mkdir(c->name, 0700) == 0 && chdir(c->name) == 0);
	prepare_low();
	CHECK(chdir("..") == 0);
}

static void run_case(const struct posix_case *c)
{
	int up = open(".", O_RDONLY | O_DIRECTORY);
	unsigned before = failures;

	current = c->name;
	CHECK(up >= 0 && chdir(c->name) == 0);
	if (failures == before)
		c->fn();
	CHECK(fchdir(up) == 0 && close(up) == 0);
}

static void each_case(void (*fn)(const struct posix_case *c), const char *only)
{
	for (size_t i = 0; i < TOPICS; i++)
		for (const struct posix_case *c = topics[i]; c->name; c++)
			if (!only || strcmp(only, c->name) == 0)
				fn(c);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";

	(void)umask(022);
	(void)signal(SIGPIPE, SIG_IGN);
	branch = strcmp(verb, "run-branch") == 0;
	if (argc < 3 || chdir(argv[2]) < 0) {
		fprintf(stderr, "usage: posix prepare|run|run-branch DIR [CASE]\n");
		return 2;
	}
	if (strcmp(verb, "prepare") == 0)
		each_case(prepare_case, NULL);
	else
		each_case(run_case, argc > 3 ? argv[3] : NULL);
	printf("%s %s: %u checks, %u failed\n", verb, argv[2], checks, failures);
	return failures ? 1 : 0;
}

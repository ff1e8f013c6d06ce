/* SPDX-License-Identifier: GPL-2.0-or-later */
/* locks.c - flock and fcntl between processes. */
#include "suite.h"

#include <sys/file.h>

static int range_lock(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock l = {.l_type = type, .l_start = start, .l_len = len};

	return fcntl(fd, cmd, &l);
}

static void find_locked(void *arg)
{
	int fd = open(arg, O_RDWR);
	struct flock l = {.l_type = F_WRLCK, .l_start = 0, .l_len = 0};

	FAILS(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	FAILS(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	FAILS_AS(range_lock(fd, F_SETLK, F_WRLCK, 50, 10), EAGAIN, EACCES);
	CHECK(range_lock(fd, F_SETLK, F_WRLCK, 200, 10) == 0);
	CHECK(fcntl(fd, F_GETLK, &l) == 0 && l.l_type == F_WRLCK && l.l_start == 0 &&
	      l.l_len == 100 && l.l_pid == getppid());
	CHECK(close(fd) == 0);
}

static void find_free(void *arg)
{
	int fd = open(arg, O_RDWR);

	CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
	CHECK(range_lock(fd, F_SETLK, F_WRLCK, 0, 0) == 0 && close(fd) == 0);
}

static void locks(void)
{
	static char path[] = "low/f0";
	int fd = open(path, O_RDWR), other = open(path, O_RDWR);

	CHECK(flock(fd, LOCK_EX) == 0 && range_lock(fd, F_SETLK, F_WRLCK, 0, 100) == 0);
	FAILS(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK(in_child(find_locked, path));
	CHECK(flock(fd, LOCK_UN) == 0 && range_lock(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
	CHECK(in_child(find_free, path));
	/* shared with shared */
	CHECK(flock(fd, LOCK_SH) == 0 && flock(other, LOCK_SH | LOCK_NB) == 0);
	/* descriptor-owned locks */
	CHECK(range_lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
	FAILS_AS(range_lock(other, F_OFD_SETLK, F_WRLCK, 5, 10), EAGAIN, EACCES);
	CHECK(close(fd) == 0 && range_lock(other, F_OFD_SETLK, F_WRLCK, 5, 10) == 0);
	CHECK(close(other) == 0 && in_child(find_free, path));
}

const struct posix_case lock_cases[] = {
	{"locks", locks},
	{NULL, NULL},
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe UID N PATH: as UID, without groups, N times: what does a look at PATH say?
 * Prints how often it was there, and how often it was not (ENOENT).
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int look(const char *path, long i)
{
	struct stat st;
	int fd;

	switch (i % 4) {
	case 0:
		return stat(path, &st);
	case 1:
		return access(path, F_OK);
	case 2:
		fd = open(path, O_PATH | O_CLOEXEC);
		if (fd >= 0)
			(void)close(fd);
		return fd < 0 ? -1 : 0;
	default:
		return chdir(path);
	}
}

int main(int argc, char **argv)
{
	long there = 0, absent = 0, n;
	unsigned uid;

	if (argc != 4)
		return 2;
	uid = (unsigned)strtoul(argv[1], NULL, 10);
	n = strtol(argv[2], NULL, 10);
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
	    setresuid(uid, uid, uid) < 0) {
		perror("probe");
		return 2;
	}
	for (long i = 0; i < n; i++) {
		if (look(argv[3], i) == 0)
			there++;
		else if (errno == ENOENT)
			absent++;
	}
	printf("%ld there, %ld absent, of %ld\n", there, absent, n);
	return 0;
}

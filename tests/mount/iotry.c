/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iotry.c - one system call on a file, and what it answers.
 *
 *	iotry OP PATH [ARG [ARG]]
 *
 * prints "ok" or the name of the errno.  The file is closed before it ends, and what
 * close says is printed if nothing else failed.  Where an operation has
 * more than one call, the first that fails counts.
 *
 *	iotry hold PATH
 *
 * opens PATH once and does what the lines of its input say ("write OFF LEN BYTE",
 * "fsync", "read OFF LEN"), one answer a line.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define CHUNK 8192

static char buf[1 << 20];

static int try_write(int fd, long off, long len, int byte)
{
	memset(buf, byte, sizeof(buf));
	while (len > 0) {
		size_t want = len < CHUNK ? (size_t)len : CHUNK;
		ssize_t n = pwrite(fd, buf, want, off);

		if (n <= 0)
			return -1;
		off += n;
		len -= n;
	}
	return 0;
}

static int try_read(int fd, long off, long len)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, len < CHUNK ? (size_t)len : CHUNK, off);

		if (n <= 0)
			return (int)n;
		off += n;
		len -= n;
	}
	return 0;
}

static int try_list(const char *path)
{
	DIR *d = opendir(path);
	int rc = 0;

	if (!d)
		return -1;
	errno = 0;
	while (readdir(d))
		;
	if (errno)
		rc = -1;
	(void)closedir(d); /* only read */
	return rc;
}

/* Operations on an open file; 1: not one of them. */
static int on_file(const char *op, int fd, long a, long b)
{
	if (strcmp(op, "write") == 0)
		return try_write(fd, a, b, 'n');
	if (strcmp(op, "write-fsync") == 0)
		return try_write(fd, a, b, 'n') < 0 ? -1 : fsync(fd);
	if (strcmp(op, "read") == 0)
		return try_read(fd, a, b);
	if (strcmp(op, "fsync") == 0)
		return fsync(fd);
	if (strcmp(op, "truncate") == 0)
		return ftruncate(fd, a);
	if (strcmp(op, "fallocate") == 0)
		return fallocate(fd, 0, a, b);
	return 1;
}

static int on_path(const char *op, const char *path, const char *arg)
{
	struct stat st;
	int fd, rc;

	if (strcmp(op, "create") == 0 || strcmp(op, "fsync-dir") == 0) {
		fd = *op == 'c' ? open(path, O_WRONLY | O_CREAT | O_EXCL, 0600)
				: open(path, O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			return -1;
		rc = *op == 'c' ? 0 : fsync(fd);
		return close(fd) < 0 ? -1 : rc;
	}
	if (strcmp(op, "mkdir") == 0)
		return mkdir(path, 0700);
	if (strcmp(op, "mkfifo") == 0)
		return mkfifo(path, 0600);
	if (strcmp(op, "symlink") == 0)
		return symlink(arg, path);
	if (strcmp(op, "link") == 0)
		return link(path, arg);
	if (strcmp(op, "rename") == 0)
		return rename(path, arg);
	if (strcmp(op, "unlink") == 0)
		return unlink(path);
	if (strcmp(op, "rmdir") == 0)
		return rmdir(path);
	if (strcmp(op, "chmod") == 0)
		return chmod(path, (mode_t)strtol(arg, NULL, 8));
	if (strcmp(op, "stat") == 0)
		return lstat(path, &st);
	if (strcmp(op, "list") == 0)
		return try_list(path);
	return 1;
}

static void answer(int rc)
{
	const char *name = rc == 0 ? "ok" : rc == 1 ? "usage" : strerrorname_np(errno);

	puts(name ? name : "?");
	(void)fflush(stdout); /* a reader that is gone needs no answer */
}

static int hold(int fd)
{
	char line[128], op[16];
	long a, b;

	while (fgets(line, sizeof(line), stdin)) {
		a = b = 0;
		if (sscanf(line, "%15s %ld %ld", op, &a, &b) < 1)
			continue;
		answer(on_file(op, fd, a, b));
	}
	return close(fd) < 0;
}

int main(int argc, char **argv)
{
	long a, b;
	int fd, rc;

	if (argc < 3) {
		fprintf(stderr, "usage: iotry OP PATH [ARG [ARG]]\n");
		return 2;
	}
	a = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
	b = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
	rc = on_path(argv[1], argv[2], argc > 3 ? argv[3] : "");
	if (rc != 1) {
		answer(rc);
		return 0;
	}
	fd = open(argv[2], O_RDWR);
	if (fd < 0) {
		answer(-1);
		return 0;
	}
	if (strcmp(argv[1], "hold") == 0)
		return hold(fd);
	rc = on_file(argv[1], fd, a, b);
	if (rc != 0) {
		answer(rc);
		(void)close(fd); /* the first error counts */
		return 0;
	}
	answer(close(fd));
	return 0;
}

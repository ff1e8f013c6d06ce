/* SPDX-License-Identifier: GPL-2.0-or-later */
/* special.c - fifos and sockets, and their use. */
#include "suite.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static void write_fifo(void *arg)
{
	int fd = open(arg, O_WRONLY);

	CHECK(fd >= 0 && write(fd, "through", 7) == 7 && close(fd) == 0);
}

static void fifos(void)
{
	static char low[] = "low/fifo", own[] = "fifo";
	char *const paths[] = {low, own};
	char buf[16];

	CHECK(mkfifo("fifo", 0600) == 0);
	FAILS(mkfifo("fifo", 0600), EEXIST);
	FAILS(mkfifo("no/fifo", 0600), ENOENT);
	for (size_t i = 0; i < 2; i++) {
		pid_t pid;
		int fd;

		FAILS(open(paths[i], O_WRONLY | O_NONBLOCK), ENXIO);
		pid = start_child(write_fifo, paths[i]);
		fd = open(paths[i], O_RDONLY);
		CHECK(fd >= 0 && read(fd, buf, sizeof(buf)) == 7 &&
		      memcmp(buf, "through", 7) == 0);
		CHECK(read(fd, buf, sizeof(buf)) == 0 && child_done(pid));
		FAILS(lseek(fd, 0, SEEK_SET), ESPIPE);
		CHECK(close(fd) == 0);
	}
	CHECK(lstat_of("low/fifo").st_size == 0);
	CHECK(unlink("low/fifo") == 0 && !exists("low/fifo"));
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

static void say_hello(void *arg)
{
	struct sockaddr_un a = address(arg);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(connect(s, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(write(s, "hello", 5) == 5 && close(s) == 0);
}

static void sockets(void)
{
	struct sockaddr_un a = address("sock");
	int s = socket(AF_UNIX, SOCK_STREAM, 0), c;
	static char name[] = "sock", moved[] = "sock2";
	char buf[8];
	pid_t pid;

	CHECK(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(S_ISSOCK(lstat_of("sock").st_mode));
	FAILS(open("sock", O_RDONLY), ENXIO);
	CHECK(listen(s, 5) == 0);
	pid = start_child(say_hello, name);
	c = accept(s, NULL, NULL);
	CHECK(read(c, buf, 8) == 5 && close(c) == 0 && child_done(pid));
	CHECK(rename("sock", "sock2") == 0);
	pid = start_child(say_hello, moved);
	c = accept(s, NULL, NULL);
	CHECK(read(c, buf, 8) == 5 && close(c) == 0 && child_done(pid));
	CHECK(close(s) == 0);
	a = address("sock2");
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	FAILS(bind(s, (struct sockaddr *)&a, sizeof(a)), EADDRINUSE);
	FAILS(connect(s, (struct sockaddr *)&a, sizeof(a)), ECONNREFUSED);
	CHECK(unlink("sock2") == 0 && close(s) == 0);
}

static void nodes(void)
{
	CHECK(mknod("file", S_IFREG | 0640, 0) == 0 && size_of("file") == 0);
	CHECK(mknod("file0", 0600, 0) == 0 && S_ISREG(lstat_of("file0").st_mode));
	CHECK(mknod("p", S_IFIFO | 0600, 0) == 0 &&
	      mknod("s", S_IFSOCK | 0600, 0) == 0);
	FAILS(mknod("file", S_IFREG | 0600, 0), EEXIST);
	FAILS_AS(mknod("d", S_IFDIR | 0700, 0), EPERM, EINVAL);
	if (geteuid() != 0 || on_branch())
		FAILS(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), EPERM);
}

const struct posix_case special_cases[] = {
	{"fifos", fifos},
	{"sockets", sockets},
	{"nodes", nodes},
	{NULL, NULL},
};

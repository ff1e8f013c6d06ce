/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flood SOCKET N: N connections to it that say nothing, as many at once as get in;
 * prints how many.  Never waits for one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct rlimit lim;
	long n = argc == 3 ? strtol(argv[2], NULL, 10) : 0, in = 0, full = 0;

	if (n <= 0 || strlen(argv[1]) >= sizeof(a.sun_path))
		return 2;
	memcpy(a.sun_path, argv[1], strlen(argv[1]));
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &lim); /* with less, fewer at once */
	}
	for (long i = 0; i < n; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		if (fd < 0)
			break;
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
			in++;
		} else {
			full += errno == EAGAIN;
			(void)close(fd);
		}
	}
	printf("%ld connected, %ld found the queue full, of %ld\n", in, full, n);
	return in > 0 && in + full <= n ? 0 : 1;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A message is a datagram to the socket that NOTIFY_SOCKET names: a path, or with an @
 * a name of the abstract kind.  The descriptor is opened once; who listens at the
 * address may be another one after the manager was restarted.
 */
#include "base/notify.h"

#include "base/log.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#define SEND_PATIENCE_S 1

static struct {
	int fd; /* -1: nobody listens */
	struct sockaddr_un to;
	socklen_t to_len;
	int64_t watchdog_ms;
} manager = {.fd = -1};

/* -EINVAL: a kind of address that is not known here. */
static int parse_address(const char *s, struct sockaddr_un *ret_to, socklen_t *ret_len)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t n = strlen(s);

	if ((s[0] != '/' && s[0] != '@') || n < 2 || n >= sizeof(to.sun_path))
		return -EINVAL;
	memcpy(to.sun_path, s, n);
	if (s[0] == '@')
		to.sun_path[0] = '\0'; /* and the name ends where the address does */
	else
		n++;
	*ret_to = to;
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return 0;
}

static int open_socket(const char *address)
{
	const struct timeval patience = {.tv_sec = SEND_PATIENCE_S};
	CLEAN(clean_fd) int fd = -1;
	int rc = parse_address(address, &manager.to, &manager.to_len);

	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	manager.fd = steal_fd(&fd);
	return 0;
}

/* The watchdog may be meant for another process, as the one that started us. */
static int64_t watchdog_of_environment(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t value;

	if (pid && (text_parse_u64(pid, 10, INT32_MAX, &value) < 0 ||
		    (pid_t)value != getpid()))
		return 0;
	if (!usec || text_parse_u64(usec, 10, INT64_MAX, &value) < 0)
		return 0;
	return value > 0 && value < 1000 ? 1 : (int64_t)(value / 1000);
}

void notify_open(void)
{
	const char *address = getenv("NOTIFY_SOCKET");
	int rc = address ? open_socket(address) : 0;

	if (rc < 0)
		log_warn("cannot use NOTIFY_SOCKET=%s: %s; the service manager hears "
			 "nothing",
			 address, strerrordesc_np(-rc));
	if (manager.fd >= 0)
		manager.watchdog_ms = watchdog_of_environment();
	(void)unsetenv("NOTIFY_SOCKET"); /* fails only for bad names */
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
}

void notify_send(const char *fmt, ...)
{
	CLEAN(clean_free) char *text = NULL;
	va_list ap;
	int n;

	if (manager.fd < 0)
		return;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	else if (sendto(manager.fd, text, (size_t)n, MSG_NOSIGNAL,
			(const struct sockaddr *)&manager.to, manager.to_len) >= 0)
		return;
	log_warn("cannot tell the service manager: %s; going on",
		 text ? strerrordesc_np(errno) : "out of memory");
}

void notify_reloading(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail on Linux */
	notify_send("RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		    (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

int64_t notify_watchdog_ms(void)
{
	return manager.watchdog_ms;
}

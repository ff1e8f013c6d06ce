/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crowd.c - many clients of one socket at once, speaking the protocol themselves.
 *
 *	crowd [-u USER] [-p PID] [-t SECONDS] MODE SOCKET N
 *
 * All connect before anything is awaited, and stay until each one has its answer:
 *
 *	query	startup, a query; served if the right row comes back
 *	encrypt	asks for GSS, then for TLS, takes two refusals of that ('N'), then query
 *	cancel	a request to cancel; closed if that is all that comes back
 *	late	as cancel, but begins to speak only after SECONDS
 *	silent	says nothing for SECONDS, then leaves
 *
 * Prints "served S refused R closed C lost L direct D ms FIRST LAST": how many of each,
 * how many spoke to the process PID, and when the first and the last of the served had
 * their row.  What the first of the refused was told goes to stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 1000
#define DEADLINE_S 120
#define ANSWER "4711"

enum step { GSS, TLS, STARTUP, QUERY, CANCEL, SERVED, REFUSED, CLOSED, LOST };

struct client {
	int fd;
	enum step step;
	bool direct, row;
	char buf[16384];
	size_t len;
};

static struct client clients[CLIENTS_MAX];
static unsigned count;
static const char *user = "postgres";
static pid_t server;
static long long began_ms, first_ms, last_ms;
static bool told;

static long long now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static size_t put32(char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (char)(v >> (24 - 8 * i));
	return 4;
}

static uint32_t get32(const char *p)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 8 | (unsigned char)p[i];
	return v;
}

static void say(struct client *c, const char *bytes, size_t len)
{
	if (send(c->fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		c->step = LOST;
}

static void say_code(struct client *c, uint32_t code)
{
	char msg[16];

	(void)put32(msg, 8);
	(void)put32(msg + 4, code);
	say(c, msg, 8);
}

static void say_startup(struct client *c)
{
	char msg[256];
	int n = snprintf(msg + 8, sizeof(msg) - 8, "user%c%s%cdatabase%cpostgres%c%c",
			 0, user, 0, 0, 0, 0);

	(void)put32(msg, (uint32_t)n + 8);
	(void)put32(msg + 4, 3 << 16);
	say(c, msg, (size_t)n + 8);
}

static void say_query(struct client *c)
{
	static const char sql[] = "select " ANSWER;
	char msg[64] = "Q";

	(void)put32(msg + 1, sizeof(sql) + 4);
	memcpy(msg + 5, sql, sizeof(sql));
	say(c, msg, sizeof(sql) + 5);
}

static void say_cancel(struct client *c)
{
	char msg[16];

	(void)put32(msg, 16);
	(void)put32(msg + 4, 80877102);
	(void)put32(msg + 8, 4711); /* nobody's pid and key */
	(void)put32(msg + 12, 4711);
	say(c, msg, 16);
}

static void speak(struct client *c)
{
	if (c->step == GSS)
		say_code(c, 80877104);
	else if (c->step == TLS)
		say_code(c, 80877103);
	else if (c->step == STARTUP)
		say_startup(c);
	else if (c->step == QUERY)
		say_query(c);
	else if (c->step == CANCEL)
		say_cancel(c);
}

/* Severity, SQLSTATE and message of an error, once. */
static void tell(const char *body, size_t len)
{
	if (told)
		return;
	told = true;
	for (size_t i = 0; i < len && body[i]; i += strlen(body + i) + 1)
		if (strchr("SCMH", body[i]))
			fprintf(stderr, "%s%s", body[i] == 'S' ? "" : " ",
				body + i + 1);
	fprintf(stderr, "\n");
}

static void served(struct client *c)
{
	last_ms = now_ms();
	if (!first_ms)
		first_ms = last_ms;
	c->step = SERVED;
}

static void on_message(struct client *c, char type, const char *body, size_t len)
{
	if (type == 'E') {
		tell(body, len);
		c->step = REFUSED;
	} else if (type == 'R' && (len != 4 || get32(body) != 0)) {
		c->step = LOST; /* wants a password */
	} else if (type == 'D') {
		/* one column: its number, its length, its text */
		c->row = len == 6 + strlen(ANSWER) &&
			 memcmp(body + 6, ANSWER, strlen(ANSWER)) == 0;
	} else if (type == 'Z' && c->step == STARTUP) {
		c->step = QUERY;
		speak(c);
	} else if (type == 'Z' && c->row) {
		served(c);
	} else if (type == 'Z') {
		c->step = LOST;
	}
}

/* Takes one message, or one refusal of encryption, off the buffer. */
static bool take(struct client *c)
{
	size_t used;

	if (c->len == 0 || c->step > CANCEL)
		return false;
	if ((c->step == GSS || c->step == TLS) && c->buf[0] != 'E') {
		used = 1;
		c->step = c->buf[0] == 'N' ? c->step + 1 : LOST;
		speak(c);
	} else {
		if (c->len < 5)
			return false;
		used = 1 + get32(c->buf + 1);
		if (used > sizeof(c->buf))
			c->step = LOST;
		if (used > c->len)
			return false;
		on_message(c, c->buf[0], c->buf + 5, used - 5);
	}
	c->len -= used;
	memmove(c->buf, c->buf + used, c->len);
	return true;
}

static void on_input(struct client *c)
{
	ssize_t n = recv(c->fd, c->buf + c->len, sizeof(c->buf) - c->len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->step = c->step == CANCEL && n == 0 && c->len == 0 ? CLOSED : LOST;
		return;
	}
	c->len += (size_t)n;
	while (take(c))
		;
}

static int join(struct client *c, const struct sockaddr_un *addr)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 ||
	    connect(c->fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return -errno;
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	c->direct = peer.pid == server;
	return 0;
}

static void listen_to_all(void)
{
	static struct pollfd fds[CLIENTS_MAX];

	for (;;) {
		unsigned open = 0;

		for (unsigned i = 0; i < count; i++) {
			bool waits = clients[i].step <= CANCEL;

			open += waits;
			fds[i] = (struct pollfd){waits ? clients[i].fd : -1, POLLIN, 0};
		}
		if (!open || now_ms() > began_ms + DEADLINE_S * 1000LL)
			return;
		if (poll(fds, count, 1000) <= 0)
			continue;
		for (unsigned i = 0; i < count; i++)
			if (fds[i].revents)
				on_input(&clients[i]);
	}
}

static unsigned how_many(enum step step)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		n += clients[i].step == step;
	return n;
}

static void report(void)
{
	unsigned direct = 0;

	for (unsigned i = 0; i < count; i++)
		direct += clients[i].direct;
	printf("served %u refused %u closed %u lost %u direct %u ms %lld %lld\n",
	       how_many(SERVED), how_many(REFUSED), how_many(CLOSED),
	       count - how_many(SERVED) - how_many(REFUSED) - how_many(CLOSED), direct,
	       first_ms ? first_ms - began_ms : 0, last_ms ? last_ms - began_ms : 0);
}

static enum step first_step(const char *mode)
{
	if (strcmp(mode, "encrypt") == 0)
		return GSS;
	if (strcmp(mode, "query") == 0)
		return STARTUP;
	return strcmp(mode, "cancel") == 0 || strcmp(mode, "late") == 0 ? CANCEL : LOST;
}

int main(int argc, char **argv)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	double seconds = 0;
	const char *mode;
	int opt;

	while ((opt = getopt(argc, argv, "u:p:t:")) != -1) {
		if (opt == 'u')
			user = optarg;
		else if (opt == 'p')
			server = (pid_t)strtol(optarg, NULL, 10);
		else if (opt == 't')
			seconds = strtod(optarg, NULL);
		else
			return 2;
	}
	if (argc - optind != 3 || strlen(argv[optind + 1]) >= sizeof(addr.sun_path)) {
		fprintf(stderr,
			"usage: crowd [-u USER] [-p PID] [-t SECONDS] MODE SOCKET N\n");
		return 2;
	}
	mode = argv[optind];
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", argv[optind + 1]);
	count = (unsigned)strtoul(argv[optind + 2], NULL, 10) % (CLIENTS_MAX + 1);
	began_ms = now_ms();
	for (unsigned i = 0; i < count; i++) {
		clients[i].step = first_step(mode);
		if (join(&clients[i], &addr) < 0) {
			fprintf(stderr, "connect: %s\n", strerror(errno));
			clients[i].step = LOST;
		} else if (strcmp(mode, "late") != 0) {
			speak(&clients[i]);
		}
	}
	if (seconds > 0)
		(void)usleep((useconds_t)(seconds * 1e6));
	for (unsigned i = 0; i < count && strcmp(mode, "late") == 0; i++)
		speak(&clients[i]);
	listen_to_all();
	report();
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * refuse.c - the short conversation with a client that is turned away.
 *
 * A socket that is closed with unread bytes resets its peer, and libpq sends
 * nothing after a request for TLS until it is answered; so the client's first
 * packets are read and answered up to the one that the error belongs to.
 */
#include "pg/refuse.h"

#include "pg/pgwire.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PATIENCE_MS 10000
#define REFUSALS_MAX 256 /* more at once are just closed */

struct refusal {
	struct refusal *next;
	struct refusals *list;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer;
	struct str answer;
	size_t used;
	uint8_t buf[PGWIRE_STARTUP_MAX];
};

static void refusal_free(struct refusal *r)
{
	struct refusal **p = &r->list->first;

	while (*p && *p != r)
		p = &(*p)->next;
	if (*p) {
		*p = r->next;
		r->list->count--;
	}
	(void)loop_io_free(r->io);
	(void)loop_timer_free(r->timer);
	clean_fd(&r->fd);
	str_fini(&r->answer);
	free(r);
}

/* A send that fails or is short loses an explanation, nothing else. */
static void say(int fd, const void *buf, size_t len)
{
	(void)!send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Handles what is in the buffer; true when the conversation is over. */
static bool converse(struct refusal *r)
{
	for (;;) {
		size_t n = 0;

		switch (pgwire_first_packet(r->buf, r->used, &n)) {
		case PGWIRE_MORE:
			return false;
		case PGWIRE_ENCRYPT:
			say(r->fd, "N", 1);
			r->used -= n;
			memmove(r->buf, r->buf + n, r->used);
			continue;
		case PGWIRE_STARTUP:
			say(r->fd, r->answer.s, r->answer.len);
			return true;
		case PGWIRE_CANCEL:
		case PGWIRE_BAD:
			return true;
		}
	}
}

static void on_readable(void *ctx, uint32_t events)
{
	struct refusal *r = ctx;
	ssize_t n =
		recv(r->fd, r->buf + r->used, sizeof(r->buf) - r->used, MSG_DONTWAIT);

	(void)events; /* whatever happened, recv tells */
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		refusal_free(r);
		return;
	}
	r->used += (size_t)n;
	if (converse(r))
		refusal_free(r);
}

static void on_timeout(void *ctx)
{
	refusal_free(ctx);
}

void refuse_client(struct refusals *list, struct loop *l, int fd, const char *msg,
		   const char *hint)
{
	struct refusal *r = NULL;

	if (list->count < REFUSALS_MAX)
		r = calloc(1, sizeof(*r));
	if (!r) {
		(void)close(fd); /* nothing can be told */
		return;
	}
	r->list = list;
	r->fd = fd;
	r->next = list->first;
	list->first = r;
	list->count++;
	pgwire_error(&r->answer, PGWIRE_CANNOT_CONNECT_NOW, msg, hint);
	if (r->answer.failed || loop_timer_new(l, on_timeout, r, &r->timer) < 0 ||
	    loop_io_new(l, fd, EPOLLIN, on_readable, r, &r->io) < 0) {
		refusal_free(r);
		return;
	}
	loop_timer_arm(r->timer, PATIENCE_MS);
}

void refuse_drop_all(struct refusals *list)
{
	while (list->first)
		refusal_free(list->first);
}

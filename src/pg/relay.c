/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay.c - two one-way pumps between two sockets.
 *
 *	client --recv--> pump.buf --send--> server
 *	client <--send-- pump.buf <--recv-- server
 *
 * A pump reads only into free space, so a slow reader slows the writer and memory
 * stays bounded.  End of input is passed on by shutdown() after the last byte; an
 * error on a side ends both, since what remains could not be delivered.
 */
#include "pg/relay.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PUMP_BYTES 16384

struct pump {
	size_t start, end; /* of the bytes in buf that wait to be sent */
	bool eof;          /* nothing more to read */
	bool shut;         /* and the other side was told so */
	char buf[PUMP_BYTES];
};

struct relay {
	int fd[2]; /* client, server */
	struct loop_io *io[2];
	struct pump pump[2]; /* pump[i] reads fd[i] and writes fd[!i] */
	void (*end)(void *ctx, struct relay *r);
	void *ctx;
	bool hup[2];
	bool over;
};

static bool pump_full(const struct pump *p)
{
	return p->end == PUMP_BYTES;
}

/* 0, or -errno on an error of the source.  Reads once. */
static int pump_read(struct pump *p, int fd)
{
	ssize_t n;

	if (p->eof || pump_full(p))
		return 0;
	n = recv(fd, p->buf + p->end, PUMP_BYTES - p->end, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		p->eof = true;
	p->end += (size_t)n;
	return 0;
}

/* 0, or -errno on an error of the sink. */
static int pump_write(struct pump *p, int fd)
{
	while (p->start < p->end) {
		ssize_t n = send(fd, p->buf + p->start, p->end - p->start,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		p->start += (size_t)n;
	}
	p->start = p->end = 0;
	if (p->eof && !p->shut) {
		p->shut = true;
		(void)shutdown(fd, SHUT_WR); /* it may be gone already */
	}
	return 0;
}

static uint32_t wanted(const struct relay *r, int side)
{
	const struct pump *in = &r->pump[side], *out = &r->pump[!side];
	uint32_t events = 0;

	if (!in->eof && !pump_full(in))
		events |= EPOLLIN;
	if (out->start < out->end)
		events |= EPOLLOUT;
	return events;
}

static void finish(struct relay *r)
{
	r->over = true;
	r->end(r->ctx, r);
}

/* Moves what can be moved from side `from`; false when the relay is over. */
static bool move(struct relay *r, int from)
{
	struct pump *p = &r->pump[from];

	return pump_read(p, r->fd[from]) == 0 && pump_write(p, r->fd[!from]) == 0;
}

/*
 * A side that hung up is reported for ever, so it is not watched any more: what
 * it left is read whenever there is room.
 */
static void note_hangup(struct relay *r, int side, uint32_t events)
{
	if (!(events & (EPOLLHUP | EPOLLERR)) || r->hup[side])
		return;
	r->hup[side] = true;
	r->io[side] = loop_io_free(r->io[side]);
}

static bool drain(struct relay *r, int from)
{
	struct pump *p = &r->pump[from];

	do {
		if (!move(r, from))
			return false;
	} while (r->hup[from] && !p->eof && p->start == p->end);
	return true;
}

/* Will `side` neither say nor take anything any more? */
static bool is_done(const struct relay *r, int side)
{
	return r->hup[side] && r->pump[side].shut;
}

static bool watch(struct relay *r, int side)
{
	return !r->io[side] || loop_io_events(r->io[side], wanted(r, side)) == 0;
}

static void on_event(struct relay *r, int side, uint32_t events)
{
	bool alive;

	if (r->over)
		return;
	note_hangup(r, side, events);
	alive = drain(r, 0) && drain(r, 1);
	if (!alive || is_done(r, 0) || is_done(r, 1) ||
	    (r->pump[0].shut && r->pump[1].shut) || !watch(r, 0) || !watch(r, 1))
		finish(r);
}

static void on_client(void *ctx, uint32_t events)
{
	on_event(ctx, 0, events);
}

static void on_server(void *ctx, uint32_t events)
{
	on_event(ctx, 1, events);
}

int relay_new(struct loop *l, int client_fd, int server_fd,
	      void (*end)(void *ctx, struct relay *r), void *ctx,
	      struct relay **ret_relay)
{
	struct relay *r = calloc(1, sizeof(*r));
	int rc;

	if (!r) {
		(void)close(client_fd); /* nothing to tell them */
		(void)close(server_fd);
		return -ENOMEM;
	}
	r->fd[0] = client_fd;
	r->fd[1] = server_fd;
	r->end = end;
	r->ctx = ctx;
	rc = loop_io_new(l, client_fd, EPOLLIN, on_client, r, &r->io[0]);
	if (rc == 0)
		rc = loop_io_new(l, server_fd, EPOLLIN, on_server, r, &r->io[1]);
	if (rc < 0) {
		(void)relay_free(r);
		return rc;
	}
	*ret_relay = r;
	return 0;
}

struct relay *relay_free(struct relay *r)
{
	if (!r)
		return NULL;
	for (int i = 0; i < 2; i++) {
		(void)loop_io_free(r->io[i]);
		clean_fd(&r->fd[i]);
	}
	free(r);
	return NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * activate.c - one client's way:
 *
 *	accept -> held -> connecting -> relayed -> closed
 *	            |  ^______|  (server's queue full, or it went away: again)
 *	            +-> refused, dropped, or hung up
 *
 * Nothing is read from a client while it is held: its bytes wait in the kernel and
 * reach the server untouched.  They are only looked at.  A client asks for a server
 * with the first of them, or when it was silent for a moment: who hangs up before, as
 * probes do, and who wants a query cancelled, of which there is none while no server
 * runs, has no need of one.
 */
#include "pg/activate.h"

#include "base/log.h"
#include "pg/pgwire.h"
#include "pg/relay.h"
#include "store/overlay.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define HELD_MAX 1024 /* more wait in the listener's queue */
#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_MS 1000
#define RETRY_MS 50
#define CANCEL_MAX 512 /* bytes of a request to cancel; keys have 256 at most */
#define SILENCE_MS 100 /* who said nothing for so long asks for a server, too */
#define CONNECT_PATIENCE_MS 30000

struct held {
	struct held *next;
	struct activation *act;
	int fd; /* -1: it hung up while we connect for it */
	struct ucred who;
	struct loop_io *io;
	bool asks; /* for a server */
	bool connecting;
	int64_t silent_until_ms;
	int64_t deadline_ms; /* of connecting; 0: not tried yet */
};

struct relayed {
	struct relayed *next;
	struct activation *act;
	struct relay *relay;
};

struct activation {
	struct activation_spec spec;
	int fd;              /* the listener; -1: none */
	struct rundir *home; /* where it stands */
	struct loop_io *io;
	uint64_t fid;
	bool listen_asked;
	bool close_asked;         /* close as soon as the answer is there */
	struct loop_timer *again; /* accept, connect: after a pause */
	struct loop_timer *silence;
	bool silence_armed;
	struct held *held;
	struct relayed *relayed;
	unsigned n_held, n_relayed, pending;
	struct rundir *serving; /* NULL: clients are held */
};

static void watch_listener(struct activation *a)
{
	if (a->io)
		(void)!loop_io_events(a->io, a->n_held < HELD_MAX ? EPOLLIN : 0);
}

/* Ends a held client; one that is connecting lingers for the answer. */
static void held_end(struct held *h)
{
	struct activation *a = h->act;
	struct held **p = &a->held;

	h->io = loop_io_free(h->io);
	clean_fd(&h->fd);
	h->fd = -1;
	if (h->connecting)
		return;
	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
	free(h);
	a->n_held--;
	watch_listener(a);
}

static void ask(struct held *h)
{
	h->asks = true;
	if (h->io)
		(void)!loop_io_events(h->io, 0);
}

/*
 * What does the client want?  While it is served, that is the server's business.
 * late: it need not say it.  One that is let go (h is not valid any more then) wanted
 * nothing, or has left.
 */
static void hear(struct held *h, bool late)
{
	uint8_t head[PGWIRE_HEAD], request[CANCEL_MAX];
	ssize_t n;

	if (h->asks || h->connecting || h->act->serving) {
		ask(h);
		return;
	}
	n = recv(h->fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
	if (n == sizeof(head) && pgwire_is_cancel(head)) {
		/* its answer is the end; unread bytes would make that a reset */
		(void)!recv(h->fd, request, sizeof(request), MSG_DONTWAIT);
		n = 0;
	}
	if (n == 0)
		held_end(h);
	else if (n == sizeof(head) || late)
		ask(h);
	else if (n > 0) /* the rest may come at any time: looked at when it is late */
		(void)!loop_io_events(h->io, 0);
}

static void on_held(void *ctx, uint32_t events)
{
	struct held *h = ctx;
	struct activation *a = h->act;

	if (events & (EPOLLHUP | EPOLLERR)) {
		held_end(h);
		return;
	}
	hear(h, false);
	if (activation_asking(a))
		a->spec.events->client(a->spec.ctx);
}

static void on_silence(void *ctx)
{
	struct activation *a = ctx;
	int64_t now = loop_now_ms(), due_ms = 0;
	struct held *next;

	/* the newest is first, so the last one to be seen is the next one due */
	for (struct held *h = a->held; h; h = next) {
		next = h->next;
		if (h->asks)
			continue;
		if (h->silent_until_ms <= now)
			hear(h, true);
		else
			due_ms = h->silent_until_ms;
	}
	a->silence_armed = due_ms != 0;
	if (due_ms)
		loop_timer_arm(a->silence, due_ms - now);
	if (activation_asking(a))
		a->spec.events->client(a->spec.ctx);
}

static void refuse_held(struct held *h, const struct err *e)
{
	const struct activation_spec *spec = &h->act->spec;

	h->io = loop_io_free(h->io);
	if (h->fd >= 0 && h->asks)
		spec->events->refused(spec->ctx, h->who.uid, e);
	if (h->fd >= 0)
		refuse_client(spec->refusals, spec->loop, steal_fd(&h->fd), err_text(e),
			      e->hint);
	held_end(h);
}

static void on_relay_end(void *ctx, struct relay *r)
{
	struct relayed *d = ctx;
	struct relayed **p = &d->act->relayed;

	(void)relay_free(r);
	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	d->act->n_relayed--;
	free(d);
}

static void start_relay(struct held *h, int server_fd)
{
	struct activation *a = h->act;
	struct relayed *d = calloc(1, sizeof(*d));

	h->io = loop_io_free(h->io);
	if (!d) {
		(void)close(server_fd); /* held_end closes the client's */
		return;
	}
	d->act = a;
	if (relay_new(a->spec.loop, steal_fd(&h->fd), server_fd, on_relay_end, d,
		      &d->relay) < 0) {
		free(d);
		return;
	}
	d->next = a->relayed;
	a->relayed = d;
	a->n_relayed++;
}

/* May it work a moment later? */
static bool is_passing(int rc)
{
	return rc == -EAGAIN || rc == -ECONNREFUSED || rc == -ENOENT || rc == -EMFILE ||
	       rc == -ENFILE || rc == -ENOMEM;
}

static void retry_held(struct held *h, int rc)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct activation *a = h->act;

	if (!is_passing(rc) || loop_now_ms() >= h->deadline_ms) {
		log_warn("branch %u: cannot connect to its server for uid %u: %s, "
			 "refusing the client",
			 branch_no(a->spec.branch), (unsigned)h->who.uid,
			 strerrordesc_np(-rc));
		(void)err_set(&e, rc,
			      "the branch's server does not take the connection: %s",
			      strerrordesc_np(-rc));
		refuse_held(h, &e);
		return;
	}
	if (a->serving) {
		loop_timer_arm(a->again, RETRY_MS);
		return;
	}
	/* the next server's, unless it wants nothing of that one */
	h->asks = false;
	hear(h, true);
	if (activation_asking(a))
		a->spec.events->client(a->spec.ctx);
}

static void answered(struct activation *a)
{
	if (--a->pending == 0)
		a->spec.events->settled(a->spec.ctx);
}

static void on_connected(void *ctx, int rc, int fd)
{
	struct held *h = ctx;
	struct activation *a = h->act;

	h->connecting = false;
	if (h->fd < 0) {
		if (fd >= 0)
			(void)close(fd); /* the client left meanwhile */
		held_end(h);
	} else if (rc == 0) {
		start_relay(h, fd);
		held_end(h);
		a->spec.events->connected(a->spec.ctx);
	} else {
		retry_held(h, rc);
	}
	answered(a);
}

static void connect_held(struct activation *a)
{
	for (struct held *h = a->held; h && a->serving; h = h->next) {
		if (h->connecting || h->fd < 0)
			continue;
		if (!h->deadline_ms)
			h->deadline_ms = loop_now_ms() + CONNECT_PATIENCE_MS;
		if (doorman_connect(a->spec.doorman, a->serving, &h->who, on_connected,
				    h) < 0) {
			loop_timer_arm(a->again, RETRY_MS);
			return;
		}
		h->connecting = true;
		a->pending++;
	}
}

static void hold_client(struct activation *a, int fd)
{
	struct held *h = calloc(1, sizeof(*h));
	socklen_t len = sizeof(h->who);

	if (!h) {
		(void)close(fd); /* out of memory: nothing can be told */
		return;
	}
	h->act = a;
	h->fd = fd;
	h->silent_until_ms = loop_now_ms() + SILENCE_MS;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &h->who, &len) < 0 ||
	    loop_io_new(a->spec.loop, fd, EPOLLIN, on_held, h, &h->io) < 0) {
		(void)close(fd); /* the same */
		free(h);
		return;
	}
	h->next = a->held;
	a->held = h;
	a->n_held++;
	if (!a->silence_armed) {
		a->silence_armed = true;
		loop_timer_arm(a->silence, SILENCE_MS);
	}
}

static void on_listener(void *ctx, uint32_t events)
{
	struct activation *a = ctx;

	(void)events; /* accept tells */
	for (int i = 0; i < ACCEPT_BATCH && a->n_held < HELD_MAX; i++) {
		int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			hold_client(a, fd);
			continue;
		}
		if (errno == ECONNABORTED || errno == EINTR)
			continue;
		if (errno != EAGAIN) {
			log_warn("branch %u: cannot accept a client: %s, trying again "
				 "in 1s",
				 branch_no(a->spec.branch), strerrordesc_np(errno));
			(void)!loop_io_events(a->io, 0);
			loop_timer_arm(a->again, ACCEPT_PAUSE_MS);
		}
		break;
	}
	if (a->n_held >= HELD_MAX)
		watch_listener(a);
	if (a->serving && a->held)
		a->spec.events->client(a->spec.ctx);
	connect_held(a);
}

static void on_again(void *ctx)
{
	struct activation *a = ctx;

	watch_listener(a);
	connect_held(a);
}

int activation_new(const struct activation_spec *spec, struct activation **ret_act)
{
	struct activation *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return -ENOMEM;
	a->spec = *spec;
	a->fd = -1;
	rc = loop_timer_new(spec->loop, on_again, a, &a->again);
	if (rc == 0)
		rc = loop_timer_new(spec->loop, on_silence, a, &a->silence);
	if (rc < 0) {
		(void)loop_timer_free(a->again);
		free(a);
		return rc;
	}
	*ret_act = a;
	return 0;
}

struct activation *activation_free(struct activation *a)
{
	if (!a)
		return NULL;
	activation_close(a);
	for (struct held *h = a->held; h; h = h->next)
		h->connecting = false; /* no answer will come */
	activation_drop(a);
	activation_hold(a);
	(void)loop_timer_free(a->again);
	(void)loop_timer_free(a->silence);
	free(a);
	return NULL;
}

static void on_listening(void *ctx, int rc, int fd, uint64_t fid, struct rundir *rd)
{
	struct activation *a = ctx;

	a->listen_asked = false;
	if (rc == 0) {
		a->fd = fd;
		a->home = rundir_get(rd);
		rc = loop_io_new(a->spec.loop, fd, EPOLLIN, on_listener, a, &a->io);
		if (rc == 0)
			a->fid = fid;
		else
			activation_close(a);
	}
	if (a->close_asked) {
		activation_close(a);
		rc = -ECANCELED;
	}
	a->spec.events->listening(a->spec.ctx, rc);
	answered(a);
}

static void on_no_listener(void *ctx)
{
	on_listening(ctx, -ENOMEM, -1, 0, NULL);
}

void activation_listen(struct activation *a)
{
	a->close_asked = false;
	if (a->fid || a->listen_asked)
		return;
	a->listen_asked = true;
	a->pending++;
	if (doorman_listen(a->spec.doorman, a->spec.dirs, a->spec.branch, on_listening,
			   a) < 0)
		doorman_post(a->spec.loop, on_no_listener, a);
}

void activation_close(struct activation *a)
{
	a->close_asked = a->listen_asked;
	a->fid = 0;
	a->io = loop_io_free(a->io);
	if (a->fd < 0)
		return;
	clean_fd(&a->fd);
	a->fd = -1;
	(void)!overlay_unlink(rundir_run(a->home), OVERLAY_ROOT,
			      DOORMAN_LISTENER); /* binding anew does it too */
	a->home = rundir_put(a->home);
}

uint64_t activation_fid(const struct activation *a)
{
	return a->fid;
}

void activation_serve(struct activation *a, struct rundir *rd)
{
	(void)rundir_put(a->serving);
	a->serving = rundir_get(rd);
	for (struct held *h = a->held; h; h = h->next)
		h->deadline_ms = 0;
	connect_held(a);
}

void activation_hold(struct activation *a)
{
	a->serving = rundir_put(a->serving);
}

void activation_refuse(struct activation *a, const struct err *e)
{
	struct held *next;

	for (struct held *h = a->held; h; h = next) {
		next = h->next;
		if (!h->connecting)
			refuse_held(h, e);
	}
}

void activation_drop(struct activation *a)
{
	struct held *next;

	for (struct held *h = a->held; h; h = next) {
		next = h->next;
		held_end(h);
	}
	while (a->relayed)
		on_relay_end(a->relayed, a->relayed->relay);
}

unsigned activation_held(const struct activation *a)
{
	return a->n_held;
}

bool activation_asking(const struct activation *a)
{
	const struct held *h = a->held;

	while (h && !(h->asks && h->fd >= 0))
		h = h->next;
	return h != NULL;
}

unsigned activation_relays(const struct activation *a)
{
	return a->n_relayed;
}

unsigned activation_pending(const struct activation *a)
{
	return a->pending;
}

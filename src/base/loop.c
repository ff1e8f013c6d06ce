/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One turn of the loop: wait for epoll until the next timer, run the ready
 * watches, the timers that are due, then the posted calls.
 *
 * A callback may free any watch or timer, also its own or one that is ready in
 * the same turn.  So a watch is only marked dead and its memory is released at
 * the start of the next turn, when no epoll event can point to it; a timer is out
 * of the heap before its callback runs and is not looked at afterwards.
 *
 * Timers that are armed during a turn wait for the next one: a callback that
 * rearms with 0 ms cannot starve the descriptors.
 */
#include "base/loop.h"

#include <assert.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define LOOP_EVENTS 64
#define TIMER_UNARMED SIZE_MAX

struct loop_io {
	struct loop *loop;
	struct loop_io *next_dead;
	int fd;
	bool dead;
	void (*fn)(void *ctx, uint32_t events);
	void *ctx;
};

struct loop_timer {
	struct loop *loop;
	int64_t due_ms;
	uint64_t seq; /* order of arming; breaks ties, bounds a turn */
	size_t at;    /* index in the heap, or TIMER_UNARMED */
	void (*fn)(void *ctx);
	void *ctx;
};

struct loop_call {
	struct loop_call *next;
	void (*fn)(void *ctx);
	void *ctx;
};

struct loop {
	int epfd;
	int evfd; /* readable when calls were posted or stop was asked */
	atomic_bool stop;
	_Atomic pid_t thread;

	struct loop_timer **heap; /* room for every timer that exists */
	size_t n_armed, n_timers, heap_cap;
	uint64_t seq;

	struct loop_io *dead;

	pthread_mutex_t lock;
	struct loop_call *first; /* lock: lock */
	struct loop_call **last; /* lock: lock */
};

int64_t loop_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail on Linux */
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int loop_new(struct loop **ret_loop)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
	struct loop *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return -ENOMEM;
	(void)pthread_mutex_init(&l->lock, NULL); /* cannot fail with NULL */
	l->last = &l->first;
	l->thread = gettid();
	l->evfd = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd >= 0)
		l->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->evfd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->evfd, &ev) < 0) {
		rc = -errno;
		loop_free(l);
		return rc;
	}
	*ret_loop = l;
	return 0;
}

static void loop_bury(struct loop *l)
{
	while (l->dead) {
		struct loop_io *io = l->dead;

		l->dead = io->next_dead;
		free(io);
	}
}

struct loop *loop_free(struct loop *l)
{
	if (!l)
		return NULL;
	loop_bury(l);
	while (l->first) {
		struct loop_call *c = l->first;

		l->first = c->next;
		free(c);
	}
	clean_fd(&l->evfd);
	clean_fd(&l->epfd);
	(void)pthread_mutex_destroy(&l->lock);
	free(l->heap);
	free(l);
	return NULL;
}

static void loop_wake(struct loop *l)
{
	int saved = errno;

	(void)eventfd_write(l->evfd, 1); /* EAGAIN: it is readable already */
	errno = saved;
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stop, true);
	loop_wake(l);
}

bool loop_is_mine(const struct loop *l)
{
	return atomic_load(&l->thread) == gettid();
}

int loop_io_new(struct loop *l, int fd, uint32_t events,
		void (*fn)(void *ctx, uint32_t events), void *ctx,
		struct loop_io **ret_io)
{
	struct loop_io *io = calloc(1, sizeof(*io));
	struct epoll_event ev = {.events = events, .data.ptr = io};

	if (!io)
		return -ENOMEM;
	*io = (struct loop_io){.loop = l, .fd = fd, .fn = fn, .ctx = ctx};
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int rc = -errno;

		free(io);
		return rc;
	}
	*ret_io = io;
	return 0;
}

int loop_io_events(struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = io};

	return epoll_ctl(io->loop->epfd, EPOLL_CTL_MOD, io->fd, &ev) < 0 ? -errno : 0;
}

struct loop_io *loop_io_free(struct loop_io *io)
{
	int saved = errno;

	if (!io)
		return NULL;
	/* fails only if the caller closed fd before, which removed it as well */
	(void)epoll_ctl(io->loop->epfd, EPOLL_CTL_DEL, io->fd, NULL);
	io->dead = true;
	io->next_dead = io->loop->dead;
	io->loop->dead = io;
	errno = saved;
	return NULL;
}

static bool timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

static void heap_put(struct loop *l, size_t at, struct loop_timer *t)
{
	l->heap[at] = t;
	t->at = at;
}

static void heap_up(struct loop *l, size_t at)
{
	struct loop_timer *t = l->heap[at];

	while (at > 0 && timer_before(t, l->heap[(at - 1) / 2])) {
		heap_put(l, at, l->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_put(l, at, t);
}

static void heap_down(struct loop *l, size_t at)
{
	struct loop_timer *t = l->heap[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < l->n_armed &&
		    timer_before(l->heap[child + 1], l->heap[child]))
			child++;
		if (child >= l->n_armed || timer_before(t, l->heap[child]))
			break;
		heap_put(l, at, l->heap[child]);
		at = child;
	}
	heap_put(l, at, t);
}

static void timer_disarm(struct loop_timer *t)
{
	struct loop *l = t->loop;
	size_t at = t->at;

	if (at == TIMER_UNARMED)
		return;
	t->at = TIMER_UNARMED;
	l->n_armed--;
	if (at == l->n_armed)
		return;
	heap_put(l, at, l->heap[l->n_armed]);
	heap_up(l, at);
	heap_down(l, l->heap[at]->at);
}

int loop_timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx,
		   struct loop_timer **ret_t)
{
	struct loop_timer *t;

	/* room now, so that arming cannot fail */
	if (l->n_timers == l->heap_cap) {
		size_t cap = l->heap_cap ? 2 * l->heap_cap : 16;
		struct loop_timer **heap = reallocarray(l->heap, cap, sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		l->heap = heap;
		l->heap_cap = cap;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	*t = (struct loop_timer){.loop = l, .at = TIMER_UNARMED, .fn = fn, .ctx = ctx};
	l->n_timers++;
	*ret_t = t;
	return 0;
}

void loop_timer_arm(struct loop_timer *t, int64_t delay_ms)
{
	struct loop *l = t->loop;

	timer_disarm(t);
	if (delay_ms < 0)
		return;
	if (__builtin_add_overflow(loop_now_ms(), delay_ms, &t->due_ms))
		t->due_ms = INT64_MAX;
	t->seq = ++l->seq;
	assert(l->n_armed < l->n_timers);
	heap_put(l, l->n_armed++, t);
	heap_up(l, t->at);
}

struct loop_timer *loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return NULL;
	timer_disarm(t);
	t->loop->n_timers--;
	free(t);
	return NULL;
}

int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	struct loop_call *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct loop_call){.fn = fn, .ctx = ctx};
	LOCK_SCOPE(&l->lock);
	*l->last = c;
	l->last = &c->next;
	loop_wake(l);
	return 0;
}

static int loop_timeout_ms(const struct loop *l)
{
	int64_t left;

	if (l->n_armed == 0)
		return -1;
	left = l->heap[0]->due_ms - loop_now_ms();
	if (left <= 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

static void loop_run_timers(struct loop *l)
{
	int64_t now = loop_now_ms();
	uint64_t last_seq = l->seq;

	/* newer timers sort behind older ones of the same millisecond */
	while (l->n_armed > 0 && l->heap[0]->due_ms <= now &&
	       l->heap[0]->seq <= last_seq) {
		struct loop_timer *t = l->heap[0];

		timer_disarm(t);
		t->fn(t->ctx);
	}
}

static struct loop_call *loop_take_calls(struct loop *l)
{
	struct loop_call *calls;

	LOCK_SCOPE(&l->lock);
	calls = l->first;
	l->first = NULL;
	l->last = &l->first;
	return calls;
}

static void loop_run_calls(struct loop *l)
{
	struct loop_call *calls = loop_take_calls(l);

	while (calls) {
		struct loop_call *c = calls;

		calls = c->next;
		c->fn(c->ctx);
		free(c);
	}
}

int loop_run(struct loop *l)
{
	struct epoll_event ev[LOOP_EVENTS];

	atomic_store(&l->thread, gettid());
	while (!atomic_load(&l->stop)) {
		int n = epoll_wait(l->epfd, ev, LOOP_EVENTS, loop_timeout_ms(l));

		if (n < 0 && errno != EINTR)
			return -errno;
		loop_bury(l);
		for (int i = 0; i < n; i++) {
			struct loop_io *io = ev[i].data.ptr;
			eventfd_t count;

			if (!io)
				(void)eventfd_read(l->evfd, &count); /* only a wake */
			else if (!io->dead)
				io->fn(io->ctx, ev[i].events);
		}
		loop_run_timers(l);
		loop_run_calls(l);
	}
	/* results that were posted before the stop still reach their owners */
	loop_run_calls(l);
	atomic_store(&l->stop, false);
	return 0;
}

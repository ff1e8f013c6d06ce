/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop.h - the one loop thread (epoll: descriptors, timers, posted calls) and the
 * background pool.
 *
 * Everything except loop_post, loop_stop and pool_post is called on the loop
 * thread only (or before loop_run).  Callbacks run on the loop thread and must
 * not block; blocking work goes to the pool, which posts its result back.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_timer;
struct loop_io;
struct pool;

int loop_new(struct loop **ret_loop) MUST_CHECK;
struct loop *loop_free(struct loop *l); /* NULL is fine; returns NULL */
/* Runs until loop_stop. */
int loop_run(struct loop *l) MUST_CHECK;
void loop_stop(struct loop *l);
/* Is the calling thread the loop's? */
bool loop_is_mine(const struct loop *l);

/* Watches fd for EPOLLIN/EPOLLOUT... until loop_io_free; fd stays the caller's, who
 * frees the watch before closing it.  Freeing inside any callback is allowed; a freed
 * watch never fires again. */
int loop_io_new(struct loop *l, int fd, uint32_t events,
		void (*fn)(void *ctx, uint32_t events), void *ctx,
		struct loop_io **ret_io) MUST_CHECK;
int loop_io_events(struct loop_io *io, uint32_t events) MUST_CHECK;
struct loop_io *loop_io_free(struct loop_io *io);

/* A timer, unarmed.  Arming again moves it; delay_ms < 0 disarms. */
int loop_timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx,
		   struct loop_timer **ret_t) MUST_CHECK;
void loop_timer_arm(struct loop_timer *t, int64_t delay_ms);
struct loop_timer *loop_timer_free(struct loop_timer *t);

/* Calls fn(ctx) on the loop thread soon, in the order posted.  Any thread.
 * -ENOMEM: it will not be called.  What was posted before loop_run returns is
 * run; what is still posted at loop_free is dropped. */
int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx) MUST_CHECK;

/* CLOCK_MONOTONIC in milliseconds. */
int64_t loop_now_ms(void);

/* A fixed set of threads that run posted jobs in order. */
int pool_new(unsigned threads, struct pool **ret_pool) MUST_CHECK;
/* Runs what is queued, then ends the threads. */
struct pool *pool_free(struct pool *p);
int pool_post(struct pool *p, void (*fn)(void *ctx), void *ctx) MUST_CHECK;

#endif

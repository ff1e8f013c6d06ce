/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doorman.h - one thread that opens run directories in the mount, and binds and
 * connects the sockets in them.
 *
 * All are system calls on our own file system, so they are not done on the loop; to
 * open may have to wait (rundir.h), and nothing that is waited for there waits for
 * this thread; a connect is done with the uid and gid of the client that it is for,
 * which this thread alone may take on.  Requests are run in order; `done` is called
 * exactly once each, on the loop thread.
 */
#ifndef PG_DOORMAN_H
#define PG_DOORMAN_H

#include "base/loop.h"
#include "pg/rundir.h"
#include "store/registry.h"

#include <sys/socket.h>

#define DOORMAN_LISTENER ".wake"

struct doorman;

/* privileged: we are root and may take on the ids of clients. */
int doorman_new(struct loop *l, bool privileged, struct doorman **ret_d) MUST_CHECK;
/* Ends the thread; requests not answered yet are dropped. */
struct doorman *doorman_free(struct doorman *d);

/* fd: a listening socket, now the callee's; rd: borrowed; valid if rc is 0. */
typedef void (*doorman_listen_done)(void *ctx, int rc, int fd, uint64_t fid,
				    struct rundir *rd);
/* Binds the branch's wake-up listener anew.  b is referenced meanwhile. */
int doorman_listen(struct doorman *d, struct rundirs *dirs, struct branch *b,
		   doorman_listen_done done, void *ctx) MUST_CHECK;

/* rd: borrowed; valid if rc is 0. */
typedef void (*doorman_open_done)(void *ctx, int rc, struct rundir *rd);
/* Opens the branch's run directory for a server, its data directory pinned. */
int doorman_open(struct doorman *d, struct rundirs *dirs, struct branch *b,
		 doorman_open_done done, void *ctx) MUST_CHECK;

/* fd: connected, now the callee's.  rc -EAGAIN: the server's queue is full. */
typedef void (*doorman_connect_done)(void *ctx, int rc, int fd);
/* Connects to the server's socket in rd as `who`. */
int doorman_connect(struct doorman *d, struct rundir *rd, const struct ucred *who,
		    doorman_connect_done done, void *ctx) MUST_CHECK;

/* loop_post that does not take no for an answer; for results that must arrive. */
void doorman_post(struct loop *l, void (*fn)(void *ctx), void *ctx);

#endif

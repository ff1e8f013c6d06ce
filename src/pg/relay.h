/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay.h - copies bytes both ways between a client that was there before its
 * server and that server, until both have ended.  Loop thread only.
 */
#ifndef PG_RELAY_H
#define PG_RELAY_H

#include "base/loop.h"

struct relay;

/*
 * Takes over both descriptors (non-blocking; also on failure).  `end` is called
 * once when it is over and shall relay_free it; not after relay_free.
 */
int relay_new(struct loop *l, int client_fd, int server_fd,
	      void (*end)(void *ctx, struct relay *r), void *ctx,
	      struct relay **ret_relay) MUST_CHECK;
struct relay *relay_free(struct relay *r); /* NULL is fine; returns NULL */

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * refuse.h - tells clients that cannot be served why, in their protocol.
 * Loop thread only.
 */
#ifndef PG_REFUSE_H
#define PG_REFUSE_H

#include "base/loop.h"

/* The clients that are being told; zero it to start. */
struct refusals {
	struct refusal *first;
	unsigned count;
};

/*
 * Takes fd over (non-blocking): waits a little for the client's startup packet,
 * answers FATAL with SQLSTATE 57P03, msg and hint (may be NULL), and closes.
 */
void refuse_client(struct refusals *list, struct loop *l, int fd, const char *msg,
		   const char *hint);
/* Drops those that are under way. */
void refuse_drop_all(struct refusals *list);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor.h - one connection to a running server: is anybody there, and the
 * commit that carries asynchronous ones to disk.
 *
 * Made for one run of a server, shared by reference.  Probe and commit block and
 * wait for one another: pool threads only.
 */
#ifndef PG_MONITOR_H
#define PG_MONITOR_H

#include "base/err.h"
#include "pg/rundir.h"

#include <libpq-fe.h>
#include <stdbool.h>

struct monitor;

/* conn: taken over, may be NULL (then it connects at first use). */
int monitor_new(struct rundir *rd, const char *superuser, int major, PGconn *conn,
		struct monitor **ret_mon) MUST_CHECK;
struct monitor *monitor_get(struct monitor *m);
struct monitor *monitor_put(struct monitor *m); /* NULL is fine; returns NULL */

/* Does anybody use the server now, or did somebody since the last probe? */
int monitor_probe(struct monitor *m, bool *ret_active, struct err *e) MUST_CHECK;
/* When it returns 0, all commits acknowledged before are on disk. */
int monitor_sync_commit(struct monitor *m, struct err *e) MUST_CHECK;

#endif

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
#include "pg/rolescan.h"
#include "pg/rundir.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct monitor;

/* conn: taken over, may be NULL (then it connects at first use). */
int monitor_new(struct rundir *rd, const char *superuser, int major, PGconn *conn,
		struct monitor **ret_mon) MUST_CHECK;
struct monitor *monitor_get(struct monitor *m);
struct monitor *monitor_put(struct monitor *m); /* NULL is fine; returns NULL */

/* What a probe saw; our own sessions are left out. */
struct monitor_view {
	bool active;    /* somebody works now, or did since the last probe */
	bool connected; /* a client is connected, perhaps an idle one */
	bool changed; /* one of them began or ended something since the last probe... */
	int64_t ago_ms; /* ...so long ago */
};

/* The first probe has nothing to compare with, and takes that as activity. */
int monitor_probe(struct monitor *m, struct monitor_view *ret_view,
		  struct err *e) MUST_CHECK;
/* How many sessions of others are open. */
int monitor_sessions(struct monitor *m, uint64_t *ret_n, struct err *e) MUST_CHECK;
/* -ENOENT: the cluster has no such role. */
int monitor_role(struct monitor *m, const char *role, struct role_facts *ret_facts,
		 struct err *e) MUST_CHECK;
/* When it returns 0, all commits acknowledged before are on disk. */
int monitor_sync_commit(struct monitor *m, struct err *e) MUST_CHECK;

#endif

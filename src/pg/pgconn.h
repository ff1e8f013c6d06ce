/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgconn.h - the daemon's own connections to a branch's server, by libpq, each
 * call with a deadline.  Blocking: pool threads only.
 */
#ifndef PG_PGCONN_H
#define PG_PGCONN_H

#include "base/err.h"
#include "pg/rundir.h"

#include <libpq-fe.h>

struct pgconn_spec {
	struct rundir *rd;
	const char *superuser;
	int major;
};

#define PGCONN_NO_DATABASE (-ENODATA) /* pgconn_open: there is none of this name */

int pgconn_open(const struct pgconn_spec *spec, const char *dbname, PGconn **ret_conn,
		struct err *e) MUST_CHECK;
/*
 * Runs sql, which may be several statements, and gives the last one's result
 * (ret_res may be NULL).  After -ETIMEDOUT or -EPIPE the connection is of no use.
 */
int pgconn_exec(PGconn *conn, const char *sql, int timeout_ms, PGresult **ret_res,
		struct err *e) MUST_CHECK;

/* CLEAN(pgconn_clean) PGconn *c, CLEAN(pgconn_clear) PGresult *r. */
void pgconn_clean(PGconn **conn);
void pgconn_clear(PGresult **res);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor.c - activity and durability of a running server.
 *
 * Sessions that began and ended between two probes show in the session counters
 * of pg_stat_database.  Our own one moves them once, when it connects; that reads
 * as activity, which is the harmless direction.
 */
#include "pg/monitor.h"

#include "pg/pgconn.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PROBE_TIMEOUT_MS 10000
#define COMMIT_TIMEOUT_MS 20000

static const char probe_sql[] =
	"SELECT (SELECT count(*) FROM pg_catalog.pg_stat_activity"
	"         WHERE backend_type IN ('client backend', 'walsender')"
	"           AND pid <> pg_catalog.pg_backend_pid()),"
	"       (SELECT COALESCE(pg_catalog.sum(sessions), 0)"
	"          FROM pg_catalog.pg_stat_database)";

struct monitor {
	atomic_uint refs;
	struct rundir *rd;
	char *superuser;
	int major;
	pthread_mutex_t lock;
	PGconn *conn;      /* lock: lock; NULL: not connected */
	char sessions[32]; /* lock: lock; counter at the last probe, "" before */
};

int monitor_new(struct rundir *rd, const char *superuser, int major, PGconn *conn,
		struct monitor **ret_mon)
{
	struct monitor *m = calloc(1, sizeof(*m));

	if (m)
		m->superuser = strdup(superuser);
	if (!m || !m->superuser) {
		free(m);
		pgconn_clean(&conn);
		return -ENOMEM;
	}
	atomic_init(&m->refs, 1);
	m->rd = rundir_get(rd);
	m->major = major;
	m->conn = conn;
	(void)pthread_mutex_init(&m->lock, NULL); /* cannot fail with NULL */
	*ret_mon = m;
	return 0;
}

struct monitor *monitor_get(struct monitor *m)
{
	(void)atomic_fetch_add(&m->refs, 1);
	return m;
}

struct monitor *monitor_put(struct monitor *m)
{
	if (!m || atomic_fetch_sub(&m->refs, 1) > 1)
		return NULL;
	pgconn_clean(&m->conn);
	(void)rundir_put(m->rd);
	(void)pthread_mutex_destroy(&m->lock);
	free(m->superuser);
	free(m);
	return NULL;
}

static int connect_locked(struct monitor *m, struct err *e)
{
	const struct pgconn_spec spec = {m->rd, m->superuser, m->major};
	int rc;

	if (m->conn)
		return 0;
	rc = pgconn_open(&spec, "postgres", &m->conn, e);
	if (rc == PGCONN_NO_DATABASE)
		rc = pgconn_open(&spec, "template1", &m->conn, e);
	return rc;
}

/* Runs sql, once more on a new connection if the old one turns out to be lost. */
static int run_locked(struct monitor *m, const char *sql, int timeout_ms,
		      PGresult **ret_res, struct err *e)
{
	bool fresh = !m->conn;
	int rc;

	rc = connect_locked(m, e);
	if (rc < 0)
		return rc;
	rc = pgconn_exec(m->conn, sql, timeout_ms, ret_res, e);
	if (rc == -EPIPE || rc == -ETIMEDOUT)
		pgconn_clean(&m->conn);
	if (rc != -EPIPE || fresh)
		return rc;
	rc = connect_locked(m, e);
	if (rc == 0)
		rc = pgconn_exec(m->conn, sql, timeout_ms, ret_res, e);
	if (rc == -EPIPE || rc == -ETIMEDOUT)
		pgconn_clean(&m->conn);
	return rc;
}

int monitor_probe(struct monitor *m, bool *ret_active, struct err *e)
{
	CLEAN(pgconn_clear) PGresult *res = NULL;
	const char *sessions;
	int rc;

	LOCK_SCOPE(&m->lock);
	rc = run_locked(m, probe_sql, PROBE_TIMEOUT_MS, &res, e);
	if (rc < 0)
		return rc;
	if (PQntuples(res) != 1 || PQnfields(res) != 2)
		return err_set(e, -EIO, "the branch's server gave no activity");
	sessions = PQgetvalue(res, 0, 1);
	*ret_active = strcmp(PQgetvalue(res, 0, 0), "0") != 0 ||
		      strcmp(sessions, m->sessions) != 0;
	(void)snprintf(m->sessions, sizeof(m->sessions), "%s", sessions);
	return 0;
}

int monitor_sync_commit(struct monitor *m, struct err *e)
{
	CLEAN(pgconn_clear) PGresult *res = NULL;
	int rc;

	LOCK_SCOPE(&m->lock);
	rc = run_locked(m, "SELECT pg_catalog.pg_is_in_recovery()", COMMIT_TIMEOUT_MS,
			&res, e);
	if (rc < 0)
		return rc;
	if (PQntuples(res) == 1 && PQgetvalue(res, 0, 0)[0] == 't')
		return 0; /* it acknowledges no commits of its own */
	/* a commit is waited for only if it wrote WAL: an xid alone does not */
	return run_locked(m,
			  "BEGIN READ WRITE; "
			  "SELECT pg_catalog.pg_logical_emit_message(true, "
			  "'pgbranchfs', ''); COMMIT",
			  COMMIT_TIMEOUT_MS, NULL, e);
}

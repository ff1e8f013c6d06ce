/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor.c - activity and durability of a running server.
 *
 * Who works now is seen in pg_stat_activity, and which sessions began and ended between
 * two probes by the counters of pg_stat_database.  A backend may add the time that it
 * worked to these only when it ends; but as long as it is there, the time of its last
 * change of state tells.  Our own session must not move them: it does not measure its
 * time (track_activities is off, pgconn.c), and how many we begin is known.  Postgres
 * 14 counts it late, which then reads as activity: the harmless direction.
 */
#include "pg/monitor.h"

#include "base/text.h"
#include "pg/pgconn.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_TIMEOUT_MS 10000
#define COMMIT_TIMEOUT_MS 20000

/* Columns of the probe, all numbers; times in microseconds. */
enum {
	SEEN_WORKING,
	SEEN_CLIENTS,
	SEEN_CHANGED, /* the newest change of state of these, 0: none */
	SEEN_CLOCK,
	SEEN_SESSIONS,
	SEEN_BUSY,
	SEEN_COUNT
};

/*
 * A client that is about to get in has no state or "starting", an autovacuum worker
 * has none until it found a table to work on: those that look at each database every
 * minute and find nothing do not count.
 */
static const char probe_sql[] =
	"SELECT count(*) FILTER (WHERE CASE backend_type"
	"           WHEN 'client backend' THEN state IS DISTINCT FROM 'idle'"
	"           WHEN 'autovacuum worker' THEN state IS NOT NULL"
	"           ELSE backend_type = 'walsender' END)"
	"         + (SELECT count(*) FROM pg_catalog.pg_stat_subscription"
	"             WHERE pid IS NOT NULL),"
	"       count(*) FILTER (WHERE backend_type = 'client backend'),"
	"       COALESCE(extract(epoch FROM max(state_change)"
	"           FILTER (WHERE backend_type = 'client backend')) * 1000000, 0),"
	"       extract(epoch FROM clock_timestamp()) * 1000000,"
	"       (SELECT COALESCE(sum(sessions), 0) FROM pg_catalog.pg_stat_database),"
	"       (SELECT COALESCE(sum((active_time * 1000)::bigint), 0)"
	"          FROM pg_catalog.pg_stat_database)"
	"  FROM pg_catalog.pg_stat_activity"
	" WHERE pid <> pg_backend_pid()";

static const char sessions_sql[] =
	"SELECT count(*) FROM pg_catalog.pg_stat_activity"
	" WHERE backend_type IN ('client backend', 'walsender')"
	"   AND pid <> pg_catalog.pg_backend_pid()";

struct monitor {
	atomic_uint refs;
	struct rundir *rd;
	char *superuser;
	int major;
	pthread_mutex_t lock;
	/* lock: lock */
	PGconn *conn;             /* NULL: not connected */
	int64_t own;              /* how many sessions we have begun */
	bool probed;              /* and this was seen: */
	int64_t last[SEEN_COUNT]; /* sessions without our own */
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
	m->own = conn ? 1 : 0;
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
	if (rc == 0)
		m->own++;
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

/* What the numbers say beside those of the last probe, whose place they take. */
static void compare_locked(struct monitor *m, const int64_t seen[static SEEN_COUNT],
			   struct monitor_view *ret_view)
{
	bool moved = !m->probed || seen[SEEN_SESSIONS] != m->last[SEEN_SESSIONS] ||
		     seen[SEEN_BUSY] != m->last[SEEN_BUSY];
	bool changed =
		seen[SEEN_CLIENTS] > 0 && seen[SEEN_CHANGED] != m->last[SEEN_CHANGED];
	int64_t ago_us = seen[SEEN_CLOCK] - seen[SEEN_CHANGED];

	*ret_view = (struct monitor_view){
		.active = seen[SEEN_WORKING] > 0 || moved,
		.connected = seen[SEEN_CLIENTS] > 0,
		.changed = changed,
		.ago_ms = ago_us > 0 ? ago_us / 1000 : 0, /* clocks are set back */
	};
	m->probed = true;
	memcpy(m->last, seen, sizeof(m->last));
}

int monitor_probe(struct monitor *m, struct monitor_view *ret_view, struct err *e)
{
	CLEAN(pgconn_clear) PGresult *res = NULL;
	int64_t seen[SEEN_COUNT];
	int rc;

	LOCK_SCOPE(&m->lock);
	rc = run_locked(m, probe_sql, PROBE_TIMEOUT_MS, &res, e);
	if (rc < 0)
		return rc;
	if (PQntuples(res) != 1 || PQnfields(res) != SEEN_COUNT)
		return err_set(e, -EIO, "the branch's server gave no activity");
	for (int i = 0; i < SEEN_COUNT; i++)
		seen[i] = strtoll(PQgetvalue(res, 0, i), NULL, 10);
	seen[SEEN_SESSIONS] -= m->own;
	compare_locked(m, seen, ret_view);
	return 0;
}

int monitor_sessions(struct monitor *m, uint64_t *ret_n, struct err *e)
{
	CLEAN(pgconn_clear) PGresult *res = NULL;
	int rc;

	LOCK_SCOPE(&m->lock);
	rc = run_locked(m, sessions_sql, PROBE_TIMEOUT_MS, &res, e);
	if (rc < 0)
		return rc;
	if (PQntuples(res) != 1 ||
	    text_parse_u64(PQgetvalue(res, 0, 0), 10, UINT64_MAX, ret_n) < 0)
		return err_set(e, -EIO, "the branch's server did not count sessions");
	return 0;
}

/* Roles that reach files of the server, or can give themselves one that does. */
#define POWERS                                                                         \
	"r.rolsuper OR r.rolcreaterole OR r.rolreplication"                            \
	" OR pg_catalog.pg_has_role(r.oid, 'pg_execute_server_program', 'MEMBER')"     \
	" OR pg_catalog.pg_has_role(r.oid, 'pg_read_server_files', 'MEMBER')"          \
	" OR pg_catalog.pg_has_role(r.oid, 'pg_write_server_files', 'MEMBER')"

/* Appends s as a literal, whatever standard_conforming_strings is. */
static void add_literal(struct str *t, const char *s)
{
	str_add(t, "E'");
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			str_addn(t, s, 1);
		str_addn(t, s, 1);
	}
	str_add(t, "'");
}

int monitor_role(struct monitor *m, const char *role, struct role_facts *ret_facts,
		 struct err *e)
{
	CLEAN(pgconn_clear) PGresult *res = NULL;
	CLEAN(str_fini) struct str sql = STR_INIT;
	int rc;

	str_add(&sql, "SELECT " POWERS ", r.rolcanlogin FROM pg_catalog.pg_roles r "
		      "WHERE r.rolname = ");
	add_literal(&sql, role);
	if (sql.failed)
		return err_set(e, -ENOMEM, "out of memory");
	LOCK_SCOPE(&m->lock);
	rc = run_locked(m, sql.s, PROBE_TIMEOUT_MS, &res, e);
	if (rc < 0)
		return rc;
	if (PQntuples(res) == 0)
		return err_set(e, -ENOENT, "there is no role \"%s\"", role);
	ret_facts->powerful = PQgetvalue(res, 0, 0)[0] == 't';
	ret_facts->can_login = PQgetvalue(res, 0, 1)[0] == 't';
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * prepare.c - the first-start clean-up of a branch (hazards 4 and 8).
 *
 * A copied subscription would take over the parent's replication slot.  It is
 * disabled and its slot forgotten, but the row stays: DROP SUBSCRIPTION would talk
 * to the publisher even then.  The server runs without logical replication workers
 * until this was done once.
 */
#include "pg/prepare.h"

#include "base/text.h"

#include <string.h>

static const char list_sql[] =
	"SELECT d.datname, s.subname, s.subenabled, s.subslotname IS NOT NULL,"
	"       d.datallowconn"
	"  FROM pg_catalog.pg_subscription s"
	"  JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
	" ORDER BY 1, 2";

/* For databases that nobody may connect to, where ALTER SUBSCRIPTION cannot run. */
static const char closed_sql[] =
	"UPDATE pg_catalog.pg_subscription SET subenabled = false, subslotname = NULL"
	" WHERE subdbid IN (SELECT oid FROM pg_catalog.pg_database"
	"                    WHERE NOT datallowconn)";

/* Appends the statements that cut one subscription off. */
static int add_statements(PGconn *conn, const char *name, bool enabled, bool slot,
			  struct str *sql)
{
	char *quoted = PQescapeIdentifier(conn, name, strlen(name));

	if (!quoted)
		return -ENOMEM;
	if (enabled)
		str_printf(sql, "ALTER SUBSCRIPTION %s DISABLE;", quoted);
	if (slot)
		str_printf(sql, "ALTER SUBSCRIPTION %s SET (slot_name = NONE);",
			   quoted);
	PQfreemem(quoted);
	return sql->failed ? -ENOMEM : 0;
}

static void clean_str(struct str *s)
{
	str_fini(s);
}

static int detach_one(const struct prepare_spec *spec, const char *db, const char *name,
		      bool enabled, bool slot, struct err *e)
{
	CLEAN(pgconn_clean) PGconn *conn = NULL;
	CLEAN(clean_str) struct str sql = STR_INIT;
	int rc;

	rc = pgconn_open(&spec->conn, db, &conn, e);
	if (rc < 0)
		return err_wrap(e, rc, "database \"%s\"", db);
	rc = add_statements(conn, name, enabled, slot, &sql);
	if (rc < 0)
		return err_set(e, rc, "out of memory");
	if (!sql.len)
		return 0;
	rc = pgconn_exec(conn, sql.s, spec->timeout_ms, NULL, e);
	return rc < 0 ? err_wrap(e, rc, "subscription \"%s\" in database \"%s\"", name,
				 db)
		      : 0;
}

static bool is_true(const PGresult *res, int row, int field)
{
	return PQgetvalue(res, row, field)[0] == 't';
}

static int detach_subscriptions(const struct prepare_spec *spec, PGconn *conn,
				struct err *e)
{
	CLEAN(pgconn_clear) PGresult *res = NULL;
	bool closed = false;
	int rc;

	rc = pgconn_exec(conn, list_sql, spec->timeout_ms, &res, e);
	if (rc < 0)
		return err_wrap(e, rc, "cannot list subscriptions");
	for (int i = 0; i < PQntuples(res); i++) {
		bool enabled = is_true(res, i, 2), slot = is_true(res, i, 3);

		if (!enabled && !slot)
			continue;
		if (!is_true(res, i, 4)) {
			closed = true;
			continue;
		}
		rc = detach_one(spec, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1),
				enabled, slot, e);
		if (rc < 0)
			return err_wrap(e, rc, "cannot detach a subscription");
	}
	if (closed)
		rc = pgconn_exec(conn, closed_sql, spec->timeout_ms, NULL, e);
	return rc < 0 ? err_wrap(e, rc, "cannot detach a subscription") : 0;
}

static int promote(const struct prepare_spec *spec, PGconn *conn, struct err *e)
{
	CLEAN(clean_free) char *sql = NULL;
	CLEAN(pgconn_clear) PGresult *res = NULL;
	int rc;

	/* replay may take longer than any statement of ours should */
	rc = pgconn_exec(conn, "SET statement_timeout = 0", spec->timeout_ms, NULL, e);
	if (rc < 0)
		return rc;
	sql = text_format("SELECT NOT pg_catalog.pg_is_in_recovery() OR "
			  "pg_catalog.pg_promote(true, %d)",
			  spec->timeout_ms / 1000 + 1);
	if (!sql)
		return err_set(e, -ENOMEM, "out of memory");
	rc = pgconn_exec(conn, sql, spec->timeout_ms + 2000, &res, e);
	if (rc < 0)
		return err_wrap(e, rc, "cannot promote the standby");
	if (PQntuples(res) != 1 || !is_true(res, 0, 0))
		return err_set(e, -ETIMEDOUT, "the standby was not promoted in time");
	return 0;
}

int prepare_run(const struct prepare_spec *spec, PGconn **ret_conn, struct err *e)
{
	CLEAN(pgconn_clean) PGconn *conn = NULL;
	int rc;

	rc = pgconn_open(&spec->conn, "postgres", &conn, e);
	if (rc == PGCONN_NO_DATABASE)
		rc = pgconn_open(&spec->conn, "template1", &conn, e);
	if (rc == 0 && spec->promote)
		rc = promote(spec, conn, e);
	if (rc == 0 && spec->subscriptions)
		rc = detach_subscriptions(spec, conn, e);
	if (rc < 0)
		return rc;
	*ret_conn = steal(conn);
	return 0;
}

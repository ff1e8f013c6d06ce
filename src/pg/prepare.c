/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * prepare.c - the first-start clean-up of a branch (hazards 4 and 8).
 *
 * A copied subscription would take over the parent's replication slot.  It is
 * disabled and its slot forgotten, but the row stays: DROP SUBSCRIPTION would talk
 * to the publisher even then, and drop the slots with which the parent copies its
 * tables.  So that a user's DROP does not either, the connection leads nowhere.  The
 * server runs without logical replication workers until this was done once.
 */
#include "pg/prepare.h"

#include "base/text.h"

#include <string.h>

/* With a password, which some subscriptions must have to be altered. */
#define NOWHERE "'host=/detached-by-pgbranchfs password=none'"

static const char list_sql[] =
	"SELECT d.datname, s.subname, s.subenabled, s.subslotname IS NOT NULL,"
	"       d.datallowconn, s.subconninfo <> " NOWHERE
	"  FROM pg_catalog.pg_subscription s"
	"  JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
	" ORDER BY 1, 2";

/* For databases that nobody may connect to, where ALTER SUBSCRIPTION cannot run. */
static const char closed_sql[] =
	"UPDATE pg_catalog.pg_subscription SET subenabled = false, subslotname = NULL,"
	"       subconninfo = " NOWHERE
	" WHERE subdbid IN (SELECT oid FROM pg_catalog.pg_database"
	"                    WHERE NOT datallowconn)";

/* A subscription, and what of it is still as the parent has it. */
struct subscription {
	const char *db, *name;
	bool enabled, slot, connected;
};

/* Appends the statements that cut one subscription off. */
static int add_statements(PGconn *conn, const struct subscription *s, struct str *sql)
{
	char *quoted = PQescapeIdentifier(conn, s->name, strlen(s->name));

	if (!quoted)
		return -ENOMEM;
	if (s->enabled)
		str_printf(sql, "ALTER SUBSCRIPTION %s DISABLE;", quoted);
	if (s->slot)
		str_printf(sql, "ALTER SUBSCRIPTION %s SET (slot_name = NONE);",
			   quoted);
	if (s->connected)
		str_printf(sql, "ALTER SUBSCRIPTION %s CONNECTION " NOWHERE ";",
			   quoted);
	PQfreemem(quoted);
	return sql->failed ? -ENOMEM : 0;
}

static void clean_str(struct str *s)
{
	str_fini(s);
}

static int detach_one(const struct prepare_spec *spec, const struct subscription *s,
		      struct err *e)
{
	CLEAN(pgconn_clean) PGconn *conn = NULL;
	CLEAN(clean_str) struct str sql = STR_INIT;
	int rc;

	rc = pgconn_open(&spec->conn, s->db, &conn, e);
	if (rc < 0)
		return err_wrap(e, rc, "database \"%s\"", s->db);
	rc = add_statements(conn, s, &sql);
	if (rc < 0)
		return err_set(e, rc, "out of memory");
	rc = pgconn_exec(conn, sql.s, spec->timeout_ms, NULL, e);
	return rc < 0 ? err_wrap(e, rc, "subscription \"%s\" in database \"%s\"",
				 s->name, s->db)
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
		const struct subscription s = {
			PQgetvalue(res, i, 0), PQgetvalue(res, i, 1),
			is_true(res, i, 2), is_true(res, i, 3), is_true(res, i, 5)};

		if (!s.enabled && !s.slot && !s.connected)
			continue;
		if (!is_true(res, i, 4)) {
			closed = true;
			continue;
		}
		rc = detach_one(spec, &s, e);
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

static int make_role(const struct prepare_spec *spec, PGconn *conn, struct err *e)
{
	CLEAN(pgconn_clear) PGresult *res = NULL;
	CLEAN(clean_free) char *sql = NULL;
	char *name = PQescapeIdentifier(conn, spec->make_role, strlen(spec->make_role));
	char *literal = PQescapeLiteral(conn, spec->make_role, strlen(spec->make_role));
	int rc = -ENOMEM;

	sql = literal ? text_format(
				"SELECT FROM pg_catalog.pg_roles WHERE rolname = %s",
				literal)
		      : NULL;
	if (sql && name)
		rc = pgconn_exec(conn, sql, spec->timeout_ms, &res, e);
	if (rc == 0 && PQntuples(res) == 0) {
		free(sql);
		sql = text_format("CREATE ROLE %s LOGIN", name);
		rc = sql ? pgconn_exec(conn, sql, spec->timeout_ms, NULL, e) : -ENOMEM;
	}
	PQfreemem(name);
	PQfreemem(literal);
	return rc < 0 ? err_wrap(e, rc, "cannot make role \"%s\"", spec->make_role) : 0;
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
	if (rc == 0 && spec->make_role)
		rc = make_role(spec, conn, e);
	if (rc < 0)
		return rc;
	*ret_conn = steal(conn);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgconn.c - libpq with deadlines.
 *
 * A server can be stopped by a debugger or hang in its kernel; a pool thread must
 * come back all the same.  So every wait is a poll() with what is left of the time,
 * besides the statement_timeout that the server keeps.
 */
#include "pg/pgconn.h"

#include "base/loop.h"
#include "base/text.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_TIMEOUT_S "10"
/* track_activities: our sessions do not count as work on the branch (monitor.c) */
#define OPTIONS_BASE                                                                   \
	"-c synchronous_commit=on -c statement_timeout=60000 -c lock_timeout=30000 "   \
	"-c search_path=pg_catalog -c client_min_messages=error "                      \
	"-c default_transaction_read_only=off -c track_activities=off"

void pgconn_clean(PGconn **conn)
{
	int saved = errno;

	if (*conn)
		PQfinish(*conn);
	*conn = NULL;
	errno = saved;
}

void pgconn_clear(PGresult **res)
{
	int saved = errno;

	if (*res)
		PQclear(*res);
	*res = NULL;
	errno = saved;
}

static void ignore_notice(void *arg, const PGresult *res)
{
	(void)arg; /* a branch's notices are none of our log's business */
	(void)res;
}

/* libpq's message as one line. */
static int set_from_conn(struct err *e, int code, const char *what, PGconn *conn)
{
	const char *msg = PQerrorMessage(conn);
	size_t len = strlen(msg);

	while (len && msg[len - 1] == '\n')
		len--;
	return err_set(e, code, "%s: %.*s", what, (int)len, len ? msg : "");
}

int pgconn_open(const struct pgconn_spec *spec, const char *dbname, PGconn **ret_conn,
		struct err *e)
{
	static const char *const keys[] = {"host",
					   "port",
					   "dbname",
					   "user",
					   "options",
					   "application_name",
					   "sslmode",
					   "connect_timeout",
					   "client_encoding",
					   "gssencmode",
					   NULL};
	CLEAN(pgconn_clean) PGconn *conn = NULL;
	const char *values[ARRAY_SIZE(keys)];
	char host[40];

	(void)snprintf(host, sizeof(host), "/proc/self/fd/%d", rundir_fd(spec->rd));
	values[0] = host;
	values[1] = "5432";
	values[2] = dbname;
	values[3] = spec->superuser;
	/* a login trigger of the branch must not run in our sessions */
	values[4] = spec->major >= 17 ? OPTIONS_BASE " -c event_triggers=off"
				      : OPTIONS_BASE;
	values[5] = "pgbranchfs";
	values[6] = "disable";
	values[7] = CONNECT_TIMEOUT_S;
	values[8] = "UTF8";
	values[9] = "disable";
	values[10] = NULL;
	conn = PQconnectdbParams(keys, values, 0);
	if (!conn)
		return err_set(e, -ENOMEM, "out of memory");
	if (PQstatus(conn) != CONNECTION_OK) {
		/* libpq keeps no SQLSTATE of a failed connect; the text is stable */
		bool missing = strstr(PQerrorMessage(conn), "database \"") &&
			       strstr(PQerrorMessage(conn), "\" does not exist");

		return set_from_conn(e, missing ? PGCONN_NO_DATABASE : -ECONNREFUSED,
				     "cannot connect to the branch's server", conn);
	}
	/* nothing is asked of somebody else's server */
	if (rundir_check_peer(spec->rd, PQsocket(conn)) < 0)
		return err_set(e, -EPERM,
			       "the branch's socket does not lead to its server");
	(void)PQsetNoticeReceiver(conn, ignore_notice, NULL);
	*ret_conn = steal(conn);
	return 0;
}

/* Waits for input (and output while there is some); 0, -ETIMEDOUT or -errno. */
static int wait_socket(PGconn *conn, bool output, int64_t deadline_ms)
{
	struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
	int64_t left = deadline_ms - loop_now_ms();
	int rc;

	if (output)
		p.events |= POLLOUT;
	if (left <= 0)
		return -ETIMEDOUT;
	rc = poll(&p, 1, (int)left);
	if (rc < 0)
		return errno == EINTR ? 0 : -errno;
	return rc == 0 ? -ETIMEDOUT : 0;
}

/* Sends what libpq still holds. */
static int flush_out(PGconn *conn, int64_t deadline_ms)
{
	int rc;

	while ((rc = PQflush(conn)) > 0) {
		rc = wait_socket(conn, true, deadline_ms);
		if (rc < 0)
			return rc;
		if (!PQconsumeInput(conn))
			return -EPIPE;
	}
	return rc < 0 ? -EPIPE : 0;
}

/* The next result; *ret_res NULL when there are no more. */
static int next_result(PGconn *conn, int64_t deadline_ms, PGresult **ret_res)
{
	int rc;

	while (PQisBusy(conn)) {
		rc = wait_socket(conn, false, deadline_ms);
		if (rc < 0)
			return rc;
		if (!PQconsumeInput(conn))
			return -EPIPE;
	}
	*ret_res = PQgetResult(conn);
	return 0;
}

static bool result_ok(const PGresult *res)
{
	ExecStatusType s = PQresultStatus(res);

	return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK || s == PGRES_EMPTY_QUERY;
}

static int fail_exec(PGconn *conn, int rc, struct err *e)
{
	if (rc == -ETIMEDOUT)
		return err_set(e, rc, "the branch's server does not answer");
	return set_from_conn(e, rc, "the branch's server", conn);
}

int pgconn_exec(PGconn *conn, const char *sql, int timeout_ms, PGresult **ret_res,
		struct err *e)
{
	int64_t deadline_ms = loop_now_ms() + timeout_ms;
	CLEAN(pgconn_clear) PGresult *last = NULL;
	int rc;

	(void)PQsetnonblocking(conn,
			       1); /* fails on a dead connection; so will the rest */
	if (!PQsendQuery(conn, sql))
		return fail_exec(conn, -EPIPE, e);
	rc = flush_out(conn, deadline_ms);
	while (rc == 0) {
		PGresult *res;

		rc = next_result(conn, deadline_ms, &res);
		if (rc < 0 || !res)
			break;
		/* after an error there is only the end; keep the error */
		if (last && !result_ok(last)) {
			PQclear(res);
			continue;
		}
		pgconn_clear(&last);
		last = res;
	}
	if (rc < 0)
		return fail_exec(conn, rc, e);
	if (!last || PQstatus(conn) != CONNECTION_OK)
		return fail_exec(conn, -EPIPE, e);
	if (!result_ok(last)) {
		const char *msg = PQresultErrorField(last, PG_DIAG_MESSAGE_PRIMARY);

		return err_set(e, -EIO, "the branch's server: %s",
			       msg ? msg : "unknown error");
	}
	if (ret_res)
		*ret_res = steal(last);
	return 0;
}

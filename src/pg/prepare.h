/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * prepare.h - what is done in a server before anybody else may connect.
 * Blocking: pool threads only.
 */
#ifndef PG_PREPARE_H
#define PG_PREPARE_H

#include "base/err.h"
#include "pg/pgconn.h"

#include <stdbool.h>

struct prepare_spec {
	struct pgconn_spec conn;
	bool subscriptions; /* a fresh branch: cut its subscriptions off */
	bool promote;       /* it came up as a standby: of nobody, so make it primary */
	const char *make_role; /* NULL: none; one that is there already is left alone */
	int timeout_ms;        /* of one step */
};

/* *ret_conn: the connection that was used, for the monitor. */
int prepare_run(const struct prepare_spec *spec, PGconn **ret_conn,
		struct err *e) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * single.h - SQL in a branch by a server without sockets: Postgres' single-user mode,
 * of which nobody can be a client.  Blocking, for as long as the SQL takes.
 */
#ifndef PG_SINGLE_H
#define PG_SINGLE_H

#include "base/proc.h"
#include "pg/fleet.h"

/* A run that may be ended from another thread. */
struct single {
	pthread_mutex_t lock;
	struct proc proc; /* lock: lock */
	bool stopped;     /* lock: lock */
};

void single_init(struct single *s);
void single_fini(struct single *s);
/* Ends the run, and lets no other begin. */
void single_stop(struct single *s);
/*
 * Runs commands, each ended by SINGLE_END, in one database, as the user that servers of
 * branches which are being masked run as.  The first error ends it: -EIO, with what the
 * server said.  *ret_out: what it printed; may be NULL.
 */
#define SINGLE_END ";\n\n"
int single_run(struct single *s, struct fleet *f, struct branch *b, const char *dbname,
	       const char *sql, char **ret_out, struct err *e) MUST_CHECK;

/* Appends text as one command, whatever is in it. */
struct str;
void single_add_command(struct str *out, const char *text);
/* The next value of `datname = "..."` in what was printed, cut out in place; NULL: no
 * more. */
char *single_next_value(char **cursor);

#endif

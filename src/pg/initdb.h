/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * initdb.h - makes or checks the data directory that a store is made from.
 */
#ifndef PG_INITDB_H
#define PG_INITDB_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct initdb_spec {
	const char *bin_dir; /* NULL or "auto": newest found */
	const char *superuser;
	bool checksums;
	uid_t uid; /* whom to run as; (uid_t)-1: stay */
	gid_t gid;
};

/* Runs initdb into dir, which must not exist or be empty. */
int initdb_run(const struct initdb_spec *spec, const char *dir,
	       struct err *e) MUST_CHECK;
/*
 * Refuses, with a sentence and a hint, a data directory that a branch could not
 * be made from: not a data directory, in use (postmaster.pid of a living
 * process), not cleanly stopped, tablespaces, pg_wal or other symlinks that
 * lead out of it, no binaries of its version.
 */
int initdb_check_source(const char *dir, const char *bin_dir, struct err *e) MUST_CHECK;

#endif

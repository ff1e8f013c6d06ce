/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbin.h - finds the Postgres programs of a major version (Debian, RHEL and PATH
 * layouts, or a given directory).
 */
#ifndef PG_PGBIN_H
#define PG_PGBIN_H

#include "base/err.h"

/*
 * The directory that holds `postgres` of major version `major` (0: the newest
 * found).  bin_dir not NULL and not "auto": only there, and its version must
 * fit.  *ret_dir is a heap string.  -ENOENT names the versions that were found.
 */
int pgbin_find(const char *bin_dir, int major, char **ret_dir,
	       struct err *e) MUST_CHECK;
/* Major version of bin_dir/postgres, or -errno. */
int pgbin_version(const char *bin_dir) MUST_CHECK;

#endif

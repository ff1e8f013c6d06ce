/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgconf.h - the configuration files that are generated for a branch's server.
 * Pure functions; all texts are heap strings.
 */
#ifndef PG_PGCONF_H
#define PG_PGCONF_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

#define PGCONF_MAP "pgbranchfs"

/* pg_hba.conf: peer authentication on the socket through our map, nothing else. */
char *pgconf_hba(void);
/* A user, by the name that the server's machine has for the uid, and its role. */
struct pgconf_role {
	const char *user, *role;
};
/*
 * pg_ident.conf: `admins` (user names, ended by NULL, repeats allowed) may be
 * `superuser`.  roles NULL: everybody may also be the role of their own name.
 * Otherwise the n users in it may be their roles, and nobody else anything.
 */
char *pgconf_ident(const char *const *admins, const char *superuser,
		   const struct pgconf_role *roles, size_t n);

/* May this text of a postgresql.conf, or what it includes, set `name`? */
bool pgconf_may_set(const char *text, const char *name);

/* How pgconf_filter reads the data directory; paths are relative to it. */
struct pgconf_source {
	/* Heap text, or -ENOENT; any code but -EIO, -ENOMEM and -EFBIG: not a
	 * file of the data directory (a symlink, say). */
	int (*read)(void *ctx, const char *path, char **ret_text);
	/* Calls add for each name in a directory. */
	int (*list)(void *ctx, const char *path,
		    void (*add)(void *to, const char *name), void *to);
	void *ctx;
};

/*
 * Checks that postgresql.conf exists and includes nothing from outside the data
 * directory.  If so, *ret_text is NULL.  If not, it is a text to be used in its
 * place: the same, with the includes from inside put in and those from outside
 * dropped.  *ret_dropped then is the dropped directives, one a line ("" if only
 * the file was missing).  data_path is the absolute data directory.
 */
int pgconf_filter(const struct pgconf_source *src, const char *data_path,
		  char **ret_text, char **ret_dropped) MUST_CHECK;

#endif

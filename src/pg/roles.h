/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * roles.h - who may be which role in a branch: the list of those who were let in, and
 * the pg_ident.conf that is made of it.  No locks here: see fleet_priv.h.
 */
#ifndef PG_ROLES_H
#define PG_ROLES_H

#include "base/cleanup.h"
#include "base/err.h"
#include "pg/pgconf.h"
#include "store/overlay.h"

#include <stdatomic.h>

struct roles {
	struct pgconf_role *v; /* owned, with their strings */
	size_t n;
	atomic_uint version; /* of the list; read without the lock */
};

void roles_fini(struct roles *r);
/* 1: the list is another one now; 0: it was so already; -ENOMEM. */
int roles_set(struct roles *r, const char *user, const char *role) MUST_CHECK;

struct roles_rules {
	const char *superuser;
	uid_t owner; /* of the branch */
	bool strict; /* only who is in the list; otherwise also everybody as themselves,
		      * and the owner as the superuser */
};
/* Writes pg_ident.conf into the run directory.  The daemon's user and root are always
 * the superuser. */
int roles_write(struct overlay *run, const struct roles *r,
		const struct roles_rules *rules, struct err *e) MUST_CHECK;

#endif

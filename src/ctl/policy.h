/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * policy.h - who may do what.  Decides from what it is given and asks nobody but
 * caller.h for groups.
 *
 * A policy_set is never changed once it is loaded, and reference counted: a request
 * keeps the one that it began with.
 */
#ifndef CTL_POLICY_H
#define CTL_POLICY_H

#include "base/err.h"
#include "ctl/caller.h"
#include "store/registry.h"

#include <stdatomic.h>
#include <sys/types.h>

#define POLICY_UNSET UINT64_MAX /* a number that the file does not give */
#define POLICY_DEFAULT "default"

struct policy_match {
	bool is_group;
	char *name; /* owned; NULL: id was written as a number */
	uint32_t id;
};

struct policy {
	char *name;
	unsigned line, role_line; /* of the file */
	struct policy_match *match;
	size_t n_match;
	bool create, create_role, merge, protect, see_all;
	char **from;          /* ended by NULL; NULL: none were given */
	char *default_parent; /* NULL: that of [branch] */
	uint64_t max_branches, max_bytes;
	uint64_t ttl_s, max_ttl_s; /* 0: never */
	char *role;                /* NULL: the cluster's superuser */
	char *server_user;         /* NULL: the branch's owner */
	uid_t server_uid;          /* of server_user */
	gid_t server_gid;
	char *sanitize; /* a path; NULL: nothing is masked */
	uint64_t seen;  /* policy_conf.c: bit i: key i has been set */
};

struct policy_set {
	atomic_uint refs;
	struct policy **v; /* in the order of the file */
	size_t n;
	struct policy *fallback; /* [policy default], one of v; or NULL */
};

struct policy_set *policy_set_get(struct policy_set *s);
struct policy_set *
policy_set_put(struct policy_set *s); /* NULL is fine; returns NULL */

/* What one caller may; valid as long as the set. */
struct rights {
	struct policy_set *set; /* a reference */
	const struct policy *p; /* NULL: none is for this caller */
	bool all;               /* root, or the mount's owner */
};

#define RIGHTS_INIT                                                                    \
	{                                                                              \
		NULL, NULL, false                                                      \
	}
/* Finds the caller's policy: the first one that matches. */
void rights_init(struct rights *rt, struct policy_set *s, const struct caller *who,
		 uid_t mount_owner);
void rights_fini(struct rights *rt);
/* The policy of a uid that asks for nothing now: its groups are those of the database.
 */
const struct policy *policy_of_uid(const struct policy_set *s, uid_t uid);

enum policy_verb {
	POLICY_CREATE, /* branch: the parent; NULL: any at all? */
	POLICY_DISCARD,
	POLICY_RENAME,
	POLICY_STATE,
	POLICY_CHMOD,
	POLICY_CHOWN,
	POLICY_EXPIRES,
	POLICY_PROTECT,
	POLICY_RESTORE,
	POLICY_CHECKPOINT, /* made, renamed, dropped */
	POLICY_ROLLBACK,
	POLICY_RESET,
	POLICY_MERGE,
	POLICY_VERBS
};

/*
 * May the caller do this to the branch?  0; -ENOENT when the caller does not even see
 * it, -EACCES when it is not the caller's, or -EPERM when it is and policy still says
 * no.  default_parent: that of [branch].
 */
int policy_authorise(const struct rights *rt, const struct caller *who,
		     enum policy_verb verb, const struct branch_info *branch,
		     const char *default_parent, struct err *e) MUST_CHECK;
/* Is there anybody who does not see every branch? */
bool policy_hides(const struct policy_set *s);
/* Do these rights show every branch? */
bool policy_sees_all(const struct rights *rt);
/* Does the caller see that the branch is there?  server_uid: what its server runs as.
 */
bool policy_sees(const struct rights *rt, const struct caller *who,
		 const struct branch_info *branch, uid_t server_uid);
/* May the caller enter it, by its owner, group and mode? */
bool policy_enters(const struct rights *rt, const struct caller *who,
		   const struct branch_info *branch);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * policy_conf.h - the [policy NAME] sections of the configuration.  Pure, but for
 * policy_set_resolve.
 */
#ifndef CTL_POLICY_CONF_H
#define CTL_POLICY_CONF_H

#include "ctl/policy.h"

/* What the packaged libinih keeps of a section's name, whole. */
#define POLICY_SECTION_MAX 48

/* An empty set. */
struct policy_set *policy_set_new(void);
/* [policy NAME] begins in this line; name need not end behind its len bytes.
 * *ret_policy belongs to the set. */
int policy_conf_begin(struct policy_set *s, const char *name, size_t len, unsigned line,
		      struct policy **ret_policy, struct err *e) MUST_CHECK;
int policy_conf_set(struct policy *p, const char *key, const char *value, unsigned line,
		    struct err *e) MUST_CHECK;
/* Is the key one whose value is a list?  A blank and ';' would cut it short. */
bool policy_conf_is_list(const char *line);
/* The file is at its end: does each make sense?  *ret_line: where not. */
int policy_conf_end(const struct policy_set *s, const char *superuser,
		    unsigned *ret_line, struct err *e) MUST_CHECK;
/*
 * Looks names up in the databases of users and groups, and for the files to run: what
 * is not there is an error.  dir: what paths are relative to; privileged: may the
 * daemon become other users?
 */
int policy_set_resolve(struct policy_set *s, const char *dir, bool privileged,
		       unsigned *ret_line, struct err *e) MUST_CHECK;

/* One key of a policy, for documents. */
struct policy_key {
	const char *name, *about;
};
/* Row i, or NULL behind the last one. */
const struct policy_key *policy_conf_key(size_t i);

#endif

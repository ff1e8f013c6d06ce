/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * policy.h - who may do what.  Pure: decides from what it is given, asks nobody.
 */
#ifndef CTL_POLICY_H
#define CTL_POLICY_H

#include "base/err.h"
#include "store/registry.h"

#include <sys/types.h>

struct caller;

enum policy_verb {
	POLICY_CREATE, /* branch: the parent */
	POLICY_DISCARD,
	POLICY_RENAME,
	POLICY_STATE,
	POLICY_CHMOD,
	POLICY_CHOWN,
	POLICY_EXPIRES,
	POLICY_PROTECT,
	POLICY_RESTORE,
};

/*
 * May the caller do this to the branch?  0, -EACCES when it is not the caller's,
 * or -EPERM when it is and policy still says no.
 */
int policy_authorise(const struct caller *who, uid_t mount_owner, enum policy_verb verb,
		     const struct branch_info *branch, struct err *e) MUST_CHECK;

#endif

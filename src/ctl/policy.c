/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deny is the default: a verb that no rule below allows is refused.  Without
 * policies in the configuration there are two rules, for root and for the
 * mount's owner.
 */
#include "ctl/policy.h"

#include "ctl/control.h"

static const char *const policy_verbs[] = {
	[POLICY_CREATE] = "make branches",
	[POLICY_DISCARD] = "discard branches",
	[POLICY_RENAME] = "rename branches",
	[POLICY_STATE] = "start or stop branches",
	[POLICY_CHMOD] = "change the mode of branches",
	[POLICY_CHOWN] = "give branches away",
	[POLICY_EXPIRES] = "change when branches expire",
	[POLICY_PROTECT] = "protect branches",
	[POLICY_RESTORE] = "bring branches back",
};

int policy_authorise(const struct caller *who, uid_t mount_owner, enum policy_verb verb,
		     const struct branch_info *branch, struct err *e)
{
	if (who->uid == 0)
		return 0;
	/* as with chown(2): space and processes would go to somebody else's account */
	if (who->uid == mount_owner && verb != POLICY_CHOWN)
		return 0;
	if (verb != POLICY_CREATE && branch->owner != who->uid) {
		(void)err_set(e, -EACCES,
			      "branch '%s' belongs to uid %u, not to uid %u",
			      branch->name, branch->owner, who->uid);
		(void)err_hint(e, "ask its owner, or root");
		return -EACCES;
	}
	(void)err_set(e, -EPERM, "uid %u may not %s here", who->uid,
		      policy_verbs[verb]);
	(void)err_hint(e, verb == POLICY_CHOWN ? "only root may"
					       : "only root and the mount's owner may");
	return -EPERM; /* not what err_hint returns: that is 0 when e is NULL */
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The role that a policy gives: is it one to work with in a new branch?
 */
#include "ctl/request.h"

/* Would a server of the parent tell more than its files do? */
static bool can_wake(const struct request *rq, struct branch *parent)
{
	struct branch_info info;

	if (!parent || rq->woke)
		return false;
	branch_info(parent, &info);
	return !info.stopped_by_hand && !info.masking;
}

int request_check_role(struct request *rq, struct branch *parent, const char **ret_make)
{
	const struct policy *p = rq->rights.p;
	enum fleet_role is;

	if (!p || !p->server_user)
		return 0; /* the superuser, with servers of their own */
	is = parent ? fleet_look_for_role(rq->c->fleet, parent, p->role)
		    : FLEET_ROLE_UNKNOWN;
	if (is == FLEET_ROLE_FIT)
		return 0;
	if ((is == FLEET_ROLE_MISSING || is == FLEET_ROLE_UNKNOWN) && p->create_role) {
		*ret_make = p->role;
		return 0;
	}
	if (is == FLEET_ROLE_UNKNOWN) /* or else the new branch's server will say so */
		return can_wake(rq, parent) ? -EAGAIN : 0;
	if (is == FLEET_ROLE_MISSING) {
		(void)err_set(
			&rq->err, -EPERM,
			"policy '%s' gives the role '%s', which '%s' does not have",
			p->name, p->role, rq->parent);
		(void)err_hint(&rq->err, "make it there by CREATE ROLE, or set "
					 "create_role=yes in the policy");
	} else if (is == FLEET_ROLE_NO_LOGIN) {
		(void)err_set(&rq->err, -EPERM,
			      "policy '%s' gives the role '%s', which may not log in",
			      p->name, p->role);
		(void)err_hint(&rq->err, "ALTER ROLE ... LOGIN lets it");
	} else {
		(void)err_set(
			&rq->err, -EPERM,
			"policy '%s' gives the role '%s', which can read files of "
			"the server, or make a role that can",
			p->name, p->role);
		(void)err_hint(&rq->err,
			       "a role for server_user must not be a superuser, "
			       "nor have CREATEROLE or REPLICATION");
	}
	return -EPERM;
}

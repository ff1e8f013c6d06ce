/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deny is the default: a verb that no rule below allows is refused.  Root may do
 * everything, the mount's owner everything but give branches away.  Everybody else
 * needs a policy, and there is none unless the configuration has one.
 *
 * What is not the caller's is refused by whose it is, before any policy is asked; what
 * the caller does not see is refused as if it were not there.
 */
#include "ctl/policy.h"

#include "base/text.h"

#include <string.h>
#include <sys/stat.h>

static const char *const policy_verbs[POLICY_VERBS] = {
	[POLICY_CREATE] = "make branches",
	[POLICY_DISCARD] = "discard branches",
	[POLICY_RENAME] = "rename branches",
	[POLICY_STATE] = "start or stop branches",
	[POLICY_CHMOD] = "change the mode of branches",
	[POLICY_CHOWN] = "give branches away",
	[POLICY_EXPIRES] = "change when branches expire",
	[POLICY_PROTECT] = "protect branches",
	[POLICY_RESTORE] = "bring branches back",
	[POLICY_CHECKPOINT] = "make or drop checkpoints",
	[POLICY_ROLLBACK] = "roll branches back",
	[POLICY_RESET] = "reset branches",
	[POLICY_MERGE] = "merge branches",
};

static void policy_free(struct policy *p)
{
	free(p->name);
	for (size_t i = 0; i < p->n_match; i++)
		free(p->match[i].name);
	free(p->match);
	for (char **s = p->from; s && *s; s++)
		free(*s);
	free(p->from);
	free(p->default_parent);
	free(p->role);
	free(p->server_user);
	free(p->sanitize);
	free(p);
}

struct policy_set *policy_set_get(struct policy_set *s)
{
	if (s)
		(void)atomic_fetch_add(&s->refs, 1);
	return s;
}

struct policy_set *policy_set_put(struct policy_set *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return NULL;
	for (size_t i = 0; i < s->n; i++)
		policy_free(s->v[i]);
	free(s->v);
	free(s);
	return NULL;
}

/* Groups are asked for when the first policy wants them. */
struct lazy_groups {
	struct groups g;
	bool known;
};

static bool is_member(const struct caller *who, gid_t gid, struct lazy_groups *lazy)
{
	if (!lazy->known && caller_groups(who, &lazy->g) < 0)
		return false;
	lazy->known = true;
	return groups_have(&lazy->g, gid);
}

static bool matches(const struct policy *p, const struct caller *who,
		    struct lazy_groups *lazy)
{
	for (size_t i = 0; i < p->n_match; i++) {
		const struct policy_match *m = &p->match[i];

		if (m->is_group ? is_member(who, m->id, lazy) : m->id == who->uid)
			return true;
	}
	return false;
}

static const struct policy *policy_find(const struct policy_set *s,
					const struct caller *who,
					struct lazy_groups *lazy)
{
	for (size_t i = 0; s && i < s->n; i++)
		if (matches(s->v[i], who, lazy))
			return s->v[i];
	return s ? s->fallback : NULL;
}

void rights_init(struct rights *rt, struct policy_set *s, const struct caller *who,
		 uid_t mount_owner)
{
	struct lazy_groups lazy = {GROUPS_INIT, false};

	rt->set = policy_set_get(s);
	rt->all = who->uid == 0 || who->uid == mount_owner;
	rt->p = rt->all ? NULL : policy_find(s, who, &lazy);
	groups_fini(&lazy.g);
}

void rights_fini(struct rights *rt)
{
	rt->set = policy_set_put(rt->set);
	rt->p = NULL;
}

const struct policy *policy_of_uid(const struct policy_set *s, uid_t uid)
{
	const struct caller who = {uid, (gid_t)-1, 0};
	struct lazy_groups lazy = {GROUPS_INIT, false};
	const struct policy *p;

	p = uid == 0 ? NULL : policy_find(s, &who, &lazy);
	groups_fini(&lazy.g);
	return p;
}

bool policy_hides(const struct policy_set *s)
{
	return s && s->n > 0;
}

bool policy_enters(const struct rights *rt, const struct caller *who,
		   const struct branch_info *branch)
{
	if (rt->all || who->uid == branch->owner)
		return true;
	/* as the kernel does it: the first class that fits decides */
	if (branch->mode & S_IXGRP && !(branch->mode & S_IXOTH))
		return caller_in_group(who, branch->group);
	if (branch->mode & S_IXOTH && !(branch->mode & S_IXGRP))
		return !caller_in_group(who, branch->group);
	return branch->mode & S_IXOTH;
}

bool policy_sees_all(const struct rights *rt)
{
	return rt->all || !policy_hides(rt->set) || (rt->p && rt->p->see_all);
}

bool policy_sees(const struct rights *rt, const struct caller *who,
		 const struct branch_info *branch, uid_t server_uid)
{
	return policy_sees_all(rt) || who->uid == server_uid ||
	       policy_enters(rt, who, branch);
}

static int refuse_verb(const struct rights *rt, const struct caller *who,
		       enum policy_verb verb, struct err *e)
{
	if (rt->p)
		(void)err_set(e, -EPERM, "policy '%s' does not let uid %u %s",
			      rt->p->name, who->uid, policy_verbs[verb]);
	else
		(void)err_set(e, -EPERM, "uid %u may not %s here", who->uid,
			      policy_verbs[verb]);
	if (verb == POLICY_CHOWN)
		(void)err_hint(e, "only root may");
	else if (rt->p)
		(void)err_hint(e, "ask whoever runs the mount");
	else if (policy_hides(rt->set))
		(void)err_hint(e, "no policy in the configuration is for this uid");
	else
		(void)err_hint(e, "only root and the mount's owner may");
	return -EPERM; /* not what err_hint returns: that is 0 when e is NULL */
}

static bool is_listed(char *const *names, const char *name)
{
	for (; names && *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

static void hint_parents(const struct policy *p, const char *default_parent,
			 struct err *e)
{
	CLEAN(str_fini) struct str list = STR_INIT;

	str_add(&list, default_parent);
	for (char **s = p->from; s && *s; s++)
		if (strcmp(*s, default_parent) != 0)
			str_printf(&list, ", %s", *s);
	if (!list.failed)
		(void)err_hint(e, "branch from %s, or from a branch of your own",
			       list.s);
}

/* Whom may a branch be made of?  Of what the policy names, and of what is one's own. */
static int check_parent(const struct rights *rt, const struct caller *who,
			const struct branch_info *parent, const char *default_parent,
			struct err *e)
{
	const struct policy *p = rt->p;

	if (p->default_parent)
		default_parent = p->default_parent;
	if (parent->owner == who->uid || strcmp(parent->name, default_parent) == 0 ||
	    is_listed(p->from, parent->name))
		return 0;
	if (!p->see_all && !policy_enters(rt, who, parent))
		return err_set(e, -ENOENT,
			       "there is no branch named '%s' to branch from",
			       parent->name);
	(void)err_set(e, -EPERM, "policy '%s' does not let uid %u branch from '%s'",
		      p->name, who->uid, parent->name);
	hint_parents(p, default_parent, e);
	return -EPERM;
}

static bool may_do(const struct policy *p, enum policy_verb verb)
{
	switch (verb) {
	case POLICY_CREATE:
		return p->create;
	case POLICY_PROTECT:
		return p->protect;
	case POLICY_MERGE:
		return p->merge;
	case POLICY_CHOWN: /* as with chown(2): it costs somebody else's account */
		return false;
	default: /* what one has made is one's own */
		return true;
	}
}

int policy_authorise(const struct rights *rt, const struct caller *who,
		     enum policy_verb verb, const struct branch_info *branch,
		     const char *default_parent, struct err *e)
{
	if (who->uid == 0 || (rt->all && verb != POLICY_CHOWN))
		return 0;
	if (!rt->all && verb != POLICY_CREATE && branch->owner != who->uid) {
		(void)err_set(e, -EACCES,
			      "branch '%s' belongs to uid %u, not to uid %u",
			      branch->name, branch->owner, who->uid);
		(void)err_hint(e, "ask its owner, or root");
		return -EACCES;
	}
	if (rt->all || !rt->p || !may_do(rt->p, verb))
		return refuse_verb(rt, who, verb, e);
	return verb == POLICY_CREATE && branch
		       ? check_parent(rt, who, branch, default_parent, e)
		       : 0;
}

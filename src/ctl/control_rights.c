/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the present configuration gives a caller.
 */
#include "ctl/request.h"

#include <string.h>

struct policy_set *control_policies(struct control *c)
{
	LOCK_SCOPE(&c->lock);
	return policy_set_get(c->cfg->policies);
}

/* Databases of users may be slow, so they are not asked under the lock. */
void control_rights(struct control *c, const struct caller *who,
		    struct rights *ret_rights)
{
	CLEAN(policy_set_putp) struct policy_set *s = control_policies(c);

	rights_init(ret_rights, s, who, c->mount_owner);
}

int control_authorise(struct control *c, const struct rights *rt,
		      const struct caller *who, enum policy_verb verb,
		      const struct branch_info *info, struct err *e)
{
	CLEAN(clean_free) char *parent = control_default_parent(c);

	if (!parent)
		return err_set(e, -ENOMEM, "out of memory");
	return policy_authorise(rt, who, verb, info, parent, e);
}

bool control_hides(struct control *c)
{
	LOCK_SCOPE(&c->lock);
	return policy_hides(c->cfg->policies);
}

bool control_sees_with(struct control *c, const struct rights *rt,
		       const struct caller *who, struct branch *b)
{
	struct branch_info info;
	uid_t uid;
	gid_t gid;

	if (policy_sees_all(rt))
		return true;
	branch_info(b, &info);
	fleet_server_ids(c->fleet, b, &uid, &gid);
	return policy_sees(rt, who, &info, uid);
}

bool control_sees(struct control *c, const struct caller *who, struct branch *b)
{
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;

	if (who->uid == 0 || who->uid == c->mount_owner || !control_hides(c))
		return true;
	control_rights(c, who, &rt);
	return control_sees_with(c, &rt, who, b);
}

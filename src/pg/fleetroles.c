/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fleetroles.c - roles of a branch's users: let in, and looked for.
 *
 * A list that grows while a server starts is known to it by a reload when it is ready
 * (pm_started); while it runs, by one from here.  A postmaster reloads before it takes
 * the next connection.
 */
#include "pg/fleet_priv.h"
#include "pg/rolescan.h"

#include <signal.h>

#include "base/proc.h"

static void conf_clean(struct fleet_conf **c)
{
	(void)fleet_conf_put(*c);
}

static void overlay_clean(struct overlay **o)
{
	*o = overlay_put(*o);
}

static void monitor_clean(struct monitor **m)
{
	(void)monitor_put(*m);
}

int fleet_write_roles(struct fleet *f, struct slot *s, struct branch *b,
		      struct overlay *run, const struct fleet_conf *c,
		      unsigned *ret_version, struct err *e)
{
	struct roles_rules rules = {.superuser = c->superuser,
				    .strict = c->strict_roles};
	struct branch_info info;

	branch_info(b, &info);
	rules.owner = info.owner;
	/* a superuser of this server would be one of others', too; and before it is
	 * masked it is for the daemon and root alone */
	rules.strict = rules.strict || info.server_uid != 0 || info.masking;
	LOCK_SCOPE(&f->roles_lock);
	*ret_version = atomic_load(&s->roles.version);
	if (info.masking) {
		static const struct roles none;

		return roles_write(run, &none, &rules, e);
	}
	return roles_write(run, &s->roles, &rules, e);
}

/* Has it, or will it soon have, read the file? */
static bool has_server(struct fleet *f, const struct slot *s)
{
	LOCK_SCOPE(&f->lock);
	return s->state == PM_STARTING || s->state == PM_RUNNING;
}

static void reload(struct fleet *f, const struct slot *s)
{
	struct proc p;

	LOCK_SCOPE(&f->lock);
	p = (struct proc){s->pid, s->server_pidfd};
	if (p.pidfd >= 0)
		(void)!proc_kill(&p, SIGHUP); /* one that is gone needs it not */
}

int fleet_admit(struct fleet *f, struct branch *b, const char *user, const char *role)
{
	CLEAN(conf_clean) struct fleet_conf *c = fleet_conf_now(f);
	CLEAN(overlay_clean) struct overlay *run = NULL;
	struct slot *s = fleet_slot(f, branch_no(b));
	unsigned version;
	int rc;

	if (!s)
		return -ENOMEM;
	{
		LOCK_SCOPE(&f->roles_lock);
		rc = roles_set(&s->roles, user, role);
	}
	if (rc <= 0 || !has_server(f, s))
		return rc < 0 ? rc : 0;
	rc = branch_run_get(b, &run);
	if (rc == 0)
		rc = fleet_write_roles(f, s, b, run, c, &version, NULL);
	if (rc == 0)
		reload(f, s);
	return rc;
}

bool fleet_is_public(struct fleet *f, struct branch *b, uint64_t fid)
{
	const struct slot *s;

	LOCK_SCOPE(&f->lock);
	s = fleet_find_slot_locked(f, branch_no(b));
	return s && s->socket_fid == fid;
}

enum fleet_role fleet_look_for_role(struct fleet *f, struct branch *b, const char *role)
{
	CLEAN(overlay_clean) struct overlay *data = NULL;
	CLEAN(monitor_clean) struct monitor *m = NULL;
	struct pm_status st;
	struct role_facts facts;
	int rc;

	fleet_status(f, b, &st);
	m = fleet_monitor(f, branch_no(b));
	if (m) {
		rc = monitor_role(m, role, &facts, NULL);
	} else if (st.state != PM_STOPPED && st.state != PM_FAILED) {
		return FLEET_ROLE_UNKNOWN;
	} else {
		rc = branch_data_get(b, &data);
		if (rc == 0)
			rc = rolescan(data, role, &facts);
	}
	if (rc == -ENOENT)
		return FLEET_ROLE_MISSING;
	if (rc < 0)
		return FLEET_ROLE_UNKNOWN;
	return facts.powerful    ? FLEET_ROLE_POWERFUL
	       : facts.can_login ? FLEET_ROLE_FIT
				 : FLEET_ROLE_NO_LOGIN;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * adopt - what pgbranchfs receive has built in the store becomes a branch.
 */
#include "base/log.h"
#include "ctl/upkeep_priv.h"
#include "store/incoming.h"

void adopt_run(void *ctx)
{
	struct upkeep *u = ctx;
	const struct branch_spec spec = {.name = u->adopt.name,
					 .owner = u->who.uid,
					 .group = u->who.gid,
					 .mode = 0700};
	struct branch *b = NULL;
	int rc = control_check_name(u->c, spec.name, &u->err);

	if (rc == 0)
		rc = control_check_reserve(u->c, &u->err);
	if (rc == 0)
		rc = registry_adopt(u->c->registry, u->adopt.dir, &spec, &b, &u->err);
	if (rc == 0) {
		log_info("branch %s: received by uid %u", spec.name, u->who.uid);
		report_add(&u->answer, "branch", spec.name, 0, REPORT_DONE, "received");
	}
	branch_put(b);
	upkeep_end(u, rc);
}

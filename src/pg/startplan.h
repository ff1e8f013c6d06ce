/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * startplan.h - the part of a start that blocks: makes a branch's files ready for
 * its server and says how to run it.  Pool threads only.
 */
#ifndef PG_STARTPLAN_H
#define PG_STARTPLAN_H

#include "pg/fleet_priv.h"

struct start_plan {
	char **argv, **envp;
	char *cwd;
	uid_t uid;
	gid_t gid;
	int log_fd;
	uint64_t log_off; /* where this run's lines begin */
	int major;
	bool subscriptions;     /* to be cut off before anybody may connect */
	bool promote;           /* it will come up as a standby */
	unsigned roles_version; /* of what is in pg_ident.conf */
};

#define START_PLAN_INIT                                                                \
	{                                                                              \
		.log_fd = -1                                                           \
	}

/* Borrowed, and in use until the plan is made. */
struct start_spec {
	struct branch *branch;
	struct slot *slot;
	const struct rundir *rd; /* its run directory, data pinned */
	const struct fleet_conf *conf;
	const char *store_path;
	/*
	 * No server ran on it in this mount.  Then all that it has is durable: layers
	 * below are waited for, and what an earlier mount left was synced when the
	 * store was opened.
	 */
	bool first;
};

/*
 * Waits until the branch's layers are durable; then removes what a dead server
 * left and writes the configuration.  No process of the branch may live.
 */
int start_plan_make(const struct start_spec *spec, struct start_plan *ret_plan,
		    struct err *e) MUST_CHECK;
void start_plan_fini(struct start_plan *p);

#endif

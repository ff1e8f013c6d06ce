/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmexternal.c - a branch whose data directory somebody else's server uses.
 *
 *	STOPPED, FAILED, STARTING without a process --> EXTERNAL --> STOPPED
 *
 * It is left alone: not started, not stopped, not discarded.  It lasts until the
 * process that is known has ended; without a known process until its lock file is
 * removed.  The next start waits a little for those whom a postmaster that was killed
 *has left behind, and comes to nothing if they stay.
 */
#include "base/log.h"
#include "pg/postmaster_priv.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

int pm_external_error(struct postmaster *pm, struct err *e)
{
	return fleet_check_ours(pm->fleet, pm->branch, e);
}

void pm_external_release(struct postmaster *pm)
{
	pm->user_io = loop_io_free(pm->user_io);
	lock_user_fini(&pm->user);
}

static void end_external(struct postmaster *pm)
{
	pm_external_release(pm);
	lockfile_forget_dead(pm->slot);
	pm_move(pm, PM_STOPPED, NULL);
	pm_what_next(pm);
}

static void on_user_end(void *ctx, uint32_t events)
{
	(void)events; /* a pidfd has only one thing to say */
	end_external(ctx);
}

/* Without the watch it would never end: then the removal of the file has to do. */
static void watch_user(struct postmaster *pm)
{
	char name[64];
	int rc;

	if (pm->user.pidfd < 0)
		return;
	rc = loop_io_new(pm->fleet->loop, pm->user.pidfd, EPOLLIN, on_user_end, pm,
			 &pm->user_io);
	if (rc < 0) {
		log_warn("branch %s: cannot watch process %d: %s, waiting for the end "
			 "of its lock file",
			 pm_name(pm, name), (int)pm->user.pid, strerrordesc_np(-rc));
		pm_external_release(pm);
	}
}

void pm_external_begin(struct postmaster *pm, struct lock_user *u)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char why[128];

	if (u->pid)
		(void)snprintf(why, sizeof(why),
			       "another server runs on its data directory (process %d)",
			       (int)u->pid);
	else
		(void)snprintf(
			why, sizeof(why),
			"another server, which cannot be seen from here, runs on "
			"its data directory until %s is removed",
			FLEET_LOCK_FILE);
	if (pm->state == PM_STARTING)
		pm_give_up_start(pm);
	pm->user = *u;
	u->pidfd = -1;
	pm->slot->ran = true; /* what it wrote is not all on disk */
	pm->wanted = false;
	pm->asked_ns = 0;
	pm_move(pm, PM_EXTERNAL, why);
	watch_user(pm);
	(void)pm_external_error(pm, &e);
	pm_tell_waiters(pm, PM_WANT_BIT(PM_WANT_RUNNING), &e);
	pm_client_came(pm);
}

/* Is it over, by what its lock file says?  While the process is known, that decides. */
static bool is_over(const struct postmaster *pm, enum lock_state st)
{
	return st == LOCK_OTHER || (st == LOCK_FREE && pm->user.pidfd < 0);
}

void postmaster_lock_changed(struct postmaster *pm)
{
	pm_start_look(pm);
	(void)pm_external_look(pm, false);
}

bool pm_external_look(struct postmaster *pm, bool starting)
{
	CLEAN(lock_user_fini) struct lock_user u = LOCK_USER_INIT;
	enum lock_state st;

	if (pm->proc.pid || pm->slot->gone || pm->fleet->closing)
		return false;
	st = lockfile_look(pm->slot, pm->branch, &u);
	if (pm->state == PM_EXTERNAL) {
		if (is_over(pm, st))
			end_external(pm);
	} else if (st == LOCK_HELD || (st == LOCK_BEGUN && starting)) {
		pm_external_begin(pm, &u);
	} else if (st == LOCK_FREE) {
		lockfile_forget_dead(pm->slot);
	}
	return pm->state == PM_EXTERNAL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmstart.c - a start, until the server is ready for clients.
 *
 *	open (doorman) -> plan (pool) -> spawn -> "ready" in postmaster.pid
 *	prepare (pool) -> started
 */
#include "base/log.h"
#include "pg/fence.h"
#include "pg/pgexec.h"
#include "pg/pmjob.h"
#include "pg/prepare.h"
#include "pg/segment.h"
#include "pg/subscan.h"
#include "store/overlay.h"

#include <string.h>
#include <sys/stat.h>

#define START_TIMEOUT_MAX_S 86400
#define SMALL_FILE 4096

int pm_start_timeout_ms(const struct fleet_conf *c)
{
	uint64_t s = c->start_timeout_s ? c->start_timeout_s : 60;

	return s > START_TIMEOUT_MAX_S ? START_TIMEOUT_MAX_S * 1000 : (int)s * 1000;
}

/* ---- readiness ---- */

static void fail_running_start(struct postmaster *pm, struct err *e)
{
	err_move(&pm->failure, e);
	pm_server_stop(pm, STOP_FAST);
}

static int find_socket(struct postmaster *pm, struct err *e)
{
	struct node_attr attr;
	int rc = overlay_lookup(rundir_run(pm->rd), OVERLAY_ROOT, PGEXEC_SOCKET, &attr);

	if (rc < 0)
		return err_set(e, rc, "the server is ready but has no socket: %s",
			       strerrordesc_np(-rc));
	pm->server_fid = attr.fid;
	if (!S_ISSOCK(attr.mode))
		return err_set(e, -EPERM,
			       "what stands in the place of the server's "
			       "socket is none");
	return 0;
}

/* The last step of a start; conn may be NULL. */
static void serve(struct postmaster *pm, PGconn *conn)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	int rc;

	rc = monitor_new(pm->rd, pm->conf->superuser, pm->major, conn, &pm->mon);
	if (rc < 0)
		(void)err_set(&e, rc, "out of memory");
	else
		rc = find_socket(pm, &e);
	if (rc < 0) {
		fail_running_start(pm, &e);
		return;
	}
	loop_timer_arm(pm->deadline, -1);
	pm_started(pm);
}

/* Is there nothing to do in the server but to note that?  Recovery is over. */
static bool is_prepared(const struct pm_job *j)
{
	return !j->promote && subscan_none(rundir_data(j->rd));
}

static void prepare_work(struct pm_job *j)
{
	struct branch_info info;
	struct prepare_spec spec = {
		.conn = {j->rd, j->conf->superuser, j->major},
		.subscriptions = j->subscriptions,
		.promote = j->promote,
		.timeout_ms = pm_start_timeout_ms(j->conf),
	};

	branch_info(j->pm->branch, &info);
	spec.make_role = info.make_role[0] ? info.make_role : NULL;
	if (spec.make_role || !is_prepared(j))
		j->rc = prepare_run(&spec, &j->conn, &j->err);
	if (j->rc == 0 && j->subscriptions)
		j->rc = branch_set_flag(j->pm->branch, BRANCH_PREPARED, true, &j->err);
	if (j->rc == 0 && spec.make_role)
		j->rc = branch_clear_make_role(j->pm->branch, &j->err);
}

static void prepare_done(struct pm_job *j)
{
	struct postmaster *pm = j->pm;

	if (!pm_job_is_current(j))
		return;
	if (j->rc < 0) {
		(void)err_wrap(&j->err, j->rc, "cannot prepare the branch");
		fail_running_start(pm, &j->err);
		return;
	}
	serve(pm, steal(j->conn));
}

static void prepare(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct pm_job *j;
	int rc = -ENOMEM;

	j = pm_job_new(pm, prepare_work, prepare_done);
	if (j) {
		j->subscriptions = pm->subscriptions;
		j->promote = pm->promote;
		rc = pm_job_post(j);
	}
	if (rc < 0) {
		(void)err_set(&e, rc, "out of memory");
		fail_running_start(pm, &e);
	}
}

static void note_segment(struct postmaster *pm, const struct pgexec_pidfile *pf)
{
	char name[64];
	int rc;

	if (!pf->shm_key || (pf->shm_key == pm->shm_key && pf->shm_id == pm->shm_id))
		return;
	/* whoever is attached to it is ended with the server */
	if (!segment_made_by(pm->proc.pid, pf->shm_key, pf->shm_id)) {
		log_warn("branch %s: its lock file names a memory segment that its "
			 "server did not make, ignoring it",
			 pm_name(pm, name));
		return;
	}
	pm->shm_key = pf->shm_key;
	pm->shm_id = pf->shm_id;
	rc = fence_note(pm->fleet->reg, pm->slot->no, pm->proc.pid, pm->shm_key,
			pm->shm_id);
	if (rc < 0)
		log_warn(
			"branch %s: cannot note its server's memory segment: %s, going "
			"on",
			pm_name(pm, name), strerrordesc_np(-rc));
}

static bool wants_role(struct postmaster *pm)
{
	struct branch_info info;

	branch_info(pm->branch, &info);
	return info.make_role[0] != '\0';
}

void pm_start_look(struct postmaster *pm)
{
	CLEAN(clean_free) char *text = NULL;
	struct pgexec_pidfile pf;

	if (!pm->proc.pid ||
	    overlay_read_file(rundir_data(pm->rd), FLEET_LOCK_FILE, SMALL_FILE, &text,
			      NULL) < 0 ||
	    pgexec_parse_pidfile(text, &pf) < 0 || pf.pid != pm->proc.pid)
		return;
	note_segment(pm, &pf);
	if (pm->state != PM_STARTING || pm->ready || !pf.ready)
		return;
	pm->ready = true;
	pm_time(pm, PM_TIME_READY);
	pm->promote = pm->promote || pf.standby;
	if (pm->subscriptions || pm->promote || wants_role(pm))
		prepare(pm);
	else
		serve(pm, NULL);
}

/* ---- the way to it ---- */

static void plan_work(struct pm_job *j)
{
	const struct start_spec spec = {
		.branch = j->pm->branch,
		.slot = j->pm->slot,
		.rd = j->rd,
		.conf = j->conf,
		.store_path = registry_path(j->pm->fleet->reg),
		.first = j->first,
	};

	j->rc = fence_end_orphans(j->orphan_key, j->orphan_id, &j->err);
	if (j->rc == 0)
		j->rc = lockfile_find_old(j->pm->slot, j->pm->branch, &j->user,
					  &j->err);
	if (j->rc == 0)
		j->rc = start_plan_make(&spec, &j->plan, &j->err);
}

static void plan_done(struct pm_job *j)
{
	struct postmaster *pm = j->pm;

	if (!pm_job_is_current(j))
		return;
	if (j->rc > 0) {
		pm_external_begin(pm, &j->user);
		return;
	}
	if (j->rc == 0) {
		pm->slot->orphan_key = 0;
		pm->major = j->plan.major;
		pm->log_off = j->plan.log_off;
		pm->subscriptions = j->plan.subscriptions;
		pm->promote = j->plan.promote;
		pm->roles_version = j->plan.roles_version;
		pm->rd = rundir_get(j->rd);
		j->rc = pm_server_spawn(pm, &j->plan, &j->err);
	}
	if (j->rc < 0) {
		pm_ended(pm, &j->err);
		return;
	}
	pm_publish(pm);
	loop_timer_arm(pm->deadline, pm_start_timeout_ms(pm->conf));
}

void pm_start_begin(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct pm_job *j;
	int rc = -ENOMEM;

	if (pm->busy) {
		pm->begin_pending = true;
		return;
	}
	pm->run++;
	err_fini(&pm->failure);
	(void)fleet_conf_put(pm->conf);
	pm->conf = fleet_conf_now(pm->fleet);
	j = pm_job_new(pm, plan_work, plan_done);
	if (j) {
		j->first = !pm->slot->ran;
		j->orphan_key = pm->slot->orphan_key;
		j->orphan_id = pm->slot->orphan_id;
		rc = pm_job_post_opened(j);
	}
	if (rc < 0) {
		(void)err_set(&e, rc, "out of memory");
		pm_ended(pm, &e);
	}
}

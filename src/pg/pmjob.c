/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmjob.c - a job's way: loop, perhaps the doorman, pool, loop.
 */
#include "pg/pmjob.h"

#include <string.h>

static void job_free(struct pm_job *j)
{
	err_fini(&j->err);
	(void)fleet_conf_put(j->conf);
	(void)rundir_put(j->rd);
	start_plan_fini(&j->plan);
	lock_user_fini(&j->user);
	pgconn_clean(&j->conn);
	free(j);
}

static void job_finish(void *ctx)
{
	struct pm_job *j = ctx;
	struct postmaster *pm = j->pm;

	pm->busy--;
	j->done(j);
	job_free(j);
	if (pm->begin_pending && !pm->busy) {
		pm->begin_pending = false;
		pm_start_begin(pm);
	}
	fleet_job_done(pm->fleet);
}

static void job_run(void *ctx)
{
	struct pm_job *j = ctx;

	j->work(j);
	doorman_post(j->pm->fleet->loop, job_finish, j);
}

struct pm_job *pm_job_new(struct postmaster *pm, void (*work)(struct pm_job *j),
			  void (*done)(struct pm_job *j))
{
	struct pm_job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->pm = pm;
	j->run = pm->run;
	j->work = work;
	j->done = done;
	j->plan = (struct start_plan)START_PLAN_INIT;
	j->user = (struct lock_user)LOCK_USER_INIT;
	j->conf = fleet_conf_get(pm->conf);
	j->rd = pm->rd ? rundir_get(pm->rd) : NULL;
	j->major = pm->major;
	return j;
}

int pm_job_post(struct pm_job *j)
{
	struct postmaster *pm = j->pm;
	int rc;

	rc = fleet_job(pm->fleet, job_run, j);
	if (rc < 0)
		job_free(j);
	else
		pm->busy++;
	return rc;
}

bool pm_job_is_current(const struct pm_job *j)
{
	return j->run == j->pm->run && j->pm->state == PM_STARTING;
}

/* On the loop: the job has its run directory, so the pool may go on. */
static void run_dir_opened(void *ctx, int rc, struct rundir *rd)
{
	struct pm_job *j = ctx;

	if (rc < 0) {
		j->rc = err_set(&j->err, rc,
				"cannot open its directories in the mount: %s",
				strerrordesc_np(-rc));
	} else if (!pm_job_is_current(j)) {
		j->rc = -ECANCELED;
	} else {
		j->rd = rundir_get(rd);
		if (pool_post(j->pm->fleet->pool, job_run, j) == 0)
			return;
		j->rc = err_set(&j->err, -ENOMEM, "out of memory");
	}
	job_finish(j);
}

int pm_job_post_opened(struct pm_job *j)
{
	struct postmaster *pm = j->pm;
	struct fleet *f = pm->fleet;
	int rc;

	rc = doorman_open(f->doorman, f->dirs, pm->branch, run_dir_opened, j);
	if (rc < 0) {
		job_free(j);
		return rc;
	}
	pm->busy++;
	f->jobs++;
	return 0;
}

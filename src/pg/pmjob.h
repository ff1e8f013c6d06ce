/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmjob.h - the parts of a run that block, done on the pool.
 *
 * A job belongs to the pool while it works and to the loop before and after.  The
 * result of one whose run is over is dropped; the next start waits for it (busy).
 * Its functions are called on the loop thread, but for `work`.
 */
#ifndef PG_PMJOB_H
#define PG_PMJOB_H

#include "pg/pgconn.h"
#include "pg/postmaster_priv.h"
#include "pg/startplan.h"

/* A job of a run: the pool half fills in the result, the loop half takes it. */
struct pm_job {
	struct postmaster *pm;
	uint64_t run;
	void (*work)(struct pm_job *j);
	void (*done)(struct pm_job *j);
	int rc;
	struct err err;
	/* in */
	struct fleet_conf *conf;
	struct rundir *rd;
	int major;
	bool subscriptions, promote, first;
	uint32_t orphan_key;
	int orphan_id;
	/* out */
	struct lock_user user; /* rc 1: not ours to start */
	struct start_plan plan;
	PGconn *conn;
};

/* For the present run; NULL when out of memory. */
struct pm_job *pm_job_new(struct postmaster *pm, void (*work)(struct pm_job *j),
			  void (*done)(struct pm_job *j)) MUST_CHECK;
/* Posts j, or frees it. */
int pm_job_post(struct pm_job *j) MUST_CHECK;
/* The same; the doorman opens the run directory (j->rd) for it first. */
int pm_job_post_opened(struct pm_job *j) MUST_CHECK;
/* Is this still the start that the job was for? */
bool pm_job_is_current(const struct pm_job *j);

#endif

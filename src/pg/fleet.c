/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fleet.c - the table of all branches' servers, and the door between other threads
 * and the loop.
 *
 * Other threads read a slot's snapshot under fleet->lock, a leaf lock that is
 * never held over a callback or anything that waits; all else is posted.
 */
#include "pg/fleet.h"

#include "base/log.h"
#include "base/proc.h"
#include "pg/fleet_priv.h"
#include "pg/pgbin.h"
#include "pg/postmaster.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define STOPPING_PATIENCE_S 90

/* ---- configuration ---- */

struct fleet_conf *fleet_conf_now(struct fleet *f)
{
	LOCK_SCOPE(&f->lock);
	return fleet_conf_get(f->conf);
}

void fleet_configure(struct fleet *f, const struct fleet_config *cfg)
{
	struct fleet_conf *fresh, *old;

	if (fleet_conf_new(cfg, &fresh) < 0) {
		log_error("out of memory, keeping the old server settings");
		return;
	}
	{
		LOCK_SCOPE(&f->lock);
		old = f->conf;
		f->conf = fresh;
	}
	for (struct postmaster *pm = f->pms; pm; pm = postmaster_next(pm)) {
		if (old->strict_roles != fresh->strict_roles)
			postmaster_roles_changed(pm);
		postmaster_reconfigured(pm);
	}
	(void)fleet_conf_put(old);
}

void fleet_on_refusal(struct fleet *f,
		      void (*fn)(void *ctx, uid_t uid, const struct err *e), void *ctx)
{
	f->refused = fn;
	f->refused_ctx = ctx;
}

static void conf_clean(struct fleet_conf **c)
{
	(void)fleet_conf_put(*c);
}

void fleet_server_ids(struct fleet *f, struct branch *b, uid_t *ret_uid, gid_t *ret_gid)
{
	CLEAN(conf_clean) struct fleet_conf *c = fleet_conf_now(f);
	struct branch_info info;

	branch_info(b, &info);
	fleet_conf_ids(c, &info, ret_uid, ret_gid);
}

/* ---- the table ---- */

struct slot *fleet_find_slot_locked(struct fleet *f, uint32_t no)
{
	struct slot *s = f->buckets[no % FLEET_BUCKETS];

	while (s && s->no != no)
		s = s->next;
	return s;
}

struct slot *fleet_slot(struct fleet *f, uint32_t no)
{
	struct slot **bucket = &f->buckets[no % FLEET_BUCKETS], *s;

	LOCK_SCOPE(&f->lock);
	s = fleet_find_slot_locked(f, no);
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->fleet = f;
	s->no = no;
	s->state = PM_STOPPED;
	s->server_pidfd = -1;
	s->lock.pidfd = -1;
	s->next = *bucket;
	*bucket = s;
	return s;
}

void fleet_status(struct fleet *f, struct branch *b, struct pm_status *ret_st)
{
	const struct slot *s;

	*ret_st = (struct pm_status){.state = PM_STOPPED};
	LOCK_SCOPE(&f->lock);
	s = fleet_find_slot_locked(f, branch_no(b));
	if (!s)
		return;
	ret_st->state = s->state;
	ret_st->pid = s->pid;
	ret_st->since = s->since;
	ret_st->wakes = s->wakes;
	if (s->reason)
		(void)snprintf(ret_st->reason, sizeof(ret_st->reason), "%s",
			       s->reason); /* cut off if too long */
}

/* A server alone starts in some 50 ms; recovery, or a machine that is busy, takes the
 * rest. */
const struct metric_bounds fleet_wake_bounds = {
	.n = 11,
	.ns = {25000000, 50000000, 100000000, 250000000, 500000000, 1000000000,
	       2500000000, 5000000000, 10000000000, 30000000000, 60000000000},
};

void fleet_stats(const struct fleet *f, struct fleet_stats *ret_stats)
{
	*ret_stats = (struct fleet_stats){
		.wakes = metric_value(&f->wakes),
		.failed_starts = metric_value(&f->failed_starts),
		.crashes = metric_value(&f->crashes),
		.idle_stops = metric_value(&f->idle_stops),
	};
	metric_sum(&f->wake_time, &ret_stats->wake_time);
}

/* ---- requests of other threads ---- */

struct request {
	struct fleet *fleet;
	struct branch *branch;
	enum pm_want want;
	bool renewed, run; /* release */
	fleet_done done;
	void (*socket_done)(void *ctx, int rc, uint64_t fid);
	fleet_used used_done;
	void *ctx;
};

static struct request *request_new(struct fleet *f, struct branch *b, void *ctx)
{
	struct request *rq = calloc(1, sizeof(*rq));

	if (!rq)
		return NULL;
	rq->fleet = f;
	rq->branch = b ? branch_get(b) : NULL;
	rq->ctx = ctx;
	return rq;
}

static void request_free(struct request *rq)
{
	(void)branch_put(rq->branch);
	free(rq);
}

static void tell_no_memory(fleet_done done, void *ctx)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	(void)err_set(&e, -ENOMEM, "out of memory");
	if (done)
		done(ctx, -ENOMEM, &e);
}

static int request_postmaster(struct request *rq, struct postmaster **ret_pm)
{
	struct slot *s = fleet_slot(rq->fleet, branch_no(rq->branch));

	return s ? postmaster_get(rq->fleet, s, rq->branch, ret_pm) : -ENOMEM;
}

static void on_want(void *ctx)
{
	struct request *rq = ctx;
	struct postmaster *pm;

	if (request_postmaster(rq, &pm) < 0)
		tell_no_memory(rq->done, rq->ctx);
	else
		postmaster_want(pm, rq->want, rq->done, rq->ctx);
	request_free(rq);
}

void fleet_want(struct fleet *f, struct branch *b, enum pm_want want, fleet_done done,
		void *ctx)
{
	struct request *rq = request_new(f, b, ctx);

	if (!rq) {
		tell_no_memory(done, ctx);
		return;
	}
	rq->want = want;
	rq->done = done;
	doorman_post(f->loop, on_want, rq);
}

static void on_release(void *ctx)
{
	struct request *rq = ctx;
	struct postmaster *pm;

	if (request_postmaster(rq, &pm) < 0)
		tell_no_memory(rq->done, rq->ctx);
	else
		postmaster_release(pm, rq->renewed, rq->run, rq->done, rq->ctx);
	request_free(rq);
}

void fleet_release(struct fleet *f, struct branch *b, bool renewed, bool run,
		   fleet_done done, void *ctx)
{
	struct request *rq = request_new(f, b, ctx);

	if (!rq) {
		log_error("out of memory, branch %u cannot be started until the next "
			  "mount",
			  branch_no(b));
		tell_no_memory(done, ctx);
		return;
	}
	rq->renewed = renewed;
	rq->run = run;
	rq->done = done;
	doorman_post(f->loop, on_release, rq);
}

static void on_keep(void *ctx)
{
	struct request *rq = ctx;
	struct slot *s = fleet_slot(rq->fleet, branch_no(rq->branch));

	if (s)
		s->gone = false;
	request_free(rq);
}

void fleet_keep(struct fleet *f, struct branch *b)
{
	struct request *rq = request_new(f, b, NULL);

	if (rq)
		doorman_post(f->loop, on_keep, rq);
	else
		log_error("out of memory, branch %u cannot be started until the next "
			  "mount",
			  branch_no(b));
}

static uint64_t look_up_socket(struct fleet *f, struct branch *b)
{
	struct slot *s;

	LOCK_SCOPE(&f->lock);
	s = fleet_find_slot_locked(f, branch_no(b));
	if (!s)
		return 0;
	s->looked_ms = loop_now_ms();
	/* the loop may not know yet that a server died: nobody shall be led to it */
	if (s->server_pidfd >= 0 && proc_has_ended(s->server_pidfd))
		return 0;
	return s->socket_fid;
}

static void on_socket(void *ctx)
{
	struct request *rq = ctx;
	struct postmaster *pm;

	if (request_postmaster(rq, &pm) < 0) {
		rq->socket_done(rq->ctx, -ENOMEM, 0);
	} else {
		/* also when the slot was made only now */
		(void)look_up_socket(rq->fleet, rq->branch);
		postmaster_socket(pm, rq->socket_done, rq->ctx);
	}
	request_free(rq);
}

void fleet_socket(struct fleet *f, struct branch *b,
		  void (*done)(void *ctx, int rc, uint64_t fid), void *ctx)
{
	uint64_t fid = look_up_socket(f, b);
	struct request *rq;

	if (fid) {
		done(ctx, 0, fid);
		return;
	}
	rq = request_new(f, b, ctx);
	if (!rq) {
		done(ctx, -ENOMEM, 0);
		return;
	}
	rq->socket_done = done;
	doorman_post(f->loop, on_socket, rq);
}

static void on_in_use(void *ctx)
{
	struct request *rq = ctx;
	const struct slot *s;

	{
		LOCK_SCOPE(&rq->fleet->lock);
		s = fleet_find_slot_locked(rq->fleet, branch_no(rq->branch));
	}
	if (s && s->pm)
		postmaster_in_use(s->pm, rq->used_done, rq->ctx);
	else
		rq->used_done(rq->ctx, 0, false); /* asleep, nobody looked at it */
	request_free(rq);
}

void fleet_in_use(struct fleet *f, struct branch *b, fleet_used done, void *ctx)
{
	struct request *rq = request_new(f, b, ctx);

	if (!rq) {
		done(ctx, -ENOMEM, true);
		return;
	}
	rq->used_done = done;
	doorman_post(f->loop, on_in_use, rq);
}

/*
 * The monitor of a running server (referenced), NULL if none runs.  While it is
 * being stopped, waits: what it acknowledged last is on disk only at the end.
 */
static int running_monitor(struct fleet *f, uint32_t no, struct monitor **ret_mon)
{
	struct timespec deadline;
	struct slot *s;

	(void)clock_gettime(CLOCK_MONOTONIC, &deadline); /* cannot fail on Linux */
	deadline.tv_sec += STOPPING_PATIENCE_S;
	LOCK_SCOPE(&f->lock);
	for (;;) {
		s = fleet_find_slot_locked(f, no);
		if (!s || s->state != PM_STOPPING)
			break;
		if (pthread_cond_timedwait(&f->moved, &f->lock, &deadline) == ETIMEDOUT)
			return -EBUSY;
	}
	*ret_mon = s && s->state == PM_RUNNING && s->monitor ? monitor_get(s->monitor)
							     : NULL;
	return 0;
}

struct monitor *fleet_monitor(struct fleet *f, uint32_t no)
{
	const struct slot *s;

	LOCK_SCOPE(&f->lock);
	s = fleet_find_slot_locked(f, no);
	return s && s->state == PM_RUNNING && s->monitor ? monitor_get(s->monitor)
							 : NULL;
}

static void monitor_clean(struct monitor **m)
{
	(void)monitor_put(*m);
}

int fleet_sync_commit(struct fleet *f, struct branch *b, struct err *e)
{
	CLEAN(err_fini) struct err why = ERR_INIT;

	/* a server that stops under us is looked at once more */
	for (int i = 0; i < 2; i++) {
		CLEAN(monitor_clean) struct monitor *m = NULL;

		if (running_monitor(f, branch_no(b), &m) < 0)
			return err_set(e, -EBUSY,
				       "the branch's server is being stopped for too "
				       "long");
		if (!m || monitor_sync_commit(m, &why) == 0)
			return 0;
	}
	return err_set(e, -EBUSY, "cannot make its last commits durable: %s",
		       err_text(&why));
}

/* ---- jobs and shutdown ---- */

int fleet_job(struct fleet *f, void (*fn)(void *ctx), void *ctx)
{
	int rc = pool_post(f->pool, fn, ctx);

	if (rc == 0)
		f->jobs++;
	return rc;
}

void fleet_job_done(struct fleet *f)
{
	f->jobs--;
	fleet_check_down(f);
}

static bool all_still(const struct fleet *f)
{
	for (const struct postmaster *pm = f->pms; pm; pm = postmaster_next(pm))
		if (!postmaster_is_still(pm))
			return false;
	return f->jobs == 0;
}

static void on_down(void *ctx)
{
	struct fleet *f = ctx;
	fleet_done done = f->down_done;

	f->down_done = NULL;
	refuse_drop_all(&f->refusals);
	if (done)
		done(f->down_ctx, 0, NULL);
}

void fleet_check_down(struct fleet *f)
{
	if (!f->closing || f->down_posted || !all_still(f))
		return;
	f->down_posted = true;
	/* not from inside a callback of what is about to be freed */
	doorman_post(f->loop, on_down, f);
}

static void on_shutdown(void *ctx)
{
	struct request *rq = ctx;
	struct fleet *f = rq->fleet;
	struct postmaster *next;

	f->closing = true;
	f->down_done = rq->done;
	f->down_ctx = rq->ctx;
	for (struct postmaster *pm = f->pms; pm; pm = next) {
		next = postmaster_next(pm);
		postmaster_close(pm);
	}
	fleet_check_down(f);
	request_free(rq);
}

void fleet_shutdown(struct fleet *f, fleet_done done, void *ctx)
{
	struct request *rq = request_new(f, NULL, ctx);

	if (!rq) {
		tell_no_memory(done, ctx);
		return;
	}
	rq->done = done;
	doorman_post(f->loop, on_shutdown, rq);
}

/* ---- its own life ---- */

static int init_locks(struct fleet *f)
{
	pthread_condattr_t attr;
	int rc;

	rc = pthread_condattr_init(&attr);
	if (rc == 0)
		rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (rc == 0)
		rc = pthread_cond_init(&f->moved, &attr);
	(void)pthread_condattr_destroy(&attr);
	(void)pthread_mutex_init(&f->lock, NULL); /* cannot fail with NULL */
	(void)pthread_mutex_init(&f->roles_lock, NULL);
	return -rc;
}

/* Asks all programs for their versions, so that the first start need not. */
static void warm(void *ctx)
{
	CLEAN(conf_clean) struct fleet_conf *c = fleet_conf_now(ctx);
	CLEAN(clean_free) char *dir = NULL;

	(void)!pgbin_find(c->bin_dir, 0, &dir, NULL); /* it will say what is wrong */
}

int fleet_new(struct loop *l, struct pool *p, struct registry *r,
	      const struct fleet_config *cfg, struct fleet **ret_fleet, struct err *e)
{
	struct fleet *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->loop = l;
	f->pool = p;
	f->reg = r;
	rc = init_locks(f);
	if (rc < 0) {
		free(f);
		return err_set(e, rc, "cannot make a lock");
	}
	rc = fleet_conf_new(cfg, &f->conf);
	if (rc == 0)
		rc = rundirs_new(cfg->mountpoint, &f->dirs);
	if (rc == 0)
		rc = cpuwake_new(l, &f->cpuwake);
	if (rc == 0)
		rc = doorman_new(l, cfg->privileged, &f->doorman);
	if (rc < 0) {
		(void)fleet_free(f);
		return err_set(e, rc, "cannot set up the servers' table: %s",
			       strerrordesc_np(-rc));
	}
	/* without it the first client waits longer; the pool ends before the fleet */
	(void)!pool_post(p, warm, f);
	*ret_fleet = f;
	return 0;
}

static void slots_free(struct fleet *f)
{
	for (size_t i = 0; i < FLEET_BUCKETS; i++)
		while (f->buckets[i]) {
			struct slot *s = f->buckets[i];

			f->buckets[i] = s->next;
			(void)monitor_put(s->monitor);
			clean_fd(&s->lock.pidfd);
			roles_fini(&s->roles);
			free(s->reason);
			free(s);
		}
}

struct fleet *fleet_free(struct fleet *f)
{
	if (!f)
		return NULL;
	f->doorman = doorman_free(f->doorman);
	while (f->pms) {
		struct postmaster *pm = f->pms;

		f->pms = postmaster_next(pm);
		(void)postmaster_free(pm);
	}
	refuse_drop_all(&f->refusals);
	slots_free(f);
	(void)cpuwake_free(f->cpuwake);
	(void)rundirs_free(f->dirs);
	(void)fleet_conf_put(f->conf);
	(void)pthread_cond_destroy(&f->moved);
	(void)pthread_mutex_destroy(&f->lock);
	(void)pthread_mutex_destroy(&f->roles_lock);
	free(f);
	return NULL;
}

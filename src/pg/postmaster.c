/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * postmaster.c - what state a branch's server is in, and what requests and clients
 * lead to in it.
 *
 *	STOPPED --> STARTING --> RUNNING --> STOPPING --> STOPPED
 *	   ^  |        |  |                   ^    |
 *	   |  +-FAILED-+  +-------------------+    +--> FAILED
 *	   +--> EXTERNAL (pmexternal.c), also from FAILED
 *
 * STARTING without a process yet (its files are being made ready) can be given up
 * at once; the job's result is then dropped, and only the next start waits for it.
 * This matters for a discard: the kernel holds locks for it that the job may need.
 */
#include "base/log.h"
#include "pg/postmaster_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* From a look-up of the socket's name to the connect() that it was for, at most. */
#define LISTENER_UNUSED_MS 10000
#define LINGER_CHECK_MS 30000
#define FAIL_WINDOW_MS 60000
#define FAILS_MAX 3
#define BACKOFF_MIN_MS 5000
#define BACKOFF_MAX_MS (5 * 60 * 1000)
/* A start, and the first query behind it, if neither has to wait for a disk. */
#define START_MS 150

#define TO(s) (1u << (s))

static const struct {
	const char *name;
	unsigned allowed;
} states[] = {
	[PM_STOPPED] = {"stopped", TO(PM_STARTING) | TO(PM_EXTERNAL)},
	[PM_STARTING] = {"starting", TO(PM_RUNNING) | TO(PM_STOPPING) | TO(PM_STOPPED) |
					     TO(PM_FAILED)},
	[PM_RUNNING] = {"running", TO(PM_STOPPING)},
	[PM_STOPPING] = {"stopping", TO(PM_STOPPED) | TO(PM_FAILED)},
	[PM_FAILED] = {"failed", TO(PM_STARTING) | TO(PM_STOPPED) | TO(PM_EXTERNAL)},
	[PM_EXTERNAL] = {"external", TO(PM_STOPPED)},
};

const char *pm_state_name(enum pm_state s)
{
	return (size_t)s < ARRAY_SIZE(states) ? states[s].name : "unknown";
}

const char *pm_name(struct postmaster *pm, char buf[static 64])
{
	struct branch_info info;

	branch_info(pm->branch, &info);
	(void)snprintf(buf, 64, "%s", info.name); /* the same size */
	return buf;
}

bool pm_at_rest(const struct postmaster *pm)
{
	return pm->state == PM_STOPPED || pm->state == PM_FAILED ||
	       pm->state == PM_EXTERNAL;
}

/* Does the socket's name stand for the server itself?  Not from its death on. */
static bool is_open(const struct postmaster *pm)
{
	return pm->state == PM_RUNNING && !pm->draining && pm->proc.pid &&
	       !proc_has_ended(pm->proc.pidfd);
}

uint64_t pm_socket_fid(const struct postmaster *pm)
{
	if (pm->slot->gone || pm->fleet->closing)
		return 0;
	return is_open(pm) ? pm->server_fid : activation_fid(pm->act);
}

void pm_publish(struct postmaster *pm)
{
	struct monitor *old = NULL;
	struct slot *s = pm->slot;

	{
		LOCK_SCOPE(&pm->fleet->lock);
		s->state = pm->state;
		s->pid = pm->proc.pid;
		s->socket_fid = pm_socket_fid(pm);
		s->server_pidfd = is_open(pm) ? pm->proc.pidfd : -1;
		old = s->monitor;
		s->monitor = pm->state == PM_RUNNING ? monitor_get(pm->mon) : NULL;
		(void)pthread_cond_broadcast(&pm->fleet->moved);
	}
	/* the last reference closes a connection: not under the lock */
	(void)monitor_put(old);
}

void pm_move(struct postmaster *pm, enum pm_state to, const char *reason)
{
	char *old_reason, name[64];

	assert(states[pm->state].allowed & TO(to));
	log_info("branch %s: %s -> %s%s%s", pm_name(pm, name), states[pm->state].name,
		 states[to].name, reason ? ": " : "", reason ? reason : "");
	pm->state = to;
	if (to != PM_RUNNING)
		activation_hold(pm->act);
	if (to == PM_STARTING)
		cpuwake_for(pm->fleet->cpuwake, START_MS);
	{
		LOCK_SCOPE(&pm->fleet->lock);
		old_reason = pm->slot->reason;
		pm->slot->reason = reason ? strdup(reason) : NULL;
		pm->slot->since = time(NULL);
		if (to == PM_STARTING)
			pm->slot->wakes++;
	}
	free(old_reason);
	pm_publish(pm);
}

void pm_note_asked(struct postmaster *pm)
{
	if (!pm->asked_ns)
		pm->asked_ns = metric_now_ns();
}

void pm_begin(struct postmaster *pm)
{
	if (pm_external_look(pm, true))
		return;
	pm_note_asked(pm);
	metric_add(&pm->fleet->wakes, 1);
	pm->served = false;
	pm_move(pm, PM_STARTING, NULL);
	pm_time(pm, PM_TIME_BEGIN);
	branch_touch(pm->branch);
	pm_start_begin(pm);
}

/* ---- those who wait ---- */

#define WANTS_REST                                                                     \
	(PM_WANT_BIT(PM_WANT_STOPPED) | PM_WANT_BIT(PM_WANT_HALTED) |                  \
	 PM_WANT_BIT(PM_WANT_HELD) | PM_WANT_BIT(PM_WANT_GONE))

static void cancel_starters(struct postmaster *pm, const char *why)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	pm->wanted = false;
	(void)err_set(&e, -ECANCELED, "%s", why);
	pm_tell_waiters(pm, PM_WANT_BIT(PM_WANT_RUNNING), &e);
}

/* ---- results of a run ---- */

void pm_started(struct postmaster *pm)
{
	/* who came meanwhile */
	if (atomic_load(&pm->slot->roles.version) != pm->roles_version)
		(void)!proc_kill(&pm->proc, SIGHUP); /* its end is seen elsewhere */
	pm_idle_begin(pm);
	metric_observe(&pm->fleet->wake_time, &fleet_wake_bounds,
		       metric_now_ns() - pm->asked_ns);
	pm->asked_ns = 0;
	pm->served = true;
	pm_move(pm, PM_RUNNING, NULL);
	pm_tell_waiters(pm, PM_WANT_BIT(PM_WANT_RUNNING), NULL);
	/* a callback may have stopped it again */
	if (pm->state == PM_RUNNING) {
		pm_time(pm, PM_TIME_OPEN);
		activation_serve(pm->act, pm->rd);
		pm_tell_askers(pm, 0);
		if (!activation_held(pm->act))
			pm_times_tell(pm);
	}
}

/* Keeps the book of failures that limits restarts. */
static void count_failure(struct postmaster *pm)
{
	struct slot *s = pm->slot;
	int64_t now = loop_now_ms();
	char name[64];

	if (s->fails == 0 || now - s->first_fail_ms > FAIL_WINDOW_MS) {
		s->fails = 0;
		s->first_fail_ms = now;
	}
	if (++s->fails < FAILS_MAX && !s->backoff_ms)
		return;
	s->backoff_ms = s->backoff_ms ? 2 * s->backoff_ms : BACKOFF_MIN_MS;
	if (s->backoff_ms > BACKOFF_MAX_MS)
		s->backoff_ms = BACKOFF_MAX_MS;
	s->retry_at_ms = now + s->backoff_ms;
	log_warn("branch %s: its server fails repeatedly, connections do not start it "
		 "for %" PRId64 " s",
		 pm_name(pm, name), s->backoff_ms / 1000);
}

static void count_success(struct slot *s)
{
	s->fails = 0;
	s->backoff_ms = 0;
	s->retry_at_ms = 0;
}

void pm_what_next(struct postmaster *pm)
{
	bool wanted = pm->wanted;

	/* a callback may have started it, or somebody else's server got in */
	if (!pm_at_rest(pm) || pm->slot->held || pm_external_look(pm, false))
		return;
	pm->wanted = false;
	if (wanted && !pm->slot->gone && !pm->fleet->closing)
		pm_begin(pm);
	else if (activation_asking(pm->act))
		pm_client_came(pm);
}

/*
 * A server that came up and broke later is no reason to refuse anybody: the next one
 * serves those who came meanwhile, as Postgres itself would after a crash.
 */
static void after_failure(struct postmaster *pm, struct err *e)
{
	bool crashed = pm->served && !pm->slot->orphan_key;

	metric_add(pm->served ? &pm->fleet->crashes : &pm->fleet->failed_starts, 1);
	count_failure(pm);
	pm_move(pm, PM_FAILED, err_text(e));
	if (!crashed) {
		pm->wanted = false;
		pm_refuse_for_failure(pm, err_text(e));
		pm_tell_waiters(pm, PM_WANT_BIT(PM_WANT_RUNNING), e);
	}
	pm_tell_waiters(pm, WANTS_REST, pm->slot->orphan_key ? e : NULL);
	pm_what_next(pm);
}

static void after_stop(struct postmaster *pm)
{
	count_success(pm->slot);
	pm_move(pm, PM_STOPPED, NULL);
	pm_tell_waiters(pm, WANTS_REST, NULL);
	pm_what_next(pm);
}

void pm_ended(struct postmaster *pm, struct err *e)
{
	pm->draining = false;
	pm_server_release(pm);
	if (e && e->code)
		after_failure(pm, e);
	else
		after_stop(pm);
	if (pm_at_rest(pm))
		pm->asked_ns = 0;
	loop_timer_arm(pm->linger, LISTENER_UNUSED_MS);
	fleet_check_down(pm->fleet);
}

void pm_give_up_start(struct postmaster *pm)
{
	pm->run++;
	pm->begin_pending = false;
	pm->asked_ns = 0;
	pm_server_release(pm);
	pm_move(pm, PM_STOPPED, NULL);
}

/* Stops with this step; true if it is at rest already. */
static bool stop(struct postmaster *pm, enum stop_step step)
{
	if (pm->state == PM_STARTING && !pm->proc.pid)
		pm_give_up_start(pm);
	if (pm_at_rest(pm))
		return true;
	pm_server_stop(pm, step);
	return false;
}

/* ---- requests ---- */

static void want_running(struct postmaster *pm, fleet_done done, void *ctx)
{
	if (pm->slot->gone || pm->fleet->closing) {
		pm_tell_one(done, ctx, -ESHUTDOWN,
			    "the branch is not available any more");
		return;
	}
	if (pm->state == PM_RUNNING) {
		pm_idle_reset(pm);
		pm_tell_one(done, ctx, 0, NULL);
		return;
	}
	pm_add_waiter(pm, PM_WANT_RUNNING, done, ctx);
	pm_note_asked(pm);
	if (pm->state == PM_STOPPING || pm->slot->held)
		pm->wanted = true;
	else if (pm_at_rest(pm))
		pm_begin(pm);
}

static void want_rest(struct postmaster *pm, enum pm_want want, enum stop_step step,
		      fleet_done done, void *ctx)
{
	if (want == PM_WANT_HELD)
		pm->wanted = pm_is_waited_for(pm, PM_WANT_RUNNING);
	else
		cancel_starters(pm, "the branch was stopped meanwhile");
	if (stop(pm, step)) {
		if (pm->state == PM_FAILED && !pm->slot->orphan_key)
			pm_move(pm, PM_STOPPED, NULL);
		if (activation_asking(pm->act))
			pm_client_came(pm);
		if (pm->slot->orphan_key)
			pm_tell_one(done, ctx, -EBUSY,
				    "processes of its server are still alive");
		else
			pm_tell_one(done, ctx, 0, NULL);
		return;
	}
	pm_add_waiter(pm, want, done, ctx);
}

static bool refuse_external(struct postmaster *pm, fleet_done done, void *ctx)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	int rc = pm_external_error(pm, &e);

	if (rc < 0 && done)
		done(ctx, rc, &e);
	return rc < 0;
}

void postmaster_want(struct postmaster *pm, enum pm_want want, fleet_done done,
		     void *ctx)
{
	if (refuse_external(pm, done, ctx))
		return;
	switch (want) {
	case PM_WANT_RUNNING:
		want_running(pm, done, ctx);
		break;
	case PM_WANT_STOPPED:
		want_rest(pm, want, STOP_FAST, done, ctx);
		break;
	case PM_WANT_HALTED:
		want_rest(pm, want, STOP_IMMEDIATE, done, ctx);
		break;
	case PM_WANT_HELD:
		pm->slot->held = true;
		want_rest(pm, want, STOP_FAST, done, ctx);
		break;
	case PM_WANT_GONE:
		pm->slot->gone = true;
		activation_drop(pm->act);
		activation_close(pm->act);
		pm_publish(pm);
		pm_tell_askers(pm, -ENOENT);
		want_rest(pm, want, STOP_IMMEDIATE, done, ctx);
		break;
	}
}

static void forget_failures(struct slot *s)
{
	s->ran = false; /* all that it has is sealed and on disk */
	count_success(s);
}

void postmaster_release(struct postmaster *pm, bool renewed, bool run, fleet_done done,
			void *ctx)
{
	pm->slot->held = false;
	if (renewed)
		forget_failures(pm->slot);
	if (run) {
		pm->wanted = false;
		if (!refuse_external(pm, done, ctx))
			want_running(pm, done, ctx);
		return;
	}
	pm_what_next(pm);
	pm_tell_one(done, ctx, 0, NULL);
}

void postmaster_close(struct postmaster *pm)
{
	cancel_starters(pm, "the file system is being unmounted");
	pm_refuse_for_unmount(pm);
	activation_close(pm->act);
	pm_publish(pm);
	pm_tell_askers(pm, -ESHUTDOWN);
	if (stop(pm, STOP_FAST))
		pm_tell_waiters(pm, WANTS_REST, NULL);
}

bool postmaster_is_still(const struct postmaster *pm)
{
	return pm_at_rest(pm) && !pm->busy && !pm->probes && !pm->asked &&
	       !pm->proc.pid && activation_pending(pm->act) == 0;
}

/* ---- its own life ---- */

static bool is_needed(const struct postmaster *pm)
{
	return !postmaster_is_still(pm) || pm->state == PM_EXTERNAL || pm->waiters ||
	       pm->askers || activation_fid(pm->act) || activation_held(pm->act) ||
	       activation_relays(pm->act);
}

static bool looked_at(struct postmaster *pm)
{
	LOCK_SCOPE(&pm->fleet->lock);
	return pm->slot->looked_ms &&
	       loop_now_ms() - pm->slot->looked_ms < LISTENER_UNUSED_MS;
}

static void on_linger(void *ctx)
{
	struct postmaster *pm = ctx;
	struct postmaster **p = &pm->fleet->pms;

	if (activation_fid(pm->act) && !activation_held(pm->act) && !pm->draining &&
	    !looked_at(pm)) {
		activation_close(pm->act);
		pm_publish(pm);
	}
	if (is_needed(pm)) {
		loop_timer_arm(pm->linger,
			       pm_at_rest(pm) ? LISTENER_UNUSED_MS : LINGER_CHECK_MS);
		return;
	}
	while (*p != pm)
		p = &(*p)->next;
	*p = pm->next;
	(void)postmaster_free(pm);
}

int postmaster_get(struct fleet *f, struct slot *s, struct branch *b,
		   struct postmaster **ret_pm)
{
	struct postmaster *pm;
	struct activation_spec spec = {
		.loop = f->loop,
		.doorman = f->doorman,
		.dirs = f->dirs,
		.refusals = &f->refusals,
		.branch = b,
		.events = &pm_client_events,
	};
	int rc;

	if (s->pm) {
		*ret_pm = s->pm;
		return 0;
	}
	pm = calloc(1, sizeof(*pm));
	if (!pm)
		return -ENOMEM;
	pm->fleet = f;
	pm->slot = s;
	pm->branch = branch_get(b);
	pm->proc.pidfd = -1;
	pm->user.pidfd = -1;
	pm->state = s->state;
	spec.ctx = pm;
	rc = activation_new(&spec, &pm->act);
	if (rc == 0)
		rc = loop_timer_new(f->loop, pm_server_deadline, pm, &pm->deadline);
	if (rc == 0)
		rc = loop_timer_new(f->loop, pm_idle_timer, pm, &pm->idle);
	if (rc == 0)
		rc = loop_timer_new(f->loop, on_linger, pm, &pm->linger);
	if (rc < 0) {
		(void)postmaster_free(pm);
		return rc;
	}
	loop_timer_arm(pm->linger, LINGER_CHECK_MS);
	pm->next = f->pms;
	f->pms = pm;
	s->pm = pm;
	*ret_pm = pm;
	return 0;
}

struct postmaster *postmaster_next(const struct postmaster *pm)
{
	return pm->next;
}

struct postmaster *postmaster_free(struct postmaster *pm)
{
	if (!pm)
		return NULL;
	if (pm->slot->pm == pm)
		pm->slot->pm = NULL;
	(void)activation_free(pm->act);
	(void)loop_timer_free(pm->deadline);
	(void)loop_timer_free(pm->idle);
	(void)loop_timer_free(pm->linger);
	(void)loop_io_free(pm->exit_io);
	pm_external_release(pm);
	clean_fd(&pm->proc.pidfd);
	(void)monitor_put(pm->mon);
	(void)rundir_put(pm->rd);
	(void)fleet_conf_put(pm->conf);
	err_fini(&pm->failure);
	(void)branch_put(pm->branch);
	free(pm);
	return NULL;
}

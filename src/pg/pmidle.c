/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmidle.c - when a running server may be stopped because nobody uses it.
 *
 *	active -> idle for idle_timeout -> draining -> stop
 *	   ^------ a client, or a probe that saw one or failed ---'
 *
 * A connection that does nothing does not count, not even a relayed one, unless
 * idle_connections says so; a client that is held does.  Settings that were reloaded
 * hold for running servers, too.  One that is never stopped is looked at as well, for
 * the time of its last activity, by which people clear up.
 *
 * Draining closes the gap between the last look and the stop: the socket's name
 * leads to the listener first, then, after those who had looked it up before have
 * got in, a last probe decides.  So a client is held, never refused.
 */
#include "base/log.h"
#include "pg/postmaster_priv.h"

#define PROBE_MIN_MS 1000
#define PROBE_MAX_MS 15000
#define PROBE_NEVER_MS (5 * 60 * 1000)
#define DRAIN_MS 1000

struct probe {
	struct postmaster *pm;
	uint64_t run;
	struct monitor *mon;
	struct monitor_view view;
	int rc;
	struct err err;
};

/* The settings as they are now. */
struct idle_rules {
	int64_t timeout_ms; /* 0: it is never stopped */
	bool keep;          /* for clients that are connected and idle */
};

static struct idle_rules rules_of(const struct postmaster *pm)
{
	struct fleet_conf *c = fleet_conf_now(pm->fleet);
	struct idle_rules r = {
		.timeout_ms = (int64_t)c->idle_timeout_s * 1000,
		.keep = c->keep_idle_connections,
	};

	(void)fleet_conf_put(c);
	return r;
}

static int64_t interval_ms(const struct idle_rules *r)
{
	int64_t ms = r->timeout_ms / 4;

	if (!r->timeout_ms)
		return PROBE_NEVER_MS;
	if (ms > PROBE_MAX_MS)
		ms = PROBE_MAX_MS;
	return ms < PROBE_MIN_MS ? PROBE_MIN_MS : ms;
}

/* Looks again after the usual time, at a server that is open to clients. */
static void watch(struct postmaster *pm, const struct idle_rules *r)
{
	if (pm->draining) {
		pm->draining = false;
		pm_publish(pm);
	}
	loop_timer_arm(pm->idle, interval_ms(r));
}

static void drain(struct postmaster *pm)
{
	pm->draining = true;
	activation_listen(pm->act);
	pm_publish(pm);
	loop_timer_arm(pm->idle, DRAIN_MS);
}

void pm_idle_reset(struct postmaster *pm)
{
	struct idle_rules r = rules_of(pm);

	pm->active_ms = loop_now_ms();
	if (pm->draining)
		watch(pm, &r);
}

static void stop_idle(struct postmaster *pm, const struct idle_rules *r)
{
	char name[64];

	log_info("branch %s: nobody used it for %llds, stopping", pm_name(pm, name),
		 (long long)r->timeout_ms / 1000);
	metric_add(&pm->fleet->idle_stops, 1);
	pm_server_stop(pm, STOP_FAST);
}

/* When was it used last, by what the probe saw? */
static int64_t last_use_ms(struct postmaster *pm, const struct probe *p, bool keep)
{
	const struct monitor_view *v = &p->view;
	int64_t now = loop_now_ms();
	char name[64];

	if (p->rc < 0) {
		/* said once, or it fills the log */
		if (!pm->blind)
			log_warn("branch %s: cannot see whether anybody uses it: %s, "
				 "taking it as used until that works",
				 pm_name(pm, name), err_text(&p->err));
		pm->blind = true;
		return now;
	}
	pm->blind = false;
	if (v->active || (keep && v->connected) || activation_held(pm->act))
		return now;
	return v->changed ? now - v->ago_ms : pm->active_ms;
}

static void judge(struct postmaster *pm, const struct probe *p)
{
	struct idle_rules r = rules_of(pm);
	int64_t used_ms = last_use_ms(pm, p, r.keep);

	if (used_ms > pm->active_ms) {
		pm->active_ms = used_ms;
		if (p->rc == 0)
			branch_touch(pm->branch);
	}
	if (!r.timeout_ms || loop_now_ms() - pm->active_ms < r.timeout_ms)
		watch(pm, &r);
	else if (pm->draining)
		stop_idle(pm, &r);
	else
		drain(pm);
}

static void probe_done(void *ctx)
{
	struct probe *p = ctx;
	struct postmaster *pm = p->pm;

	pm->probes--;
	if (pm->state == PM_RUNNING && p->run == pm->run)
		judge(pm, p);
	(void)monitor_put(p->mon);
	err_fini(&p->err);
	fleet_job_done(pm->fleet);
	free(p);
}

static void probe_run(void *ctx)
{
	struct probe *p = ctx;

	p->rc = monitor_probe(p->mon, &p->view, &p->err);
	doorman_post(p->pm->fleet->loop, probe_done, p);
}

void pm_idle_timer(void *ctx)
{
	struct postmaster *pm = ctx;
	struct probe *p;

	if (pm->state != PM_RUNNING)
		return;
	if (pm->probes) { /* of an earlier run, perhaps: its end arms nothing */
		loop_timer_arm(pm->idle, PROBE_MIN_MS);
		return;
	}
	/* the listener is not there yet: stopping now would refuse clients */
	if (pm->draining && !activation_fid(pm->act)) {
		activation_listen(pm->act);
		loop_timer_arm(pm->idle, DRAIN_MS);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		loop_timer_arm(pm->idle, PROBE_MAX_MS);
		return;
	}
	p->pm = pm;
	p->run = pm->run;
	p->mon = monitor_get(pm->mon);
	pm->probes++;
	if (fleet_job(pm->fleet, probe_run, p) < 0) {
		pm->probes--;
		(void)monitor_put(p->mon);
		free(p);
		loop_timer_arm(pm->idle, PROBE_MAX_MS);
	}
}

void pm_idle_begin(struct postmaster *pm)
{
	struct idle_rules r = rules_of(pm);

	pm->active_ms = loop_now_ms();
	pm->draining = false;
	pm->blind = false;
	watch(pm, &r);
}

void pm_idle_end(struct postmaster *pm)
{
	pm->draining = false;
	loop_timer_arm(pm->idle, -1);
}

void postmaster_reconfigured(struct postmaster *pm)
{
	struct idle_rules r = rules_of(pm);

	if (pm->state == PM_RUNNING)
		watch(pm, &r);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmidle.c - when a running server may be stopped because nobody uses it.
 *
 *	active -> idle for idle_timeout -> draining -> stop
 *	   ^------ a client, or a probe that saw one or failed ---'
 *
 * Draining closes the gap between the last look and the stop: the socket's name
 * leads to the listener first, then, after those who had looked it up before have
 * got in, a last probe decides.  So a client is held, never refused.
 */
#include "base/log.h"
#include "pg/postmaster_priv.h"

#define PROBE_MIN_MS 1000
#define PROBE_MAX_MS 15000
#define DRAIN_MS 1000

struct probe {
	struct postmaster *pm;
	uint64_t run;
	struct monitor *mon;
	bool active;
	int rc;
	struct err err;
};

static int64_t timeout_ms(const struct postmaster *pm)
{
	return (int64_t)pm->conf->idle_timeout_s * 1000;
}

static int64_t interval_ms(const struct postmaster *pm)
{
	int64_t ms = timeout_ms(pm) / 4;

	if (ms > PROBE_MAX_MS)
		ms = PROBE_MAX_MS;
	return ms < PROBE_MIN_MS ? PROBE_MIN_MS : ms;
}

static bool has_clients(const struct postmaster *pm)
{
	return activation_held(pm->act) || activation_relays(pm->act);
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
	pm->active_ms = loop_now_ms();
	if (!pm->draining)
		return;
	pm->draining = false;
	pm_publish(pm);
	loop_timer_arm(pm->idle, interval_ms(pm));
}

static void stop_idle(struct postmaster *pm)
{
	char name[64];

	log_info("branch %s: nobody used it for %llus, stopping", pm_name(pm, name),
		 (unsigned long long)pm->conf->idle_timeout_s);
	metric_add(&pm->fleet->idle_stops, 1);
	pm_server_stop(pm, STOP_FAST);
}

static void judge(struct postmaster *pm, const struct probe *p)
{
	char name[64];

	if (p->rc < 0)
		log_warn("branch %s: cannot see whether anybody uses it: %s, taking it "
			 "as "
			 "used",
			 pm_name(pm, name), err_text(&p->err));
	if (p->rc < 0 || p->active || has_clients(pm)) {
		if (p->rc == 0)
			branch_touch(pm->branch);
		pm_idle_reset(pm);
		loop_timer_arm(pm->idle, interval_ms(pm));
		return;
	}
	if (pm->draining) {
		stop_idle(pm);
		return;
	}
	if (loop_now_ms() - pm->active_ms >= timeout_ms(pm))
		drain(pm);
	else
		loop_timer_arm(pm->idle, interval_ms(pm));
}

static void probe_done(void *ctx)
{
	struct probe *p = ctx;
	struct postmaster *pm = p->pm;

	pm->probes--;
	if (p->run == pm->run && pm->state == PM_RUNNING)
		judge(pm, p);
	(void)monitor_put(p->mon);
	err_fini(&p->err);
	fleet_job_done(pm->fleet);
	free(p);
}

static void probe_run(void *ctx)
{
	struct probe *p = ctx;

	p->rc = monitor_probe(p->mon, &p->active, &p->err);
	doorman_post(p->pm->fleet->loop, probe_done, p);
}

void pm_idle_timer(void *ctx)
{
	struct postmaster *pm = ctx;
	struct probe *p;

	if (pm->state != PM_RUNNING || pm->probes)
		return;
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
	pm->active_ms = loop_now_ms();
	pm->draining = false;
	if (pm->conf->idle_timeout_s)
		loop_timer_arm(pm->idle, interval_ms(pm));
}

void pm_idle_end(struct postmaster *pm)
{
	pm->draining = false;
	loop_timer_arm(pm->idle, -1);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmuse.c - is a branch in use at this moment?  Unlike the idle probe, which looks for
 * work that was done, any open session counts.
 */
#include "pg/postmaster_priv.h"

struct question {
	struct postmaster *pm;
	struct monitor *mon;
	uint64_t sessions;
	int rc;
	fleet_used done;
	void *ctx;
};

static bool has_clients(const struct postmaster *pm)
{
	return activation_held(pm->act) || activation_relays(pm->act);
}

static void question_free(struct question *q)
{
	(void)monitor_put(q->mon);
	free(q);
}

static void on_answer(void *ctx)
{
	struct question *q = ctx;
	struct postmaster *pm = q->pm;

	pm->asked--;
	/* those who came meanwhile may not be sessions yet */
	if (q->rc == 0)
		q->done(q->ctx, 0, q->sessions > 0 || has_clients(pm));
	else
		q->done(q->ctx, -EAGAIN, true);
	question_free(q);
	fleet_job_done(pm->fleet);
}

static void ask(void *ctx)
{
	struct question *q = ctx;

	/* a server that cannot be asked has its place in the log by the idle probe */
	q->rc = monitor_sessions(q->mon, &q->sessions, NULL);
	doorman_post(q->pm->fleet->loop, on_answer, q);
}

static void ask_server(struct postmaster *pm, fleet_used done, void *ctx)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q) {
		done(ctx, -ENOMEM, true);
		return;
	}
	*q = (struct question){
		.pm = pm, .mon = monitor_get(pm->mon), .done = done, .ctx = ctx};
	pm->asked++;
	if (fleet_job(pm->fleet, ask, q) < 0) {
		pm->asked--;
		question_free(q);
		done(ctx, -ENOMEM, true);
	}
}

void postmaster_in_use(struct postmaster *pm, fleet_used done, void *ctx)
{
	if (has_clients(pm))
		done(ctx, 0, true);
	else if (pm->state == PM_STOPPED || pm->state == PM_FAILED)
		done(ctx, 0, false);
	else if (pm->state == PM_STOPPING)
		done(ctx, -EAGAIN, true);
	else if (pm->state == PM_RUNNING)
		ask_server(pm, done, ctx);
	else
		done(ctx, 0, true);
}

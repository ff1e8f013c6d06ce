/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every so often all branches are looked at, in one job at a time:
 *
 *	is its last automatic checkpoint old enough, and was something written since
 *any? then one is taken, as by mkdir are there more than `keep`?  one after the other
 *goes (rotation.h) is one from before a rollback or reset older than keep_safety?  it
 *goes, too
 *
 * A branch that nobody uses or writes to gets none, and its server is neither asked nor
 *woken. Below the store's reserve none is taken.  While the clock is not believed
 *(expiry.h) nothing goes for its age.
 */
#include "ctl/autocheckpoint.h"

#include "base/log.h"
#include "base/text.h"
#include "ctl/expiry.h"
#include "ctl/request.h"
#include "ctl/rotation.h"

#include <string.h>

/* Between two looks, at most, and if there is nothing to take. */
#define LOOK_MAX_MS 30000
#define LOOK_MIN_MS 500
/* By so much the time of a branch's last activity may be behind. */
#define ACTIVITY_SLACK_S 300

struct rules {
	uint64_t interval_s; /* 0: none are taken */
	uint64_t keep;
	uint64_t safety_s; /* 0: they stay */
};

struct autocheckpoint {
	struct control *c;
	struct loop_timer *timer;
	atomic_bool runs; /* the job */
	bool full;        /* of the job: the log has it that none are taken */
};

static struct rules rules_of(struct control *c)
{
	LOCK_SCOPE(&c->lock);
	return (struct rules){c->cfg->auto_checkpoint_s, c->cfg->keep,
			      c->cfg->keep_safety_s};
}

static void done_quietly(void *ctx, int rc, struct branch *b)
{
	(void)ctx;
	(void)rc; /* it is in the log */
	(void)b;
}

static void drop(struct control *c, const struct checkpoint_info *ck, const char *why)
{
	struct request *rq =
		request_new_own(c, "drop-checkpoint", NULL, done_quietly, NULL);
	int rc;

	if (!rq)
		return;
	rq->subject = text_format("%s:%s", ck->branch, ck->name);
	rq->reason = strdup(why);
	rc = request_record(rq);
	if (rc == 0)
		rc = checkpoint_drop(c->registry, ck->no, ck->seq, &rq->err);
	if (rc == 0)
		log_info("branch %s: checkpoint %s dropped: %s", ck->branch, ck->name,
			 why);
	request_finish(rq, rc);
}

static void take(struct control *c, struct branch *b)
{
	const struct checkpoint_spec spec = {
		.prefix = "auto", .kind = CHECKPOINT_AUTO, .if_changed = true};
	struct request *rq = request_new_own(c, "checkpoint", b, done_quietly, NULL);
	struct checkpoint_info info;
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct pm_status st;
	int rc;

	if (!rq)
		return;
	rq->reason = strdup("auto_checkpoint");
	rc = request_record(rq);
	fleet_status(c->fleet, b, &st);
	/* without it, it is one as after a power cut */
	if (rc == 0 && st.state == PM_RUNNING && fleet_sync_commit(c->fleet, b, &e) < 0)
		log_warn("branch %s: its server did not confirm its last commits: %s; "
			 "taking the checkpoint without those that are asynchronous",
			 rq->subject, err_text(&e));
	if (rc == 0)
		rc = checkpoint_take(c->registry, b, &spec, &info, &rq->err);
	if (rc == 0)
		log_info("branch %s: checkpoint %s taken", info.branch, info.name);
	request_finish(rq, rc);
}

/*
 * A server that nobody uses writes a little all the same, also for the commit that goes
 * before a checkpoint: that is no reason for another one.
 */
static bool is_due(const struct checkpoint_info *v, size_t n, uint64_t interval_s,
		   const struct branch_info *info, time_t now)
{
	time_t last = info->created, any = 0;

	for (size_t i = 0; i < n; i++) {
		if (v[i].kind == CHECKPOINT_AUTO && v[i].taken > last)
			last = v[i].taken;
		any = v[i].taken > any ? v[i].taken : any;
	}
	if (interval_s == 0 || info->last_active + ACTIVITY_SLACK_S < any)
		return false;
	/* set back, the clock must not keep them away for ever */
	return now < last || (uint64_t)(now - last) >= interval_s;
}

static void thin_out(struct control *c, const struct checkpoint_info *v, size_t n,
		     const struct rules *ru, time_t now)
{
	CLEAN(clean_free) time_t *taken = calloc(n ? n : 1, sizeof(*taken));
	CLEAN(clean_free) size_t *which = calloc(n ? n : 1, sizeof(*which));
	size_t left = 0, at;

	if (!taken || !which)
		return;
	for (size_t i = 0; i < n; i++) {
		if (v[i].kind != CHECKPOINT_AUTO)
			continue;
		taken[left] = v[i].taken;
		which[left++] = i;
	}
	while ((at = rotation_victim(taken, left, ru->keep, now)) < left) {
		drop(c, &v[which[at]], "others are enough for its time");
		left--;
		memmove(taken + at, taken + at + 1, (left - at) * sizeof(*taken));
		memmove(which + at, which + at + 1, (left - at) * sizeof(*which));
	}
}

static void end_safety(struct control *c, const struct checkpoint_info *v, size_t n,
		       const struct rules *ru, time_t now)
{
	if (ru->safety_s == 0 || expiry_held(c) > 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (v[i].kind == CHECKPOINT_SAFETY && now > v[i].taken &&
		    (uint64_t)(now - v[i].taken) >= ru->safety_s)
			drop(c, &v[i], "its time is over");
}

static void look_at(struct control *c, struct branch *b, const struct rules *ru)
{
	struct checkpoint_info *v = NULL;
	time_t now = time(NULL);
	struct branch_info info;
	size_t n = 0;

	branch_info(b, &info);
	if (checkpoint_list(c->registry, info.no, &v, &n) < 0)
		return;
	if (is_due(v, n, ru->interval_s, &info, now) &&
	    checkpoint_is_wanted(c->registry, b)) {
		take(c, b);
		free(v);
		v = NULL;
		if (checkpoint_list(c->registry, info.no, &v, &n) < 0)
			return;
	}
	thin_out(c, v, n, ru, now);
	end_safety(c, v, n, ru, now);
	free(v);
}

/* Said once: it may last. */
static bool is_full(struct autocheckpoint *a)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	bool full = control_check_reserve(a->c, &e) < 0;

	if (full && !a->full)
		log_warn("%s; no checkpoint is taken by itself until it has more",
			 err_text(&e));
	a->full = full;
	return full;
}

static void look_job(void *ctx)
{
	struct autocheckpoint *a = ctx;
	struct control *c = a->c;
	struct rules ru = rules_of(c);
	struct branch **list = NULL;

	if (ru.interval_s > 0 && is_full(a))
		ru.interval_s = 0;
	if (registry_list(c->registry, &list) < 0)
		log_warn("out of memory, looking at no checkpoint now");
	for (struct branch **b = list; b && *b; b++)
		look_at(c, *b, &ru);
	branch_list_free(list);
	atomic_store(&a->runs, false);
}

static void look(void *ctx)
{
	struct autocheckpoint *a = ctx;
	struct rules ru = rules_of(a->c);
	int64_t ms = ru.interval_s > 0 && ru.interval_s < LOOK_MAX_MS / 1000
			     ? (int64_t)ru.interval_s * 500
			     : LOOK_MAX_MS;

	/* one that takes long is not followed by another one */
	if (!atomic_exchange(&a->runs, true) && pool_post(a->c->pool, look_job, a) < 0)
		atomic_store(&a->runs, false);
	loop_timer_arm(a->timer, ms < LOOK_MIN_MS ? LOOK_MIN_MS : ms);
}

int autocheckpoint_new(struct control *c, struct autocheckpoint **ret_a)
{
	struct autocheckpoint *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return -ENOMEM;
	a->c = c;
	rc = loop_timer_new(c->loop, look, a, &a->timer);
	if (rc < 0) {
		free(a);
		return rc;
	}
	loop_timer_arm(a->timer, LOOK_MIN_MS);
	*ret_a = a;
	return 0;
}

struct autocheckpoint *autocheckpoint_free(struct autocheckpoint *a)
{
	if (!a)
		return NULL;
	(void)loop_timer_free(a->timer); /* returns NULL */
	free(a);
	return NULL;
}

static void look_soon(void *ctx)
{
	const struct autocheckpoint *a = ctx;

	loop_timer_arm(a->timer, LOOK_MIN_MS);
}

void autocheckpoint_soon(struct autocheckpoint *a)
{
	/* without memory for the call it is seen at the next look */
	(void)!loop_post(a->c->loop, look_soon, a);
}

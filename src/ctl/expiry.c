/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A branch that has expired goes this way, a few of them at a time:
 *
 *	late -> is it in use? -- yes --> spared: asked again, until it is not and
 *	             |                   was not for a grace
 *	             no
 *	             v
 *	        discarded, through the same door as an rmdir
 *
 * The clock decides when; clockguard.h says when it is not believed.
 */
#include "ctl/expiry.h"

#include "base/log.h"
#include "base/text.h"
#include "ctl/clockguard.h"
#include "ctl/request.h"

#include <stdatomic.h>
#include <string.h>

#ifndef HASH_NONFATAL_OOM
#define HASH_NONFATAL_OOM 1
#endif
#include <uthash.h>

/* A clock that is set is seen after so long, also if nothing is due. */
#define SCAN_MS 10000
/* Discards at one time; each may take a thread of the pool and some fsyncs. */
#define MAX_AT_ONCE 2
/* How often a spared branch is looked at. */
#define ASK_MIN_MS 250
#define ASK_MAX_MS 5000
/* When it could not be discarded: the first time, and at most. */
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
/*
 * From the end of the last session on: a tenth of the branch's life, within these
 * bounds.  Who was thrown out by accident can come back.
 */
#define GRACE_MIN_MS 1000
#define GRACE_MAX_MS 60000

/* An expired branch that is still there. */
struct late {
	UT_hash_handle hh;
	struct expiry *x;
	uint32_t no;
	struct branch *b; /* while it is busy */
	bool busy;        /* asked about, or being discarded */
	bool found;       /* by the present scan */
	bool spared;      /* it was in use since it expired */
	int64_t free_ms;  /* since when it is not; 0: it is */
	int64_t next_ms;  /* not looked at before */
	int64_t grace_ms, retry_ms;
	int rc; /* of the discard */
};

/* What is in the trash goes one at a time. */
struct purge {
	struct branch *b;   /* a reference while it is under way */
	int64_t not_before; /* after a failure */
	int rc;
};

struct expiry {
	struct control *c;
	struct loop_timer *timer;
	int64_t due_ms; /* when the timer fires */
	struct clockguard clock;
	atomic_llong held_until_s; /* on the clock since boot, for other threads */
	struct late *late;
	unsigned busy;
	struct purge purge;
};

static int64_t boot_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_BOOTTIME, &ts); /* cannot fail */
	return ts.tv_sec;
}

/* Looks again in so many milliseconds, or earlier. */
static void look_within(struct expiry *x, int64_t ms)
{
	int64_t due = loop_now_ms() + ms;

	if (due >= x->due_ms)
		return;
	x->due_ms = due;
	loop_timer_arm(x->timer, ms);
}

static void late_free(struct late *l)
{
	HASH_DEL(l->x->late, l);
	(void)branch_put(l->b); /* returns NULL */
	free(l);
}

static struct late *late_get(struct expiry *x, uint32_t no)
{
	struct late *l = NULL;

	HASH_FIND(hh, x->late, &no, sizeof(no), l);
	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->x = x;
	l->no = no;
	HASH_ADD(hh, x->late, no, sizeof(l->no), l);
	if (!l->hh.tbl) {
		free(l);
		return NULL;
	}
	return l;
}

static void no_longer_busy(struct late *l)
{
	l->busy = false;
	l->x->busy--;
	l->b = branch_put(l->b);
}

/* Lets it be for so long. */
static void let_be(struct late *l, int64_t ms)
{
	no_longer_busy(l);
	l->next_ms = loop_now_ms() + ms;
	look_within(l->x, ms);
}

static void after_discard(void *ctx)
{
	struct late *l = ctx;
	struct expiry *x = l->x;

	if (l->rc < 0 && l->rc != -ENOENT) {
		l->retry_ms = l->retry_ms ? 2 * l->retry_ms : RETRY_MIN_MS;
		if (l->retry_ms > RETRY_MAX_MS)
			l->retry_ms = RETRY_MAX_MS;
		let_be(l, l->retry_ms);
	} else {
		no_longer_busy(l);
		late_free(l);
	}
	look_within(x, 0); /* others may wait for their turn */
}

/* On any thread. */
static void on_discarded(void *ctx, int rc, struct branch *b)
{
	struct late *l = ctx;

	(void)b;
	l->rc = rc;
	if (loop_post(l->x->c->loop, after_discard, l) < 0)
		log_error("out of memory; fewer expired branches are discarded until "
			  "the next mount");
}

static int64_t ask_interval(const struct late *l)
{
	int64_t ms = l->grace_ms / 4;

	if (ms > ASK_MAX_MS)
		ms = ASK_MAX_MS;
	return ms < ASK_MIN_MS ? ASK_MIN_MS : ms;
}

static void spare(struct late *l)
{
	struct branch_info info;

	if (!l->spared) {
		branch_info(l->b, &info);
		log_info("branch %s: has expired, but is in use; it is discarded %llds "
			 "after its last session",
			 info.name, (long long)l->grace_ms / 1000);
	}
	l->spared = true;
	l->free_ms = 0;
	let_be(l, ask_interval(l));
}

static void on_used(void *ctx, int rc, bool used)
{
	struct late *l = ctx;
	int64_t now = loop_now_ms();

	if (rc < 0) {
		let_be(l, ask_interval(l));
		return;
	}
	if (used) {
		spare(l);
		return;
	}
	if (l->spared) {
		if (l->free_ms == 0)
			l->free_ms = now;
		if (now - l->free_ms < l->grace_ms) {
			let_be(l, ask_interval(l));
			return;
		}
	}
	control_expire(l->x->c, l->b, on_discarded, l);
}

static int64_t grace_of(const struct branch_info *info)
{
	int64_t ms = (int64_t)(info->expires - info->created) * 100;

	if (ms > GRACE_MAX_MS)
		ms = GRACE_MAX_MS;
	return ms < GRACE_MIN_MS ? GRACE_MIN_MS : ms;
}

static void look_at(struct expiry *x, struct branch *b, time_t now, bool held)
{
	struct branch_info info;
	struct late *l;

	branch_info(b, &info);
	if (info.expires == 0 || info.is_protected)
		return;
	if (info.expires > now) {
		int64_t left = (int64_t)(info.expires - now);

		look_within(x, left < SCAN_MS / 1000 ? left * 1000 : SCAN_MS);
		return;
	}
	if (held)
		return;
	l = late_get(x, info.no);
	if (!l)
		return; /* out of memory: at the next scan */
	l->found = true;
	if (l->busy || x->busy >= MAX_AT_ONCE)
		return;
	if (l->next_ms > loop_now_ms()) {
		look_within(x, l->next_ms - loop_now_ms());
		return;
	}
	l->grace_ms = grace_of(&info);
	l->busy = true;
	l->b = branch_get(b);
	x->busy++;
	fleet_in_use(x->c->fleet, b, on_used, l);
}

static void after_purge(void *ctx)
{
	struct expiry *x = ctx;

	x->purge.b = branch_put(x->purge.b);
	if (x->purge.rc < 0)
		x->purge.not_before = loop_now_ms() + RETRY_MAX_MS;
	look_within(x, 0);
}

/* On any thread. */
static void on_purged(void *ctx, int rc, struct branch *b)
{
	struct expiry *x = ctx;

	(void)b;
	x->purge.rc = rc;
	if (loop_post(x->c->loop, after_purge, x) < 0)
		log_error("out of memory; nothing is removed from the trash until the "
			  "next mount");
}

static void look_at_trash(struct expiry *x, time_t now)
{
	struct branch **list = NULL;
	struct branch_info info;
	time_t due;

	if (x->purge.b || loop_now_ms() < x->purge.not_before ||
	    registry_list_trash(x->c->registry, &list) < 0)
		return;
	for (struct branch **b = list; *b && !x->purge.b; b++) {
		branch_info(*b, &info);
		due = control_purge_time(x->c, info.trashed);
		if (due == 0 || info.trash_name[0] == '\0')
			continue;
		if (due > now) {
			if (due - now < SCAN_MS / 1000)
				look_within(x, (int64_t)(due - now) * 1000);
			continue;
		}
		x->purge.b = branch_get(*b);
		control_purge_due(x->c, *b, on_purged, x);
	}
	branch_list_free(list);
}

static void look_at_clock(struct expiry *x, time_t now)
{
	int64_t step = 0;

	switch (clockguard_look(&x->clock, now, boot_s(), &step)) {
	case CLOCK_FORWARD:
		log_warn("the clock was set ahead by %llds; no branch expires for %ds, "
			 "in case that this was wrong",
			 (long long)step, CLOCK_HOLD_S);
		break;
	case CLOCK_BACK:
		log_warn("the clock was set back by %llds; branches expire by what it "
			 "says now",
			 (long long)-step);
		break;
	default:
		break;
	}
}

static void scan(void *ctx)
{
	struct expiry *x = ctx;
	struct branch **list = NULL;
	struct late *l, *next;
	time_t now = time(NULL);
	bool held;

	x->due_ms = INT64_MAX;
	look_at_clock(x, now);
	held = clockguard_held(&x->clock, boot_s()) > 0;
	atomic_store(&x->held_until_s, x->clock.hold_until_s);
	for (l = x->late; l; l = l->hh.next)
		l->found = false;
	if (registry_list(x->c->registry, &list) == 0) {
		for (struct branch **b = list; *b; b++)
			look_at(x, *b, now, held);
		/* discarded by others, or with a new end: nothing is remembered */
		HASH_ITER(hh, x->late, l, next)
		if (!l->found && !l->busy)
			late_free(l);
	}
	branch_list_free(list);
	if (!held)
		look_at_trash(x, now);
	look_within(x, SCAN_MS);
}

static time_t newest_sign_of_life(struct registry *r)
{
	struct branch **list = NULL;
	struct branch_info info;
	time_t newest = 0;

	if (registry_list(r, &list) < 0)
		return 0; /* then the clock is not believed for a while */
	for (struct branch **b = list; *b; b++) {
		branch_info(*b, &info);
		if (info.created > newest)
			newest = info.created;
		if (info.last_active > newest)
			newest = info.last_active;
	}
	branch_list_free(list);
	return newest;
}

int expiry_new(struct control *c, struct expiry **ret_expiry)
{
	struct expiry *x = calloc(1, sizeof(*x));
	time_t now = time(NULL), newest = newest_sign_of_life(c->registry);
	int rc;

	if (!x)
		return -ENOMEM;
	x->c = c;
	x->due_ms = INT64_MAX;
	rc = loop_timer_new(c->loop, scan, x, &x->timer);
	if (rc < 0) {
		free(x);
		return rc;
	}
	if (clockguard_init(&x->clock, now, boot_s(), newest) == CLOCK_FAR)
		log_warn("nobody used the store for %lld hours, or the clock is wrong; "
			 "no branch expires for %ds",
			 (long long)(now - newest) / 3600, CLOCK_HOLD_S);
	look_within(x, 0);
	*ret_expiry = x;
	return 0;
}

struct expiry *expiry_free(struct expiry *x)
{
	struct late *l, *next;

	if (!x)
		return NULL;
	HASH_ITER(hh, x->late, l, next)
	late_free(l);
	(void)branch_put(x->purge.b);    /* returns NULL */
	(void)loop_timer_free(x->timer); /* returns NULL */
	free(x);
	return NULL;
}

static void look_now(void *ctx)
{
	look_within(ctx, 0);
}

int64_t expiry_held(struct control *c)
{
	int64_t left = atomic_load(&c->expiry->held_until_s) - boot_s();

	return left > 0 ? left : 0;
}

void expiry_soon(struct control *c)
{
	/* without memory for the call it is seen at the next scan */
	(void)!loop_post(c->loop, look_now, c->expiry);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * request.h - what the verbs of control.h share: the control object and one
 * request on its way through pool and loop.  Private to ctl/control*.c.
 *
 * A request belongs to one thread at a time; whoever posts it on lets go of it.  It
 * is authorised, then recorded in the audit log, then done: request_record is the step
 * between, and without it nothing is changed.  request_finish is its only end: it
 * records a failure, remembers it, calls done and frees.
 */
#ifndef CTL_REQUEST_H
#define CTL_REQUEST_H

#include "ctl/audit.h"
#include "ctl/control.h"
#include "ctl/errors.h"
#include "ctl/metrics.h"
#include "ctl/policy.h"

/* CLEAN(branch_putp): gives a local reference back. */
static inline void branch_putp(struct branch **b)
{
	*b = branch_put(*b);
}

struct claim {
	struct claim *next;
	uint32_t no;
};

struct control {
	struct loop *loop;
	struct pool *pool;
	struct pool *switches; /* one thread, see control_rollback.c */
	struct registry *registry;
	struct fleet *fleet;
	struct errors *errors;
	struct metrics *metrics;
	struct audit *audit;
	char *mountpoint;
	char *superuser;
	uid_t mount_owner;
	bool privileged;
	pthread_mutex_t lock;
	const struct config *cfg; /* lock: lock */
	struct claim *claims;     /* lock: lock; branches that are being changed */
	char *answer;             /* lock: lock; of upkeep.h, NULL: none yet */
	bool upkeep_runs;         /* lock: lock */
	bool upkeep_again;        /* lock: lock */
	struct loop_timer *upkeep_timer;
	struct expiry *expiry;
	struct autocheckpoint *autocheckpoint;
	struct quota *quota;
	struct sanitize *sanitize;
};

struct request {
	struct control *c;
	struct caller who;
	struct rights rights; /* of who, when it began */
	control_done done;
	void *ctx;
	struct branch *b; /* a reference, or NULL */
	struct claim claim;
	bool claimed;
	bool is_own;   /* the daemon's: nobody's .error says how it went */
	bool recorded; /* as allowed */
	bool more;     /* there is more to record than was known then */
	struct err err;

	/* for the audit line */
	const char *verb;
	char *subject; /* the branch's name at the beginning, as far as there is one */
	char *value;   /* what was asked for, or NULL */
	char *reason;  /* why the daemon did it by itself, or NULL */
	char comm[32];
	int64_t started_us; /* CLOCK_MONOTONIC */

	char *name;   /* create: the new branch; rename: the new name */
	char *parent; /* create: its name */
	char *from;   /* create: the parent's checkpoint, or NULL */
	struct checkpoint_info checkpoint; /* that the request is about */
	bool woke; /* create: the parent's server was started to ask it */
	mode_t mode;
	uid_t owner;
	gid_t group;
	enum pm_want want;          /* set_state */
	time_t expires;             /* set_expires */
	bool on;                    /* set_protected */
	bool stopped_for_it;        /* set_access: the stop flag is ours to take back */
	struct branch *to;          /* reset: the parent, a reference; or NULL */
	struct sanitize_copy *copy; /* remask: the branch `to` belongs to it; or NULL */
	char masked[64];            /* likewise: by what that is masked */
	bool ran; /* rollback, reset, remask: its server is to run again */
	int rc;   /* likewise: how it went */
};

/*
 * A new request, with a reference to b (may be NULL).  verb: what the audit line calls
 * it.  NULL when out of memory; done was called then.
 */
struct request *request_new(struct control *c, const struct caller *who,
			    const char *verb, struct branch *b, control_done done,
			    void *ctx) MUST_CHECK;
/* One of the daemon itself. */
struct request *request_new_own(struct control *c, const char *verb, struct branch *b,
				control_done done, void *ctx) MUST_CHECK;
/* What is asked for, in words; without memory the audit line has none. */
void request_value(struct request *rq, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* rc < 0: rq->err says why (its absence means strerror). */
void request_finish(struct request *rq, int rc);
/*
 * Writes the audit line of a request that is allowed; the last thing before anything is
 * changed.  What cannot be recorded is refused.
 */
int request_record(struct request *rq) MUST_CHECK;
/*
 * Is the role of the caller's policy one to work with in a branch of parent (NULL: it
 * is gone)?  If it is to be made there, *ret_make is its name.  -EAGAIN: the parent's
 * server would tell, which does not run.
 */
int request_check_role(struct request *rq, struct branch *parent,
		       const char **ret_make) MUST_CHECK;
/* Goes on in fn on a pool thread. */
void request_to_pool(struct request *rq, void (*fn)(void *rq));
/*
 * Marks the branch as being changed by this request until it finishes or lets
 * go; -EBUSY, with the sentence, if another one changes it.
 */
int request_claim(struct request *rq) MUST_CHECK;
/* Asks the fleet; the claim is given up only behind the question, so that two
 * requests reach the fleet in the order of their claims. */
void request_want_unclaim(struct request *rq, enum pm_want want, fleet_done done);

/* 0, or the sentence in rq->err: -ENOENT when b was discarded, else policy's. */
int request_authorise(struct request *rq, enum policy_verb verb, struct branch *b,
		      struct branch_info *ret_info) MUST_CHECK;
/* control_change.c: 0, or what is in e: -EPERM, with a hint. */
int control_check_protected(const struct branch_info *info, struct err *e) MUST_CHECK;
/* Refuses, before anything is changed, what would touch somebody else's server. */
int control_check_ours(struct control *c, struct branch *b, struct err *e) MUST_CHECK;
/* What the fleet says about a stop or start, for .error: the branch `what`. */
void request_take_fleet_error(struct request *rq, int rc, const struct err *e,
			      const char *what);
/* Does the store have more space than its reserve? */
int control_check_reserve(struct control *c, struct err *e) MUST_CHECK;
/*
 * control_rollback.c, when all is looked at and recorded: the branch becomes rq->to, or
 * its rq->checkpoint, without its server, and the request ends.
 */
void request_switch(struct request *rq);
/* control_create.c, on the pool; what cannot be is in rq->err.  Does the store have
 * more space than its reserve? */
int request_check_reserve(struct request *rq) MUST_CHECK;
/* What the branch's server has acknowledged is durable. */
int request_sync_commit(struct request *rq, struct branch *b) MUST_CHECK;
/* Discards a branch that has expired.  -ECANCELED: it has not, any more. */
void control_expire(struct control *c, struct branch *b, control_done done, void *ctx);
/* The same for one that nobody used since `limit`. */
void control_discard_unused(struct control *c, const struct caller *who,
			    struct branch *b, time_t limit, const char *why,
			    control_done done, void *ctx);
/* Removes a branch in the trash for good; why: for the audit line. */
void control_purge_why(struct control *c, const struct caller *who, struct branch *b,
		       const char *why, control_done done, void *ctx);
/* Removes a branch for good whose time in the trash is over. */
void control_purge_due(struct control *c, struct branch *b, control_done done,
		       void *ctx);
/* Those of the present configuration: a reference, for CLEAN(policy_set_putp). */
struct policy_set *control_policies(struct control *c);
static inline void policy_set_putp(struct policy_set **s)
{
	*s = policy_set_put(*s);
}
/* policy_authorise with the present configuration. */
int control_authorise(struct control *c, const struct rights *rt,
		      const struct caller *who, enum policy_verb verb,
		      const struct branch_info *info, struct err *e) MUST_CHECK;
/* control_lifetime.c: when a branch that is made now expires; 0: never.  p: of its
 * maker, or NULL. */
time_t control_first_expires(struct control *c, const struct policy *p, time_t now);
/* Is name fit for a branch of this mount? */
int control_check_name(const struct control *c, const char *name,
		       struct err *e) MUST_CHECK;
/* What can wait, soon and on the pool, and every few seconds: what nobody fsynced
 * goes to disk, what discarded branches held is freed, what nobody uses leaves memory.
 */
void control_upkeep(struct control *c);

#endif

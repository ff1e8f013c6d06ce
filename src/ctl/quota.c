/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A count walks the layers of all branches, and reads directories of those that were
 * written since the last one: every half second while a policy limits bytes, on the
 * pool, one at a time.  A new branch is counted before mkdir is answered.
 */
#include "ctl/quota.h"

#include "base/log.h"
#include "ctl/request.h"
#include "store/quota.h"

#include <string.h>

#define COUNT_MS 500

/* A branch that is being made. */
struct making {
	struct making *next;
	uid_t uid;
};

/* What one uid holds and may hold. */
struct share {
	uid_t uid;
	uint64_t limit, used;
};

struct quota {
	struct control *c;
	struct loop_timer *timer;
	pthread_mutex_t lock;
	struct making *making; /* lock: lock */
	bool counting;         /* lock: lock */
	struct share *shares;  /* lock: lock; as they were counted last; owned */
	size_t n_shares;       /* lock: lock */
	bool failing;          /* of the job that counts */
	bool limits;           /* likewise: there are branches with a limit */
};

static bool any_limit(const struct policy_set *s)
{
	for (size_t i = 0; s && i < s->n; i++)
		if (s->v[i]->max_bytes != POLICY_UNSET)
			return true;
	return false;
}

static struct share *share_of(struct share *v, size_t n, struct branch *b)
{
	struct branch_info info;

	branch_info(b, &info);
	for (size_t i = 0; i < n; i++)
		if (v[i].uid == info.owner)
			return &v[i];
	return NULL;
}

/* For each branch what was announced in the others is used, too. */
static void tell_branches(struct control *c, struct share *v, size_t n)
{
	struct branch **list;
	struct share *s;

	if (registry_list(c->registry, &list) < 0)
		return; /* at the next count */
	for (struct branch **b = list; *b; b++) {
		s = share_of(v, n, *b);
		if (s)
			s->used += branch_quota_pending(*b);
	}
	for (struct branch **b = list; *b; b++) {
		uint64_t own = branch_quota_pending(*b);

		s = share_of(v, n, *b);
		if (s)
			branch_quota_set(*b, s->limit,
					 s->used > own ? s->used - own : 0);
	}
	branch_list_free(list);
}

static int count(struct quota *q, struct policy_set *s)
{
	CLEAN(clean_free) struct held_by *held = NULL;
	CLEAN(clean_free) struct share *v = NULL;
	size_t n = 0;
	int rc = registry_held_by(q->c->registry, &held, &n);

	if (rc < 0)
		return rc;
	v = calloc(n ? n : 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct policy *p = held[i].uid == q->c->mount_owner
						 ? NULL
						 : policy_of_uid(s, held[i].uid);

		v[i] = (struct share){held[i].uid, p ? p->max_bytes : POLICY_UNSET,
				      held[i].bytes};
	}
	tell_branches(q->c, v, n);
	LOCK_SCOPE(&q->lock);
	free(q->shares);
	q->shares = steal(v);
	q->n_shares = n;
	return 0;
}

void quota_begin_branch(struct quota *q, const struct policy *p, struct branch *b)
{
	const struct share *s;

	if (!p || p->max_bytes == POLICY_UNSET)
		return;
	{
		LOCK_SCOPE(&q->lock);
		s = share_of(q->shares, q->n_shares, b);
		branch_quota_set(b, p->max_bytes, s ? s->used : 0);
	}
	quota_soon(q);
}

static void count_job(void *ctx)
{
	struct quota *q = ctx;
	struct policy_set *s = control_policies(q->c);
	bool limits = any_limit(s);
	int rc = 0;

	/* once more behind the last limit, to lift it */
	if (limits || q->limits)
		rc = count(q, s);
	q->limits = limits;
	if (rc < 0 && !q->failing)
		log_warn("cannot count what branches hold: %s; their limits stay as "
			 "they were counted last",
			 strerrordesc_np(-rc));
	q->failing = rc < 0;
	(void)policy_set_put(s);
	LOCK_SCOPE(&q->lock);
	q->counting = false;
}

void quota_soon(struct quota *q)
{
	LOCK_SCOPE(&q->lock);
	/* without memory for a job the timer comes again */
	if (!q->counting)
		q->counting = pool_post(q->c->pool, count_job, q) == 0;
}

static void count_due(void *ctx)
{
	struct quota *q = ctx;

	quota_soon(q);
	loop_timer_arm(q->timer, COUNT_MS);
}

int quota_new(struct control *c, struct quota **ret_quota)
{
	struct quota *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return -ENOMEM;
	q->c = c;
	(void)pthread_mutex_init(&q->lock, NULL); /* cannot fail with NULL */
	rc = loop_timer_new(c->loop, count_due, q, &q->timer);
	if (rc < 0) {
		(void)quota_free(q); /* returns NULL */
		return rc;
	}
	loop_timer_arm(q->timer, 0);
	*ret_quota = q;
	return 0;
}

struct quota *quota_free(struct quota *q)
{
	if (!q)
		return NULL;
	(void)loop_timer_free(q->timer);       /* returns NULL */
	(void)pthread_mutex_destroy(&q->lock); /* nobody holds it */
	free(q->shares);
	free(q);
	return NULL;
}

static uint64_t count_branches(struct registry *r, uid_t uid)
{
	struct branch **list;
	uint64_t n = 0;

	if (registry_list(r, &list) < 0)
		return UINT64_MAX; /* out of memory: no more of them */
	for (struct branch **b = list; *b; b++) {
		struct branch_info info;

		branch_info(*b, &info);
		n += info.owner == uid;
	}
	branch_list_free(list);
	return n;
}

int quota_begin_create(struct quota *q, const struct policy *p, uid_t uid,
		       struct err *e)
{
	uint64_t max = p ? p->max_branches : POLICY_UNSET, n = 0;
	struct making *m;

	if (max == POLICY_UNSET)
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->uid = uid;
	LOCK_SCOPE(&q->lock);
	for (const struct making *at = q->making; at; at = at->next)
		n += at->uid == uid;
	/* one that has just been made may be in both: it is refused sooner, not later
	 */
	n += count_branches(q->c->registry, uid);
	if (n >= max) {
		free(m);
		(void)err_set(e, -EDQUOT,
			      "uid %u has %llu branches, as many as policy '%s' allows",
			      uid, (unsigned long long)n, p->name);
		return err_hint(e, "discard one with rmdir");
	}
	m->next = q->making;
	q->making = m;
	return 0;
}

void quota_end_create(struct quota *q, uid_t uid)
{
	LOCK_SCOPE(&q->lock);
	for (struct making **at = &q->making; *at; at = &(*at)->next) {
		struct making *m = *at;

		if (m->uid != uid)
			continue;
		*at = m->next;
		free(m);
		return;
	}
}

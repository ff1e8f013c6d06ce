/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel keeps what was written for some time before it comes here, so a quota is
 * charged when a write is announced, and the charge taken back when the bytes come and
 * are counted on disk.  What is overwritten meanwhile is announced twice and comes
 * once: a charge is forgotten when it is older than the kernel keeps anything.
 *
 * Layers are charged to the uid whose branches alone stand on them.  Those between two
 * branches of one uid are, too, so that branching frees no quota.
 */
#include "store/quota.h"

#include "base/loop.h"
#include "store/checkpoint_priv.h"

#include <string.h>

/* The kernel writes dirty pages after 30 s. */
#define FORGET_MS 35000
/* A write that is announced costs a round trip: only where it matters. */
#define NEAR_BYTES (INT64_C(1) << 30)
#define MIB (INT64_C(1) << 20)

static const int64_t slack[] = {
	[QUOTA_GROW] = 0,
	[QUOTA_COPY] = 64 * MIB,
	[QUOTA_WAL] = 128 * MIB,
	/* a server ends when it cannot write the few bytes of a checkpoint */
	[QUOTA_SMALL] = 144 * MIB,
};

static int64_t pending_locked(struct branch_quota *q)
{
	int64_t now = loop_now_ms();

	if (now - q->turned_ms >= FORGET_MS) {
		q->older = now - q->turned_ms >= 2 * FORGET_MS ? 0 : q->newer;
		q->newer = 0;
		q->turned_ms = now;
	}
	return q->older + q->newer;
}

static int64_t left_locked(struct branch_quota *q)
{
	int64_t used = q->used > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)q->used;
	int64_t limit = q->limit > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)q->limit;

	return limit - used - pending_locked(q);
}

void branch_quota_set(struct branch *b, uint64_t limit, uint64_t used)
{
	struct branch_quota *q = &b->quota;

	LOCK_SCOPE(&q->lock);
	q->limit = limit;
	q->used = used;
	atomic_store(&q->on, limit != UINT64_MAX);
	if (limit != UINT64_MAX)
		atomic_store(&q->near, left_locked(q) < NEAR_BYTES);
	else
		atomic_store(&q->near, false);
}

bool branch_quota_get(struct branch *b, uint64_t *ret_limit, uint64_t *ret_used)
{
	struct branch_quota *q = &b->quota;

	if (!atomic_load(&q->on))
		return false;
	LOCK_SCOPE(&q->lock);
	*ret_limit = q->limit;
	*ret_used = q->used + (uint64_t)pending_locked(q);
	return true;
}

uint64_t branch_quota_pending(struct branch *b)
{
	struct branch_quota *q = &b->quota;

	LOCK_SCOPE(&q->lock);
	return (uint64_t)pending_locked(q);
}

bool branch_quota_is_near(struct branch *b)
{
	return atomic_load(&b->quota.near);
}

int branch_quota_ask(struct branch *b, enum quota_use use, uint64_t bytes)
{
	struct branch_quota *q = &b->quota;
	int64_t charge = bytes > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)bytes, left;

	if (!atomic_load(&q->on))
		return 0;
	LOCK_SCOPE(&q->lock);
	left = left_locked(q);
	if (use != QUOTA_WRITTEN && left + slack[use] < charge)
		return -EDQUOT;
	q->newer += charge;
	atomic_store(&q->near, left - charge < NEAR_BYTES);
	return 0;
}

void branch_quota_came(struct branch *b, uint64_t bytes, bool grows)
{
	struct branch_quota *q = &b->quota;
	int64_t n = bytes > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)bytes, part;

	if (!atomic_load(&q->on))
		return;
	LOCK_SCOPE(&q->lock);
	part = n < q->older ? n : q->older;
	q->older -= part;
	n -= part;
	q->newer -= n < q->newer ? n : q->newer;
	/* on disk, though not counted there yet */
	if (grows)
		q->used += bytes;
}

/* --- who holds what --- */

struct holder {
	UT_hash_handle hh;
	struct layer *l; /* a reference, and the key */
	uid_t uid;
	bool many;
};

struct held {
	UT_hash_handle hh;
	uid_t uid;
	uint64_t bytes;
};

struct count {
	struct holder *layers;
	struct held *uids;
	size_t n;
};

static void count_fini(struct count *c)
{
	struct holder *h, *next_holder;
	struct held *u, *next_held;

	HASH_ITER(hh, c->layers, h, next_holder)
	{
		HASH_DEL(c->layers, h);
		layer_put(h->l);
		free(h);
	}
	HASH_ITER(hh, c->uids, u, next_held)
	{
		HASH_DEL(c->uids, u);
		free(u);
	}
}

static struct held *uid_get(struct count *c, uid_t uid)
{
	struct held *u = NULL;

	HASH_FIND(hh, c->uids, &uid, sizeof(uid), u);
	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	HASH_ADD(hh, c->uids, uid, sizeof(u->uid), u);
	if (!u->hh.tbl) {
		free(u);
		return NULL;
	}
	c->n++;
	return u;
}

/* uid stands on l, a reference that passes over, and on all below it. */
static int mark(struct count *c, struct layer *l, uid_t uid)
{
	while (l) {
		struct holder *h = NULL;

		HASH_FIND_PTR(c->layers, &l, h);
		if (h && (h->many || h->uid == uid))
			break; /* and so is what is below it */
		if (h) {
			h->many = true;
		} else {
			h = calloc(1, sizeof(*h));
			if (!h) {
				layer_put(l);
				return -ENOMEM;
			}
			*h = (struct holder){.l = layer_get(l), .uid = uid};
			HASH_ADD_PTR(c->layers, l, h);
			if (!h->hh.tbl) {
				layer_put(h->l);
				free(h);
				layer_put(l);
				return -ENOMEM;
			}
		}
		l = layer_step_down(l);
	}
	layer_put(l);
	return 0;
}

static int mark_branch(struct registry *r, struct count *c, struct branch *b)
{
	struct checkpoint_set *s;
	struct branch_info info;
	int rc;

	branch_info(b, &info);
	if (!uid_get(c, info.owner))
		return -ENOMEM;
	rc = mark(c, branch_top(b), info.owner);
	READ_SCOPE(&r->table);
	s = checkpoints_of_locked(r, b->no);
	for (size_t i = 0; rc == 0 && s && i < s->n; i++)
		rc = mark(c, layer_get(s->v[i]->layer), info.owner);
	return rc;
}

static int mark_all(struct registry *r, struct count *c,
		    int (*list_fn)(struct registry *r, struct branch ***ret_list))
{
	struct branch **list = NULL;
	int rc = list_fn(r, &list);

	for (struct branch **b = list; rc == 0 && *b; b++)
		rc = mark_branch(r, c, *b);
	branch_list_free(list);
	return rc;
}

static int add_layers(struct count *c)
{
	struct holder *h, *next;
	int rc = 0;

	HASH_ITER(hh, c->layers, h, next)
	{
		uint64_t blocks = 0;
		struct held *u;

		if (h->many)
			continue;
		rc = layer_blocks(h->l, &blocks);
		u = rc == 0 ? uid_get(c, h->uid) : NULL;
		if (!u)
			return rc < 0 ? rc : -ENOMEM;
		u->bytes += blocks * 512;
	}
	return 0;
}

int registry_held_by(struct registry *r, struct held_by **ret_list, size_t *ret_n)
{
	CLEAN(count_fini) struct count c = {NULL, NULL, 0};
	struct held *u, *next;
	struct held_by *v;
	size_t n = 0;
	int rc = mark_all(r, &c, registry_list);

	if (rc == 0)
		rc = mark_all(r, &c, registry_list_trash);
	if (rc == 0)
		rc = add_layers(&c);
	if (rc < 0)
		return rc;
	v = calloc(c.n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	HASH_ITER(hh, c.uids, u, next)
	{
		v[n++] = (struct held_by){u->uid, u->bytes};
	}
	*ret_list = v;
	*ret_n = n;
	return 0;
}

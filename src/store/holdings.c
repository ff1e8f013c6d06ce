/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * holdings.c - which layers a branch and its checkpoints have for themselves, and who
 * of them is charged for which.
 *
 * A layer is theirs alone if all its users are: the branch, its checkpoints, and layers
 * that are theirs alone.  So they are walked from above, the highest first; below one
 * that others use, too, nothing is theirs.
 *
 * What the branch stands on is charged to the branch, so taking a checkpoint changes no
 * figure, and the figure of a checkpoint is what comes back when it is dropped.
 */
#include "store/checkpoint_priv.h"

#include <stdlib.h>

/* A layer that something of the branch's stands on. */
struct held {
	struct layer *l; /* a reference */
	unsigned refs;   /* how many of its users that are */
	bool live;       /* the branch is one of them, or of those above */
	uint32_t seq;    /* the oldest checkpoint of which that is true; 0: none */
};

struct holdings {
	struct held *v;
	size_t n;
};

static void holdings_fini(struct holdings *h)
{
	for (size_t i = 0; i < h->n; i++)
		layer_put(h->v[i].l);
	free(h->v);
}

/* l: a reference, which passes over. */
static void add_held(struct holdings *h, struct layer *l, bool live, uint32_t seq)
{
	struct held *at = NULL;

	for (size_t i = 0; i < h->n && !at; i++)
		if (h->v[i].l == l)
			at = &h->v[i];
	if (at) {
		layer_put(l);
	} else {
		at = &h->v[h->n++];
		*at = (struct held){.l = l};
	}
	at->refs++;
	at->live = at->live || live;
	if (seq && (!at->seq || seq < at->seq))
		at->seq = seq;
}

/* Takes the highest one, which nothing that is left stands on. */
static struct held take_top(struct holdings *h)
{
	size_t top = 0;
	struct held one;

	for (size_t i = 1; i < h->n; i++)
		if (h->v[i].l->height > h->v[top].l->height)
			top = i;
	one = h->v[top];
	h->v[top] = h->v[--h->n];
	return one;
}

/* b: NULL when it is gone. */
static int collect(struct registry *r, uint32_t no, struct branch *b,
		   struct holdings *h)
{
	struct checkpoint_set *s;
	size_t n;

	READ_SCOPE(&r->table);
	s = checkpoints_of_locked(r, no);
	n = (s ? s->n : 0) + 1;
	/* each one that is taken adds at most its parent */
	h->v = calloc(n, sizeof(*h->v));
	if (!h->v)
		return -ENOMEM;
	if (b)
		add_held(h, branch_top(b), true, 0);
	for (size_t i = 0; s && i < s->n; i++)
		add_held(h, layer_get(s->v[i]->layer), false, s->v[i]->m.seq);
	return 0;
}

/* Calls fn for each layer from above, as long as they are theirs alone, and for the
 * first ones that are not. */
static int walk(struct registry *r, uint32_t no, struct branch *b,
		int (*fn)(void *ctx, const struct held *one, bool own), void *ctx)
{
	CLEAN(holdings_fini) struct holdings h = {.n = 0};
	int rc = collect(r, no, b, &h);

	while (rc == 0 && h.n > 0) {
		struct held one = take_top(&h);
		bool own = one.refs == atomic_load(&one.l->users);

		rc = fn(ctx, &one, own);
		one.l = own ? layer_step_down(one.l) : layer_put(one.l);
		if (one.l)
			add_held(&h, one.l, one.live, one.seq);
	}
	return rc;
}

static int note_users(void *ctx, const struct held *one, bool own)
{
	const uint32_t *no = ctx;

	if (!one->live)
		return 0;
	atomic_store(&one->l->own_users, own ? one->refs - 1 : 0);
	atomic_store(&one->l->own_by, *no);
	return 0;
}

void holdings_recount(struct registry *r, struct branch *b)
{
	uint32_t by = branch_data_no(b);
	bool any;

	{
		READ_SCOPE(&r->table);
		any = checkpoints_of_locked(r, b->no) != NULL;
	}
	if (!any)
		return;
	/* without memory the branch is charged for less than it holds */
	(void)!walk(r, b->no, b, note_users, &by);
}

struct sum {
	bool live;
	uint32_t seq;
	uint64_t blocks;
};

static int add_blocks(void *ctx, const struct held *one, bool own)
{
	struct sum *sum = ctx;
	uint64_t blocks = 0;
	int rc = 0;

	if (own && one->live == sum->live && (sum->live || one->seq == sum->seq))
		rc = layer_blocks(one->l, &blocks);
	sum->blocks += blocks;
	return rc;
}

int branch_own_bytes(struct branch *b, uint64_t *ret_bytes)
{
	struct sum sum = {.live = true};
	int rc = walk(b->reg, b->no, b, add_blocks, &sum);

	if (rc == 0)
		*ret_bytes = sum.blocks * 512;
	return rc;
}

int checkpoint_held_bytes(struct registry *r, uint32_t no, uint32_t seq,
			  uint64_t *ret_bytes)
{
	struct branch *b = registry_find_no(r, no);
	struct sum sum = {.seq = seq};
	int rc;

	if (!b)
		b = registry_find_trashed_no(r, no);
	rc = walk(r, no, b, add_blocks, &sum);
	branch_put(b);
	if (rc == 0)
		*ret_bytes = sum.blocks * 512;
	return rc;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * squash.c - which layers are merged, and how the result takes their place.
 *
 *     branch or layer `above` --> run[0] --> ... --> run[n-1] --> below
 *                        \-------------> merged --------------/
 *
 *   1. the merged layer is written, durable with its record; nobody knows it
 *   2. above's parent in memory is the merged one
 *   3. its record says so, too: durable
 *   4. the run has no user any more and is freed like any other
 *
 * A crash before 3 leaves the merged layer as a leftover, one after it the run.  2
 * comes before 3 because both chains say the same: a tree that reads the merged layer
 * depends on nothing that the disk does not have.  Where 3 fails, both stay until it
 * succeeds.
 *
 * What is worth it: a run of at least min_run layers, but without those at its end that
 * would be copied for little: a layer belongs to it if it is small, or no larger than a
 * few times all above it.  So bytes are copied again and again only a few times,
 * however long the store lives.
 */
#include "store/squash.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "store/checkpoint_priv.h"
#include "store/merge.h"
#include "store/overlay_priv.h"
#include "store/registry_priv.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SMALL_BLOCKS (UINT64_C(64) << 20 >> 9) /* 64 MiB in blocks of 512 bytes */
#define TIMES_ABOVE 4
#define RUN_MAX 512
#define AGAIN_MS INT64_C(600000) /* after a failure, as on a full disk */
#define TRIES_MAX 60
#define SWITCH_NS 20000000 /* how long trees stand still for it, at most */
#define TREES_MAX 8        /* that wait for an instant at the same time */

struct squash {
	struct layer *run[RUN_MAX]; /* references; the topmost first */
	unsigned n;
	uint32_t id; /* of the merged layer */
	struct merge *merge;
	struct layer *merged; /* a reference, from step 2 on */
	struct layer *above;  /* likewise; what stands on it */
	unsigned tries;       /* to take the place */
};

static void drop_run(struct squash *q)
{
	for (unsigned i = 0; i < q->n; i++)
		layer_put(q->run[i]);
	q->n = 0;
}

/* --- which --- */

static bool is_nameless(const struct registry *r, const struct layer *l)
{
	return atomic_load(&l->users) == 1 && atomic_load(&l->durable) &&
	       l->id >= r->keep_below;
}

/* What a search looks for. */
struct search {
	unsigned min_run;
	unsigned skip;  /* how many runs are passed over */
	unsigned round; /* layers with it were met */
};

/* Is what was collected long enough, and its turn?  Otherwise it is dropped. */
static bool is_found(struct search *s, struct squash *q)
{
	if (q->n >= s->min_run && s->skip-- == 0)
		return true;
	drop_run(q);
	return false;
}

/* Collects a run from l downwards. */
static bool find_run_locked(struct registry *r, struct layer *l, struct search *s,
			    struct squash *q)
{
	for (; l && l->search_round != s->round; l = l->parent) {
		l->search_round = s->round;
		if (q->n < RUN_MAX && is_nameless(r, l))
			q->run[q->n++] = layer_get(l);
		else if (is_found(s, q))
			return true;
	}
	return is_found(s, q);
}

/*
 * Cuts off what is not worth it: the run ends where a layer is too large for what is
 * above it, or begins there.
 */
static int trim_run(struct squash *q, unsigned min_run)
{
	uint64_t sum = 0, blocks;
	unsigned from = 0, i;
	int rc = 0;

	for (i = 0; i < q->n; i++) {
		rc = layer_blocks(q->run[i], &blocks);
		if (rc < 0)
			break;
		if (i > from && blocks > SMALL_BLOCKS && blocks / TIMES_ABOVE > sum) {
			if (i - from >= min_run)
				break;
			from = i;
			sum = 0;
		}
		sum += blocks;
	}
	for (unsigned j = 0; j < q->n; j++)
		if (j < from || j >= i)
			layer_put(q->run[j]);
	memmove(q->run, q->run + from, (i - from) * sizeof(struct layer *));
	q->n = i - from;
	if (rc < 0 || q->n < min_run)
		drop_run(q);
	return rc;
}

static bool find_in_table(struct registry *r, const struct branch *by_no,
			  struct search *s, struct squash *q)
{
	for (const struct branch *b = by_no; b; b = b->hh_no.next)
		if (find_run_locked(r, b->top->parent, s, q))
			return true;
	return false;
}

/* What a checkpoint stands on has its name; what is below has none. */
static bool find_below_checkpoints(struct registry *r, struct search *s,
				   struct squash *q)
{
	for (struct checkpoint_set *c = r->checkpoints; c; c = c->hh.next)
		for (size_t i = 0; i < c->n; i++)
			if (find_run_locked(r, c->v[i]->layer->parent, s, q))
				return true;
	return false;
}

static bool find(struct registry *r, unsigned min_run, unsigned skip, struct squash *q)
{
	struct search s = {.min_run = min_run, .skip = skip};

	LOCK_SCOPE(&r->change);
	if (r->keep_below)
		return false; /* somebody may need them whose record is damaged */
	s.round = ++r->search_round;
	return find_in_table(r, r->by_no, &s, q) ||
	       find_in_table(r, r->trash_by_no, &s, q) ||
	       find_below_checkpoints(r, &s, q);
}

/* 1: a run was found. */
static int plan(struct registry *r, unsigned min_run, struct squash *q)
{
	int rc = 0;

	for (unsigned skip = 0; rc == 0 && q->n == 0; skip++) {
		if (!find(r, min_run, skip, q))
			return 0;
		rc = trim_run(q, min_run);
	}
	if (rc < 0)
		return rc;
	LOCK_SCOPE(&r->change);
	q->id = r->next_layer++;
	r->building = q->id;
	return 1;
}

/* --- taking their place --- */

static struct layer *find_above(struct layer *l, const struct squash *q)
{
	while (l && (q->above ? l != q->above : l->parent != q->run[0]))
		l = l->parent;
	return l;
}

static struct layer *find_above_in(struct branch *by_no, const struct squash *q,
				   struct branch **ret_branch)
{
	for (struct branch *b = by_no; b; b = b->hh_no.next) {
		struct layer *l = find_above(b->top, q);

		if (l)
			*ret_branch = l == b->top ? b : NULL;
		if (l)
			return l;
	}
	return NULL;
}

static struct layer *find_above_checkpoints(struct registry *r, const struct squash *q)
{
	struct layer *l = NULL;

	for (struct checkpoint_set *c = r->checkpoints; c && !l; c = c->hh.next)
		for (size_t i = 0; i < c->n && !l; i++)
			l = find_above(c->v[i]->layer, q);
	return l;
}

/* What stands on the run, with its branch if it is the one that this writes; NULL: the
 * run is not what it was. */
static struct layer *find_above_locked(struct registry *r, const struct squash *q,
				       struct branch **ret_branch)
{
	struct layer *above = find_above_in(r->by_no, q, ret_branch);

	if (!above)
		above = find_above_in(r->trash_by_no, q, ret_branch);
	if (!above)
		above = find_above_checkpoints(r, q);
	for (unsigned i = 0; i < q->n && !q->above; i++)
		if (!is_nameless(r, q->run[i]))
			return NULL; /* a branch was made of it */
	return above;
}

/* Trees that stand on a layer. */
struct trees {
	struct overlay *v[TREES_MAX]; /* references */
	unsigned n;
	bool too_many;
};

static void trees_fini(struct trees *t)
{
	while (t->n > 0)
		overlay_put(t->v[--t->n]);
}

static void add_trees(struct branch *by_no, const struct layer *above, struct trees *t)
{
	for (struct branch *b = by_no; b; b = b->hh_no.next) {
		const struct layer *l = b->top;

		while (l && l != above)
			l = l->parent;
		if (!l)
			continue;
		LOCK_SCOPE(&b->lock);
		if (!b->data)
			continue;
		if (t->n < TREES_MAX)
			t->v[t->n++] = overlay_get(b->data);
		else
			t->too_many = true;
	}
}

/* The merged layer as others know it; its index is held once for each tree. */
static int make_merged(struct registry *r, const struct squash *q,
		       const struct trees *t, struct layer **ret_merged)
{
	struct layer *below = q->run[q->n - 1]->parent, *l;
	unsigned held = 0;
	int rc = 0;

	l = layer_new(&r->store, q->id, below ? layer_get(below) : NULL, false);
	if (!l)
		return -ENOMEM;
	l->merged = true;
	l->height = q->run[0]->height;
	l->max_fid = q->run[0]->max_fid;
	atomic_store(&l->sealed, true);
	atomic_store(&l->durable, true);
	while (rc == 0 && held < t->n) {
		rc = layer_load(l);
		held += rc == 0;
	}
	for (unsigned i = 0; rc == 0 && i < t->n; i++)
		rc = overlay_can_switch(t->v[i], q->run, q->n, l);
	if (rc == 0) {
		*ret_merged = l;
		return 0;
	}
	while (held-- > 0)
		layer_unload(l);
	if (below)
		atomic_fetch_sub(&below->users, 1);
	layer_put(l);
	return rc;
}

/* -EBUSY: a tree stands on it that is not among these. */
static int switch_locked(const struct squash *q, const struct trees *t,
			 struct layer *above, struct layer *merged)
{
	WRITE_SCOPE(&above->store->lineage);
	WRITE_SCOPE(&above->lock);
	if (above->holds != t->n)
		return -EBUSY;
	for (unsigned i = 0; i < q->n; i++)
		q->run[i]->leaving = true;
	for (unsigned i = 0; i < t->n; i++)
		overlay_switch_locked(t->v[i], merged);
	above->parent = layer_get(merged);
	atomic_fetch_add(&merged->users, 1);
	return 0;
}

/* With the freeze locks. */
static int switch_files(const struct squash *q, const struct trees *t,
			struct layer *above, struct layer *merged)
{
	struct timespec until;
	unsigned n = 0;
	int rc = 0;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += SWITCH_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (rc == 0 && n < t->n) {
		rc = overlay_switch_begin(t->v[n], &until);
		n += rc == 0;
	}
	if (rc == 0)
		rc = switch_locked(q, t, above, merged);
	while (n > 0)
		overlay_switch_end(t->v[--n]);
	return rc;
}

/* Step 2.  Nobody reads or writes in these trees meanwhile. */
static int switch_trees(const struct squash *q, const struct trees *t,
			struct layer *above, struct layer *merged)
{
	int rc;

	for (unsigned i = 0; i < t->n; i++)
		(void)pthread_rwlock_wrlock(&t->v[i]->freeze);
	rc = switch_files(q, t, above, merged);
	for (unsigned i = t->n; i > 0; i--)
		(void)pthread_rwlock_unlock(&t->v[i - 1]->freeze);
	/* what the trees held of the chain that they do not use any more */
	for (unsigned i = 0; i < t->n; i++)
		layer_unload(rc == 0 ? q->run[0] : merged);
	return rc;
}

/* Step 3. */
static int save_record(struct registry *r, struct squash *q, struct branch *b)
{
	struct branch_meta m;
	int rc;

	if (!b)
		return layer_prepare_seal(q->above);
	m = b->meta;
	m.base = q->id;
	rc = registry_save(r, branch_record_name(b), &m);
	if (rc < 0)
		return rc;
	LOCK_SCOPE(&b->lock);
	b->meta = m;
	return 0;
}

static int take_place_locked(struct registry *r, struct squash *q, struct layer *above)
{
	CLEAN(trees_fini) struct trees t = {.n = 0};
	struct layer *merged = NULL, *below = q->run[q->n - 1]->parent;
	int rc;

	add_trees(r->by_no, above, &t);
	add_trees(r->trash_by_no, above, &t);
	if (t.too_many)
		return -EBUSY;
	rc = make_merged(r, q, &t, &merged);
	if (rc < 0)
		return rc;
	rc = switch_trees(q, &t, above, merged);
	if (rc == 0) {
		q->merged = merged;
		q->above = layer_get(above);
		return 0;
	}
	if (below)
		atomic_fetch_sub(&below->users, 1);
	layer_put(merged);
	return rc;
}

/* Steps 2 and 3.  1: done, also if the branch is gone for which it was done. */
static int take_place(struct registry *r, struct squash *q)
{
	struct branch *b = NULL;
	struct layer *above;
	int rc = 0;

	LOCK_SCOPE(&r->change);
	above = find_above_locked(r, q, &b);
	if (above && !q->merged)
		rc = take_place_locked(r, q, above);
	FAULT_POINT("squash.switched");
	if (rc == 0 && above)
		rc = save_record(r, q, b);
	if (rc < 0)
		return rc;
	FAULT_POINT("squash.saved");
	if (q->merged) {
		metric_add(&r->squashed, q->n);
		/* the reference that `above` had on the run */
		layer_release(r, q->run[0]);
		layer_put(q->run[0]);
	}
	r->building = 0;
	return 1;
}

/* --- steps --- */

static void end(struct registry *r, struct squash *q)
{
	char path[32];

	merge_free(q->merge);
	if (!q->merged && q->id) {
		LOCK_SCOPE(&r->change);
		r->building = 0;
	}
	if (!q->merged && q->id) {
		(void)snprintf(path, sizeof(path), "layers/%08x", q->id);
		if (fd_remove_tree(r->store.fd, path) < 0)
			log_warn("%s: cannot remove; trying again at the next mount",
				 path);
	}
	layer_put(q->merged);
	layer_put(q->above);
	drop_run(q);
	free(q);
	r->squash = NULL;
}

static int begin(struct registry *r, unsigned min_run)
{
	struct squash *q = calloc(1, sizeof(*q));
	int rc = q ? plan(r, min_run, q) : -ENOMEM;

	r->squash = q;
	if (rc > 0) {
		rc = merge_new(&r->store, q->run, q->n, q->id, &q->merge);
		rc = rc < 0 ? rc : 1;
	}
	if (q && rc <= 0)
		end(r, q);
	return rc;
}

/* 1: more to do; 0: done; -EBUSY: not now. */
static int go_on(struct registry *r, uint64_t max_bytes)
{
	struct squash *q = r->squash;
	int rc = 1;

	if (!q->merged && atomic_load(&q->run[0]->users) == 0) {
		end(r, q); /* what stood on it is gone, and so are its files soon */
		return 1;
	}
	if (q->merge) {
		rc = merge_step(q->merge, max_bytes);
		if (rc <= 0)
			return rc < 0 ? rc : 1;
		q->merge = merge_free(q->merge);
	}
	rc = take_place(r, q);
	if (rc <= 0)
		return rc;
	if (q->merged)
		log_info("%s: made of %u layers, which go", q->merged->dir, q->n);
	end(r, q);
	return 1;
}

int registry_squash(struct registry *r, unsigned min_run, uint64_t max_bytes)
{
	int rc;

	if (min_run < 2 || loop_now_ms() < r->squash_again_ms)
		return 0;
	rc = r->squash ? 1 : begin(r, min_run);
	if (rc > 0)
		rc = go_on(r, max_bytes);
	if (rc == -EBUSY && r->squash->tries++ < TRIES_MAX)
		return 0; /* it is ready, and waits for who is in the way */
	if (rc < 0 && r->squash && r->squash->merged)
		return rc; /* only the record is missing */
	if (rc < 0) {
		if (r->squash)
			end(r, r->squash);
		r->squash_again_ms = loop_now_ms() + AGAIN_MS;
	}
	return rc;
}

void registry_squash_end(struct registry *r)
{
	if (r->squash)
		end(r, r->squash);
}

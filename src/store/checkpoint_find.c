/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint_find.c - finding checkpoints, and what is told of them.
 *
 * Those of a branch that is gone are found by the name that it had last.
 */
#include "store/checkpoint_priv.h"

#include <stdlib.h>
#include <string.h>

void checkpoint_fill_info_locked(struct registry *r, const struct checkpoint_meta *m,
				 struct checkpoint_info *ret)
{
	struct branch *b = NULL;

	*ret = (struct checkpoint_info){
		.no = m->branch_no,
		.seq = m->seq,
		.kind = (enum checkpoint_kind)m->kind,
		.taken = (time_t)m->taken,
		.owner = m->owner,
		.group = m->group,
		.mode = 0700,
	};
	memcpy(ret->name, m->name, sizeof(ret->name));
	memcpy(ret->branch, m->branch, sizeof(ret->branch));
	HASH_FIND(hh_no, r->by_no, &m->branch_no, sizeof(m->branch_no), b);
	ret->left = !b;
	if (!b)
		HASH_FIND(hh_no, r->trash_by_no, &m->branch_no, sizeof(m->branch_no),
			  b);
	if (!b)
		return;
	memcpy(ret->branch, b->name, sizeof(ret->branch));
	LOCK_SCOPE(&b->lock);
	ret->owner = b->meta.owner;
	ret->group = b->meta.group;
	ret->mode = b->meta.mode;
}

static int give_locked(struct registry *r, const struct checkpoint *ck,
		       struct checkpoint_info *ret_info)
{
	if (!ck)
		return -ENOENT;
	checkpoint_fill_info_locked(r, &ck->m, ret_info);
	return 0;
}

int checkpoint_find(struct registry *r, uint32_t no, const char *name,
		    struct checkpoint_info *ret_info)
{
	READ_SCOPE(&r->table);
	return give_locked(r, checkpoint_by_name_locked(r, no, name), ret_info);
}

int checkpoint_find_seq(struct registry *r, uint32_t no, uint32_t seq,
			struct checkpoint_info *ret_info)
{
	READ_SCOPE(&r->table);
	return give_locked(r, checkpoint_by_seq_locked(r, no, seq), ret_info);
}

/* The newest of those on this layer. */
static struct checkpoint *find_on_locked(struct registry *r, uint32_t no,
					 const struct layer *l)
{
	const struct checkpoint_set *s = checkpoints_of_locked(r, no);

	for (size_t i = s ? s->n : 0; i > 0; i--)
		if (s->v[i - 1]->layer == l)
			return s->v[i - 1];
	return NULL;
}

int checkpoint_below(struct registry *r, struct branch *b,
		     struct checkpoint_info *ret_info)
{
	struct layer *l = layer_step_down(branch_top(b));
	int rc = -ENOENT;
	bool any;

	{
		READ_SCOPE(&r->table);
		any = checkpoints_of_locked(r, b->no) != NULL;
	}
	while (any && l && rc == -ENOENT) {
		{
			READ_SCOPE(&r->table);
			rc = give_locked(r, find_on_locked(r, b->no, l), ret_info);
		}
		l = layer_step_down(l);
	}
	layer_put(l);
	return rc;
}

int checkpoint_list(struct registry *r, uint32_t no, struct checkpoint_info **ret_list,
		    size_t *ret_n)
{
	struct checkpoint_info *v;
	struct checkpoint_set *s;

	READ_SCOPE(&r->table);
	s = checkpoints_of_locked(r, no);
	v = calloc(s && s->n ? s->n : 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	*ret_n = s ? s->n : 0;
	for (size_t i = 0; i < *ret_n; i++)
		checkpoint_fill_info_locked(r, &s->v[i]->m, &v[i]);
	*ret_list = v;
	return 0;
}

/* By branch and name, of the same name the newest first. */
static int by_left(const void *pa, const void *pb)
{
	const struct checkpoint_info *a = pa, *b = pb;
	int rc = strcmp(a->branch, b->branch);

	if (rc == 0)
		rc = strcmp(a->name, b->name);
	if (rc != 0)
		return rc;
	if (a->taken != b->taken)
		return a->taken > b->taken ? -1 : 1;
	return a->no > b->no ? -1 : a->no < b->no;
}

static int list_left_locked(struct registry *r, struct checkpoint_info **ret_list,
			    size_t *ret_n)
{
	struct checkpoint_info *v = NULL, *more;
	struct branch *b;
	size_t n = 0;

	for (struct checkpoint_set *s = r->checkpoints; s; s = s->hh.next) {
		HASH_FIND(hh_no, r->by_no, &s->no, sizeof(s->no), b);
		if (b || s->n == 0)
			continue;
		more = realloc(v, (n + s->n) * sizeof(*v));
		if (!more) {
			free(v);
			return -ENOMEM;
		}
		v = more;
		for (size_t i = 0; i < s->n; i++)
			if (s->v[i]->m.kind == CHECKPOINT_NAMED)
				checkpoint_fill_info_locked(r, &s->v[i]->m, &v[n++]);
	}
	*ret_list = v;
	*ret_n = n;
	return 0;
}

int checkpoint_list_left(struct registry *r, struct checkpoint_info **ret_list,
			 size_t *ret_n)
{
	struct checkpoint_info *v;
	size_t n, kept = 0;
	int rc;

	READ_SCOPE(&r->table);
	rc = list_left_locked(r, &v, &n);
	if (rc < 0)
		return rc;
	if (n > 1)
		qsort(v, n, sizeof(*v), by_left);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && strcmp(v[kept - 1].branch, v[i].branch) == 0 &&
		    strcmp(v[kept - 1].name, v[i].name) == 0)
			continue;
		v[kept++] = v[i];
	}
	*ret_list = v;
	*ret_n = kept;
	return 0;
}

int checkpoint_find_left(struct registry *r, const char *branch, const char *name,
			 struct checkpoint_info *ret_info)
{
	CLEAN(clean_free) struct checkpoint_info *v = NULL;
	size_t n = 0;
	int rc = checkpoint_list_left(r, &v, &n);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (strcmp(v[i].branch, branch) != 0 || strcmp(v[i].name, name) != 0)
			continue;
		*ret_info = v[i];
		return 0;
	}
	return rc < 0 ? rc : -ENOENT;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_upkeep.c - what is done for a store in the background: layers that a freeze
 * sealed go to disk, layers that nobody stands on any more go away.
 */
#include "store/registry_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

/* Appends a reference; without memory the layer is found again in another way. */
void layer_remember(struct layer ***v, size_t *n, struct layer *l)
{
	struct layer **more = realloc(*v, (*n + 1) * sizeof(struct layer *));

	if (!more)
		return;
	*v = more;
	more[(*n)++] = layer_get(l);
}

/* One user less for a layer; the last one's going makes it dead. */
void layer_release(struct registry *r, struct layer *l)
{
	/* if not remembered: it is an orphan at the next mount */
	if (atomic_fetch_sub(&l->users, 1) == 1)
		layer_remember(&r->dead, &r->ndead, l);
}

static struct layer *take_sealed(struct registry *r)
{
	LOCK_SCOPE(&r->change);
	return r->nsealed > 0 ? r->sealed[--r->nsealed] : NULL;
}

/* Flushes what a freeze sealed; what fails, as on a full disk, stays in the list. */
static int flush_sealed(struct registry *r)
{
	struct layer **again = NULL, *l;
	size_t n = 0;
	int rc = 0;

	while ((l = take_sealed(r)) != NULL) {
		/* a dead one is not worth it */
		int one = atomic_load(&l->users) > 0 ? layer_flush(l) : 0;

		if (one < 0)
			layer_remember(&again, &n, l);
		rc = rc < 0 ? rc : one;
		layer_put(l);
	}
	LOCK_SCOPE(&r->change);
	while (n > 0) {
		layer_remember(&r->sealed, &r->nsealed, again[--n]);
		layer_put(again[n]);
	}
	free(again);
	return rc;
}

/* What fails in one place keeps no other back. */
static int flush_branches(struct registry *r,
			  int (*fn)(struct registry *r, struct branch ***ret_list))
{
	struct branch **list = NULL;
	int rc = fn(r, &list);

	for (struct branch **b = list; b && *b; b++) {
		int one = branch_sync(*b);

		rc = rc < 0 ? rc : one;
		one = branch_save_activity(*b);
		rc = rc < 0 ? rc : one;
	}
	branch_list_free(list);
	return rc;
}

int registry_flush(struct registry *r)
{
	int rc = flush_sealed(r);
	int living = flush_branches(r, registry_list);
	int trash = flush_branches(r, registry_list_trash);

	rc = rc < 0 ? rc : living;
	return rc < 0 ? rc : trash;
}

static int remove_layer_dir(struct registry *r, uint32_t id)
{
	char path[32];
	int rc;

	(void)snprintf(path, sizeof(path), "layers/%08x", id);
	rc = fd_remove_tree(r->store.fd, path);
	FAULT_POINT("registry.layer-removed");
	if (rc < 0)
		log_warn("%s: cannot remove: %s; trying again at the next mount", path,
			 strerror(-rc));
	return rc;
}

/* The next dead layer, if it is still one; a reference for the caller. */
static struct layer *take_dead(struct registry *r)
{
	LOCK_SCOPE(&r->change);
	while (r->ndead > 0) {
		struct layer *l = r->dead[--r->ndead];

		if (atomic_load(&l->users) == 0 && l->id >= r->keep_below)
			return l;
		layer_put(l);
	}
	return NULL;
}

static bool take_orphan(struct registry *r, uint32_t *ret_id)
{
	LOCK_SCOPE(&r->change);
	if (r->norphans == 0)
		return false;
	*ret_id = r->orphans[--r->norphans];
	return true;
}

/* Others may have left layers that a branch shares with its checkpoints only. */
static void recount(struct registry *r)
{
	struct branch **list;

	if (registry_list(r, &list) < 0)
		return; /* their figures stay as they were */
	for (struct branch **b = list; *b; b++) {
		LOCK_SCOPE(&r->change);
		holdings_recount(r, *b);
	}
	branch_list_free(list);
}

int registry_reclaim(struct registry *r)
{
	struct layer *l;
	uint32_t id;
	bool freed = false;
	int rc = 0;

	while ((l = take_dead(r)) != NULL) {
		int one = remove_layer_dir(r, l->id);

		layer_let_go(l); /* somebody may still hold the branch */
		rc = rc < 0 ? rc : one;
		freed = true;
		if (l->parent) {
			LOCK_SCOPE(&r->change);
			layer_release(r, l->parent);
		}
		layer_put(l);
	}
	if (freed)
		recount(r);
	while (take_orphan(r, &id)) {
		int one = remove_layer_dir(r, id);

		rc = rc < 0 ? rc : one;
	}
	return rc;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rollback.c - a branch becomes what one of its checkpoints holds, or what its parent
 * is.
 *
 *   1. a checkpoint of what it is    freeze and record, as any other
 *   2. the branch's record, once     a new, empty, fresh top over the layer that is
 * wanted
 *   3. the same in memory            the old tree belongs to nobody any more
 *
 * A crash up to 2 leaves all of the old state, and perhaps a checkpoint too many; from
 * 2 on it is all of the new one.
 *
 * The tree gets another number, and with it all node ids in it: what the kernel, or an
 * open file, still has of the old tree stands for nothing in the new one.  The new top
 * is fresh, as that of a new branch is: the state was one of a server that may have
 * been running, and slots of it would promise what is not there.
 */
#include "store/checkpoint_priv.h"

#include "base/fault.h"
#include "base/log.h"
#include "store/overlay_priv.h"

#include <stdio.h>
#include <string.h>

/* What it is to become. */
struct target {
	struct layer *base; /* borrowed, kept by what holds it */
	/* the checkpoint's, or zeros: what was done to the data, and is still to be */
	struct checkpoint_meta was;
};

static int target_checkpoint(struct registry *r, struct branch *b, uint32_t seq,
			     struct target *ret, struct err *e)
{
	const struct checkpoint *ck = checkpoint_seq(r, b->no, seq);

	if (!ck)
		return err_set(e, -ENOENT, "the checkpoint is gone");
	*ret = (struct target){ck->layer, ck->m};
	return 0;
}

/* Its data is the parent's then, and masked by what that is masked by. */
static int target_parent(struct registry *r, struct branch *b,
			 const struct rollback_spec *spec, struct target *ret,
			 struct err *e)
{
	struct branch *p = spec->parent;
	const char *masked = spec->masked ? spec->masked : p->meta.masked;

	if (atomic_load(&p->discarded))
		return err_set(e, -ENOENT, "branch '%s' is gone", p->name);
	*ret = (struct target){.was = {.prepared = false}};
	if (!spec->masked && b->meta.masked[0] && strcmp(b->meta.masked, masked) != 0)
		return err_set(e, -EPERM,
			       "branch '%s' is masked, and its parent is not", b->name);
	(void)snprintf(ret->was.masked, sizeof(ret->was.masked), "%s", masked);
	memcpy(ret->was.make_role, b->meta.make_role, sizeof(ret->was.make_role));
	return spec->masked ? registry_freeze_base(r, p, &ret->base, e)
			    : registry_base_of(r, p, &ret->base, e);
}

static const char *safety_prefix(const struct rollback_spec *spec)
{
	if (spec->masked)
		return "before-remask";
	return spec->parent ? "before-reset" : "before-rollback";
}

/* Its data has another number from here on. */
static void renumber_locked(struct registry *r, struct branch *b, uint32_t data_no)
{
	data_number_drop_locked(r, b);
	b->meta.data_no = data_no;
	if (data_number_add_locked(r, b) < 0)
		log_error("branch %s: out of memory; its data is out of reach until "
			  "the next mount",
			  b->name);
}

/* The old tree, for the caller, or NULL if it is not loaded. */
static struct overlay *switch_to(struct registry *r, struct branch *b,
				 const struct branch_meta *m, struct layer *top)
{
	struct layer *old_top = b->top;
	struct overlay *old;

	{
		WRITE_SCOPE(&old_top->lock);
		old_top->gone = true; /* nobody shall make it now */
	}
	{
		WRITE_SCOPE(&r->table);
		LOCK_SCOPE(&b->lock);
		old = steal(b->data);
		if (old)
			atomic_store(&old->gone, true);
		renumber_locked(r, b, m->data_no);
		b->meta = *m;
		b->top = top;
		b->unsaved = false;
	}
	atomic_fetch_add(&top->users, 1);
	layer_release(r, old_top);
	layer_put(old_top);
	return old;
}

static int replace(struct registry *r, struct branch *b, const struct target *to,
		   bool reset, struct overlay **ret_old, struct err *e)
{
	struct branch_meta m = b->meta;
	struct layer *top;
	int rc;

	if (r->next_no >= UINT32_C(1) << BRANCH_NO_BITS)
		return err_set(e, -ENOSPC, "the store has used up its numbers");
	m.top = r->next_layer++;
	m.base = to->base->id;
	m.fresh = true;
	m.prepared = to->was.prepared;
	m.masking = to->was.masking;
	memcpy(m.masked, to->was.masked, sizeof(m.masked));
	memcpy(m.make_role, to->was.make_role, sizeof(m.make_role));
	m.data_no = r->next_no++;
	m.last_active = time(NULL);
	if (reset) /* it is its parent's present state now */
		m.parent_checkpoint[0] = '\0';
	top = layer_new(&r->store, m.top, layer_get(to->base), true);
	if (!top)
		return err_set(e, -ENOMEM, "out of memory");
	rc = registry_save(r, b->name, &m);
	FAULT_POINT("rollback.saved");
	if (rc < 0) {
		record_put_back(r, b->name, &b->meta);
		atomic_fetch_sub(&to->base->users, 1);
		layer_put(top);
		return err_set(e, rc, "cannot write the record of branch '%s': %s",
			       b->name, strerror(-rc));
	}
	atomic_store(&b->last_active, m.last_active);
	*ret_old = switch_to(r, b, &m, top);
	return 0;
}

static int rollback_locked(struct registry *r, struct branch *b,
			   const struct rollback_spec *spec,
			   struct checkpoint_info *ret_before, struct overlay **ret_old,
			   struct err *e)
{
	const struct checkpoint_spec safety = {
		.prefix = safety_prefix(spec),
		.kind = CHECKPOINT_SAFETY,
	};
	struct checkpoint_meta before;
	struct target to;
	int rc = registry_check_discard(b, e);

	if (rc == 0)
		rc = spec->parent ? target_parent(r, b, spec, &to, e)
				  : target_checkpoint(r, b, spec->seq, &to, e);
	if (rc == 0)
		rc = checkpoint_take_locked(r, b, &safety, &before, e);
	FAULT_POINT("rollback.kept");
	if (rc == 0)
		rc = replace(r, b, &to, spec->parent != NULL, ret_old, e);
	if (rc < 0)
		return rc;
	holdings_recount(r, b);
	if (spec->parent)
		holdings_recount(r, spec->parent);
	return checkpoint_find_seq(r, b->no, before.seq, ret_before);
}

int registry_rollback(struct registry *r, struct branch *b,
		      const struct rollback_spec *spec,
		      struct checkpoint_info *ret_before, struct overlay **ret_old,
		      struct err *e)
{
	void (*fn)(void *ctx, struct branch *b);
	void *ctx;
	int rc;

	{
		LOCK_SCOPE(&r->change);
		rc = rollback_locked(r, b, spec, ret_before, ret_old, e);
	}
	if (rc < 0)
		return rc;
	{
		READ_SCOPE(&r->table);
		fn = r->switched;
		ctx = r->switched_ctx;
	}
	if (fn)
		fn(ctx, b);
	return 0;
}

void registry_on_rollback(struct registry *r, void (*fn)(void *ctx, struct branch *b),
			  void *ctx)
{
	WRITE_SCOPE(&r->table);
	r->switched = fn;
	r->switched_ctx = ctx;
}

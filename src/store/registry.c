/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry.c - making, renaming and discarding branches.
 *
 * Making a branch of a parent whose top layer has content:
 *
 *   1. the top's layer.ini durable      it may be named as somebody's parent
 *   2. the parent's record durable      new top (not on disk yet) over the old one
 *   3. the freeze, in memory            the old top is sealed
 *   4. the child's record durable       now the branch exists
 *
 * A crash after 2 or 3 leaves no child and a parent one layer deeper; both are
 * correct, because a layer that is not on disk is an empty one.  If the parent's
 * top is still empty, the child stands on the layer below it and only 4 is left.
 * What the child stands on is decided once, by looking at the top (registry_base_of):
 * the parent is being written, and a moment later the top may be another, or not empty.
 */
#include "store/checkpoint_priv.h"
#include "store/registry_priv.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "store/overlay_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int registry_add_to(struct branch **by_no, struct branch **by_name, struct branch *b,
		    const char *name)
{
	HASH_ADD(hh_no, *by_no, no, sizeof(b->no), b);
	if (!b->hh_no.tbl)
		return -ENOMEM;
	HASH_ADD_KEYPTR(hh_name, *by_name, name, (unsigned)strlen(name), b);
	if (!b->hh_name.tbl) {
		HASH_DELETE(hh_no, *by_no, b);
		return -ENOMEM;
	}
	return 0;
}

int registry_add(struct registry *r, struct branch *b)
{
	int rc;

	WRITE_SCOPE(&r->table);
	if (b->trash[0])
		return registry_add_to(&r->trash_by_no, &r->trash_by_name, b, b->trash);
	rc = data_number_add_locked(r, b);
	return rc < 0 ? rc : registry_add_to(&r->by_no, &r->by_name, b, b->name);
}

struct branch *registry_find(struct registry *r, const char *name)
{
	struct branch *b = NULL;

	READ_SCOPE(&r->table);
	HASH_FIND(hh_name, r->by_name, name, (unsigned)strlen(name), b);
	return b ? branch_get(b) : NULL;
}

struct branch *registry_find_no(struct registry *r, uint32_t no)
{
	struct branch *b = NULL;

	READ_SCOPE(&r->table);
	HASH_FIND(hh_no, r->by_no, &no, sizeof(no), b);
	return b ? branch_get(b) : NULL;
}

struct branch *registry_find_data(struct registry *r, uint32_t data_no)
{
	struct branch *b = NULL;

	READ_SCOPE(&r->table);
	HASH_FIND(hh_no, r->by_no, &data_no, sizeof(data_no), b);
	if (b && b->data_key)
		b = NULL; /* it had */
	if (!b)
		HASH_FIND(hh_data, r->by_data, &data_no, sizeof(data_no), b);
	return b ? branch_get(b) : NULL;
}

int data_number_add_locked(struct registry *r, struct branch *b)
{
	if (b->meta.data_no == 0 || b->meta.data_no == b->no)
		return 0;
	b->data_key = b->meta.data_no;
	HASH_ADD(hh_data, r->by_data, data_key, sizeof(b->data_key), b);
	if (b->hh_data.tbl)
		return 0;
	return -ENOMEM;
}

void data_number_drop_locked(struct registry *r, struct branch *b)
{
	if (b->data_key && b->hh_data.tbl)
		HASH_DELETE(hh_data, r->by_data, b);
	b->hh_data.tbl = NULL;
	b->data_key = 0;
}

static int by_name_cmp(const void *pa, const void *pb)
{
	struct branch *const *a = pa, *const *b = pb;

	return strcmp((*a)->name, (*b)->name);
}

static int by_trash_cmp(const void *pa, const void *pb)
{
	struct branch *const *a = pa, *const *b = pb;

	return strcmp((*a)->trash, (*b)->trash);
}

static int list_table(struct registry *r, struct branch *const *by_no,
		      int (*cmp)(const void *, const void *), struct branch ***ret_list)
{
	struct branch *b, **v;
	size_t n = 0;

	READ_SCOPE(&r->table);
	v = calloc(HASH_CNT(hh_no, *by_no) + 1, sizeof(struct branch *));
	if (!v)
		return -ENOMEM;
	for (b = *by_no; b; b = b->hh_no.next)
		v[n++] = branch_get(b);
	if (n > 1)
		qsort(v, n, sizeof(struct branch *), cmp);
	*ret_list = v;
	return 0;
}

int registry_list(struct registry *r, struct branch ***ret_list)
{
	return list_table(r, &r->by_no, by_name_cmp, ret_list);
}

int registry_list_trash(struct registry *r, struct branch ***ret_list)
{
	return list_table(r, &r->trash_by_no, by_trash_cmp, ret_list);
}

void branch_list_free(struct branch **list)
{
	for (struct branch **b = list; b && *b; b++)
		branch_put(*b);
	free(list);
}

int registry_dirfd(const struct registry *r)
{
	return r->store.fd;
}

const char *registry_path(const struct registry *r)
{
	return r->path;
}

int registry_statvfs(struct registry *r, struct statvfs *ret_st)
{
	return fstatvfs(r->store.fd, ret_st) < 0 ? -errno : 0;
}

/* --- making a branch --- */

bool registry_top_is_empty(struct registry *r, struct branch *b)
{
	READ_SCOPE(&b->top->lock);
	if (b->top->loaded)
		return !b->top->made;
	return faccessat(r->store.fd, b->top->dir, F_OK, 0) < 0 && errno == ENOENT;
}

/* Seals the parent's top and gives it a new one: steps 1 to 3 above. */
static int freeze(struct registry *r, struct branch *p)
{
	struct layer *old = p->top, *top;
	struct branch_meta m = p->meta;
	int rc = layer_prepare_seal(old);

	if (rc < 0)
		return rc;
	FAULT_POINT("registry.seal-prepared");
	top = layer_new(&r->store, r->next_layer, layer_get(old), false);
	if (!top)
		return -ENOMEM;
	m.top = top->id;
	m.base = old->id;
	m.fresh = false;
	m.last_active = atomic_load(&p->last_active);
	rc = registry_save(r, p->name, &m);
	FAULT_POINT("registry.parent-saved");
	if (rc < 0) {
		/* the record on disk may be either: both name layers that exist, but
		 * then this number must not be given to another layer */
		r->next_layer++;
		atomic_fetch_sub(&old->users, 1);
		layer_put(top);
		return rc;
	}
	r->next_layer++;
	LOCK_SCOPE(&p->lock);
	if (p->data)
		overlay_freeze(p->data, layer_get(top));
	else
		atomic_store(&old->sealed, true);
	atomic_fetch_add(&top->users, 1);
	atomic_fetch_sub(&old->users, 1);
	p->meta = m;
	p->top = top;
	/* if not remembered: a start on it flushes it too */
	layer_remember(&r->sealed, &r->nsealed, old);
	layer_put(old); /* the new top holds it */
	return 0;
}

int registry_check_name(struct registry *r, const char *name, struct err *e)
{
	struct branch *b;
	int rc = text_check_name(name);

	if (rc == -ENAMETOOLONG)
		return err_set(e, rc, "branch name '%s' is longer than %d bytes", name,
			       NAME_LEN_MAX);
	if (rc < 0) {
		err_set(e, rc, "bad branch name '%s'", name);
		return err_hint(
			e, "a letter or digit, then letters, digits, '_', '-', '.'");
	}
	b = registry_find(r, name);
	if (b) {
		branch_put(b);
		return err_set(e, -EEXIST, "branch '%s' exists", name);
	}
	rc = record_check_free(r, name, e);
	return rc < 0 ? rc : record_settle_names(r, e);
}

/* What a branch is made from. */
struct origin {
	struct layer *base;
	uint32_t no;            /* the parent's */
	const char *name;       /* likewise */
	const char *checkpoint; /* "": as it is now */
};

static int add_child(struct registry *r, const struct branch_spec *spec,
		     const struct origin *from, struct branch **ret_branch,
		     struct err *e)
{
	struct layer *base = from->base, *top;
	struct branch *b;
	time_t now = time(NULL);
	struct branch_meta m = {
		.no = r->next_no,
		.top = r->next_layer,
		.base = base->id,
		.fresh = true,
		.parent_no = from->no,
		.created = now,
		.last_active = now,
		.expires = spec->expires,
		.owner = spec->owner,
		.group = spec->group,
		.mode = spec->mode & 07777,
		.server_uid = spec->server_uid,
		.server_gid = spec->server_gid,
		.masking = spec->masking,
	};
	int rc;

	(void)snprintf(m.make_role, sizeof(m.make_role), "%s",
		       spec->make_role ? spec->make_role : "");
	(void)snprintf(m.masked, sizeof(m.masked), "%s",
		       spec->masked ? spec->masked : "");
	(void)snprintf(m.parent, sizeof(m.parent), "%s", from->name);
	(void)snprintf(m.parent_checkpoint, sizeof(m.parent_checkpoint), "%s",
		       from->checkpoint);
	top = layer_new(&r->store, m.top, layer_get(base), true);
	b = top ? branch_new(r, spec->name, &m, top) : NULL;
	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	r->next_no++;
	r->next_layer++;
	rc = registry_save(r, spec->name, &m);
	FAULT_POINT("registry.child-saved");
	if (rc == 0)
		rc = registry_add(r, b);
	if (rc < 0) {
		/* it may be there though not durable; where it stays, so does the
		 * layer that it names */
		if (record_undo(r, spec->name) == 0)
			atomic_fetch_sub(&base->users, 1);
		branch_put(b);
		return err_set(e, rc, "cannot write the record of branch '%s': %s",
			       spec->name, strerror(-rc));
	}
	*ret_branch = branch_get(b);
	return 0;
}

int registry_add_on(struct registry *r, const struct branch_spec *spec,
		    struct layer *base, struct branch **ret_branch, struct err *e)
{
	const struct origin from = {.base = base, .name = "", .checkpoint = ""};

	return add_child(r, spec, &from, ret_branch, e);
}

int registry_freeze_base(struct registry *r, struct branch *b, struct layer **ret_base,
			 struct err *e)
{
	struct layer *top = b->top;
	int rc;

	if (top->parent && registry_top_is_empty(r, b)) {
		*ret_base = top->parent;
		return 0;
	}
	rc = freeze(r, b);
	if (rc < 0)
		return err_set(e, rc, "cannot freeze branch '%s': %s", b->name,
			       strerror(-rc));
	*ret_base = top; /* the new top holds it */
	return 0;
}

int registry_base_of(struct registry *r, struct branch *b, struct layer **ret_base,
		     struct err *e)
{
	/* what would stay of it then is what nobody is to see */
	if (b->meta.masking) {
		(void)err_set(e, -EBUSY, "branch '%s' is being masked", b->name);
		(void)err_hint(e, "try again when that is done");
		return -EBUSY;
	}
	return registry_freeze_base(r, b, ret_base, e);
}

/* The parent as it is now. */
static int from_branch(struct registry *r, struct branch *p, struct origin *ret_from,
		       struct err *e)
{
	if (atomic_load(&p->discarded))
		return err_set(e, -ENOENT, "branch '%s' is gone", p->name);
	*ret_from = (struct origin){.no = p->no, .name = p->name, .checkpoint = ""};
	return registry_base_of(r, p, &ret_from->base, e);
}

/* A checkpoint; its branch may be gone. */
static int from_checkpoint(struct registry *r, const struct branch_spec *spec,
			   struct origin *ret_from, struct err *e)
{
	struct checkpoint *ck =
		checkpoint_seq(r, spec->checkpoint_of, spec->checkpoint_seq);

	if (!ck)
		return err_set(e, -ENOENT, "the checkpoint is gone");
	*ret_from = (struct origin){
		.base = ck->layer,
		.no = ck->m.branch_no,
		.name = spec->parent ? spec->parent->name : ck->m.branch,
		.checkpoint = ck->m.name,
	};
	return 0;
}

int registry_create(struct registry *r, const struct branch_spec *spec,
		    struct branch **ret_branch, struct err *e)
{
	struct origin from = {.base = NULL};
	int rc;

	LOCK_SCOPE(&r->change);
	rc = registry_check_name(r, spec->name, e);
	if (rc == 0)
		rc = spec->checkpoint_seq ? from_checkpoint(r, spec, &from, e)
					  : from_branch(r, spec->parent, &from, e);
	if (rc == 0)
		rc = add_child(r, spec, &from, ret_branch, e);
	if (rc == 0 && spec->parent)
		holdings_recount(r, spec->parent);
	return rc;
}

/* --- renaming and discarding --- */

static void name_in(struct branch *by_no, const struct branch *parent)
{
	for (struct branch *b = by_no; b; b = b->hh_no.next) {
		if (b->meta.parent_no != parent->no)
			continue;
		LOCK_SCOPE(&b->lock);
		(void)snprintf(b->meta.parent, sizeof(b->meta.parent), "%s",
			       parent->name);
		b->unsaved = true;
	}
}

/*
 * Children remember their parent's name for the time when it is gone.  In memory
 * only: their records follow when they are written next, or at the end.
 */
void registry_name_in_children(struct registry *r, const struct branch *parent)
{
	name_in(r->by_no, parent);
	name_in(r->trash_by_no, parent);
}

int registry_rename(struct registry *r, struct branch *b, const char *newname,
		    struct err *e)
{
	struct branch_meta m;
	int rc;

	LOCK_SCOPE(&r->change);
	if (atomic_load(&b->discarded))
		return err_set(e, -ENOENT, "branch '%s' is gone", b->name);
	rc = registry_check_name(r, newname, e);
	if (rc < 0)
		return rc;
	m = b->meta;
	m.last_active = atomic_load(&b->last_active);
	rc = record_rename(r, b, b->name, newname, &m, e);
	if (rc < 0)
		return rc;
	WRITE_SCOPE(&r->table);
	HASH_DELETE(hh_name, r->by_name, b);
	(void)snprintf(b->name, sizeof(b->name), "%s", newname);
	registry_name_in_children(r, b);
	HASH_ADD_KEYPTR(hh_name, r->by_name, b->name, (unsigned)strlen(b->name), b);
	if (!b->hh_name.tbl)
		log_error("branch %s: out of memory; it is back at the next mount",
			  newname);
	return 0;
}

int registry_check_discard(struct branch *b, struct err *e)
{
	if (atomic_load(&b->discarded))
		return err_set(e, -ENOENT, "branch '%s' is gone", b->name);
	if (b->meta.is_protected)
		return err_set(e, -EPERM, "branch '%s' is protected", b->name);
	return 0;
}

void registry_forget(struct registry *r, struct branch *b)
{
	if (b->misnamed) {
		b->misnamed = false;
		r->misnamed--;
	}
	checkpoints_drop_unnamed(r, b->no);
	layer_release(r, b->top);
	branch_put(b); /* the table's */
}

int registry_discard(struct registry *r, struct branch *b, struct err *e)
{
	int rc;

	LOCK_SCOPE(&r->change);
	rc = registry_check_discard(b, e);
	if (rc < 0)
		return rc;
	checkpoints_before_discard(r, b);
	rc = records_failed(r);
	if (rc == 0)
		rc = record_remove(r, b->name, &b->meta);
	if (rc < 0)
		return err_set(e, rc, "cannot remove the record of branch '%s': %s",
			       b->name, strerror(-rc));
	{
		WRITE_SCOPE(&r->table);
		atomic_store(&b->discarded, true);
		data_number_drop_locked(r, b);
		HASH_DELETE(hh_no, r->by_no, b);
		HASH_DELETE(hh_name, r->by_name, b);
	}
	registry_forget(r, b);
	return 0;
}

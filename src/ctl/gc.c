/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc - first everything that could go is collected, then, with `apply`, taken away one
 * after the other.  A step begins on the pool; removing a branch takes it to the loop
 * and back:
 *
 *	pool: collect --> step: a leftover  --> step ...                --> answer
 *	                  step: of the trash --> purged, pool: step ...
 *	                  step: a branch --> loop: in use? --> discarded, pool: step ...
 *
 * Between collecting and removing a branch may come into use, or a layer into a
 *lineage. So each is looked at once more, behind what keeps it from changing: the claim
 *of a branch, the registry's lock.
 */
#include "base/log.h"
#include "base/text.h"
#include "ctl/upkeep_priv.h"

#include <stdio.h>
#include <string.h>

#define DAY_S 86400

enum gc_kind { GC_LEFTOVER, GC_TRASH, GC_UNUSED };

struct gc_item {
	enum gc_kind kind;
	struct leftover left;
	struct branch *b; /* a reference, or NULL */
	char name[TRASH_NAME_MAX];
	uint64_t bytes;
	time_t limit; /* GC_UNUSED: nobody used it since then */
	char why[160];
	const char *state; /* as report.h has them */
};

void gc_free(struct upkeep *u)
{
	for (size_t i = 0; i < u->n; i++)
		(void)branch_put(u->items[i].b); /* returns NULL */
	free(u->items);
}

static struct gc_item *add_item(struct upkeep *u, enum gc_kind kind)
{
	struct gc_item *v = realloc(u->items, (u->n + 1) * sizeof(*v));

	if (!v) {
		u->answer.failed = true; /* it ends as out of memory */
		return NULL;
	}
	u->items = v;
	v[u->n] = (struct gc_item){.kind = kind, .state = REPORT_PLAN};
	return &v[u->n++];
}

static const char *kind_name(const struct gc_item *it)
{
	if (it->kind == GC_LEFTOVER)
		return it->left.kind == LEFTOVER_LAYER  ? "layer"
		       : it->left.kind == LEFTOVER_TEMP ? "temporary"
							: "log";
	return it->kind == GC_TRASH ? "trash" : "branch";
}

/* --- what there is --- */

static void on_leftover(void *ctx, const struct leftover *l)
{
	static const char *const why[] = {
		[LEFTOVER_LAYER] = "no branch stands on it",
		[LEFTOVER_TEMP] = "a crash left it, or a copy of the store",
		[LEFTOVER_LOG] = "its branch is gone",
	};
	struct gc_item *it = add_item(ctx, GC_LEFTOVER);

	if (!it)
		return;
	it->left = *l;
	it->bytes = l->bytes;
	(void)snprintf(it->why, sizeof(it->why), "%s",
		       l->kept ? "a record is damaged that may need it: see doctor"
			       : why[l->kind]);
	if (l->kept)
		it->state = REPORT_KEPT;
}

static void take_branch(struct gc_item *it, struct branch *b, const char *name)
{
	it->b = branch_get(b);
	(void)snprintf(it->name, sizeof(it->name), "%s", name);
	if (branch_own_bytes(b, &it->bytes) < 0)
		it->bytes = 0; /* not readable: what it holds is not known */
}

static void look_at_trash(struct upkeep *u, struct branch *b, time_t now)
{
	struct branch_info info;
	struct gc_item *it;
	char when[21];
	time_t due;

	branch_info(b, &info);
	due = control_purge_time(u->c, info.trashed);
	if (info.trash_name[0] == '\0' || due > now)
		return;
	it = add_item(u, GC_TRASH);
	if (!it)
		return;
	take_branch(it, b, info.trash_name);
	text_format_time(due, when);
	if (due)
		(void)snprintf(it->why, sizeof(it->why), "its time was over at %s",
			       when);
	else
		(void)snprintf(it->why, sizeof(it->why), "trash is not set any more");
}

static void look_at_branch(struct upkeep *u, struct branch *b, time_t now)
{
	struct branch_info info;
	struct gc_item *it;
	char when[21];

	branch_info(b, &info);
	if (info.discarded || info.is_protected ||
	    now - info.last_active < (time_t)u->ask.unused_days * DAY_S)
		return;
	it = add_item(u, GC_UNUSED);
	if (!it)
		return;
	take_branch(it, b, info.name);
	it->limit = now - (time_t)u->ask.unused_days * DAY_S;
	text_format_time(info.last_active, when);
	(void)snprintf(it->why, sizeof(it->why), "nobody used it since %s", when);
}

static int collect(struct upkeep *u)
{
	struct registry *r = u->c->registry;
	struct branch **trash = NULL, **list = NULL;
	time_t now = time(NULL);
	int rc = check_leftovers(r, on_leftover, u);

	if (rc == 0)
		rc = registry_list_trash(r, &trash);
	for (struct branch **b = trash; b && *b; b++)
		look_at_trash(u, *b, now);
	if (rc == 0 && u->ask.unused_days)
		rc = registry_list(r, &list);
	for (struct branch **b = list; b && *b; b++)
		look_at_branch(u, *b, now);
	branch_list_free(trash);
	branch_list_free(list);
	return rc < 0 ? err_set(&u->err, rc, "cannot look through the store: %s",
				strerrordesc_np(-rc))
		      : 0;
}

/* --- taking it away --- */

static void gc_step(void *ctx);

/* How the present item went; then the next one. */
static void item_ended(struct upkeep *u, const char *state)
{
	u->items[u->at++].state = state;
	if (pool_post(u->c->pool, gc_step, u) < 0)
		upkeep_end(u, -ENOMEM);
}

static void keep(struct upkeep *u, const char *why)
{
	struct gc_item *it = &u->items[u->at];

	(void)snprintf(it->why, sizeof(it->why), "%s", why);
	item_ended(u, REPORT_KEPT);
}

/* On any thread. */
static void on_removed(void *ctx, int rc, struct branch *b)
{
	struct upkeep *u = ctx;

	(void)b;
	switch (rc) {
	case 0:
	case -ENOENT: /* somebody was faster */
		item_ended(u, REPORT_DONE);
		break;
	case -EBUSY:
		keep(u, "it is being changed, or its server does not end");
		break;
	case -ECANCELED:
		keep(u, "it was used again");
		break;
	case -EPERM:
		keep(u, "it was protected meanwhile");
		break;
	default: /* the log says why */
		item_ended(u, REPORT_FAILED);
		break;
	}
}

static void on_used(void *ctx, int rc, bool used)
{
	struct upkeep *u = ctx;
	struct gc_item *it = &u->items[u->at];

	if (rc < 0)
		keep(u, "its server cannot be asked now");
	else if (used)
		keep(u, "somebody uses it now");
	else
		control_discard_unused(u->c, &u->who, it->b, it->limit, it->why,
				       on_removed, u);
}

static void remove_leftover(struct upkeep *u, struct gc_item *it)
{
	struct audit_event ev = {
		.uid = u->who.uid,
		.gid = u->who.gid,
		.pid = u->who.pid,
		.verb = "gc",
		.value = it->left.path,
		.verdict = AUDIT_ALLOWED,
		.reason = it->why,
		.makes_space = true,
	};
	int rc = audit_write(u->c->audit, &ev);
	bool recorded = rc == 0;

	if (rc == 0)
		rc = check_remove(u->c->registry, &it->left);

	it->state = rc == 0 ? REPORT_DONE : rc == -EBUSY ? REPORT_KEPT : REPORT_FAILED;
	if (rc == 0)
		log_info("%s: removed by uid %u: %s", it->left.path, u->who.uid,
			 it->why);
	else if (rc != -EBUSY)
		log_warn("%s: cannot remove: %s; it stays", it->left.path,
			 strerrordesc_np(-rc));
	if (rc == 0 || !recorded)
		return;
	ev.verdict = AUDIT_FAILED;
	ev.reason = strerrordesc_np(-rc);
	(void)!audit_write(u->c->audit, &ev); /* it has said so in the log */
}

static void answer(struct upkeep *u)
{
	for (size_t i = 0; i < u->n; i++) {
		const struct gc_item *it = &u->items[i];

		report_add(&u->answer, kind_name(it),
			   it->kind == GC_LEFTOVER ? it->left.path : it->name,
			   it->bytes, it->state, it->why);
	}
	upkeep_end(u, 0);
}

static void gc_step(void *ctx)
{
	struct upkeep *u = ctx;

	for (; u->at < u->n; u->at++) {
		struct gc_item *it = &u->items[u->at];

		if (strcmp(it->state, REPORT_PLAN) != 0)
			continue;
		if (it->kind == GC_LEFTOVER) {
			remove_leftover(u, it);
			continue;
		}
		if (it->kind == GC_TRASH)
			control_purge_why(u->c, &u->who, it->b, it->why, on_removed, u);
		else
			fleet_in_use(u->c->fleet, it->b, on_used, u);
		return;
	}
	answer(u);
}

void gc_run(void *ctx)
{
	struct upkeep *u = ctx;
	int rc = collect(u);

	if (rc < 0)
		upkeep_end(u, rc);
	else if (u->ask.apply)
		gc_step(u);
	else
		answer(u);
}

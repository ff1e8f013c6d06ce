/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkdir NAME[@PARENT[:CHECKPOINT]]: the name is read on the caller's thread, all that
 * may block happens on the pool.
 *
 * The order of the promise "holds every transaction that was acknowledged before
 * mkdir was called": first the parent's server makes its asynchronous commits
 * durable, then the freeze.  The parent is not claimed: branches of it may be
 * made side by side, and the registry puts them in order.
 */
#include "base/log.h"
#include "ctl/expiry.h"
#include "ctl/input.h"
#include "ctl/quota.h"
#include "ctl/request.h"
#include "ctl/sanitize.h"

#include <stdio.h>
#include <string.h>

/* Splits it into rq->name, rq->parent and rq->from. */
static int parse_spec(struct request *rq, const char *spec)
{
	int rc = input_parse_spec(spec, &rq->name, &rq->parent, &rq->from, &rq->err);

	if (rc == 0)
		rc = control_check_name(rq->c, rq->name, &rq->err);
	if (rc == 0 && !rq->parent) {
		const struct policy *p = rq->rights.p;

		rq->parent = p && p->default_parent ? strdup(p->default_parent)
						    : control_default_parent(rq->c);
		rc = rq->parent ? 0 : -ENOMEM;
	}
	return rc;
}

/* With less, a server's failure is taken for the full disk's. */
#define FULL_BYTES (1 << 20)

static int free_space(struct registry *r, uint64_t *ret_bytes)
{
	struct statvfs st;
	int rc = registry_statvfs(r, &st);

	if (rc == 0 && __builtin_mul_overflow((uint64_t)st.f_bavail,
					      (uint64_t)st.f_frsize, ret_bytes))
		*ret_bytes = UINT64_MAX;
	return rc;
}

int control_check_reserve(struct control *c, struct err *e)
{
	uint64_t reserve, available = 0;
	int rc = free_space(c->registry, &available);

	if (rc < 0)
		return err_set(e, rc, "cannot ask the store's free space: %s",
			       strerrordesc_np(-rc));
	{
		LOCK_SCOPE(&c->lock);
		reserve = c->cfg->reserve_bytes;
	}
	if (available >= reserve)
		return 0;
	(void)err_set(e, -ENOSPC,
		      "the store has %llu MiB of free space, less than its reserve of "
		      "%llu MiB",
		      (unsigned long long)(available >> 20),
		      (unsigned long long)(reserve >> 20));
	(void)err_hint(e, "discard branches with rmdir, or lower reserve in [branch] "
			  "of the configuration");
	return -ENOSPC;
}

int request_check_reserve(struct request *rq)
{
	return control_check_reserve(rq->c, &rq->err);
}

/* The parent's server did not make its commits durable: why, for .error. */
static int no_commit(struct request *rq, struct branch *b)
{
	struct branch_info info;
	uint64_t available = 0;
	bool full =
		free_space(rq->c->registry, &available) == 0 && available < FULL_BYTES;

	branch_info(b, &info);
	rq->err.code = full ? -ENOSPC : -EBUSY;
	(void)err_wrap(&rq->err, rq->err.code,
		       "the server of '%s' did not confirm its last commits%s",
		       info.name, full ? ", and the store is full" : "");
	if (full)
		return err_hint(&rq->err, "discard branches with rmdir, or make space "
					  "on the store's file system");
	return err_hint(&rq->err, "try again, or look at %s/%s/log", rq->c->mountpoint,
			info.name);
}

int request_sync_commit(struct request *rq, struct branch *b)
{
	int rc = fleet_sync_commit(rq->c->fleet, b, &rq->err);

	return rc < 0 ? no_commit(rq, b) : 0;
}

/* What is asked for to branch from it is not there, or the caller does not see it. */
static int no_parent(struct request *rq)
{
	if (!rq->from) {
		(void)err_set(&rq->err, -ENOENT,
			      "there is no branch named '%s' to branch from",
			      rq->parent);
		return err_hint(&rq->err, "ls %s shows the branches",
				rq->c->mountpoint);
	}
	(void)err_set(&rq->err, -ENOENT,
		      "there is no checkpoint '%s' of a branch '%s' to branch from",
		      rq->from, rq->parent);
	return err_hint(&rq->err,
			"ls %s/%s/checkpoints shows those of a branch, ls "
			"%s/.checkpoints those of discarded ones",
			rq->c->mountpoint, rq->parent, rq->c->mountpoint);
}

/*
 * PARENT:CHECKPOINT is a checkpoint of the branch that is called so now; if that has
 * none of this name, one that a discarded branch of this name left.
 */
static int find_checkpoint(struct request *rq, const struct branch *parent)
{
	struct registry *r = rq->c->registry;
	int rc = parent ? checkpoint_find(r, branch_no(parent), rq->from,
					  &rq->checkpoint)
			: -ENOENT;

	if (rc == -ENOENT)
		rc = checkpoint_find_left(r, rq->parent, rq->from, &rq->checkpoint);
	return rc;
}

/* May the caller branch from it? */
static int authorise_create(struct request *rq, struct branch *parent)
{
	struct branch_info info = {.owner = rq->checkpoint.owner};

	if (parent)
		return request_authorise(rq, POLICY_CREATE, parent, &info);
	/* not by a name that a policy gives: another branch had it */
	(void)snprintf(info.name, sizeof(info.name), "%s:", rq->parent);
	return control_authorise(rq->c, &rq->rights, &rq->who, POLICY_CREATE, &info,
				 &rq->err);
}

/* By what the data of the parent is masked, which a branch of it is then, too; "": by
 * nothing that is known. */
static void look_at_mask(struct branch *parent, char masked[static 64])
{
	struct branch_info info;

	masked[0] = '\0';
	if (!parent)
		return;
	branch_info(parent, &info);
	if (!info.masking)
		memcpy(masked, info.masked, sizeof(info.masked));
}

/* Makes rq->b of parent, or of the checkpoint. */
static int create_branch(struct request *rq, struct branch *parent)
{
	struct branch_spec spec = {
		.name = rq->name,
		.parent = parent,
		.checkpoint_of = rq->checkpoint.no,
		.checkpoint_seq = rq->checkpoint.seq,
		.owner = rq->who.uid,
		.group = rq->who.gid,
		.mode = rq->mode,
		.expires = control_first_expires(rq->c, rq->rights.p, time(NULL)),
		.server_uid = rq->rights.p ? rq->rights.p->server_uid : 0,
		.server_gid = rq->rights.p ? rq->rights.p->server_gid : 0,
	};
	char label[SANITIZE_LABEL], masked[sizeof(((struct branch_info *)0)->masked)];
	int rc = authorise_create(rq, parent);

	if (rc < 0)
		return rc == -ENOENT ? no_parent(rq) : rc;
	rc = sanitize_label(rq->rights.p, label, &rq->err);
	if (rc < 0)
		return rc;
	look_at_mask(parent, masked);
	spec.masked = masked;
	spec.masking = label[0] && strcmp(label, masked) != 0;
	rc = request_check_role(rq, parent, &spec.make_role);
	if (rc == 0)
		rc = request_check_reserve(rq);
	if (rc == 0)
		rc = quota_begin_create(rq->c->quota, rq->rights.p, rq->who.uid,
					&rq->err);
	if (rc < 0)
		return rc;
	rc = request_record(rq);
	/* what a checkpoint holds is durable by itself */
	if (rc == 0 && !rq->from)
		rc = request_sync_commit(rq, parent);
	if (rc == 0)
		rc = registry_create(rq->c->registry, &spec, &rq->b, &rq->err);
	quota_end_create(rq->c->quota, rq->who.uid);
	if (rc == 0)
		quota_begin_branch(rq->c->quota, rq->rights.p, rq->b);
	if (rc == 0 && spec.masking)
		sanitize_begin(rq->c->sanitize, &rq->who, rq->rights.p, label, rq->b);
	if (rc == 0)
		log_info("branch %s: made from %s%s%s by uid %u", rq->name, rq->parent,
			 rq->from ? ":" : "", rq->from ? rq->from : "", rq->who.uid);
	return rc;
}

static void create_job(void *ctx);

/* If it did not start, that is no reason against a branch of it. */
static void parent_started(void *ctx, int rc, const struct err *e)
{
	(void)rc;
	(void)e;
	request_to_pool(ctx, create_job);
}

static void create_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	struct registry *r = c->registry;
	CLEAN(branch_putp) struct branch *parent = registry_find(r, rq->parent);
	CLEAN(branch_putp) struct branch *same = registry_find(r, rq->name);
	int rc = 0;

	if (rq->from)
		rc = find_checkpoint(rq, parent);
	/* of a discarded branch whose name another one has */
	if (rc == 0 && rq->from && rq->checkpoint.left)
		parent = branch_put(parent);
	if (same) {
		/* the registry would say so too, but only behind the parent's commit */
		rc = err_set(&rq->err, -EEXIST, "there is a branch named '%s' already",
			     rq->name);
	} else if (rc < 0 || (!rq->from && !parent)) {
		rc = no_parent(rq);
	} else {
		rc = create_branch(rq, parent);
	}
	/* from request_check_role: nothing was recorded or done yet */
	if (rc == -EAGAIN && parent && !rq->woke && !rq->recorded) {
		rq->woke = true;
		fleet_want(c->fleet, parent, PM_WANT_RUNNING, parent_started, rq);
		return;
	}
	request_finish(rq, rc);
	expiry_soon(c);    /* it may have a short life */
	control_upkeep(c); /* the freeze may have sealed what is not on disk yet */
}

void control_create(struct control *c, const struct caller *who, const char *spec,
		    mode_t mode, control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "create", NULL, done, ctx);
	int rc;

	if (!rq)
		return;
	/* others come in when the owner says so by chmod, never by a loose umask */
	rq->mode = mode & 0700;
	rc = parse_spec(rq, spec);
	if (rc == 0) /* before anything tells which names there are */
		rc = control_authorise(c, &rq->rights, who, POLICY_CREATE, NULL,
				       &rq->err);
	rq->subject = strdup(rq->name ? rq->name : spec);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, create_job);
}

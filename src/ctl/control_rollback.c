/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NAME/rollback and NAME/reset: a branch becomes what a checkpoint holds, or what its
 * parent is.
 *
 *	claim, pool: is it there?   the parent's commits are durable
 *	loop:        the server is stopped, and its clients from then on are held
 *	switches:    the registry's step; the kernel forgets the old tree
 *	loop:        the server is started if there was one, and the clients are served
 *
 * For the kernel to forget it takes the lock of the branch's directory, which who
 *changes the permissions of that holds until the pool has answered.  So the step has a
 *thread of its own: rollbacks could take up all of the pool, and wait for ever.
 *
 * What fails before the step leaves the branch as it was, and its server running again.
 */
#include "base/log.h"
#include "base/text.h"
#include "ctl/request.h"
#include "ctl/sanitize.h"

#include <string.h>

/* The server runs again, or was not to; the end of the request. */
static void released(void *ctx, int rc, const struct err *e)
{
	struct request *rq = ctx;
	struct control *c = rq->c;

	if (rc < 0 && rq->rc == 0) {
		request_take_fleet_error(rq, -EIO, e,
					 "has its new state, but did not start");
		rq->rc = -EIO;
	} else if (rc < 0) {
		log_warn("branch %s: its server does not run again: %s", rq->subject,
			 err_text(e));
	}
	request_finish(rq, rq->rc);
	control_upkeep(c); /* layers were sealed, and one was left */
}

/* What it was to become, or has, is needed no more. */
static void drop_copy(struct request *rq)
{
	if (rq->copy)
		sanitize_drop(steal(rq->copy));
}

static void log_switch(const struct request *rq, const struct checkpoint_info *before)
{
	log_info("branch %s: became %s%s by uid %u; what it was is checkpoint %s",
		 before->branch,
		 rq->copy ? "a newly masked copy of its parent"
		 : rq->to ? "its parent's state"
			  : "checkpoint ",
		 rq->to ? "" : rq->checkpoint.name, rq->who.uid, before->name);
}

static void switch_job(void *ctx)
{
	struct request *rq = ctx;
	struct registry *r = rq->c->registry;
	const struct rollback_spec spec = {.seq = rq->checkpoint.seq,
					   .parent = rq->to,
					   .masked = rq->copy ? rq->masked : NULL};
	CLEAN(branch_putp) struct branch *b = branch_get(rq->b);
	struct checkpoint_info before;
	struct overlay *old = NULL;

	rq->rc = registry_rollback(r, b, &spec, &before, &old, &rq->err);
	if (rq->rc == 0)
		log_switch(rq, &before);
	drop_copy(rq);
	/* from here on rq may be gone; while the server starts there is time for the
	 * rest
	 */
	fleet_release(rq->c->fleet, b, rq->rc == 0, rq->ran, released, rq);
	registry_forget_tree(r, b, old);
}

static void server_held(void *ctx, int rc, const struct err *e)
{
	struct request *rq = ctx;

	if (rc == 0) {
		rc = pool_post(rq->c->switches, switch_job, rq);
		if (rc == 0)
			return;
		(void)err_set(&rq->err, rc, "out of memory");
	} else {
		request_take_fleet_error(rq, rc, e, "cannot be changed");
	}
	rq->rc = rc;
	drop_copy(rq);
	fleet_release(rq->c->fleet, rq->b, false, rq->ran, released, rq);
}

void request_switch(struct request *rq)
{
	struct control *c = rq->c;
	struct pm_status st;

	fleet_status(c->fleet, rq->b, &st);
	rq->ran = st.state == PM_RUNNING || st.state == PM_STARTING;
	fleet_want(c->fleet, rq->b, PM_WANT_HELD, server_held, rq);
}

/* The caller is told before its sessions end what cannot be. */
static int find_checkpoint(struct request *rq, const struct branch_info *info)
{
	struct control *c = rq->c;
	int rc = checkpoint_find(c->registry, info->no, rq->name, &rq->checkpoint);

	if (rc != -ENOENT)
		return rc;
	(void)err_set(&rq->err, rc, "branch '%s' has no checkpoint '%s'", info->name,
		      rq->name);
	(void)err_hint(&rq->err, "ls %s/%s/checkpoints shows those that it has",
		       c->mountpoint, info->name);
	return rc;
}

static int no_parent(struct request *rq, const struct branch_info *info)
{
	if (info->parent[0] == '\0')
		return err_set(&rq->err, -ENOENT, "branch '%s' has no parent",
			       info->name);
	(void)err_set(&rq->err, -ENOENT,
		      "the parent of branch '%s', '%s', was discarded", info->name,
		      info->parent);
	(void)err_hint(&rq->err,
		       "ls %s/%s/checkpoints shows what it can be rolled back "
		       "to",
		       rq->c->mountpoint, info->name);
	return -ENOENT;
}

/* The right to branch from it is the right to become it. */
static int find_parent(struct request *rq, const struct branch_info *info)
{
	struct branch_info parent;
	int rc;

	if (info->parent[0] != '\0' && !info->parent_gone)
		rq->to = registry_find(rq->c->registry, info->parent);
	rq->parent = strdup(info->parent); /* for the audit line */
	if (!rq->to)
		return no_parent(rq, info);
	rc = request_authorise(rq, POLICY_CREATE, rq->to, &parent);
	if (rc == 0 && info->masked[0] != '\0' &&
	    strcmp(info->masked, parent.masked) != 0) {
		(void)err_set(&rq->err, -EPERM,
			      "branch '%s' is masked, and its parent is not",
			      info->name);
		(void)err_hint(&rq->err,
			       "discard it, and make one that is masked anew");
		return -EPERM;
	}
	if (rc == 0)
		rc = request_sync_commit(rq, rq->to);
	return rc;
}

static void begin_job(void *ctx)
{
	struct request *rq = ctx;
	struct branch_info info;
	int rc;

	branch_info(rq->b, &info);
	rc = rq->name ? find_checkpoint(rq, &info) : find_parent(rq, &info);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0) {
		request_finish(rq, rc);
		return;
	}
	request_switch(rq);
}

/* Both from here on; rq->name: the checkpoint, or NULL. */
static void begin(struct request *rq, int rc, enum policy_verb verb)
{
	struct branch_info info;

	if (rc == 0)
		rc = request_authorise(rq, verb, rq->b, &info);
	if (rc == 0)
		rc = control_check_protected(&info, &rq->err);
	if (rc == 0)
		rc = control_check_ours(rq->c, rq->b, &rq->err);
	if (rc == 0)
		rc = request_claim(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, begin_job);
}

void control_rollback(struct control *c, const struct caller *who, struct branch *b,
		      const char *word, control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "rollback", b, done, ctx);
	int rc = 0;

	if (!rq)
		return;
	request_value(rq, "%s", word);
	if (text_check_name(word) < 0) {
		(void)err_set(&rq->err, -EINVAL, "'%s' is no name of a checkpoint",
			      word);
		rc = err_hint(&rq->err, "write the name of one of its checkpoints");
	} else if (!(rq->name = strdup(word))) {
		rc = -ENOMEM;
	}
	begin(rq, rc, POLICY_ROLLBACK);
}

void control_reset(struct control *c, const struct caller *who, struct branch *b,
		   const char *word, control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "reset", b, done, ctx);
	int rc = 0;

	if (!rq)
		return;
	request_value(rq, "%s", word);
	if (strcmp(word, "parent") != 0) {
		(void)err_set(&rq->err, -EINVAL, "'%s' is nothing to reset to", word);
		rc = err_hint(&rq->err, "write parent; a checkpoint goes to rollback");
	}
	begin(rq, rc, POLICY_RESET);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkdir, rmdir and mv in NAME/checkpoints, and of those that a branch left behind.
 *
 * Taking one has the order of a mkdir of a branch: first the server makes its
 * asynchronous commits durable, then the freeze.  Nothing of it claims the branch: it
 * is no change of what the branch is, and the registry puts it in order with those.
 */
#include "base/log.h"
#include "base/text.h"
#include "ctl/request.h"

#include <stdio.h>
#include <string.h>

static void take_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	const struct checkpoint_spec spec = {.name = rq->name,
					     .kind = CHECKPOINT_NAMED};
	struct checkpoint_info info;
	struct branch_info bi;
	int rc = 0;

	branch_info(rq->b, &bi);
	/* the registry would say so too, but only behind the commit */
	if (checkpoint_find(c->registry, bi.no, rq->name, &info) == 0)
		rc = err_set(&rq->err, -EEXIST,
			     "branch '%s' has a checkpoint named '%s' already", bi.name,
			     rq->name);
	if (rc == 0)
		rc = request_check_reserve(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc == 0)
		rc = request_sync_commit(rq, rq->b);
	if (rc == 0)
		rc = checkpoint_take(c->registry, rq->b, &spec, &info, &rq->err);
	if (rc == 0)
		log_info("branch %s: checkpoint %s taken by uid %u", bi.name, rq->name,
			 rq->who.uid);
	request_finish(rq, rc);
	control_upkeep(c); /* the freeze may have sealed what is not on disk yet */
}

static int check_name(const char *name, struct err *e)
{
	int rc = text_check_name(name);

	if (rc == 0)
		return 0;
	if (rc == -ENAMETOOLONG)
		(void)err_set(e, rc, "the name '%s' is too long", name);
	else
		(void)err_set(e, rc, "'%s' is no name for a checkpoint", name);
	(void)err_hint(e,
		       "a name is a letter or digit, then letters, digits, '_', '-' or "
		       "'.', at most %d bytes",
		       NAME_LEN_MAX);
	return rc;
}

void control_checkpoint(struct control *c, const struct caller *who, struct branch *b,
			const char *name, control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "checkpoint", b, done, ctx);
	struct branch_info info;
	int rc;

	if (!rq)
		return;
	request_value(rq, "%s", name);
	rc = request_authorise(rq, POLICY_CHECKPOINT, b, &info);
	if (rc == 0)
		rc = check_name(name, &rq->err);
	if (rc == 0 && !(rq->name = strdup(name)))
		rc = -ENOMEM;
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, take_job);
}

bool control_sees_left(struct control *c, const struct caller *who,
		       const struct checkpoint_info *left)
{
	const struct branch_info info = {
		.owner = left->owner, .group = left->group, .mode = left->mode};
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;

	control_rights(c, who, &rt);
	return policy_sees(&rt, who, &info, left->owner);
}

/* A request about one that is there, whose branch may be gone; NULL after failing it.
 */
static struct request *request_about(struct control *c, const struct caller *who,
				     const char *verb,
				     const struct checkpoint_info *about,
				     control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, verb, NULL, done, ctx);
	struct branch_info info = {.owner = about->owner};
	int rc;

	if (!rq)
		return NULL;
	rq->subject = text_format("%s:%s", about->branch, about->name);
	rq->checkpoint = *about;
	(void)snprintf(info.name, sizeof(info.name), "%s", about->branch);
	rc = control_authorise(c, &rq->rights, who, POLICY_CHECKPOINT, &info, &rq->err);
	if (rc == 0)
		return rq;
	request_finish(rq, rc);
	return NULL;
}

static void drop_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	const struct checkpoint_info *ck = &rq->checkpoint;
	int rc = request_record(rq);

	if (rc == 0)
		rc = checkpoint_drop(c->registry, ck->no, ck->seq, &rq->err);
	if (rc == 0)
		log_info("branch %s: checkpoint %s dropped by uid %u", ck->branch,
			 ck->name, rq->who.uid);
	request_finish(rq, rc);
	if (rc == 0)
		control_upkeep(c);
}

void control_drop_checkpoint(struct control *c, const struct caller *who,
			     const struct checkpoint_info *about, control_done done,
			     void *ctx)
{
	struct request *rq = request_about(c, who, "drop-checkpoint", about, done, ctx);

	if (rq)
		request_to_pool(rq, drop_job);
}

static void rename_job(void *ctx)
{
	struct request *rq = ctx;
	const struct checkpoint_info *ck = &rq->checkpoint;
	int rc = request_record(rq);

	if (rc == 0)
		rc = checkpoint_rename(rq->c->registry, ck->no, ck->seq, rq->name,
				       &rq->err);
	if (rc == 0)
		log_info("branch %s: checkpoint %s renamed to %s by uid %u", ck->branch,
			 ck->name, rq->name, rq->who.uid);
	request_finish(rq, rc);
}

void control_rename_checkpoint(struct control *c, const struct caller *who,
			       const struct checkpoint_info *about, const char *to,
			       control_done done, void *ctx)
{
	struct request *rq =
		request_about(c, who, "rename-checkpoint", about, done, ctx);
	int rc;

	if (!rq)
		return;
	request_value(rq, "%s", to);
	rc = check_name(to, &rq->err);
	if (rc == 0 && !(rq->name = strdup(to)))
		rc = -ENOMEM;
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, rename_job);
}

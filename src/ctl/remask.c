/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The masked branch cannot be written in place, as sessions are on it and each state in
 * between would be seen.  So:
 *
 *	pool:       a copy, a branch of the parent that nobody may enter
 *	its thread: the SQL of the policy of the branch's owner runs on it (sanitize.h)
 *	            claim; then as a reset, to what the copy is (control_rollback.c)
 *	            the copy is discarded
 *
 * What fails leaves the branch as it was.  A copy that is left when the daemon ends is
 * discarded at the next mount, as everything that was being masked.
 */
#include "ctl/remask.h"

#include "base/log.h"
#include "base/text.h"
#include "ctl/request.h"
#include "ctl/sanitize.h"

#include <stdio.h>
#include <string.h>

#define WORD "remask "

bool remask_is_asked(const char *text)
{
	return strncmp(text, WORD, strlen(WORD)) == 0;
}

/* Before the SQL runs, and once more behind it. */
static int check(struct request *rq, struct branch_info *ret_info)
{
	int rc = request_authorise(rq, POLICY_RESET, rq->b, ret_info);

	if (rc == 0 && ret_info->masked[0] == '\0') {
		(void)err_set(&rq->err, -EINVAL, "branch '%s' is not masked",
			      ret_info->name);
		return err_hint(&rq->err, "a branch is masked when it is made, by a "
					  "user whose policy has sanitize");
	}
	if (rc == 0)
		rc = control_check_protected(ret_info, &rq->err);
	if (rc == 0)
		rc = control_check_ours(rq->c, rq->b, &rq->err);
	return rc;
}

/* The copy is masked, or is not to be had. */
static void copied(void *ctx, int rc, const struct err *e, struct sanitize_copy *copy)
{
	struct request *rq = ctx;
	struct branch_info info;

	branch_info(rq->b, &info);
	if (rc < 0) {
		(void)err_set(&rq->err, rc, "branch '%s' stays as it is: %s", info.name,
			      e ? err_text(e) : strerrordesc_np(-rc));
		request_finish(rq, rc);
		return;
	}
	rc = request_claim(rq);
	if (rc == 0)
		rc = check(rq, &info);
	if (rc < 0) {
		sanitize_drop(copy);
		request_finish(rq, rc);
		return;
	}
	rq->copy = copy;
	request_switch(rq);
}

/* Begins with the copy: rq->to is the parent, and then that. */
static int make_copy(struct request *rq, const struct branch_info *info,
		     const struct policy *p, struct branch **ret_copy)
{
	char name[32];
	const struct branch_spec spec = {
		.name = name,
		.parent = rq->to,
		.owner = info->owner,
		.group = info->group,
		.mode = 0700,
		.server_uid = info->server_uid,
		.server_gid = info->server_gid,
		.masking = true,
	};
	int rc = sanitize_label(p, rq->masked, &rq->err);

	(void)snprintf(name, sizeof(name), "remask-%u", info->no);
	if (rc == 0 && rq->masked[0] == '\0') {
		(void)err_set(&rq->err, -EINVAL,
			      "no policy of uid %u, who owns branch '%s', masks "
			      "anything",
			      info->owner, info->name);
		rc = err_hint(&rq->err, "set sanitize in it, or chown the branch");
	}
	if (rc == 0)
		rc = control_check_name(rq->c, name, &rq->err);
	if (rc == 0)
		rc = request_check_reserve(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc == 0)
		rc = request_sync_commit(rq, rq->to);
	if (rc == 0)
		rc = registry_create(rq->c->registry, &spec, ret_copy, &rq->err);
	if (rc == -EEXIST)
		(void)err_hint(&rq->err, "branch '%s' is being masked anew already",
			       info->name);
	return rc;
}

static int find_parent(struct request *rq, const struct branch_info *info)
{
	if (info->parent[0] != '\0' && !info->parent_gone)
		rq->to = registry_find(rq->c->registry, info->parent);
	rq->parent = strdup(info->parent); /* for the audit line */
	if (rq->to)
		return 0;
	(void)err_set(&rq->err, -ENOENT,
		      "the parent of branch '%s', '%s', was discarded", info->name,
		      info->parent);
	return err_hint(&rq->err, "make another masked branch, and rename it to this");
}

static void copy_job(void *ctx)
{
	CLEAN(branch_putp) struct branch *copy = NULL;
	CLEAN(policy_set_putp) struct policy_set *s = NULL;
	struct request *rq = ctx;
	const struct policy *p;
	struct branch_info info;
	int rc = check(rq, &info);

	s = control_policies(rq->c);
	p = policy_of_uid(s, info.owner);
	if (rc == 0)
		rc = find_parent(rq, &info);
	if (rc == 0)
		rc = make_copy(rq, &info, p, &copy);
	if (rc < 0) {
		request_finish(rq, rc);
		return;
	}
	(void)branch_put(steal(rq->to)); /* returns NULL */
	rq->to = branch_get(copy);
	sanitize_begin_copy(rq->c->sanitize, &rq->who, p, rq->masked, copy, copied, rq);
}

static int authorise(struct request *rq)
{
	if (rq->who.uid == 0 || rq->who.uid == control_mount_owner(rq->c))
		return 0;
	(void)err_set(&rq->err, -EPERM, "uid %u may not mask branches anew",
		      rq->who.uid);
	return err_hint(&rq->err, "only root and the mount's owner may");
}

void remask_ask(struct control *c, const struct caller *who, const char *text,
		control_done done, void *ctx)
{
	const char *name = text + strlen(WORD);
	CLEAN(branch_putp) struct branch *b = registry_find(c->registry, name);
	struct request *rq = request_new(c, who, "remask", b, done, ctx);
	int rc;

	if (!rq)
		return;
	if (!b)
		rq->subject = strdup(name);
	rc = authorise(rq);
	if (rc == 0 && !b) {
		(void)err_set(&rq->err, -ENOENT, "there is no branch named '%s'", name);
		rc = err_hint(&rq->err, "ls %s shows the branches", c->mountpoint);
	}
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, copy_job);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Branches that were discarded and are kept for a while: brought back, or removed for
 * good, by hand or when their time is over.
 *
 * Such a branch has no server and no client, so there is nothing to ask of the fleet
 * but that it may have them again.
 */
#include "base/log.h"
#include "base/text.h"
#include "ctl/quota.h"
#include "ctl/request.h"

#include <string.h>

time_t control_purge_time(struct control *c, time_t trashed)
{
	time_t due;

	LOCK_SCOPE(&c->lock);
	if (c->cfg->trash_s == 0)
		return 0;
	return __builtin_add_overflow(trashed, c->cfg->trash_s, &due) ? INT64_MAX : due;
}

/* A claimed request about a branch in the trash, or NULL after failing it. */
static struct request *request_by_trash_name(struct control *c,
					     const struct caller *who, const char *verb,
					     enum policy_verb policy,
					     const char *trash_name, control_done done,
					     void *ctx)
{
	CLEAN(branch_putp)
	struct branch *b = registry_find_trashed(c->registry, trash_name);
	struct branch_info info;
	struct request *rq;
	int rc;

	if (b && !control_sees(c, who, b))
		b = branch_put(b);
	rq = request_new(c, who, verb, b, done, ctx);
	if (!rq)
		return NULL;
	free(rq->subject);
	rq->subject = strdup(trash_name);
	if (b) {
		branch_info(b, &info);
		rc = control_authorise(c, &rq->rights, who, policy, &info, &rq->err);
		if (rc == 0)
			rc = request_claim(rq);
	} else {
		rc = err_set(&rq->err, -ENOENT, "there is no '%s' in the trash",
			     trash_name);
	}
	if (rc == 0)
		return rq;
	request_finish(rq, rc);
	return NULL;
}

static void restore_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	struct branch_info info;
	time_t now = time(NULL);
	int rc;

	branch_info(rq->b, &info);
	/* one that has expired gets the life of a new one, or it would be gone at once
	 */
	if (info.expires != 0 && info.expires <= now)
		info.expires = control_first_expires(c, rq->rights.p, now);
	rc = registry_restore(c->registry, rq->b, rq->name, info.expires, &rq->err);
	quota_end_create(c->quota, rq->who.uid);
	if (rc == 0) {
		fleet_keep(c->fleet, rq->b);
		log_info("branch %s: brought back from the trash by uid %u", rq->name,
			 rq->who.uid);
	}
	request_finish(rq, rc);
}

void control_restore(struct control *c, const struct caller *who,
		     const char *trash_name, const char *to, control_done done,
		     void *ctx)
{
	struct request *rq = request_by_trash_name(c, who, "restore", POLICY_RESTORE,
						   trash_name, done, ctx);
	int rc;

	if (!rq)
		return;
	request_value(rq, "%s", to);
	rc = control_check_name(c, to, &rq->err);
	if (rc == 0 && !(rq->name = strdup(to)))
		rc = -ENOMEM;
	if (rc == 0)
		rc = quota_begin_create(c->quota, rq->rights.p, who->uid, &rq->err);
	if (rc == 0) {
		rc = request_record(rq);
		if (rc < 0)
			quota_end_create(c->quota, who->uid);
	}
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, restore_job);
}

static void purge_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	CLEAN(branch_putp) struct branch *b = branch_get(rq->b);
	int rc = registry_purge(c->registry, b, &rq->err);

	if (rc == 0)
		log_info("branch %s: removed from the trash by uid %u%s%s", rq->subject,
			 rq->who.uid, rq->reason ? ": " : "",
			 rq->reason ? rq->reason : "");
	request_finish(rq, rc);
	(void)branch_put(steal(b)); /* a reference would keep the space */
	if (rc == 0)
		control_upkeep(c);
}

void control_purge(struct control *c, const struct caller *who, const char *trash_name,
		   control_done done, void *ctx)
{
	struct request *rq = request_by_trash_name(c, who, "purge", POLICY_DISCARD,
						   trash_name, done, ctx);

	int rc;

	if (!rq)
		return;
	rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, purge_job);
}

/* why: taken over. */
static void purge_branch(struct request *rq, char *why)
{
	struct branch_info info;
	int rc;

	branch_info(rq->b, &info);
	free(rq->subject);
	rq->subject = strdup(info.trash_name);
	rq->reason = why;
	rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, purge_job);
}

void control_purge_due(struct control *c, struct branch *b, control_done done,
		       void *ctx)
{
	struct request *rq = request_new_own(c, "purge", b, done, ctx);
	struct branch_info info;
	char when[21];

	if (!rq)
		return;
	branch_info(b, &info);
	text_format_time(control_purge_time(c, info.trashed), when);
	purge_branch(rq, text_format("its time in the trash was over at %s", when));
}

void control_purge_why(struct control *c, const struct caller *who, struct branch *b,
		       const char *why, control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "gc", b, done, ctx);

	if (rq)
		purge_branch(rq, strdup(why));
}

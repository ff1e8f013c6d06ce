/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a branch lives: its `expires` and `protected`.
 *
 * Both take the branch's claim: what is being discarded at the moment, because it has
 * expired, cannot be given a longer life any more, and says so.
 */
#include "base/log.h"
#include "base/text.h"
#include "ctl/expiry.h"
#include "ctl/input.h"
#include "ctl/request.h"

#include <string.h>

/* The policy's where it has one, else that of [branch]; 0: no limit. */
static uint64_t max_ttl(struct control *c, const struct policy *p)
{
	if (p && p->max_ttl_s != POLICY_UNSET)
		return p->max_ttl_s;
	LOCK_SCOPE(&c->lock);
	return c->cfg->max_ttl_s;
}

/* The one place where a lifetime that somebody asks for is limited. */
static int check_max_ttl(uint64_t max_s, time_t now, time_t expires, struct err *e)
{
	char latest[21];

	if (max_s == 0 || (expires != 0 && (uint64_t)(expires - now) <= max_s))
		return 0;
	text_format_time(now + (time_t)max_s, latest);
	(void)err_set(e, -EPERM, "the branch may not live so long: max_ttl limits it");
	(void)err_hint(e, "the latest time to write now is %s", latest);
	return -EPERM;
}

time_t control_first_expires(struct control *c, const struct policy *p, time_t now)
{
	uint64_t ttl, max = max_ttl(c, p);

	LOCK_SCOPE(&c->lock);
	ttl = p && p->ttl_s != POLICY_UNSET ? p->ttl_s : c->cfg->ttl_s;
	if (max != 0 && (ttl == 0 || ttl > max))
		ttl = max;
	if (ttl == 0)
		return 0;
	return ttl < (uint64_t)(EXPIRES_MAX - now) ? now + (time_t)ttl : EXPIRES_MAX;
}

static void expires_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	char when[21];
	int rc = branch_set_expires(rq->b, rq->expires, &rq->err);
	struct branch_info info;

	if (rc == 0) {
		branch_info(rq->b, &info);
		text_format_time(rq->expires, when);
		log_info("branch %s: expires %s by uid %u", info.name,
			 rq->expires ? when : "never", rq->who.uid);
	}
	request_finish(rq, rc);
	expiry_soon(c); /* it would find the branch claimed before */
}

void control_set_expires(struct control *c, const struct caller *who, struct branch *b,
			 const char *word, control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "expires", b, done, ctx);
	time_t now = time(NULL);
	struct branch_info info;
	int rc;

	if (!rq)
		return;
	request_value(rq, "%s", word);
	rc = request_authorise(rq, POLICY_EXPIRES, b, &info);
	if (rc == 0)
		rc = input_parse_expires(word, now, &rq->expires, &rq->err);
	if (rc == 0 && strcmp(info.name, MAIN_BRANCH) == 0 && rq->expires != 0)
		rc = err_set(&rq->err, -EPERM, "the base branch does not expire");
	else if (rc == 0 && strcmp(info.name, MAIN_BRANCH) != 0)
		rc = check_max_ttl(max_ttl(c, rq->rights.p), now, rq->expires,
				   &rq->err);
	if (rc == 0)
		rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, expires_job);
}

static void protected_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	int rc = branch_set_flag(rq->b, BRANCH_PROTECTED, rq->on, &rq->err);
	struct branch_info info;

	if (rc == 0) {
		branch_info(rq->b, &info);
		log_info("branch %s: %s by uid %u", info.name,
			 rq->on ? "protected" : "not protected any more", rq->who.uid);
	}
	request_finish(rq, rc);
	expiry_soon(c); /* it would find the branch claimed before */
}

void control_set_protected(struct control *c, const struct caller *who,
			   struct branch *b, const char *word, control_done done,
			   void *ctx)
{
	struct request *rq = request_new(c, who, "protected", b, done, ctx);
	struct branch_info info;
	int rc;

	if (!rq)
		return;
	request_value(rq, "%s", word);
	rc = request_authorise(rq, POLICY_PROTECT, b, &info);
	if (rc == 0)
		rc = input_parse_protected(word, &rq->on, &rq->err);
	if (rc == 0 && !rq->on && strcmp(info.name, MAIN_BRANCH) == 0)
		rc = err_set(&rq->err, -EPERM, "the base branch stays protected");
	if (rc == 0)
		rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, protected_job);
}

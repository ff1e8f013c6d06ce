/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The verbs that change a branch: discard, rename, start and stop, owner and mode.
 *
 *   discard:  claim, loop: server gone, pool: record gone, answer, then the space
 *   state:    claim, pool: the flag, loop: the server (the claim ends before it)
 *   chown:    claim, pool: stop flag, loop: server stopped, pool: owner, flag back
 */
#include "base/log.h"
#include "base/text.h"
#include "ctl/input.h"
#include "ctl/request.h"

#include <string.h>

int control_check_protected(const struct branch_info *info, struct err *e)
{
	if (!info->is_protected)
		return 0;
	(void)err_set(e, -EPERM, "branch '%s' is protected", info->name);
	(void)err_hint(e, strcmp(info->name, MAIN_BRANCH) == 0
				  ? "the base branch stays as long as the store"
				  : "its owner may write 0 to its file protected");
	return -EPERM;
}

void request_take_fleet_error(struct request *rq, int rc, const struct err *e,
			      const char *what)
{
	struct branch_info info;

	branch_info(rq->b, &info);
	(void)err_set(&rq->err, rc, "branch '%s' %s: %s", info.name, what,
		      e && e->msg ? e->msg : strerrordesc_np(-rc));
	if (e && e->hint)
		(void)err_hint(&rq->err, "%s", e->hint);
}

int control_check_ours(struct control *c, struct branch *b, struct err *e)
{
	int rc = fleet_check_ours(c->fleet, b, e);
	struct branch_info info;

	if (rc == 0)
		return 0;
	branch_info(b, &info);
	return err_wrap(e, rc, "branch '%s' is external", info.name);
}

static void discard_job(void *ctx)
{
	struct request *rq = ctx;
	struct control *c = rq->c;
	CLEAN(branch_putp) struct branch *b = branch_get(rq->b);
	struct branch_info info;
	bool keep;
	int rc;

	branch_info(b, &info);
	keep = control_purge_time(c, info.created) != 0;
	rc = keep ? registry_trash(c->registry, b, &rq->err)
		  : registry_discard(c->registry, b, &rq->err);
	if (rc < 0) {
		fleet_keep(c->fleet, b);
		request_finish(rq, rc);
		return;
	}
	log_info("branch %s: discarded by uid %u%s%s", info.name, rq->who.uid,
		 rq->reason ? ": " : "", rq->reason ? rq->reason : "");
	branch_info(b, &info);
	if (info.trash_name[0])
		request_value(rq, "%s", info.trash_name);
	request_finish(rq, rc);
	rc = branch_run_clear(b);
	if (rc < 0)
		log_warn("branch %s: cannot empty its run directory: %s; the next "
			 "mount does",
			 info.name, strerrordesc_np(-rc));
	(void)branch_put(steal(b)); /* a reference would keep the space */
	control_upkeep(c);
}

static void discard_server_gone(void *ctx, int rc, const struct err *e)
{
	struct request *rq = ctx;

	if (rc < 0) {
		fleet_keep(rq->c->fleet, rq->b);
		request_take_fleet_error(rq, rc, e, "cannot be discarded");
		request_finish(rq, rc);
		return;
	}
	request_to_pool(rq, discard_job);
}

/* A request about the branch of this name, or NULL after failing it. */
static struct request *request_by_name(struct control *c, const struct caller *who,
				       const char *verb, const char *name,
				       control_done done, void *ctx)
{
	CLEAN(branch_putp) struct branch *b = registry_find(c->registry, name);
	struct request *rq;

	if (b && !control_sees(c, who, b))
		b = branch_put(b);
	rq = request_new(c, who, verb, b, done, ctx);
	if (rq && !b) {
		rq->subject = strdup(name);
		request_finish(rq, err_set(&rq->err, -ENOENT,
					   "there is no branch named '%s'", name));
		return NULL;
	}
	return rq;
}

void control_discard(struct control *c, const struct caller *who, const char *name,
		     control_done done, void *ctx)
{
	struct request *rq = request_by_name(c, who, "discard", name, done, ctx);
	struct branch_info info;
	int rc;

	if (!rq)
		return;
	rc = request_authorise(rq, POLICY_DISCARD, rq->b, &info);
	if (rc == 0)
		rc = control_check_protected(&info, &rq->err);
	if (rc == 0)
		rc = control_check_ours(c, rq->b, &rq->err);
	if (rc == 0)
		rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0) {
		request_finish(rq, rc);
		return;
	}
	fleet_want(c->fleet, rq->b, PM_WANT_GONE, discard_server_gone, rq);
}

/* The last step of a discard that nobody asked for by the branch's name. */
static void discard_for(struct request *rq, int rc, const struct branch_info *info)
{
	if (rc == 0)
		rc = control_check_protected(info, &rq->err);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		fleet_want(rq->c->fleet, rq->b, PM_WANT_GONE, discard_server_gone, rq);
}

void control_expire(struct control *c, struct branch *b, control_done done, void *ctx)
{
	struct request *rq = request_new_own(c, "expire", b, done, ctx);
	struct branch_info info;
	char when[21];
	int rc;

	if (!rq)
		return;
	rc = request_claim(rq);
	/* nobody changes these behind the claim */
	branch_info(b, &info);
	if (rc == 0 && (info.expires == 0 || info.expires > time(NULL)))
		rc = err_set(&rq->err, -ECANCELED, "branch '%s' was given more time",
			     info.name);
	text_format_time(info.expires, when);
	rq->reason = text_format("it expired at %s", when);
	discard_for(rq, rc, &info);
}

void control_discard_unused(struct control *c, const struct caller *who,
			    struct branch *b, time_t limit, const char *why,
			    control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "gc", b, done, ctx);
	struct branch_info info;
	int rc;

	if (!rq)
		return;
	rc = request_authorise(rq, POLICY_DISCARD, b, &info);
	if (rc == 0)
		rc = request_claim(rq);
	branch_info(b, &info);
	if (rc == 0 && info.last_active > limit)
		rc = err_set(&rq->err, -ECANCELED, "branch '%s' was used again",
			     info.name);
	rq->reason = strdup(why);
	discard_for(rq, rc, &info);
}

int control_may_discard(struct control *c, const struct caller *who, struct branch *b)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;
	struct branch_info info;
	int rc;

	branch_info(b, &info);
	control_rights(c, who, &rt);
	rc = control_authorise(c, &rt, who, POLICY_DISCARD, &info, &e);
	if (rc == 0)
		rc = control_check_protected(&info, &e);
	if (rc == 0)
		rc = control_check_ours(c, b, &e);
	if (rc < 0)
		control_note_error(c, who->uid, &e);
	return rc;
}

static void rename_job(void *ctx)
{
	struct request *rq = ctx;
	struct branch_info info;
	int rc;

	branch_info(rq->b, &info);
	rc = registry_rename(rq->c->registry, rq->b, rq->name, &rq->err);
	if (rc == 0)
		log_info("branch %s: renamed to %s by uid %u", info.name, rq->name,
			 rq->who.uid);
	request_finish(rq, rc);
}

void control_rename(struct control *c, const struct caller *who, const char *from,
		    const char *to, control_done done, void *ctx)
{
	struct request *rq = request_by_name(c, who, "rename", from, done, ctx);
	struct branch_info info;
	int rc;

	if (!rq)
		return;
	request_value(rq, "%s", to);
	rc = request_authorise(rq, POLICY_RENAME, rq->b, &info);
	if (rc == 0 && strcmp(info.name, MAIN_BRANCH) == 0)
		rc = err_set(&rq->err, -EPERM, "the base branch cannot be renamed");
	if (rc == 0)
		rc = control_check_name(c, to, &rq->err);
	if (rc == 0 && !(rq->name = strdup(to)))
		rc = -ENOMEM;
	if (rc == 0)
		rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, rename_job);
}

static void state_reached(void *ctx, int rc, const struct err *e)
{
	struct request *rq = ctx;

	if (rc < 0)
		request_take_fleet_error(rq, rc, e,
					 rq->want == PM_WANT_RUNNING ? "did not start"
								     : "did not stop");
	request_finish(rq, rc);
}

static void state_job(void *ctx)
{
	struct request *rq = ctx;
	bool stop = rq->want == PM_WANT_STOPPED;
	int rc = branch_set_flag(rq->b, BRANCH_STOPPED_BY_HAND, stop, &rq->err);

	if (rc < 0)
		request_finish(rq, rc);
	else
		request_want_unclaim(rq, rq->want, state_reached);
}

void control_set_state(struct control *c, const struct caller *who, struct branch *b,
		       const char *word, control_done done, void *ctx)
{
	struct request *rq = request_new(c, who, "state", b, done, ctx);
	struct branch_info info;
	int rc;

	if (!rq)
		return;
	request_value(rq, "%s", word);
	rc = request_authorise(rq, POLICY_STATE, b, &info);
	if (rc == 0)
		rc = input_parse_state(word, &rq->want, &rq->err);
	if (rc == 0)
		rc = control_check_ours(c, b, &rq->err);
	if (rc == 0)
		rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, state_job);
}

/* Whom a branch is given to decides whom its servers run as, by their policy. */
static int set_access(struct request *rq, const struct branch_info *info)
{
	struct branch_access a = {
		.mode = rq->mode, .owner = rq->owner, .group = rq->group};
	const struct policy *p;

	if (rq->owner != (uid_t)-1 && rq->owner != info->owner) {
		p = policy_of_uid(rq->rights.set, rq->owner);
		a.set_server = true;
		a.server_uid = p ? p->server_uid : 0;
		a.server_gid = p ? p->server_gid : 0;
	}
	return branch_set_access(rq->b, &a, &rq->err);
}

static void access_job(void *ctx)
{
	struct request *rq = ctx;
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct branch_info info;
	int rc = 0;

	branch_info(rq->b, &info);
	if (rq->mode == (mode_t)-1)
		rq->mode = info.mode;
	if (!rq->err.code)
		rc = set_access(rq, &info);
	else
		rc = rq->err.code; /* the server did not stop */
	if (rq->stopped_for_it &&
	    branch_set_flag(rq->b, BRANCH_STOPPED_BY_HAND, false, &e) < 0)
		log_warn("branch %s: cannot take the stop back: %s; it stays stopped "
			 "until somebody writes running to its state",
			 info.name, err_text(&e));
	request_finish(rq, rc);
}

static void access_server_stopped(void *ctx, int rc, const struct err *e)
{
	struct request *rq = ctx;

	if (rc < 0)
		request_take_fleet_error(rq, rc, e, "did not stop");
	request_to_pool(rq, access_job);
}

/*
 * A server that runs on would lose its files to the new owner, and one that a
 * client wakes meanwhile would run as the old one: stop it and keep it stopped.
 */
static void chown_job(void *ctx)
{
	struct request *rq = ctx;
	struct branch_info info;
	int rc = 0;

	branch_info(rq->b, &info);
	if (!info.stopped_by_hand) {
		rc = branch_set_flag(rq->b, BRANCH_STOPPED_BY_HAND, true, &rq->err);
		rq->stopped_for_it = rc == 0;
	}
	if (rc < 0)
		request_finish(rq, rc);
	else
		fleet_want(rq->c->fleet, rq->b, PM_WANT_STOPPED, access_server_stopped,
			   rq);
}

static void value_of_access(struct request *rq)
{
	struct str text = STR_INIT;

	if (rq->mode != (mode_t)-1)
		str_printf(&text, "mode %o ", rq->mode);
	if (rq->owner != (uid_t)-1)
		str_printf(&text, "owner %u ", rq->owner);
	if (rq->group != (gid_t)-1)
		str_printf(&text, "group %u ", rq->group);
	if (text.len)
		request_value(rq, "%.*s", (int)text.len - 1, text.s);
	str_fini(&text);
}

/* As chgrp(2) has it, and the kernel has checked it by then. */
static int check_group(struct request *rq, gid_t group)
{
	if (caller_in_group(&rq->who, group))
		return 0;
	(void)err_set(&rq->err, -EPERM, "uid %u is not in group %u", rq->who.uid,
		      group);
	return err_hint(&rq->err, "share a branch with a group of your own");
}

void control_set_access(struct control *c, const struct caller *who, struct branch *b,
			mode_t mode, uid_t owner, gid_t group, control_done done,
			void *ctx)
{
	struct request *rq = request_new(c, who, "access", b, done, ctx);
	struct branch_info info;
	bool new_owner;
	int rc;

	if (!rq)
		return;
	branch_info(b, &info);
	new_owner = owner != (uid_t)-1 && owner != info.owner;
	rq->mode = mode == (mode_t)-1 ? mode : mode & 0777;
	rq->owner = owner;
	rq->group = group;
	value_of_access(rq);
	rc = request_authorise(rq, new_owner ? POLICY_CHOWN : POLICY_CHMOD, b, &info);
	if (rc == 0 && new_owner)
		rc = control_check_ours(c, b, &rq->err);
	if (rc == 0 && !rq->rights.all && group != (gid_t)-1 && group != info.group)
		rc = check_group(rq, group);
	if (rc == 0 && new_owner)
		rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc < 0)
		request_finish(rq, rc);
	else
		request_to_pool(rq, new_owner ? chown_job : access_job);
}

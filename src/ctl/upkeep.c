/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/upkeep.h"

#include "base/log.h"
#include "ctl/remask.h"
#include "ctl/upkeep_priv.h"

#include <string.h>

/* Keeps the answer for the next read. */
static int keep_answer(struct upkeep *u)
{
	struct control *c = u->c;
	char *answer;

	report_end(&u->answer);
	answer = str_steal(&u->answer);
	if (!answer)
		return -ENOMEM;
	LOCK_SCOPE(&c->lock);
	free(c->answer);
	c->answer = answer;
	return 0;
}

static void nobody_waits(void *ctx, int rc, struct branch *b)
{
	(void)ctx; /* upkeep_end answers */
	(void)rc;
	(void)b;
}

/* Begins the audit line of what changes something, or is refused.  What gc removes has
 * lines of its own. */
static int record(struct upkeep *u, int rc, const char *text)
{
	const char *verb = u->adopt.name[0] ? "receive"
			   : u->ask.doctor  ? "doctor"
					    : "gc";

	if (rc == 0 && !u->adopt.name[0] && !(u->ask.doctor && u->ask.apply))
		return 0;
	u->rq = request_new(u->c, &u->who, verb, NULL, nobody_waits, NULL);
	if (!u->rq)
		return rc < 0 ? rc : -ENOMEM;
	request_value(u->rq, "%s", text);
	if (u->adopt.name[0])
		u->rq->subject = strdup(u->adopt.name);
	return rc == 0 ? request_record(u->rq) : rc;
}

void upkeep_end(struct upkeep *u, int rc)
{
	if (rc == 0)
		rc = keep_answer(u);
	if (u->rq) {
		if (u->err.msg)
			err_move(&u->rq->err, &u->err);
		request_finish(u->rq, rc);
	} else if (rc < 0) {
		if (!u->err.msg)
			(void)err_set(&u->err, rc, "%s", strerrordesc_np(-rc));
		control_note_error(u->c, u->who.uid, &u->err);
		log_info("upkeep asked for by uid %u failed: %s", u->who.uid,
			 err_text(&u->err));
	}
	u->done(u->ctx, rc, NULL);
	gc_free(u);
	str_fini(&u->answer);
	err_fini(&u->err);
	free(u);
}

char *upkeep_answer(struct control *c)
{
	LOCK_SCOPE(&c->lock);
	return strdup(c->answer ? c->answer
				: "write gc or doctor here, and read the answer\n");
}

static int authorise(struct upkeep *u)
{
	if (u->who.uid == 0 || u->who.uid == control_mount_owner(u->c))
		return 0;
	(void)err_set(&u->err, -EPERM, "uid %u may not clean up here", u->who.uid);
	(void)err_hint(&u->err, "only root and the mount's owner may");
	return -EPERM;
}

void upkeep_ask(struct control *c, const struct caller *who, struct branch *b,
		const char *text, control_done done, void *ctx)
{
	struct upkeep *u;
	int rc;

	(void)b;
	if (remask_is_asked(text)) {
		remask_ask(c, who, text, done, ctx);
		return;
	}
	u = calloc(1, sizeof(*u));
	if (!u) {
		done(ctx, -ENOMEM, NULL);
		return;
	}
	u->c = c;
	u->who = *who;
	u->done = done;
	u->ctx = ctx;
	rc = input_is_adopt(text) ? input_parse_adopt(text, &u->adopt, &u->err)
				  : input_parse_upkeep(text, &u->ask, &u->err);
	if (rc == 0)
		rc = record(u, authorise(u), text);
	if (rc == 0)
		rc = pool_post(c->pool,
			       u->adopt.name[0] ? adopt_run
			       : u->ask.doctor  ? doctor_run
						: gc_run,
			       u);
	if (rc < 0)
		upkeep_end(u, rc);
}

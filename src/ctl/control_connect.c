/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connect: decided and recorded when the socket's name is looked up for it.  From
 * there on the kernel goes by the mode of the socket, and the server by the role.
 */
#include "base/log.h"
#include "ctl/request.h"

#include <string.h>

static int refuse(struct request *rq, const char *hint)
{
	rq->err.code = -EACCES;
	(void)err_hint(&rq->err, "%s", hint);
	return -EACCES;
}

/* Lets the caller in as the role of its policy. */
static int admit(struct request *rq, const struct branch_info *info)
{
	const char *superuser = rq->c->superuser, *role = rq->rights.p->role;
	CLEAN(clean_free) char *user = caller_user_name(rq->who.uid);
	int rc;

	if (!user) {
		(void)err_set(&rq->err, -EACCES,
			      "uid %u has no name, by which a server would know it",
			      rq->who.uid);
		(void)err_hint(&rq->err,
			       "add a user of this uid, such as by useradd -u %u "
			       "NAME",
			       rq->who.uid);
		return -EACCES;
	}
	if (!role)
		role = superuser;
	if (info->server_uid != 0 && strcmp(role, superuser) == 0) {
		(void)err_set(&rq->err, -EACCES,
			      "policy '%s' makes uid %u a superuser, and the server of "
			      "'%s' runs as a user that others' servers run as, too",
			      rq->rights.p->name, rq->who.uid, info->name);
		return refuse(rq, "make a branch of your own");
	}
	request_value(rq, "%s", role);
	rc = fleet_admit(rq->c->fleet, rq->b, user, role);
	return rc < 0 ? err_set(&rq->err, rc, "cannot let uid %u in: %s", rq->who.uid,
				strerrordesc_np(-rc))
		      : 0;
}

static int decide(struct request *rq)
{
	struct branch_info info;

	branch_info(rq->b, &info);
	if (rq->rights.all || (!policy_hides(rq->rights.set) && info.server_uid == 0))
		return 0;
	if (!policy_enters(&rq->rights, &rq->who, &info)) {
		(void)err_set(&rq->err, -EACCES, "branch '%s' is not open to uid %u",
			      info.name, rq->who.uid);
		return refuse(rq, "its owner may share it by chmod and chgrp");
	}
	if (!rq->rights.p) {
		(void)err_set(&rq->err, -EACCES,
			      "uid %u has no policy, and so no role in a branch",
			      rq->who.uid);
		return refuse(rq, "ask whoever runs the mount");
	}
	return admit(rq, &info);
}

static void decided(void *ctx, int rc, struct branch *b)
{
	(void)b;
	*(int *)ctx = rc;
}

int control_connect(struct control *c, const struct caller *who, struct branch *b)
{
	int answer = -ENOMEM, rc;
	struct request *rq = request_new(c, who, "connect", b, decided, &answer);

	if (!rq)
		return answer;
	rc = decide(rq);
	if (rc == 0)
		rc = request_record(rq);
	request_finish(rq, rc);
	return answer;
}

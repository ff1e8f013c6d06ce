/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connect: decided and recorded when the socket's name is looked up for it.  From
 * there on the kernel goes by the mode of the socket, and the server by the role.
 */
#include "base/log.h"
#include "ctl/request.h"

#include <string.h>

static int decide(struct request *rq)
{
	struct branch_info info;

	branch_info(rq->b, &info);
	if (!policy_hides(rq->rights.set) || rq->rights.all)
		return 0;
	if (!policy_enters(&rq->rights, &rq->who, &info)) {
		(void)err_set(&rq->err, -EACCES, "branch '%s' is not open to uid %u",
			      info.name, rq->who.uid);
		(void)err_hint(&rq->err, "its owner may share it by chmod and chgrp");
		return -EACCES;
	}
	if (!rq->rights.p) {
		(void)err_set(&rq->err, -EACCES,
			      "uid %u has no policy, and so no role in a branch",
			      rq->who.uid);
		(void)err_hint(&rq->err, "ask whoever runs the mount");
		return -EACCES;
	}
	return 0;
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quota.h - how many branches a uid may have, and how much they may hold: counted, and
 * told to the branches.  The bytes are store/quota.h's.
 */
#ifndef CTL_QUOTA_H
#define CTL_QUOTA_H

#include "base/err.h"
#include "ctl/policy.h"

struct control;
struct quota;

/* Counts bytes from now on, as long as a policy has max_bytes.  Loop thread. */
int quota_new(struct control *c, struct quota **ret_quota) MUST_CHECK;
struct quota *quota_free(struct quota *q); /* NULL is fine; returns NULL */
/*
 * May the uid, whose policy is p (NULL: no limit), have one more?  0, and then it
 * counts as there until quota_end_create; -EDQUOT.  Any thread.
 */
int quota_begin_create(struct quota *q, const struct policy *p, uid_t uid,
		       struct err *e) MUST_CHECK;
void quota_end_create(struct quota *q, uid_t uid);
/* Tells a branch that was just made for a uid with this policy what is left. */
void quota_begin_branch(struct quota *q, const struct policy *p, struct branch *b);
/* Something changed that may free or take quota: counts soon.  Any thread. */
void quota_soon(struct quota *q);

#endif

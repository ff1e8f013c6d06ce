/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quota.h - what a branch may still write, and what the branches of each uid hold.
 *
 * A quota is a uid's, for all its branches; each of them knows what is left of it.
 * That is counted anew every second at most (registry_held_by, branch_quota_set), and
 * between two counts by what is written (branch_quota_ask).  Thread-safe.
 */
#ifndef STORE_QUOTA_H
#define STORE_QUOTA_H

#include "store/registry.h"

/* limit UINT64_MAX: none.  used: what all branches of the owner hold on disk. */
void branch_quota_set(struct branch *b, uint64_t limit, uint64_t used);
/* false: it has none.  What is written and not on disk yet counts as used. */
bool branch_quota_get(struct branch *b, uint64_t *ret_limit, uint64_t *ret_used);
/* Bytes that were announced and have not come. */
uint64_t branch_quota_pending(struct branch *b);
/* Is so little left that each write should be asked about? */
bool branch_quota_is_near(struct branch *b);

/*
 * What a write is for; each may go a bit further than the one before it, so that a
 * branch that is full can still be cleaned up.
 */
enum quota_use {
	QUOTA_GROW, /* a file gets longer */
	QUOTA_COPY, /* a block of another branch is replaced */
	QUOTA_WAL,
	QUOTA_SMALL,   /* a file that stays small gets longer */
	QUOTA_WRITTEN, /* the writer was told that it is: cannot be refused */
};
/* -EDQUOT, or 0: bytes are charged. */
int branch_quota_ask(struct branch *b, enum quota_use use, uint64_t bytes) MUST_CHECK;
/* Bytes that were charged before have come, and take space on disk, or took it. */
void branch_quota_came(struct branch *b, uint64_t bytes, bool grows);

/* What one uid's branches and their checkpoints hold alone, on disk; with the trash. */
struct held_by {
	uid_t uid;
	uint64_t bytes;
};
/* A heap array, for each uid that has a branch.  Reads directories. */
int registry_held_by(struct registry *r, struct held_by **ret_list,
		     size_t *ret_n) MUST_CHECK;

#endif

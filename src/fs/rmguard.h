/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rmguard.h - which processes are in the middle of an `rm -rf` of a branch, and how
 * its first step went.
 *
 * rm takes a tree away file by file and goes on after a refusal.  Its first step
 * in a branch is a virtual file (readdir lists data last): the answer to that
 * step then holds for all that the same process does below.  If it was granted, the
 * process finds data empty and what it removes there all the same stays, until its last
 * step, the rmdir of the branch, takes all away at once.  Thread-safe.
 */
#ifndef FS_RMGUARD_H
#define FS_RMGUARD_H

#include <stdint.h>
#include <sys/types.h>

enum rm_state {
	RM_NONE,     /* nothing known of this process */
	RM_REMOVING, /* it was allowed to take the branch away */
	RM_REFUSED,  /* it was not: nothing of the branch may go */
};

/* Remembers the state of the process that tid belongs to, as long as it goes on. */
void rmguard_set(uint32_t branch_no, pid_t tid, enum rm_state state);
/* What is remembered.  Costs an atomic load where nobody removed anything. */
enum rm_state rmguard_get(uint32_t branch_no, pid_t tid);

#endif

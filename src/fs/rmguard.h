/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rmguard.h - which processes are in the middle of an `rm -rf` of a branch, and how
 * its first step went.
 *
 * rm takes a tree away file by file and goes on after a refusal.  Its first step
 * in a branch is a virtual file (readdir lists data last): the answer to that
 * step then holds for all that the same process removes below.  Thread-safe.
 */
#ifndef FS_RMGUARD_H
#define FS_RMGUARD_H

#include <stdint.h>
#include <sys/types.h>

enum rm_state {
	RM_NONE,     /* nothing known of this process */
	RM_REMOVING, /* it was allowed to take the branch away */
	RM_STOPPED,  /* the same, and the server was told to stop */
	RM_REFUSED,  /* it was not: nothing of the branch may go */
};

/* Remembers the state of the process that tid belongs to, for some minutes. */
void rmguard_set(uint32_t branch_no, pid_t tid, enum rm_state state);
/*
 * What is remembered.  Costs an atomic load where nobody removed anything.
 * RM_REMOVING is given once, and is RM_STOPPED from then on.
 */
enum rm_state rmguard_take(uint32_t branch_no, pid_t tid);

#endif

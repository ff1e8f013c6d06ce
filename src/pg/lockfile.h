/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lockfile.h - postmaster.pid, by which servers keep one another out of a data
 * directory, as the mount sees it: who made it, and whether that is a server that
 * lives.  The number in it says little: it is that of another pid namespace, or of a
 * process that got it later.
 *
 * Any thread; may read the file from the store.
 */
#ifndef PG_LOCKFILE_H
#define PG_LOCKFILE_H

#include "pg/fleet_priv.h"

/* Who uses a data directory. */
struct lock_user {
	pid_t pid; /* 0: cannot be seen from here */
	int pidfd; /* owned; -1: cannot be seen */
};

#define LOCK_USER_INIT                                                                 \
	{                                                                              \
		.pidfd = -1                                                            \
	}

void lock_user_fini(struct lock_user *u);

enum lock_state {
	LOCK_FREE,  /* nobody made it in this mount, or who did has ended */
	LOCK_OTHER, /* who made it lives, but it is not their lock: a copy, say */
	LOCK_BEGUN, /* who made it lives and has not written it yet */
	LOCK_HELD,
};

/* Of the file that was made in this mount; *ret_user is set for the last two. */
enum lock_state lockfile_look(struct slot *s, struct branch *b,
			      struct lock_user *ret_user);
/* Gives up what was kept of a maker that has ended. */
void lockfile_forget_dead(struct slot *s);
/*
 * Before a start: 1 if a file that was there before this mount is one of a server, not
 * ours, that lives or, where not all processes can be seen, may live; else 0.
 */
int lockfile_find_old(struct slot *s, struct branch *b, struct lock_user *ret_user,
		      struct err *e) MUST_CHECK;

#endif

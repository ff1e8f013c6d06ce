/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * caller.h - who asks, and which groups they are in at this moment.
 */
#ifndef CTL_CALLER_H
#define CTL_CALLER_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct caller {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* of the thread that waits for the answer; 0: cannot be seen */
};

struct groups {
	gid_t *v; /* owned */
	size_t n;
};

#define GROUPS_INIT                                                                    \
	{                                                                              \
		NULL, 0                                                                \
	}
void groups_fini(struct groups *g);
bool groups_have(const struct groups *g, gid_t gid);

/*
 * The caller's groups now: those of the process while it waits, as /proc shows them;
 * where it cannot be seen, or is another uid's by now, those that the databases of
 * users and groups give the uid.
 */
int caller_groups(const struct caller *who, struct groups *ret_groups) MUST_CHECK;
bool caller_in_group(const struct caller *who, gid_t gid);
/* The groups of a uid by the databases alone; also fits uids without a name. */
int caller_groups_of(uid_t uid, gid_t gid, struct groups *ret_groups) MUST_CHECK;
/* The name of a uid: a heap string, NULL if it has none (or no memory). */
char *caller_user_name(uid_t uid);

/* The pure half: the groups in the text of /proc/PID/status, if its process acts as
 * uid. -EINVAL: it does not, or says nothing. */
int caller_parse_groups(const char *status, uid_t uid,
			struct groups *ret_groups) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * procset.h - processes found in /proc, to be waited for or ended.
 *
 * Only who can be seen from here is found.  Nothing is shared: any thread; the
 * waiting ones block.
 */
#ifndef PG_PROCSET_H
#define PG_PROCSET_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct procset_member {
	pid_t pid;
	int pidfd;
	bool gone;
};

struct procset {
	struct procset_member *v;
	size_t n;
};

void procset_fini(struct procset *l);

/* Adds a process if `still` says, once it cannot go away unseen, that it is one.
 * Ignores ourselves and those that are in the list. */
int procset_add_if(struct procset *l, pid_t pid,
		   bool (*still)(pid_t pid, const void *arg),
		   const void *arg) MUST_CHECK;
/* Adds all processes of the machine that `is` accepts. */
int procset_scan(struct procset *l, bool (*is)(pid_t pid, const void *arg),
		 const void *arg) MUST_CHECK;
/* Adds the children of all that are in the list, and theirs. */
int procset_add_children(struct procset *l) MUST_CHECK;

void procset_signal(const struct procset *l, int sig);
/* Waits until all are gone or the time is over; how many are left. */
size_t procset_wait(struct procset *l, int timeout_ms);
/* Ends them, by SIGKILL, or by SIGQUIT first; -EBUSY names who would not go. */
int procset_end(struct procset *l, bool ask_first, struct err *e) MUST_CHECK;

/* A file of /proc/PID. */
int procset_read(pid_t pid, const char *name, size_t max, char **ret_text,
		 size_t *ret_len) MUST_CHECK;
/* What is used of /proc/PID/stat. */
struct procset_stat {
	char state;
	pid_t parent, session;
	unsigned long long start; /* ticks after boot; 0: there is no process */
};
struct procset_stat procset_stat(pid_t pid);

#endif

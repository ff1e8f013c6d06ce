/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * audit.h - STORE/audit.log: a JSON object a line for each request that was decided,
 * and for each thing that the daemon took away by itself.
 *
 * Lines are only ever appended, each by one write, so that whoever follows or moves
 * the file sees whole ones.  Thread-safe.
 */
#ifndef CTL_AUDIT_H
#define CTL_AUDIT_H

#include "base/cleanup.h"
#include "base/text.h"

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define AUDIT_FILE "audit.log"

enum audit_verdict {
	AUDIT_ALLOWED,
	AUDIT_DENIED, /* by whom it belongs to, protection, or policy */
	AUDIT_FAILED, /* for any other reason */
};

/* Strings may be NULL: null in the file. */
struct audit_event {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	const char *comm; /* the caller's command, as the kernel knows it */
	const char *verb;
	const char *branch; /* its name before the request */
	const char *parent; /* of a new branch */
	const char *value;  /* what was asked for: a new name, a time, a state */
	enum audit_verdict verdict;
	const char *reason; /* why not, or why the daemon did it */
	uint64_t duration_us;
	bool makes_space; /* may use the room that is kept on a full disk */
};

struct audit;

/* Opens, or makes, the file in the store's directory; path of that: for messages. */
int audit_open(int dirfd, const char *path, struct audit **ret_audit) MUST_CHECK;
struct audit *audit_close(struct audit *a); /* NULL is fine; returns NULL */
/*
 * Opens the file of this name anew, or makes one: the old one was moved.  If that fails
 * it stays with the old one, and says so in the log.
 */
void audit_reopen(struct audit *a);
/* Appends the event; -ENOSPC also while the last room is kept for others.  A failure is
 * logged, once until it works again. */
int audit_write(struct audit *a, const struct audit_event *ev) MUST_CHECK;

/* The line with its newline; pure. */
void audit_format(const struct audit_event *ev, const struct timespec *now,
		  struct str *out);

#endif

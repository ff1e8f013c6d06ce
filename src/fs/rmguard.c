/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small ring of (branch, process) with an expiry time: the oldest row gives way.
 * A process is its thread-group id and start time, so that a number that the
 * kernel hands out again is not taken for it.  Where the caller is not visible
 * from here (another pid namespace) both are 0, and all such callers are one.
 */
#include "fs/rmguard.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/text.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#define RM_ROWS 64
/* From step to step; a person may be asked between them. */
#define RM_KEEP_MS (60 * 1000)
/* Of those who are one for us: the others look at the branch, too. */
#define RM_KEEP_UNSEEN_MS (5 * 1000)

struct rm_row {
	uint32_t branch_no;
	enum rm_state state; /* RM_NONE: free */
	pid_t tgid;
	uint64_t started;
	int64_t until_ms;
};

static struct {
	pthread_mutex_t lock;
	struct rm_row rows[RM_ROWS]; /* lock: lock */
	unsigned next;               /* lock: lock */
	atomic_llong until_ms;       /* when the youngest row expires; 0: no row */
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The number behind "\nTgid:" of /proc/TID/status; 0 when it cannot be seen. */
static pid_t tgid_of(pid_t tid)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/status", (int)tid);
	CLEAN(clean_free) char *s = NULL;
	const char *at;

	if (tid <= 0 || !path || fd_read_file(AT_FDCWD, path, 65536, &s, NULL) < 0)
		return 0;
	at = strstr(s, "\nTgid:");
	return at ? (pid_t)strtol(at + 6, NULL, 10) : 0;
}

/* Field 22 of /proc/PID/stat, counted from behind the command's closing bracket. */
static uint64_t start_of(pid_t pid)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/stat", (int)pid);
	CLEAN(clean_free) char *s = NULL;
	char *at;
	int field;

	if (pid <= 0 || !path || fd_read_file(AT_FDCWD, path, 65536, &s, NULL) < 0)
		return 0;
	at = strrchr(s, ')');
	for (field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

static struct rm_row *row_find_locked(uint32_t branch_no, pid_t tgid, uint64_t started)
{
	int64_t now = loop_now_ms();
	unsigned i;

	for (i = 0; i < RM_ROWS; i++) {
		struct rm_row *r = &guard.rows[i];

		if (r->state != RM_NONE && r->branch_no == branch_no &&
		    r->tgid == tgid && r->started == started && r->until_ms > now)
			return r;
	}
	return NULL;
}

static void keep_locked(struct rm_row *r)
{
	r->until_ms = loop_now_ms() + (r->tgid ? RM_KEEP_MS : RM_KEEP_UNSEEN_MS);
	if (r->until_ms > atomic_load(&guard.until_ms))
		atomic_store(&guard.until_ms, r->until_ms);
}

void rmguard_set(uint32_t branch_no, pid_t tid, enum rm_state state)
{
	pid_t tgid = tgid_of(tid);
	uint64_t started = start_of(tgid);
	struct rm_row *r;

	LOCK_SCOPE(&guard.lock);
	r = row_find_locked(branch_no, tgid, started);
	if (!r)
		r = &guard.rows[guard.next++ % RM_ROWS];
	*r = (struct rm_row){branch_no, state, tgid, started, 0};
	keep_locked(r);
}

enum rm_state rmguard_get(uint32_t branch_no, pid_t tid)
{
	struct rm_row *r;
	uint64_t started;
	bool any = false;
	unsigned i;
	pid_t tgid;

	if (atomic_load(&guard.until_ms) <= loop_now_ms())
		return RM_NONE;
	{
		LOCK_SCOPE(&guard.lock);
		for (i = 0; i < RM_ROWS && !any; i++)
			any = guard.rows[i].state != RM_NONE &&
			      guard.rows[i].branch_no == branch_no;
	}
	if (!any)
		return RM_NONE;
	tgid = tgid_of(tid);
	started = start_of(tgid);
	LOCK_SCOPE(&guard.lock);
	r = row_find_locked(branch_no, tgid, started);
	if (!r)
		return RM_NONE;
	keep_locked(r);
	return r->state;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence.h - knows which processes belong to a branch's server, across daemons, and
 * ends them with proof.
 *
 * STORE/run/NO.pid holds "PID STARTTIME SHMKEY SHMID BOOT" while a server may live; all
 * that is of another boot says nothing.  The System V segment (segment.h) is attached
 * by every process of a server, so it finds those that outlived their postmaster.
 */
#ifndef PG_FENCE_H
#define PG_FENCE_H

#include "base/err.h"
#include "pg/pgexec.h"
#include "store/registry.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* shm_key 0: not known yet.  Replaces the file; not synced. */
int fence_note(struct registry *r, uint32_t no, pid_t pid, uint32_t shm_key,
	       int shm_id) MUST_CHECK;
void fence_forget(struct registry *r, uint32_t no);
/*
 * Ends what a postmaster that died by a signal left behind, and waits for it; then its
 * memory segment is removed.
 * Blocks for some seconds at most; -EBUSY names the pids that would not go.
 */
int fence_end_orphans(uint32_t shm_key, int shm_id, struct err *e) MUST_CHECK;
/*
 * Is the server that wrote such a lock file alive, or a process that it left?  1 and
 * a pidfd, of the postmaster if that lives, 0, or -errno.  Only who can be seen from
 * here is found.  Waits some seconds for processes that a dead postmaster has left.
 */
int fence_find_server(const struct pgexec_pidfile *pf, pid_t *ret_pid,
		      int *ret_pidfd) MUST_CHECK;
/* Is pid the process that calls itself by this number, in its own pid namespace? */
bool fence_calls_itself(pid_t pid, pid_t number);
/* Can every process of the machine be seen from here? */
bool fence_sees_all(void);
/*
 * Reaps dead processes that fell to us as subreaper: those of another session than
 * ours that is_ours does not claim.  On the thread that spawns servers.
 */
void fence_reap_adopted(bool (*is_ours)(void *ctx, pid_t pid), void *ctx);

/*
 * Servers of the store that run although this daemon did not start them: calls fn for
 * each; with end, ends them first.  Blocks: pool threads only.
 */
int fence_strays(struct registry *r, bool end, void (*fn)(void *ctx, pid_t pid),
		 void *ctx, struct err *e) MUST_CHECK;

#endif

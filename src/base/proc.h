/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proc.h - child processes: spawned with posix_spawn, held by pidfd.
 *
 * To run a child under another uid, with a working directory and a parent-death
 * signal, the child first is the exec helper (pgbranchfs-exec, or this program: its
 * main calls proc_exec_main first thing), which sets these and execs.  So no code runs
 * between fork and exec, and the pid is that of the final program.
 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <sys/types.h>

struct proc {
	pid_t pid; /* 0: none */
	int pidfd; /* owned; -1: none */
};

struct proc_spec {
	char *const *argv; /* argv[0] is the absolute path to run */
	char *const *envp; /* NULL: a minimal clean environment */
	uid_t uid;         /* (uid_t)-1: stay who we are */
	gid_t gid;
	const char *cwd;  /* NULL: stay */
	int death_signal; /* signal to the child when the parent thread dies; 0: none */
	int stdin_fd;     /* -1: /dev/null */
	int stdout_fd; /* -1: /dev/null; also used for stderr unless stderr_fd >= 0 */
	int stderr_fd;
	bool new_group; /* a session of its own, so that kill(-pid) reaches all of it */
};

#define PROC_SPEC_INIT                                                                 \
	{                                                                              \
		.uid = (uid_t)-1, .gid = (gid_t)-1, .stdin_fd = -1, .stdout_fd = -1,   \
		.stderr_fd = -1                                                        \
	}

/* Exit code of a child that could not become what the spec says. */
#define PROC_EXIT_HELPER 127

/*
 * Starts the child, with no signal blocked or ignored.  The caller reaps it with
 * proc_reap or proc_wait.  With uid also gid must be set; its supplementary groups
 * are that gid alone.  When uid, cwd or death_signal cannot be set, or argv[0]
 * cannot be run then, the child says so on its stderr and exits with
 * PROC_EXIT_HELPER; without these three, that is the result here.
 */
int proc_spawn(const struct proc_spec *spec, struct proc *ret_proc) MUST_CHECK;
/* Waits until the child ends; *ret_status as from waitpid.  -ETIMEDOUT when
 * timeout_ms (-1: none) passed first. */
int proc_wait(struct proc *p, int timeout_ms, int *ret_status) MUST_CHECK;
/* Takes the status of a child whose pidfd is readable; closes the pidfd. */
int proc_reap(struct proc *p, int *ret_status) MUST_CHECK;
/* Has the process behind a pidfd ended?  Whether it was reaped makes no difference. */
bool proc_has_ended(int pidfd);
/* Signals through the pidfd, so never a stranger.  -ESRCH when it is gone. */
int proc_kill(const struct proc *p, int sig) MUST_CHECK;
/*
 * Runs argv to its end and collects up to 64 KiB of its stdout and stderr
 * together in *ret_out (heap, NUL-terminated; may be NULL).  Returns the exit
 * code (128+signal), or -errno when it could not be run; -ETIMEDOUT after killing
 * it (its whole group with new_group).  What a process that outlives the child
 * writes later is not collected.
 */
int proc_run(const struct proc_spec *spec, int timeout_ms, char **ret_out) MUST_CHECK;
/* The exec helper's path, for children of this process; it does other small jobs too.
 */
const char *proc_helper_path(void);
#define PROC_HELPER_ARG "--exec-helper"
/* The exec helper: returns only if argv is not a call of it (-1). */
int proc_exec_main(int argc, char **argv);

#endif

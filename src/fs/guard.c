/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the watching process learns of the kill: from a pipe whose other end is held by
 * one thread of the daemon, in a table of descriptors of its own.  That thread never
 * waits for anything but the end, so a kill ends it at once, and its table with it,
 * however long other threads take.  On a regular end it writes a byte first.
 */
#include "fs/guard.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/text.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/sysmacros.h>

#define GUARD_ARG "--guard"
#define GUARD_BYE 'e'
#define STATUS_MAX 8192
/* How long a killed process may take before it counts as stuck. */
#define DYING_MS 300
#define BYE_MS 10000

struct guard {
	struct proc proc;
	pthread_t thread;
	int fd; /* the pipe's end; only the thread's table has it open */
	sem_t ready, end;
	int rc;
};

static void *hold_the_end(void *arg)
{
	struct guard *g = arg;
	char bye = GUARD_BYE;

	if (unshare(CLONE_FILES) < 0) {
		g->rc = -errno;
	} else {
		if (g->fd > 0)
			(void)close_range(0, (unsigned)g->fd - 1, 0);
		(void)close_range((unsigned)g->fd + 1, ~0U, 0);
	}
	(void)sem_post(&g->ready);
	if (g->rc < 0)
		return NULL;
	while (sem_wait(&g->end) < 0)
		;                     /* EINTR */
	(void)!write(g->fd, &bye, 1); /* the guard may have been killed */
	return NULL;
}

static int spawn_guard(struct guard *g, const char *mountpoint, dev_t dev, int pipe_fd)
{
	CLEAN(clean_free) char *number = text_format("%u", minor(dev));
	CLEAN(clean_free) char *pid = text_format("%d", (int)getpid());
	char *argv[] = {(char *)proc_helper_path(),
			(char *)GUARD_ARG,
			pid,
			number,
			(char *)mountpoint,
			NULL};
	struct proc_spec spec = PROC_SPEC_INIT;

	if (!number || !pid)
		return -ENOMEM;
	spec.argv = argv;
	spec.stdin_fd = pipe_fd;
	spec.new_group = true;
	return proc_spawn(&spec, &g->proc);
}

static int start_thread(struct guard *g)
{
	sigset_t all, old;
	int rc;

	(void)sem_init(&g->ready, 0, 0);
	(void)sem_init(&g->end, 0, 0);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&g->thread, NULL, hold_the_end, g);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		return rc;
	while (sem_wait(&g->ready) < 0)
		; /* EINTR */
	if (g->rc < 0)
		(void)pthread_join(g->thread, NULL);
	return g->rc;
}

int guard_start(const char *mountpoint, dev_t dev, struct guard **ret_guard)
{
	struct guard *g = calloc(1, sizeof(*g));
	CLEAN(clean_fd) int ours = -1, theirs = -1;
	int fds[2], rc;

	if (!g)
		return -ENOMEM;
	if (pipe2(fds, O_CLOEXEC) < 0) {
		rc = -errno;
		free(g);
		return rc;
	}
	theirs = fds[0];
	ours = g->fd = fds[1];
	rc = spawn_guard(g, mountpoint, dev, theirs);
	if (rc == 0) {
		rc = start_thread(g);
		if (rc < 0) { /* it sees the end of the pipe and nobody dying: goes */
			clean_fd(&ours);
			ours = -1;
			(void)!proc_wait(&g->proc, -1, &(int){0});
		}
	}
	if (rc < 0) {
		free(g);
		return rc;
	}
	*ret_guard = g;
	return 0; /* our copy of the pipe's end is closed here */
}

struct guard *guard_stop(struct guard *g)
{
	if (!g)
		return NULL;
	(void)sem_post(&g->end);
	(void)pthread_join(g->thread, NULL);
	(void)!proc_wait(&g->proc, BYE_MS, &(int){0}); /* it read the byte, and goes */
	(void)sem_destroy(&g->ready);
	(void)sem_destroy(&g->end);
	free(g);
	return NULL;
}

/* ---- what is done about it ---- */

int guard_abort(unsigned dev_minor, const char *mountpoint)
{
	CLEAN(clean_free)
	char *path = text_format("/sys/fs/fuse/connections/%u/abort", dev_minor);
	CLEAN(clean_fd) int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	CLEAN(clean_fd) int held = -1;

	if (fd >= 0 && write(fd, "1", 1) == 1)
		return 0;
	/* busy or not, the first thing that this does is to end the connection; held,
	 * so that it does not take the mount away, too; O_PATH asks nobody */
	held = open(mountpoint, O_PATH | O_CLOEXEC);
	if (umount2(mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW) < 0 && errno != EBUSY)
		return -errno;
	return 0;
}

/* A line of /proc/PID/status as a hexadecimal number. */
static uint64_t status_mask(const char *status, const char *key)
{
	const char *p = strstr(status, key);

	return p ? strtoull(p + strlen(key), NULL, 16) : 0;
}

bool guard_is_dying(pid_t pid)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/status", (int)pid);
	CLEAN(clean_free) char *text = NULL;
	const uint64_t kill_bit = UINT64_C(1) << (SIGKILL - 1);
	const char *state;

	if (!path || fd_read_file(AT_FDCWD, path, STATUS_MAX, &text, NULL) < 0)
		return true;
	state = strstr(text, "\nState:\t");
	return (state && strchr("ZX", state[8])) ||
	       (status_mask(text, "\nSigPnd:\t") | status_mask(text, "\nShdPnd:\t")) &
		       kill_bit;
}

/* ---- the watching process ---- */

static void watch(pid_t daemon, int pidfd, unsigned dev_minor, const char *mountpoint)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	char byte;
	ssize_t n;

	do
		n = read(STDIN_FILENO, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n != 0)
		return; /* a regular end */
	while (poll(&p, 1, DYING_MS) < 0 && errno == EINTR)
		;
	if (p.revents || !guard_is_dying(daemon))
		return;
	(void)!guard_abort(dev_minor, mountpoint); /* nobody to tell */
}

int guard_main(int argc, char **argv)
{
	uint64_t pid, dev_minor;
	int pidfd;

	if (argc < 2 || strcmp(argv[1], GUARD_ARG) != 0)
		return -1;
	if (argc != 5 || text_parse_u64(argv[2], 10, INT32_MAX, &pid) < 0 ||
	    text_parse_u64(argv[3], 10, UINT32_MAX, &dev_minor) < 0)
		return 2;
	pidfd = pidfd_open((pid_t)pid, 0);
	if (pidfd < 0 || getppid() != (pid_t)pid)
		return 1; /* it died just now, and no thread of it used the mount yet */
	if (chdir("/") < 0)
		return 1;
	watch((pid_t)pid, pidfd, (unsigned)dev_minor, argv[4]);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * posix_spawn() cannot set uids or a parent-death signal, and code of our own
 * between fork and exec of a threaded daemon may hang on a lock that another
 * thread held.  So the child first is another program,
 *
 *   pgbranchfs-exec --exec-helper uid=U gid=G cwd=DIR ... -- /path/to/program ARG...
 *
 * a fresh, single-threaded process in which proc_exec.c runs.  It is a program of
 * its own because every start of a server waits for it: loading this one with the
 * libraries of libpq takes five milliseconds, loading that one half of one.  Where it
 * is not found, this program stands in for it.  It is opened once, so that an upgrade
 * of the files does not get between daemon and helper.
 */
#include "base/proc.h"

#include "base/loop.h"
#include "base/text.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define HELPER_MAX_ARGS 8
#define HELPER_NAME "pgbranchfs-exec"
#define OUTPUT_MAX (64 * 1024)

static char *const proc_clean_env[] = {
	(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	(char *)"LC_ALL=C.UTF-8",
	NULL,
};

static struct {
	pthread_once_t once;
	char path[32]; /* of an open descriptor, or of this program */
} helper_program = {PTHREAD_ONCE_INIT, "/proc/self/exe"};

/* Beside this program, as in a build tree, or where make install puts it. */
static void find_helper(void)
{
	CLEAN(clean_free) char *self = malloc(PATH_MAX), *beside = NULL;
	ssize_t n = self ? readlink("/proc/self/exe", self, PATH_MAX - 1) : -1;
	CLEAN(clean_fd) int fd = -1;

	if (n > 0) {
		self[n] = '\0';
		beside = text_format("%.*s/" HELPER_NAME,
				     (int)(strrchr(self, '/') - self), self);
	}
	if (beside)
		fd = open(beside, O_PATH | O_CLOEXEC);
	if (fd < 0)
		fd = open(PKGLIBEXECDIR "/" HELPER_NAME, O_PATH | O_CLOEXEC);
	if (fd >= 0)
		(void)snprintf(helper_program.path, sizeof(helper_program.path),
			       "/proc/self/fd/%d", steal_fd(&fd)); /* fits */
}

const char *proc_helper_path(void)
{
	(void)pthread_once(&helper_program.once, find_helper); /* cannot fail */
	return helper_program.path;
}

static bool spec_needs_helper(const struct proc_spec *spec)
{
	return spec->uid != (uid_t)-1 || spec->cwd || spec->death_signal;
}

static void clean_strv(char ***v)
{
	int saved = errno;

	if (*v) {
		for (char **s = *v; *s; s++)
			free(*s);
		free(*v);
	}
	errno = saved;
}

/* The command line of the helper; every string is owned by the result. */
static int helper_argv(const struct proc_spec *spec, char ***ret_argv)
{
	CLEAN(clean_strv) char **v = NULL;
	size_t n = 0, n_args = 0;

	while (spec->argv[n_args])
		n_args++;
	v = calloc(n_args + HELPER_MAX_ARGS + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
#define ADD(string)                                                                    \
	do {                                                                           \
		v[n] = (string);                                                       \
		if (!v[n++])                                                           \
			return -ENOMEM;                                                \
	} while (0)
	ADD(strdup("pgbranchfs"));
	ADD(strdup(PROC_HELPER_ARG));
	if (spec->uid != (uid_t)-1) {
		ADD(text_format("uid=%ju", (uintmax_t)spec->uid));
		ADD(text_format("gid=%ju", (uintmax_t)spec->gid));
	}
	if (spec->cwd)
		ADD(text_format("cwd=%s", spec->cwd));
	if (spec->death_signal) {
		ADD(text_format("death_signal=%d", spec->death_signal));
		ADD(text_format("parent=%d", (int)getpid()));
	}
	ADD(strdup("--"));
	for (size_t i = 0; i < n_args; i++)
		ADD(strdup(spec->argv[i]));
#undef ADD
	*ret_argv = steal(v);
	return 0;
}

/* Puts a duplicate of fd, or /dev/null, at target in the child. */
static int redirect(posix_spawn_file_actions_t *fa, int fd, int target, int *ret_dup)
{
	if (fd < 0)
		return -posix_spawn_file_actions_addopen(
			fa, target, "/dev/null",
			target == STDIN_FILENO ? O_RDONLY : O_WRONLY, 0);
	/* above 2, so that no redirection overwrites the source of the next */
	*ret_dup = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (*ret_dup < 0)
		return -errno;
	return -posix_spawn_file_actions_adddup2(fa, *ret_dup, target);
}

static int spawn_attributes(posix_spawnattr_t *attr, bool new_group)
{
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	sigset_t none, all;
	int rc;

	/* the daemon blocks what its signalfd takes and ignores SIGPIPE */
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	if (new_group)
		flags |= POSIX_SPAWN_SETSID;
	rc = posix_spawnattr_setsigmask(attr, &none);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(attr, &all);
	if (rc == 0)
		rc = posix_spawnattr_setflags(attr, flags);
	return -rc;
}

static int spawn_now(const struct proc_spec *spec, const char *path, char *const *argv,
		     pid_t *ret_pid)
{
	CLEAN(clean_fd) int in = -1;
	CLEAN(clean_fd) int out = -1;
	CLEAN(clean_fd) int err = -1;
	int stderr_fd = spec->stderr_fd >= 0 ? spec->stderr_fd : spec->stdout_fd;
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int rc;

	rc = -posix_spawn_file_actions_init(&fa);
	if (rc < 0)
		return rc;
	rc = -posix_spawnattr_init(&attr);
	if (rc < 0)
		goto out_actions;
	rc = spawn_attributes(&attr, spec->new_group);
	if (rc == 0)
		rc = redirect(&fa, spec->stdin_fd, STDIN_FILENO, &in);
	if (rc == 0)
		rc = redirect(&fa, spec->stdout_fd, STDOUT_FILENO, &out);
	if (rc == 0)
		rc = redirect(&fa, stderr_fd, STDERR_FILENO, &err);
	if (rc == 0)
		rc = -posix_spawn(ret_pid, path, &fa, &attr, argv,
				  spec->envp ? spec->envp : proc_clean_env);
	(void)posix_spawnattr_destroy(&attr); /* frees memory only */
out_actions:
	(void)posix_spawn_file_actions_destroy(&fa);
	return rc;
}

int proc_spawn(const struct proc_spec *spec, struct proc *ret_proc)
{
	CLEAN(clean_strv) char **helper = NULL;
	const char *path = spec->argv[0];
	char *const *argv = spec->argv;
	struct proc p = {0, -1};
	int rc;

	if (spec->uid != (uid_t)-1 && spec->gid == (gid_t)-1)
		return -EINVAL;
	if (spec_needs_helper(spec)) {
		rc = helper_argv(spec, &helper);
		if (rc < 0)
			return rc;
		path = proc_helper_path();
		argv = helper;
	}
	rc = spawn_now(spec, path, argv, &p.pid);
	if (rc < 0)
		return rc;
	/* not yet reaped, so the pid cannot be another's */
	p.pidfd = pidfd_open(p.pid, 0);
	if (p.pidfd < 0) {
		rc = -errno;
		(void)kill(p.pid, SIGKILL); /* ours, see above */
		(void)waitpid(p.pid, NULL, 0);
		return rc;
	}
	*ret_proc = p;
	return 0;
}

int proc_reap(struct proc *p, int *ret_status)
{
	int status = 0;
	pid_t pid;

	if (p->pid <= 0)
		return -ECHILD;
	do {
		pid = waitpid(p->pid, &status, WNOHANG);
	} while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return -EAGAIN;
	if (pid < 0 && errno != ECHILD)
		return -errno;
	clean_fd(&p->pidfd);
	p->pidfd = -1;
	p->pid = 0;
	if (pid < 0)
		return -ECHILD;
	*ret_status = status;
	return 0;
}

/* What is left until deadline (-1: none), for poll(). */
static int left_ms(int64_t deadline)
{
	int64_t left;

	if (deadline < 0)
		return -1;
	left = deadline - loop_now_ms();
	return left < 0 ? 0 : (int)left;
}

int proc_wait(struct proc *p, int timeout_ms, int *ret_status)
{
	int64_t deadline = timeout_ms < 0 ? -1 : loop_now_ms() + timeout_ms;
	struct pollfd pfd = {.fd = p->pidfd, .events = POLLIN};

	if (p->pid <= 0)
		return -ECHILD;
	for (;;) {
		int n = poll(&pfd, 1, left_ms(deadline));

		if (n > 0)
			return proc_reap(p, ret_status);
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

bool proc_has_ended(int pidfd)
{
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

int proc_kill(const struct proc *p, int sig)
{
	if (p->pidfd < 0)
		return -ESRCH;
	return pidfd_send_signal(p->pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

/* Moves what the pipe holds to out; false at its end. */
static bool drain(int fd, struct str *out)
{
	char buf[4096];

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return false;
		/* the rest is read as well, or the child would block */
		if (out->len < OUTPUT_MAX) {
			size_t room = OUTPUT_MAX - out->len;

			str_addn(out, buf, (size_t)n < room ? (size_t)n : room);
		}
	}
}

/* Waits for the end of the child while emptying the pipe (-1: there is none). */
static int collect(struct proc *p, int pipe_fd, int64_t deadline, struct str *out)
{
	struct pollfd pfd[2] = {
		{.fd = p->pidfd, .events = POLLIN},
		{.fd = pipe_fd, .events = POLLIN},
	};

	for (;;) {
		int n = poll(pfd, 2, left_ms(deadline));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0)
			continue;
		if (pfd[1].revents && !drain(pipe_fd, out))
			pfd[1].fd = -1;
		if (pfd[0].revents) {
			/* written between the two polls */
			if (pfd[1].fd >= 0)
				(void)drain(pipe_fd, out);
			return 0;
		}
	}
}

int proc_run(const struct proc_spec *spec, int timeout_ms, char **ret_out)
{
	int64_t deadline = timeout_ms < 0 ? -1 : loop_now_ms() + timeout_ms;
	CLEAN(clean_fd) int rd = -1;
	CLEAN(clean_fd) int wr = -1;
	CLEAN(str_fini) struct str out = STR_INIT;
	struct proc_spec with_pipe = *spec;
	struct proc p;
	int rc, status = 0;

	if (ret_out) {
		int fds[2];

		if (pipe2(fds, O_CLOEXEC) < 0)
			return -errno;
		rd = fds[0];
		wr = fds[1];
		/* only our end: the child expects blocking writes */
		if (fcntl(rd, F_SETFL, O_NONBLOCK) < 0)
			return -errno;
		with_pipe.stdout_fd = wr;
		with_pipe.stderr_fd = -1;
	}
	rc = proc_spawn(&with_pipe, &p);
	if (rc < 0)
		return rc;
	clean_fd(&wr);
	wr = -1;
	rc = collect(&p, rd, deadline, &out);
	if (rc < 0) {
		if (spec->new_group)
			(void)kill(-p.pid, SIGKILL); /* its leader is not reaped */
		(void)proc_kill(&p, SIGKILL);        /* -ESRCH: it ended just now */
		(void)proc_wait(&p, -1, &status);
		return rc;
	}
	rc = proc_reap(&p, &status);
	if (rc < 0)
		return rc;
	if (ret_out) {
		char *s = str_steal(&out);

		if (!s)
			return -ENOMEM;
		*ret_out = s;
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

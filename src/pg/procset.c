/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * procset.c - a growing list of processes, found in /proc.
 *
 * Each is held by a pidfd from the moment it is found, and looked at once more after
 * that, so a signal never reaches a stranger who got the same pid.
 */
#include "pg/procset.h"

#include "base/fd.h"
#include "base/loop.h"
#include "base/text.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define QUIT_PATIENCE_MS 2000
#define KILL_PATIENCE_MS 10000
#define SMALL_FILE 65536

void procset_fini(struct procset *l)
{
	for (size_t i = 0; i < l->n; i++)
		clean_fd(&l->v[i].pidfd);
	free(l->v);
}

static bool procset_has(const struct procset *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].pid == pid)
			return true;
	return false;
}

/* Takes pidfd over.  Ignores ourselves and those that are in the list. */
static int procset_take(struct procset *l, pid_t pid, int pidfd)
{
	struct procset_member *v;

	if (pid == getpid() || procset_has(l, pid)) {
		(void)close(pidfd);
		return 0;
	}
	v = reallocarray(l->v, l->n + 1, sizeof(*v));
	if (!v) {
		(void)close(pidfd);
		return -ENOMEM;
	}
	l->v = v;
	v[l->n++] = (struct procset_member){pid, pidfd, false};
	return 0;
}

static int pid_open(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int procset_read(pid_t pid, const char *name, size_t max, char **ret_text,
		 size_t *ret_len)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name); /* fits */
	return fd_read_file(AT_FDCWD, path, max, ret_text, ret_len);
}

struct procset_stat procset_stat(pid_t pid)
{
	CLEAN(clean_free) char *text = NULL;
	struct procset_stat s = {0, 0, 0, 0};
	char *p;

	if (procset_read(pid, "stat", SMALL_FILE, &text, NULL) < 0)
		return s;
	/* field 2 is the name in parentheses, which may hold anything */
	p = strrchr(text, ')');
	if (!p || sscanf(p, ") %c %d %*d %d", &s.state, &s.parent, &s.session) != 3)
		return s;
	for (int field = 2; p && field < 22; field++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	if (!p || sscanf(p, "%llu", &s.start) != 1)
		s.start = 0;
	return s;
}

int procset_add_if(struct procset *l, pid_t pid,
		   bool (*still)(pid_t pid, const void *arg), const void *arg)
{
	int fd;

	if (procset_has(l, pid) || !still(pid, arg))
		return 0;
	fd = pid_open(pid);
	if (fd < 0)
		return fd == -ESRCH ? 0 : fd;
	if (!still(pid, arg)) {
		(void)close(fd);
		return 0;
	}
	return procset_take(l, pid, fd);
}

static bool any_parent(pid_t pid, const void *arg)
{
	char path[64];

	(void)arg;
	(void)snprintf(path, sizeof(path), "/proc/%d", (int)pid); /* fits */
	return access(path, F_OK) == 0;
}

int procset_add_children(struct procset *l)
{
	for (size_t i = 0; i < l->n; i++) {
		CLEAN(clean_free) char *text = NULL;
		char name[40], *save = NULL;
		int rc;

		(void)snprintf(name, sizeof(name), "task/%d/children",
			       (int)l->v[i].pid); /* fits */
		if (procset_read(l->v[i].pid, name, SMALL_FILE * 16, &text, NULL) < 0)
			continue;
		for (char *p = strtok_r(text, " \n", &save); p;
		     p = strtok_r(NULL, " \n", &save)) {
			rc = procset_add_if(l, (pid_t)strtol(p, NULL, 10), any_parent,
					    NULL);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

int procset_scan(struct procset *l, bool (*is)(pid_t pid, const void *arg),
		 const void *arg)
{
	DIR *d = opendir("/proc");
	struct dirent *de;
	int rc = 0;

	if (!d)
		return -errno;
	while (rc == 0 && (de = readdir(d)))
		if (isdigit((unsigned char)de->d_name[0]))
			rc = procset_add_if(l, (pid_t)strtol(de->d_name, NULL, 10), is,
					    arg);
	(void)closedir(d);
	return rc;
}

void procset_signal(const struct procset *l, int sig)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].gone)
			(void)syscall(SYS_pidfd_send_signal, l->v[i].pidfd, sig, NULL,
				      0); /* ESRCH: what we want */
}

size_t procset_wait(struct procset *l, int timeout_ms)
{
	int64_t deadline_ms = loop_now_ms() + timeout_ms;
	size_t left = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct procset_member *v = &l->v[i];
		struct pollfd p = {.fd = v->pidfd, .events = POLLIN};
		int64_t wait_ms = deadline_ms - loop_now_ms();
		siginfo_t si;

		if (v->gone)
			continue;
		if (poll(&p, 1, wait_ms > 0 ? (int)wait_ms : 0) <= 0) {
			left++;
			continue;
		}
		v->gone = true;
		/* orphans of ours fall to us (subreaper); ECHILD if not */
		(void)waitid(P_PIDFD, (id_t)v->pidfd, &si, WEXITED | WNOHANG);
	}
	return left;
}

int procset_end(struct procset *l, bool ask_first, struct err *e)
{
	CLEAN(clean_free) char *names = NULL;
	struct str t = STR_INIT;

	if (ask_first) {
		procset_signal(l, SIGQUIT);
		if (procset_wait(l, QUIT_PATIENCE_MS) == 0)
			return 0;
	}
	procset_signal(l, SIGKILL);
	if (procset_wait(l, KILL_PATIENCE_MS) == 0)
		return 0;
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].gone)
			str_printf(&t, " %d", (int)l->v[i].pid);
	names = str_steal(&t);
	(void)err_set(e, -EBUSY, "server processes do not end:%s", names ? names : "");
	return err_hint(e, "end them before the store is used again");
}

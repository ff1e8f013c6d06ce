/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs umount: ends the daemon of a mount, which stops the servers and
 * unmounts, and waits for it.
 *
 * The daemon is found by the kernel's list of mounts (the store), the store's
 * lock (held: alive), the number in it, and the kernel's list of locks (held by it).
 * The pidfd is opened before the lock is tried: if it is held then, the process behind
 * the pidfd is the one that wrote the number, so that a signal never hits a stranger.
 */
#include "cli/cli.h"

#include "base/fd.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/text.h"
#include "cli/mounts.h"

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define UMOUNT_DEADLINE_MS (120 * 1000)
#define UMOUNT_TOOL_MS (30 * 1000)
#define LOCK_BYTES_MAX 64
#define LOCKS_MAX (4 << 20)

/*
 * Does the kernel say that this process has the lock?  The number in the file is that
 * of the daemon's own pid namespace, and may be a stranger's in ours.
 */
static bool is_holder(pid_t pid, int lock_fd)
{
	CLEAN(clean_free) char *text = NULL;
	char *cursor, *line;
	struct stat st;

	if (fstat(lock_fd, &st) < 0 ||
	    fd_read_file(AT_FDCWD, "/proc/locks", LOCKS_MAX, &text, NULL) < 0)
		return false;
	/* "3: FLOCK  ADVISORY  WRITE 4711 fe:01:93 0 EOF" */
	for (cursor = text; (line = text_next_line(&cursor));) {
		unsigned long long ino;
		int holder;

		if (sscanf(line, "%*s FLOCK %*s %*s %d %*x:%*x:%llu", &holder, &ino) ==
			    2 &&
		    holder == pid && ino == st.st_ino)
			return true;
	}
	return false;
}

/* Opens a pidfd of the daemon that has the store; *ret_pidfd -1: there is none. */
static int find_daemon(const char *store, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	CLEAN(clean_free) char *path = text_format("%s/lock", store), *text = NULL;
	CLEAN(clean_fd) int lock_fd = -1;
	CLEAN(clean_fd) int pidfd = -1;
	uint64_t pid = 0;
	int rc;

	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	lock_fd = open(path, O_RDONLY | O_CLOEXEC);
	rc = lock_fd < 0 ? -errno
			 : fd_read_file(AT_FDCWD, path, LOCK_BYTES_MAX, &text, NULL);
	if (rc < 0) {
		(void)err_set(e, rc, "cannot read '%s': %s", path,
			      strerrordesc_np(-rc));
		if (rc == -EACCES)
			(void)err_hint(e, "run umount as root, or as who mounted it");
		return rc;
	}
	text[strcspn(text, "\n")] = '\0';
	if (text_parse_u64(text, 10, INT32_MAX, &pid) == 0 && pid > 0)
		pidfd = pidfd_open((pid_t)pid, 0);
	if (flock(lock_fd, LOCK_SH | LOCK_NB) == 0) {
		*ret_pidfd = -1; /* closing the file drops the lock */
		return 0;
	}
	if (pidfd < 0)
		return err_set(e, -ESRCH,
			       "somebody holds '%s', but it names no process: '%s'",
			       path, text);
	if (!is_holder((pid_t)pid, lock_fd)) {
		(void)err_set(e, -ESRCH,
			      "the daemon that holds '%s' cannot be seen from here",
			      path);
		return err_hint(e,
				"it runs in another pid namespace: run umount there");
	}
	*ret_pid = (pid_t)pid;
	*ret_pidfd = steal_fd(&pidfd);
	return 0;
}

/* Until the process has ended or the deadline passed. */
static int await_end(int pidfd, int64_t deadline_ms)
{
	for (;;) {
		struct pollfd p = {.fd = pidfd, .events = POLLIN};
		int64_t left = deadline_ms - loop_now_ms();
		int n = poll(&p, 1, left > 0 ? (int)left : 0);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
	}
}

static int stop_daemon(const struct mount_entry *m, pid_t pid, int pidfd, struct err *e)
{
	int64_t deadline_ms = loop_now_ms() + UMOUNT_DEADLINE_MS;
	int rc = 0;

	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
		rc = -errno;
	if (rc == -EPERM) {
		(void)err_set(e, rc,
			      "the daemon of '%s' (process %d) belongs to another user",
			      m->mountpoint, (int)pid);
		return err_hint(e, "run umount as that user, or as root");
	}
	if (rc == 0)
		rc = await_end(pidfd, deadline_ms);
	if (rc == -ETIMEDOUT) {
		(void)err_set(e, rc,
			      "the daemon (process %d) is still stopping its servers "
			      "after %d s",
			      (int)pid, UMOUNT_DEADLINE_MS / 1000);
		return err_hint(e, "it goes on; run umount again to wait for it");
	}
	return rc < 0 ? err_set(e, rc, "cannot stop process %d: %s", (int)pid,
				strerrordesc_np(-rc))
		      : 0;
}

/* 1: our mount is still in the kernel's list. */
static int is_mounted(const char *mountpoint, struct err *e)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;
	int rc = mounts_load(&list, e);

	return rc < 0 ? rc : mounts_find(&list, mountpoint) != NULL;
}

static const char *find_fusermount(void)
{
	static const char *const paths[] = {"/usr/bin/fusermount3", "/bin/fusermount3",
					    "/usr/local/bin/fusermount3"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	}
	return NULL;
}

/* Lazily, as whoever stands in a dead mount keeps it busy and can do no more. */
static int take_off_dead(const char *mountpoint, struct err *e)
{
	const char *tool = find_fusermount();
	CLEAN(clean_free) char *out = NULL;
	const char *argv[] = {tool, "-u", "-z", "--", mountpoint, NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	int rc;

	if (geteuid() == 0) {
		if (umount2(mountpoint, MNT_DETACH) == 0)
			return 0;
		rc = -errno;
		return err_set(e, rc, "cannot unmount '%s': %s", mountpoint,
			       strerrordesc_np(-rc));
	}
	if (!tool)
		return err_set(e, -ENOENT, "fusermount3 was not found");
	spec.argv = (char *const *)argv;
	rc = proc_run(&spec, UMOUNT_TOOL_MS, &out);
	if (rc == 0)
		return 0;
	if (rc < 0)
		return err_set(e, rc, "cannot run %s: %s", tool, strerrordesc_np(-rc));
	if (out)
		out[strcspn(out, "\n")] = '\0';
	return err_set(e, -EIO, "%s", out && *out ? out : "fusermount3 failed");
}

/*
 * A dead mount, while another one of the store is there: a copy of an earlier one,
 * bound to another place.  The daemon has nothing to do with it.
 */
static bool is_copy(const struct mount_entry *m)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;

	if (mounts_load(&list, NULL) < 0)
		return false;
	for (size_t i = 0; i < list.n; i++) {
		const struct mount_entry *other = &list.entries[i];

		if (strcmp(other->store, m->store) == 0 &&
		    other->dev_minor != m->dev_minor)
			return true;
	}
	return false;
}

static int unmount(const struct mount_entry *m, bool dead, struct err *e)
{
	CLEAN(clean_fd) int pidfd = -1;
	CLEAN(err_fini) struct err why = ERR_INIT;
	pid_t pid = 0;
	bool was_dead;
	int rc;

	if (dead && is_copy(m))
		return take_off_dead(m->mountpoint, e);
	rc = find_daemon(m->store, &pid, &pidfd, &why);

	/* a store that is gone has no daemon; a dead mount must come off all the same
	 */
	if (rc < 0 && rc != -ENOENT) {
		err_move(e, &why);
		return rc;
	}
	was_dead = pidfd < 0;
	if (!was_dead) {
		rc = stop_daemon(m, pid, pidfd, e);
		if (rc < 0)
			return rc;
	}
	rc = is_mounted(m->mountpoint, e);
	if (rc <= 0)
		return rc;
	rc = take_off_dead(m->mountpoint, e);
	if (rc == 0)
		(void)fprintf(
			stderr,
			was_dead ? "the daemon of %s was dead; took the mount off\n"
				 : "the daemon of %s ended without unmounting; took "
				   "the mount off\n",
			m->mountpoint);
	return rc;
}

static int run_umount(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	CLEAN(mount_entry_fini) struct mount_entry m = {NULL, NULL, 0};
	CLEAN(err_fini) struct err e = ERR_INIT;
	bool dead;
	int opt;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return opt == 'h' ? cli_help(self) : cli_usage(self, NULL);
	if (argc - optind != 1)
		return cli_usage(self, "umount takes the directory of one mount");
	if (mounts_choose(argv[optind], &m, &dead, &e) < 0 || unmount(&m, dead, &e) < 0)
		return cli_fail(&e);
	return CLI_OK;
}

const struct cli_command cmd_umount = {
	.name = "umount",
	.args = "MOUNTPOINT",
	.summary = "Stop every server of a mount cleanly, then unmount",
	.help = "",
	.run = run_umount,
};

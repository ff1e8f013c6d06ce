/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs mount: reads its arguments, goes into the background and reports.
 *
 * In the background the caller's process waits on a pipe for one byte, "ready"
 * or "failed", and the sentence behind the latter.  So an error is seen where
 * the command was typed, and a script may use the mount when the command ends.
 */
#include "cli/cli.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/text.h"
#include "cli/daemon.h"
#include "cli/mounts.h"
#include "fs/guard.h"

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define REPORT_READY 'r'
#define REPORT_FAILED 'f'
#define REPORT_MAX 4096
#define LOCK_MAX 64
#define DYING_PATIENCE_MS 5000

struct mount_args {
	bool foreground;
	char *store, *mountpoint, *config_path; /* absolute */
};

static void mount_args_fini(struct mount_args *a)
{
	free(a->store);
	free(a->mountpoint);
	free(a->config_path);
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static int check_mountpoint(const struct mount_args *a, bool dead, struct err *e)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;
	const struct mount_entry *m;
	int rc;

	if (is_below(a->mountpoint, a->store) || is_below(a->store, a->mountpoint)) {
		(void)err_set(e, -EINVAL, "'%s' and the store '%s' lie in each other",
			      a->mountpoint, a->store);
		return err_hint(e, "mount at a directory of its own");
	}
	rc = mounts_load(&list, e);
	if (rc < 0)
		return rc;
	m = mounts_find(&list, a->mountpoint);
	if (!m || dead)
		return 0;
	(void)err_set(e, -EBUSY, "the store '%s' is mounted at '%s' already", m->store,
		      a->mountpoint);
	return err_hint(e, "pgbranchfs umount %s takes it off", a->mountpoint);
}

/*
 * A daemon that was killed may hang in its own mount, and then holds the store and all
 * who ask the mount anything (fs/guard.h).  Its guard ends that, unless it was killed
 * as well.  Before the mountpoint is looked at, as that would hang, too.
 */
static void end_leftover(const char *store)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;
	CLEAN(clean_free) char *lock = text_format("%s/lock", store), *text = NULL;
	CLEAN(clean_fd) int pidfd = -1;
	struct pollfd p = {.events = POLLIN};
	int pid;

	if (!lock || fd_read_file(AT_FDCWD, lock, LOCK_MAX, &text, NULL) < 0 ||
	    sscanf(text, "%d", &pid) != 1 || pid <= 0)
		return;
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0 || !guard_is_dying(pid) || mounts_load(&list, NULL) < 0)
		return;
	for (size_t i = 0; i < list.n; i++) {
		const struct mount_entry *m = &list.entries[i];

		/* if it cannot be aborted, the mount says that the store is in use */
		if (strcmp(m->store, store) == 0)
			(void)!guard_abort(m->dev_minor, m->mountpoint);
	}
	p.fd = pidfd;
	(void)poll(&p, 1, DYING_PATIENCE_MS);
}

static int find_config(struct mount_args *a, const char *given, struct err *e)
{
	int rc;

	if (!given)
		return 0;
	a->config_path = realpath(given, NULL);
	rc = a->config_path ? 0 : -errno;
	return rc < 0 ? err_set(e, rc, "cannot read '%s': %s", given,
				strerrordesc_np(-rc))
		      : 0;
}

static int resolve_args(struct mount_args *a, const char *store, const char *mountpoint,
			const char *config, struct err *e)
{
	bool dead = false;
	int rc;

	a->store = realpath(store, NULL);
	if (!a->store) {
		rc = -errno;
		(void)err_set(e, rc, "cannot open the store '%s': %s", store,
			      strerrordesc_np(-rc));
		return rc == -ENOENT
			       ? err_hint(e, "pgbranchfs init %s makes one", store)
			       : rc;
	}
	end_leftover(a->store);
	rc = mounts_resolve(mountpoint, &a->mountpoint, &dead, e);
	if (rc == 0)
		rc = check_mountpoint(a, dead, e);
	if (rc == 0)
		rc = find_config(a, config, e);
	return rc;
}

static void report_ready(void *ctx)
{
	int *fd = ctx;
	char byte = REPORT_READY;
	int null;

	if (*fd < 0)
		return;
	/* whoever reads our output to its end waits for these */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int to = 0; null >= 0 && to <= 2; to++)
		(void)dup2(null, to); /* fails only for bad numbers */
	if (null > 2)
		(void)close(null); /* /dev/null */
	if (fd_write_full(*fd, &byte, 1) < 0)
		log_warn("nobody waits for the mount; going on");
	clean_fd(fd);
	*fd = -1;
}

static void report_failed(int fd, const struct err *e)
{
	struct str text = STR_INIT;

	str_printf(&text, "%c%s\n", REPORT_FAILED, err_text(e));
	if (e->hint)
		str_add(&text, e->hint);
	/* nothing is left to do if the waiting process is gone */
	if (!text.failed && fd_write_full(fd, text.s, text.len) < 0)
		log_error("%s", err_text(e));
	str_fini(&text);
}

/* In the process that was called: waits for the report; the exit status. */
static int await_report(int fd)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char buf[REPORT_MAX + 1];
	char *hint;
	size_t len = 0;
	ssize_t n;

	while (len < REPORT_MAX && (n = read(fd, buf + len, REPORT_MAX - len)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			len += (size_t)n;
		if (buf[0] == REPORT_READY)
			return CLI_OK;
	}
	buf[len] = '\0';
	if (len == 0) {
		(void)err_set(&e, -EIO, "the daemon ended before the mount was ready");
		(void)err_hint(&e, "mount -f shows what it says");
		return cli_fail(&e);
	}
	hint = strchr(buf, '\n');
	if (hint)
		*hint++ = '\0';
	(void)err_set(&e, -EIO, "%s", buf + 1);
	if (hint && *hint)
		(void)err_hint(&e, "%s", hint);
	return cli_fail(&e);
}

static int run_foreground(const struct daemon_spec *spec)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	int none = -1;

	log_open("pgbranchfs", false, LOG_LVL_INFO);
	notify_open();
	return daemon_run(spec, report_ready, &none, &e) < 0 ? cli_fail(&e) : CLI_OK;
}

/* The child: does not return. */
static void run_background(const struct daemon_spec *spec, int fd)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	int rc;

	log_open("pgbranchfs", true, LOG_LVL_INFO);
	if (setsid() < 0 || chdir("/") < 0)
		log_warn("cannot leave the session: %s; going on",
			 strerrordesc_np(errno));
	rc = daemon_run(spec, report_ready, &fd, &e);
	if (rc < 0) {
		log_error("%s", err_text(&e));
		if (fd >= 0)
			report_failed(fd, &e);
	}
	exit(rc < 0 ? CLI_FAILED : CLI_OK);
}

static int daemonise(const struct daemon_spec *spec)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(clean_fd) int from = -1;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		(void)err_set(&e, -errno, "cannot make a pipe: %s",
			      strerrordesc_np(errno));
		return cli_fail(&e);
	}
	from = fds[0];
	pid = fork(); /* no thread runs yet */
	if (pid < 0) {
		(void)err_set(&e, -errno, "cannot fork: %s", strerrordesc_np(errno));
		(void)close(fds[1]); /* unused */
		return cli_fail(&e);
	}
	if (pid == 0) {
		(void)close(from); /* the parent's end */
		run_background(spec, fds[1]);
	}
	(void)close(fds[1]); /* the child's end */
	return await_report(from);
}

static int run_mount(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"foreground", no_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	CLEAN(mount_args_fini) struct mount_args a = {false, NULL, NULL, NULL};
	CLEAN(err_fini) struct err e = ERR_INIT;
	const char *config = NULL;
	struct daemon_spec spec;
	int opt;

	while ((opt = getopt_long(argc, argv, "c:fh", options, NULL)) != -1) {
		if (opt == 'c')
			config = optarg;
		else if (opt == 'f')
			a.foreground = true;
		else
			return opt == 'h' ? cli_help(self) : cli_usage(self, NULL);
	}
	if (argc - optind != 2)
		return cli_usage(self,
				 "mount takes a store and a directory to mount it at");
	if (resolve_args(&a, argv[optind], argv[optind + 1], config, &e) < 0)
		return cli_fail(&e);
	spec = (struct daemon_spec){a.store, a.mountpoint, a.config_path};
	return a.foreground ? run_foreground(&spec) : daemonise(&spec);
}

const struct cli_command cmd_mount = {
	.name = "mount",
	.args = "STORE MOUNTPOINT [-c FILE] [-f]",
	.summary = "Show the branches of a store at a directory",
	.help = "  -c, --config FILE  settings from FILE instead of "
		"STORE/pgbranchfs.conf\n"
		"  -f, --foreground   stay in the foreground and log to standard "
		"error;\n"
		"                     otherwise return when the mount is ready\n",
	.run = run_mount,
};

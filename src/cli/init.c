/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs init: makes a store of a new cluster or of a stopped one.
 *
 *   skeleton -> [initdb in STORE/init.tmp] -> pgbranchfs.conf -> import
 *
 * The import is last because it is what makes the store complete: whatever fails
 * before it is removed again.  The scratch directory lies in the store so that
 * the import renames instead of copying.  It belongs to the servers' user, who may
 * pass through the store (mode 0711) but not look into what lies in it.
 */
#include "cli/cli.h"

#include "base/fd.h"
#include "base/proc.h"
#include "base/text.h"
#include "cli/settings.h"
#include "pg/initdb.h"
#include "store/import.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SCRATCH_DIR "init.tmp"
#define REACH_TIMEOUT_MS 10000

struct init_args {
	const char *store, *from, *owner;
	bool move, checksums;
	struct settings_given given; /* superuser, bin_dir, run_as */
};

struct init {
	const struct init_args *args;
	char *store;    /* absolute */
	bool made;      /* the directory was made by us */
	bool importing; /* with --move: the source's files may be in the store */
	int fd;         /* of the store; -1: not made yet */
	uid_t run_as_uid, owner;
	gid_t run_as_gid, group;
};

static void clean_dir(DIR **d)
{
	if (*d)
		(void)closedir(*d); /* it was only read */
}

static void init_fini(struct init *in)
{
	clean_fd(&in->fd);
	free(in->store);
}

static int find_users(struct init *in, struct err *e)
{
	const struct settings_given *given = &in->args->given;
	int rc;

	in->owner = in->run_as_uid = geteuid();
	in->group = in->run_as_gid = getegid();
	if (in->args->owner) {
		rc = cli_user(in->args->owner, &in->owner, &in->group, e);
		if (rc < 0)
			return rc;
	}
	if (geteuid() != 0) {
		if (in->owner == geteuid() && !given->run_as)
			return 0;
		return err_set(e, -EPERM, "only root may choose --owner and --run-as");
	}
	rc = cli_user(given->run_as ? given->run_as : "postgres", &in->run_as_uid,
		      &in->run_as_gid, e);
	if (rc == 0 && in->run_as_uid == 0)
		rc = err_set(e, -EINVAL, "servers cannot run as root");
	return rc < 0 ? err_hint(e, "--run-as USER says which user they run as") : 0;
}

/* The absolute path of something that need not exist yet. */
static int absolute_path(const char *path, char **ret_abs, struct err *e)
{
	CLEAN(clean_free) char *cwd = NULL;

	if (path[0] == '/')
		*ret_abs = strdup(path);
	else if ((cwd = getcwd(NULL, 0)))
		*ret_abs = text_format("%s/%s", cwd, path);
	return *ret_abs ? 0 : err_set(e, -errno, "cannot make '%s' absolute", path);
}

static int make_store(struct init *in, struct err *e)
{
	struct stat st;
	int rc = absolute_path(in->args->store, &in->store, e);

	if (rc < 0)
		return rc;
	in->made = lstat(in->store, &st) < 0 && errno == ENOENT;
	return store_create(in->store, &in->fd, e);
}

/* May the servers' user enter dir?  The kernel knows, with groups and ACLs. */
static int check_reachable(const struct init *in, const char *dir, struct err *e)
{
	const char *argv[] = {"/usr/bin/test", "-w", dir, NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	const char *user = in->args->given.run_as ? in->args->given.run_as : "postgres";
	int rc;

	if (in->run_as_uid == geteuid())
		return 0;
	spec.argv = (char *const *)argv;
	spec.uid = in->run_as_uid;
	spec.gid = in->run_as_gid;
	rc = proc_run(&spec, REACH_TIMEOUT_MS, NULL);
	if (rc == 0)
		return 0;
	if (rc < 0)
		return err_set(e, rc, "cannot run %s as user '%s': %s", argv[0], user,
			       strerrordesc_np(-rc));
	(void)err_set(e, -EACCES,
		      "user '%s' cannot reach '%s' to make the cluster there", user,
		      dir);
	return err_hint(
		e, "put the store where every directory above it may be entered by "
		   "all, for example below /var/lib");
}

static int make_scratch(const struct init *in, const char *dir, struct err *e)
{
	int rc = 0;

	if (mkdirat(in->fd, SCRATCH_DIR, 0700) < 0 ||
	    fchownat(in->fd, SCRATCH_DIR, in->run_as_uid, in->run_as_gid,
		     AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	if (rc < 0)
		return err_set(e, rc, "cannot make '%s': %s", dir,
			       strerrordesc_np(-rc));
	return check_reachable(in, dir, e);
}

static int new_cluster(const struct init *in, const char *dir, struct err *e)
{
	const struct settings_given *given = &in->args->given;
	struct initdb_spec spec = {
		.bin_dir = given->bin_dir,
		.superuser = given->superuser ? given->superuser : "postgres",
		.checksums = in->args->checksums,
		.uid = geteuid() == 0 ? in->run_as_uid : (uid_t)-1,
		.gid = geteuid() == 0 ? in->run_as_gid : (gid_t)-1,
	};
	int rc = make_scratch(in, dir, e);

	return rc < 0 ? rc : initdb_run(&spec, dir, e);
}

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
	uint64_t *shown = ctx;
	uint64_t percent = total ? done * 100 / total : 100;

	if (percent == *shown)
		return;
	*shown = percent;
	(void)fprintf(stderr, "\r%3llu %% of %llu MiB", (unsigned long long)percent,
		      (unsigned long long)(total >> 20));
}

static int import_cluster(struct init *in, const char *src, bool move, struct err *e)
{
	bool terminal = isatty(STDERR_FILENO) && in->args->from;
	uint64_t shown = UINT64_MAX;
	int rc;

	in->importing = true;
	rc = store_import(in->fd, src, move, in->owner, in->group,
			  terminal ? show_progress : NULL, &shown, e);
	if (terminal && shown != UINT64_MAX)
		(void)fputc('\n', stderr);
	return rc;
}

static int fill_store(struct init *in, struct err *e)
{
	CLEAN(clean_free) char *scratch = text_format("%s/%s", in->store, SCRATCH_DIR);
	const char *from = in->args->from;
	int rc;

	if (!scratch)
		return err_set(e, -ENOMEM, "out of memory");
	rc = settings_write(in->fd, &in->args->given, e);
	if (rc == 0 && !from)
		rc = new_cluster(in, scratch, e);
	if (rc == 0)
		rc = from ? import_cluster(in, from, in->args->move, e)
			  : import_cluster(in, scratch, true, e);
	if (rc < 0 || from)
		return rc;
	rc = fd_remove_tree(in->fd, SCRATCH_DIR);
	if (rc < 0)
		(void)fprintf(stderr, "pgbranchfs: cannot remove '%s': %s; going on\n",
			      scratch, strerrordesc_np(-rc));
	return 0;
}

/* Removes all that lies in the store, which was empty before; it stays itself. */
static int empty_store(int storefd)
{
	CLEAN(clean_dir) DIR *d = NULL;
	int fd = openat(storefd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *ent;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		int rc = -errno;

		clean_fd(&fd);
		return rc;
	}
	while ((ent = readdir(d))) {
		int rc = 0;

		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			rc = fd_remove_tree(storefd, ent->d_name);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Never removes what may be the only copy of somebody's data. */
static int undo(struct init *in, struct err *e)
{
	int rc = 0;

	if (in->fd < 0)
		return e->code;
	if (in->importing && in->args->from && in->args->move)
		return err_hint(e,
				"files of '%s' may have been moved to '%s' already; "
				"nothing was removed",
				in->args->from, in->store);
	if (in->made)
		rc = fd_remove_tree(AT_FDCWD, in->store);
	else
		rc = empty_store(in->fd);
	if (rc < 0)
		(void)fprintf(stderr,
			      "pgbranchfs: cannot remove what was made in '%s': %s\n",
			      in->store, strerrordesc_np(-rc));
	return e->code;
}

static int init_store(const struct init_args *args, struct err *e)
{
	CLEAN(init_fini) struct init in = {.args = args, .fd = -1};
	int rc = find_users(&in, e);

	if (rc == 0 && args->from)
		rc = initdb_check_source(args->from, args->given.bin_dir, e);
	if (rc == 0)
		rc = settings_check(&args->given, e);
	if (rc < 0)
		return rc;
	(void)umask(0); /* the modes of the cluster's files are part of it */
	rc = make_store(&in, e);
	if (rc == 0)
		rc = fill_store(&in, e);
	return rc < 0 ? undo(&in, e) : 0;
}

enum {
	OPT_FROM = 256,
	OPT_FROM_SERVER,
	OPT_MOVE,
	OPT_CHECKSUMS,
	OPT_BIN_DIR,
	OPT_SUPERUSER,
	OPT_RUN_AS,
	OPT_OWNER
};

static const struct option init_options[] = {
	{"from", required_argument, NULL, OPT_FROM},
	{"from-server", required_argument, NULL, OPT_FROM_SERVER},
	{"move", no_argument, NULL, OPT_MOVE},
	{"checksums", no_argument, NULL, OPT_CHECKSUMS},
	{"bin-dir", required_argument, NULL, OPT_BIN_DIR},
	{"superuser", required_argument, NULL, OPT_SUPERUSER},
	{"run-as", required_argument, NULL, OPT_RUN_AS},
	{"owner", required_argument, NULL, OPT_OWNER},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

/* -1: go on; else the exit status. */
static int take_option(const struct cli_command *self, struct init_args *a, int opt)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	switch (opt) {
	case OPT_FROM:
		a->from = optarg;
		return -1;
	case OPT_MOVE:
		a->move = true;
		return -1;
	case OPT_CHECKSUMS:
		a->checksums = true;
		return -1;
	case OPT_BIN_DIR:
		a->given.bin_dir = optarg;
		return -1;
	case OPT_SUPERUSER:
		a->given.superuser = optarg;
		return -1;
	case OPT_RUN_AS:
		a->given.run_as = optarg;
		return -1;
	case OPT_OWNER:
		a->owner = optarg;
		return -1;
	case OPT_FROM_SERVER:
		(void)err_set(&e, -ENOSYS, "--from-server is not built yet");
		(void)err_hint(&e,
			       "copy the server with pg_basebackup, start and stop the "
			       "copy once, then use --from");
		return cli_fail(&e);
	case 'h':
		return cli_help(self);
	default:
		return cli_usage(self, NULL);
	}
}

static int run_init(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct init_args a = {.store = NULL};
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "h", init_options, NULL)) != -1) {
		rc = take_option(self, &a, opt);
		if (rc >= 0)
			return rc;
	}
	if (argc - optind != 1)
		return cli_usage(self, "init takes one store");
	if (a.move && !a.from)
		return cli_usage(self, "--move needs --from");
	if (a.checksums && a.from)
		return cli_usage(self,
				 "--checksums is for a new cluster; with --from the "
				 "cluster keeps what it has");
	a.store = argv[optind];
	if (init_store(&a, &e) < 0)
		return cli_fail(&e);
	printf("made the store %s\n", a.store);
	return cli_flush();
}

const struct cli_command cmd_init = {
	.name = "init",
	.args = "STORE [--from PGDATA [--move]] [OPTION...]",
	.summary = "Make a store of a new cluster or of a stopped one",
	.help = "  --from PGDATA     take over a data directory whose server is "
		"stopped, by\n"
		"                    copy (shared blocks where the file system can)\n"
		"  --move            with --from: move it into the store instead\n"
		"  --checksums       a new cluster with data checksums\n"
		"  --bin-dir DIR     where initdb and postgres are (default: find "
		"them)\n"
		"  --superuser NAME  the superuser role of the cluster (default: "
		"postgres)\n"
		"  --run-as USER     as root: the user that servers of root's branches "
		"run\n"
		"                    under (default: postgres)\n"
		"  --owner USER      as root: whose main is (default: root)\n",
	.run = run_init,
};

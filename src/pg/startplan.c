/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * startplan.c - from a branch to a command line.
 *
 * The run directory's files are written into its overlay: the kernel asks us for
 * them each time.  What is removed in data/ is removed through the mount, because
 * there the kernel remembers names, and would show the server a postmaster.pid
 * that is gone.  Files are read from the overlay.
 */
#include "pg/startplan.h"

#include "base/log.h"
#include "base/text.h"
#include "pg/pgbin.h"
#include "pg/pgconf.h"
#include "pg/pgexec.h"
#include "pg/subscan.h"
#include "store/overlay.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CONF_MAX (4 << 20)
#define SMALL_FILE 4096

struct maker {
	const struct start_spec *spec;
	struct branch_info info;
	struct overlay *data, *run;
	char *bin_dir, *data_path, *config_file;
	struct start_plan *plan;
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int read_version(struct maker *m, struct err *e)
{
	CLEAN(clean_free) char *text = NULL;
	int rc;

	rc = overlay_read_file(m->data, "PG_VERSION", SMALL_FILE, &text, NULL);
	if (rc < 0)
		return err_set(e, rc, "cannot read PG_VERSION: %s",
			       strerrordesc_np(-rc));
	rc = pgexec_parse_version(text);
	if (rc < 0)
		return err_set(e, rc, "PG_VERSION holds no version");
	m->plan->major = rc;
	return pgbin_find(m->spec->conf->bin_dir, rc, &m->bin_dir, e);
}

/* A name that a power cut has left without its bytes is not known to the kernel. */
static int remove_in_data(struct maker *m, int fd, const char *name)
{
	int rc = unlinkat(fd, name, 0) < 0 ? -errno : 0;

	if (rc == -EIO)
		rc = overlay_unlink(m->data, OVERLAY_ROOT, name);
	return rc == -ENOENT ? 0 : rc;
}

/* Removes what an earlier server of this branch, or of its parent, left. */
static int remove_stale(struct maker *m, struct err *e)
{
	static const char *const stale[] = {PGEXEC_SOCKET, PGEXEC_SOCKET ".lock",
					    "postgresql.conf", "pg_hba.conf",
					    "pg_ident.conf"};
	CLEAN(clean_fd) int fd = -1;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(stale); i++) {
		rc = overlay_unlink(m->run, OVERLAY_ROOT, stale[i]);
		if (rc < 0 && rc != -ENOENT)
			return err_set(e, rc, "cannot remove a stale %s: %s", stale[i],
				       strerrordesc_np(-rc));
	}
	fd = openat(rundir_fd(m->spec->rd), "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "cannot open the data directory: %s",
			       strerrordesc_np(errno));
	/* without restore_command, a server cannot even start with recovery.signal */
	rc = remove_in_data(m, fd, FLEET_LOCK_FILE);
	if (rc == 0)
		rc = remove_in_data(m, fd, "recovery.signal");
	return rc < 0 ? err_set(e, rc, "cannot remove a stale lock file: %s",
				strerrordesc_np(-rc))
		      : 0;
}

static int write_run_file(struct maker *m, const char *name, const char *text,
			  struct err *e)
{
	int rc;

	if (!text)
		return no_memory(e);
	rc = overlay_write_file(m->run, name, text, strlen(text), 0600);
	return rc < 0 ? err_set(e, rc, "cannot write %s: %s", name,
				strerrordesc_np(-rc))
		      : 0;
}

static int write_auth(struct maker *m, struct err *e)
{
	CLEAN(clean_free) char *hba = pgconf_hba();
	int rc = write_run_file(m, "pg_hba.conf", hba, e);

	if (rc < 0)
		return rc;
	return fleet_write_roles(m->spec->slot->fleet, m->spec->slot, m->spec->branch,
				 m->run, m->spec->conf, &m->plan->roles_version, e);
}

static int source_read(void *ctx, const char *path, char **ret_text)
{
	return overlay_read_file(ctx, path, CONF_MAX, ret_text, NULL);
}

struct lister {
	void (*add)(void *to, const char *name);
	void *to;
};

static bool list_entry(void *ctx, const char *name, uint64_t fid, mode_t type,
		       uint64_t cookie)
{
	struct lister *l = ctx;

	(void)fid; /* found again by path */
	(void)type;
	(void)cookie;
	l->add(l->to, name);
	return true;
}

static int source_list(void *ctx, const char *path,
		       void (*add)(void *to, const char *name), void *to)
{
	struct lister l = {add, to};
	struct node_attr attr;
	int rc;

	rc = overlay_walk(ctx, path, &attr);
	if (rc < 0)
		return rc;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	return overlay_readdir(ctx, attr.fid, 0, list_entry, &l);
}

/* Sets config_file if the data directory's own cannot be used as it is. */
static int write_config(struct maker *m, struct err *e)
{
	const struct pgconf_source src = {source_read, source_list, m->data};
	CLEAN(clean_free) char *text = NULL, *dropped = NULL;
	int rc;

	rc = pgconf_filter(&src, m->data_path, &text, &dropped);
	if (rc < 0)
		return err_set(e, rc, "cannot read postgresql.conf: %s",
			       strerrordesc_np(-rc));
	if (!text)
		return 0;
	for (char *cursor = dropped, *line; (line = text_next_line(&cursor));)
		log_warn("branch %s: an include leads out of the data directory (%s), "
			 "starting without it",
			 m->info.name, line);
	rc = write_run_file(m, "postgresql.conf", text, e);
	if (rc < 0)
		return rc;
	m->config_file = text_format("%s/.run/%u/postgresql.conf",
				     m->spec->conf->mountpoint, m->info.no);
	return m->config_file ? 0 : no_memory(e);
}

/* Notes the first WAL segment; asking for its size here would take locks twice. */
static bool segment_entry(void *ctx, const char *name, uint64_t fid, mode_t type,
			  uint64_t cookie)
{
	uint64_t *found = ctx;

	(void)type; /* the name tells */
	(void)cookie;
	if (strlen(name) != 24 || strspn(name, "0123456789ABCDEF") != 24)
		return true;
	*found = fid;
	return false;
}

/* The size of a WAL segment, 0 if none is there to tell. */
static uint64_t wal_segment_bytes(struct overlay *data)
{
	struct node_attr attr;
	uint64_t fid = 0;

	if (overlay_walk(data, OVERLAY_WAL_DIR, &attr) < 0 ||
	    overlay_readdir(data, attr.fid, 0, segment_entry, &fid) < 0 || !fid ||
	    overlay_getattr(data, fid, &attr) < 0)
		return 0;
	return attr.size_bytes;
}

static int open_log(struct maker *m, struct err *e)
{
	struct stat st;
	int fd;

	fd = branch_log_open(m->spec->branch, O_WRONLY | O_CREAT | O_APPEND);
	if (fd < 0)
		return err_set(e, fd, "cannot open the server's log: %s",
			       strerrordesc_np(-fd));
	m->plan->log_fd = fd;
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "cannot look at the server's log: %s",
			       strerrordesc_np(errno));
	m->plan->log_off = (uint64_t)st.st_size;
	return 0;
}

/* Does any of the places that set it ask for an external pid file? */
static bool wants_pid_file(const struct maker *m)
{
	static const char *const files[] = {"postgresql.conf", "postgresql.auto.conf"};
	static const char name[] = "external_pid_file";

	for (char **p = m->spec->conf->settings; *p; p++)
		if (pgconf_may_set(*p, name))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		CLEAN(clean_free) char *text = NULL;

		if (source_read(m->data, files[i], &text) == 0 &&
		    pgconf_may_set(text, name))
			return true;
	}
	return false;
}

static int make_command(struct maker *m, struct err *e)
{
	const struct pgexec_spec spec = {
		.bin_dir = m->bin_dir,
		.major = m->plan->major,
		.mountpoint = m->spec->conf->mountpoint,
		.no = m->info.no,
		.config_file = m->config_file,
		.settings = (const char *const *)m->spec->conf->settings,
		.wal_segment_bytes = wal_segment_bytes(m->data),
		.first_start = m->spec->first,
		.unprepared = m->plan->subscriptions,
		.pid_file = wants_pid_file(m),
		.store_path = m->spec->store_path,
	};
	int rc;

	rc = pgexec_argv(&spec, &m->plan->argv);
	if (rc == 0)
		rc = pgexec_envp(&spec, &m->plan->envp);
	m->plan->cwd = strdup(m->data_path);
	if (rc < 0 || !m->plan->cwd)
		return no_memory(e);
	return 0;
}

/* Blocks until the layers below the branch are on disk. */
static int wait_durable(struct maker *m, struct err *e)
{
	int rc = branch_wait_durable(m->spec->branch);

	return rc < 0 ? err_set(e, rc, "cannot make the branch durable: %s",
				strerrordesc_np(-rc))
		      : 0;
}

/* Most branches have no subscriptions to cut off: often that is known already. */
static int look_for_subscriptions(struct maker *m, struct err *e)
{
	m->plan->subscriptions = !m->info.prepared;
	/* after a start of its own the newest is perhaps only in the kernel's cache */
	if (!m->plan->subscriptions || !m->spec->first || !subscan_was_clean(m->data) ||
	    !subscan_none(m->data))
		return 0;
	m->plan->subscriptions = false;
	return branch_set_flag(m->spec->branch, BRANCH_PREPARED, true, e);
}

static int make_all(struct maker *m, struct err *e)
{
	struct node_attr attr;
	int rc;

	rc = wait_durable(m, e);
	if (rc == 0)
		rc = read_version(m, e);
	if (rc == 0)
		rc = remove_stale(m, e);
	if (rc == 0)
		rc = write_auth(m, e);
	if (rc == 0)
		rc = write_config(m, e);
	if (rc == 0)
		rc = look_for_subscriptions(m, e);
	if (rc == 0)
		rc = open_log(m, e);
	if (rc == 0)
		rc = make_command(m, e);
	if (rc < 0)
		return rc;
	m->plan->promote =
		overlay_lookup(m->data, OVERLAY_ROOT, "standby.signal", &attr) == 0;
	return 0;
}

static void maker_fini(struct maker *m)
{
	free(m->bin_dir);
	free(m->data_path);
	free(m->config_file);
}

int start_plan_make(const struct start_spec *spec, struct start_plan *ret_plan,
		    struct err *e)
{
	struct start_plan plan = START_PLAN_INIT;
	CLEAN(maker_fini)
	struct maker m = {
		.spec = spec,
		.plan = &plan,
		.data = rundir_data(spec->rd),
		.run = rundir_run(spec->rd),
	};
	int rc;

	branch_info(spec->branch, &m.info);
	fleet_conf_ids(spec->conf, &m.info, &plan.uid, &plan.gid);
	m.data_path = text_format("%s/.run/%u/data", spec->conf->mountpoint, m.info.no);
	rc = m.data_path ? make_all(&m, e) : no_memory(e);
	if (rc < 0) {
		start_plan_fini(&plan);
		return rc;
	}
	*ret_plan = plan;
	return 0;
}

void start_plan_fini(struct start_plan *p)
{
	pgexec_free_list(&p->argv);
	pgexec_free_list(&p->envp);
	free(p->cwd);
	clean_fd(&p->log_fd);
	*p = (struct start_plan)START_PLAN_INIT;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * initdb.c - a new data directory, and the check of one that somebody brings.
 *
 * The check errs on the side of refusing: a symlink that leads out would make
 * every branch write into the same, foreign file.
 */
#include "pg/initdb.h"

#include "base/fd.h"
#include "base/proc.h"
#include "base/text.h"
#include "pg/pgbin.h"
#include "pg/pgexec.h"

#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define INITDB_TIMEOUT_MS 300000
#define CONTROLDATA_TIMEOUT_MS 30000
#define SMALL_FILE 65536
#define NAMES_SHOWN 5

/*
 * The store is closed to other users, so initdb's user may not be able to walk to
 * its directory.  A shell that was given it as stdin stays as initdb's parent, and
 * its link in /proc leads there for all processes of that user.
 */
static const char handed_over[] = "\"$@\" -D /proc/$$/fd/0; exit $?";

static bool have_locale(const char *name)
{
	locale_t l = newlocale(LC_ALL_MASK, name, (locale_t)0);

	if (!l)
		return false;
	freelocale(l);
	return true;
}

/* 0 if it is empty or was made now, and ours to fill. */
static int prepare_dir(const struct initdb_spec *spec, const char *dir, struct err *e)
{
	struct dirent *de;
	DIR *d;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_set(e, -errno, "cannot make directory '%s': %s", dir,
			       strerrordesc_np(errno));
	d = opendir(dir);
	if (!d)
		return err_set(e, -errno, "cannot read directory '%s': %s", dir,
			       strerrordesc_np(errno));
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			break;
	(void)closedir(d);
	if (de)
		return err_set(e, -ENOTEMPTY, "directory '%s' is not empty", dir);
	if (chmod(dir, 0700) < 0 ||
	    (spec->uid != (uid_t)-1 && chown(dir, spec->uid, spec->gid) < 0))
		return err_set(e, -errno, "cannot give '%s' to its server's user: %s",
			       dir, strerrordesc_np(errno));
	return 0;
}

/* The last line of a program's output that says something. */
static char *last_line(char *out)
{
	char *cursor = out, *line, *last = NULL;

	while (out && (line = text_next_line(&cursor)))
		if (*line)
			last = line;
	return last;
}

/* The line of initdb's output that names the trouble. */
static const char *initdb_reason(char *out)
{
	char *hit = out ? strstr(out, "error: ") : NULL;

	if (!hit && out)
		hit = strstr(out, "FATAL:  ");
	if (hit)
		hit[strcspn(hit, "\n")] = '\0';
	else
		hit = last_line(out);
	return hit ? hit : "it said nothing";
}

int initdb_run(const struct initdb_spec *spec, const char *dir, struct err *e)
{
	struct proc_spec ps = PROC_SPEC_INIT;
	CLEAN(clean_free) char *bin = NULL, *prog = NULL, *out = NULL;
	CLEAN(clean_fd) int dirfd = -1;
	const char *argv[20];
	char *const envp[] = {(char *)"PATH=/usr/local/bin:/usr/bin:/bin",
			      (char *)"LC_MESSAGES=C", NULL};
	size_t n = 0;
	int rc;

	if (spec->uid == 0 || (spec->uid == (uid_t)-1 && geteuid() == 0))
		return err_set(e, -EPERM, "initdb cannot be run as root");
	rc = pgbin_find(spec->bin_dir, 0, &bin, e);
	if (rc < 0)
		return rc;
	prog = text_format("%s/initdb", bin);
	if (!prog)
		return err_set(e, -ENOMEM, "out of memory");
	rc = prepare_dir(spec, dir, e);
	if (rc < 0)
		return rc;
	dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_set(e, -errno, "cannot open directory '%s': %s", dir,
			       strerrordesc_np(errno));
	argv[n++] = "/bin/sh";
	argv[n++] = "-c";
	argv[n++] = handed_over;
	argv[n++] = "sh";
	argv[n++] = prog;
	argv[n++] = "-U";
	argv[n++] = spec->superuser;
	argv[n++] = "-A";
	argv[n++] = "peer";
	argv[n++] = "-E";
	argv[n++] = "UTF8";
	argv[n++] = have_locale("C.UTF-8") ? "--locale=C.UTF-8" : "--locale=C";
	argv[n++] = "-N"; /* whoever takes it in makes it durable */
	if (spec->checksums)
		argv[n++] = "-k";
	argv[n] = NULL;
	ps.argv = (char *const *)argv;
	ps.envp = envp;
	ps.uid = spec->uid;
	ps.gid = spec->gid;
	ps.stdin_fd = dirfd;
	ps.cwd = "/"; /* programs before Postgres 16 return to it by its name */
	rc = proc_run(&ps, INITDB_TIMEOUT_MS, &out);
	if (rc < 0)
		return err_set(e, rc, "cannot run '%s': %s", prog,
			       strerrordesc_np(-rc));
	if (rc != 0)
		return err_set(e, -EIO, "initdb failed: %s", initdb_reason(out));
	return 0;
}

/* What the walk through a source found. */
struct findings {
	struct str names;
	unsigned count;
};

static void note_finding(struct findings *f, const char *path, const char *target)
{
	if (f->count++ >= NAMES_SHOWN)
		return;
	str_printf(&f->names, "%s%s -> %s", f->names.len ? ", " : "", path, target);
}

/* Does a link at `path` (relative to the top) with this target stay inside? */
static bool link_stays_inside(const char *path, const char *target)
{
	int depth = 0;

	if (*target == '/')
		return false;
	for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/'))
		depth++;
	for (const char *p = target; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			depth--;
		else if (n && !(n == 1 && p[0] == '.'))
			depth++;
		if (depth < 0)
			return false;
		p += n;
		p += strspn(p, "/");
	}
	return true;
}

static bool is_tablespace(const char *path)
{
	return strncmp(path, "pg_tblspc/", 10) == 0 && !strchr(path + 10, '/');
}

static int check_link(int dirfd, const char *name, const char *path,
		      struct findings *tablespaces, struct findings *links)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (is_tablespace(path))
		note_finding(tablespaces, path, target);
	else if (!strcmp(path, "pg_wal") || !link_stays_inside(path, target))
		note_finding(links, path, target);
	return 0;
}

static void clean_dir(DIR **d)
{
	int saved = errno;

	if (*d)
		(void)closedir(*d); /* only read from */
	errno = saved;
}

/* Walks the tree below dirfd/name; prefix is its path, "" for the top. */
static int walk(int dirfd, const char *name, const char *prefix,
		struct findings *tablespaces, struct findings *links)
{
	CLEAN(clean_dir) DIR *d = NULL;
	struct dirent *de;
	int fd, rc = 0;

	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		(void)close(fd);
		return -ENOMEM;
	}
	while (rc == 0 && (errno = 0, de = readdir(d))) {
		CLEAN(clean_free) char *path = NULL;
		struct stat st;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		path = text_format("%s%s%s", prefix, *prefix ? "/" : "", de->d_name);
		if (!path)
			return -ENOMEM;
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (S_ISLNK(st.st_mode))
			rc = check_link(fd, de->d_name, path, tablespaces, links);
		else if (S_ISDIR(st.st_mode))
			rc = walk(fd, de->d_name, path, tablespaces, links);
	}
	return rc < 0 ? rc : -errno;
}

static const char *and_more(const struct findings *f)
{
	return f->count > NAMES_SHOWN ? " and more" : "";
}

static void findings_fini(struct findings *f)
{
	str_fini(&f->names);
}

static int check_links(const char *dir, struct err *e)
{
	CLEAN(findings_fini) struct findings tablespaces = {STR_INIT, 0};
	CLEAN(findings_fini) struct findings links = {STR_INIT, 0};
	int rc;

	/* the top may be named through a symlink: "dir/." follows it */
	CLEAN(clean_free) char *top = text_format("%s/.", dir);
	if (!top)
		return err_set(e, -ENOMEM, "out of memory");
	rc = walk(AT_FDCWD, top, "", &tablespaces, &links);
	if (rc < 0)
		return err_set(e, rc, "cannot read all of '%s': %s", dir,
			       strerrordesc_np(-rc));
	if (tablespaces.count) {
		(void)err_set(e, -EINVAL, "'%s' has tablespaces outside of it (%s%s)",
			      dir, tablespaces.names.s, and_more(&tablespaces));
		return err_hint(e,
				"move their tables to pg_default (ALTER TABLE ... SET "
				"TABLESPACE) and drop them");
	}
	if (links.count) {
		(void)err_set(e, -EINVAL,
			      "'%s' has symbolic links that lead out of it (%s%s)", dir,
			      links.names.s, and_more(&links));
		return err_hint(e, "replace each by the file or directory it names");
	}
	return 0;
}

/* -EBUSY if the server that wrote postmaster.pid still lives. */
static int check_unused(int fd, const char *dir, struct err *e)
{
	CLEAN(clean_free) char *text = NULL;
	struct pgexec_pidfile pf;
	int rc;

	rc = fd_read_file(fd, "postmaster.pid", SMALL_FILE, &text, NULL);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return err_set(e, rc, "cannot read '%s/postmaster.pid': %s", dir,
			       strerrordesc_np(-rc));
	if (pgexec_parse_pidfile(text, &pf) < 0)
		return 0;
	if (kill(pf.pid, 0) < 0 && errno == ESRCH)
		return 0;
	(void)err_set(e, -EBUSY,
		      "'%s' is in use by process %d (see its postmaster.pid)", dir,
		      (int)pf.pid);
	return err_hint(e,
			"stop that server (pg_ctl -D %s stop), or use "
			"--from-server to copy it while it runs",
			dir);
}

/* Takes the value of one line of pg_controldata in place; NULL if it is missing. */
static const char *control_value(char *out, const char *key)
{
	char *cursor = out, *line;
	size_t n = strlen(key);

	while ((line = text_next_line(&cursor))) {
		if (strncmp(line, key, n) != 0)
			continue;
		line += n;
		return line + strspn(line, " \t");
	}
	return NULL;
}

static int check_clean(const char *bin, const char *dir, struct err *e)
{
	struct proc_spec ps = PROC_SPEC_INIT;
	CLEAN(clean_free) char *prog = text_format("%s/pg_controldata", bin);
	CLEAN(clean_free) char *out = NULL;
	char *const argv[] = {prog, (char *)"-D", (char *)dir, NULL};
	char *const envp[] = {(char *)"PATH=/usr/bin:/bin", (char *)"LC_ALL=C", NULL};
	const char *state;
	int rc;

	if (!prog)
		return err_set(e, -ENOMEM, "out of memory");
	ps.argv = argv;
	ps.envp = envp;
	rc = proc_run(&ps, CONTROLDATA_TIMEOUT_MS, &out);
	if (rc < 0)
		return err_set(e, rc, "cannot run '%s': %s", prog,
			       strerrordesc_np(-rc));
	if (rc != 0 || !out) {
		const char *said = last_line(out);

		return err_set(e, -EINVAL, "pg_controldata cannot read '%s': %s", dir,
			       said ? said : "it said nothing");
	}
	state = control_value(out, "Database cluster state:");
	if (!state)
		return err_set(e, -EINVAL,
			       "pg_controldata does not tell the state of '%s'", dir);
	if (!strcmp(state, "shut down") || !strcmp(state, "shut down in recovery"))
		return 0;
	(void)err_set(e, -EINVAL, "'%s' was not stopped cleanly (its state is '%s')",
		      dir, state);
	return err_hint(e, "start it once, then stop it with pg_ctl stop");
}

int initdb_check_source(const char *dir, const char *bin_dir, struct err *e)
{
	CLEAN(clean_fd) int fd = -1;
	CLEAN(clean_free) char *version = NULL, *bin = NULL;
	int major, rc;

	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "cannot open data directory '%s': %s", dir,
			       strerrordesc_np(errno));
	rc = fd_read_file(fd, "PG_VERSION", SMALL_FILE, &version, NULL);
	if (rc == 0 && faccessat(fd, "global/pg_control", F_OK, 0) < 0)
		rc = -errno;
	major = rc < 0 ? rc : pgexec_parse_version(version);
	if (rc == -ENOENT || rc == 0) {
		if (major < 0)
			return err_set(e, -EINVAL,
				       "'%s' is not a Postgres data directory", dir);
	} else {
		return err_set(e, rc, "cannot read '%s/PG_VERSION': %s", dir,
			       strerrordesc_np(-rc));
	}
	rc = check_unused(fd, dir, e);
	if (rc < 0)
		return rc;
	rc = check_links(dir, e);
	if (rc < 0)
		return rc;
	rc = pgbin_find(bin_dir, major, &bin, e);
	if (rc < 0)
		return rc;
	return check_clean(bin, dir, e);
}

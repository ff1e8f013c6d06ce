/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * single.c - `postgres --single -j`: commands from its standard input, each ended by a
 * semicolon and an empty line, errors that end it (exit_on_error).
 *
 * It gets the safety settings of every server, recovers the branch first if need be,
 * and shuts it down cleanly at its end.
 */
#include "pg/single.h"

#include "base/fd.h"
#include "base/text.h"
#include "pg/fleet_priv.h"
#include "pg/pgbin.h"
#include "pg/pgexec.h"
#include "store/overlay.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SMALL_FILE 4096
#define OUT_MAX (16 << 20)
#define LOG_TAIL (64 << 10)
#define OPTIONS 6 /* --single -j -c exit_on_error -c lock_timeout */

void single_init(struct single *s)
{
	(void)pthread_mutex_init(&s->lock, NULL); /* cannot fail with NULL */
	s->proc = (struct proc){0, -1};
	s->stopped = false;
}

void single_fini(struct single *s)
{
	(void)pthread_mutex_destroy(&s->lock); /* nobody holds it */
}

void single_stop(struct single *s)
{
	LOCK_SCOPE(&s->lock);
	s->stopped = true;
	if (s->proc.pidfd >= 0)
		(void)!proc_kill(&s->proc, SIGTERM); /* it may be gone */
}

void single_add_command(struct str *out, const char *text)
{
	size_t len = strlen(text);

	while (len && strchr(" \t\r\n;", text[len - 1]))
		len--;
	/* an empty line behind a semicolon would end it there */
	for (size_t i = 0; i < len; i++) {
		str_addn(out, text + i, 1);
		if (text[i] == '\n' && text[i + 1] == '\n')
			str_add(out, " ");
	}
	/* a remark may stand on the last line */
	str_add(out, "\n" SINGLE_END);
}

char *single_next_value(char **cursor)
{
	static const char mark[] = "datname = \"";
	char *from = strstr(*cursor, mark), *to;

	if (!from)
		return NULL;
	from += strlen(mark);
	to = strstr(from, "\"\t(typeid");
	if (!to)
		return NULL;
	*to = '\0';
	*cursor = to + 1;
	return from;
}

static int text_fd(const char *text, int *ret_fd)
{
	CLEAN(clean_fd) int fd = memfd_create("pgbranchfs-sql", MFD_CLOEXEC);
	int rc = fd < 0 ? -errno : fd_pwrite_full(fd, text, strlen(text), 0);

	if (rc == 0)
		*ret_fd = steal_fd(&fd);
	return rc;
}

/* argv of a server, made one of a single user. */
static int make_argv(const struct pgexec_spec *spec, const char *dbname, char ***ret)
{
	static const char *const options[OPTIONS] = {
		"--single", "-j", "-c", "exit_on_error=on", "-c", "lock_timeout=60s"};
	CLEAN(pgexec_free_list) char **server = NULL;
	size_t n = 0, at = 0;
	char **v;
	int rc = pgexec_argv(spec, &server);

	if (rc < 0)
		return rc;
	while (server[n])
		n++;
	v = calloc(n + OPTIONS + 2, sizeof(char *));
	if (!v)
		return -ENOMEM;
	v[at++] = steal(server[0]);
	for (size_t i = 0; i < OPTIONS; i++)
		v[at++] = strdup(options[i]);
	for (size_t i = 1; i < n; i++)
		v[at++] = steal(server[i]);
	v[at++] = strdup(dbname);
	*ret = v;
	for (size_t i = 0; i < at; i++)
		if (!v[i])
			return -ENOMEM;
	return 0;
}

struct run {
	struct fleet_conf *conf;
	struct overlay *data;
	char **argv, **envp;
	char *cwd, *bin_dir;
	int in_fd, out_fd, log_fd;
	uint64_t log_off;
};

static void run_fini(struct run *r)
{
	(void)fleet_conf_put(r->conf);
	(void)overlay_put(r->data);
	pgexec_free_list(&r->argv);
	pgexec_free_list(&r->envp);
	free(r->cwd);
	free(r->bin_dir);
	clean_fd(&r->in_fd);
	clean_fd(&r->out_fd);
	clean_fd(&r->log_fd);
}

static int make_run(struct run *r, struct fleet *f, struct branch *b,
		    const char *dbname, const char *sql, struct err *e)
{
	CLEAN(clean_free) char *version = NULL;
	struct pgexec_spec spec = {.no = branch_no(b), .first_start = true};
	struct stat st;
	int rc = branch_wait_durable(b);

	if (rc == 0)
		rc = branch_data_get(b, &r->data);
	if (rc == 0)
		rc = overlay_read_file(r->data, "PG_VERSION", SMALL_FILE, &version,
				       NULL);
	if (rc == 0)
		rc = pgexec_parse_version(version);
	if (rc < 0)
		return err_set(e, rc, "cannot read PG_VERSION: %s",
			       strerrordesc_np(-rc));
	spec.major = rc;
	rc = pgbin_find(r->conf->bin_dir, spec.major, &r->bin_dir, e);
	if (rc < 0)
		return rc;
	spec.bin_dir = r->bin_dir;
	spec.mountpoint = r->conf->mountpoint;
	spec.settings = (const char *const *)r->conf->settings;
	spec.unprepared = true;
	spec.store_path = registry_path(f->reg);
	r->cwd = text_format("%s/.run/%u/data", r->conf->mountpoint, spec.no);
	rc = make_argv(&spec, dbname, &r->argv);
	if (rc == 0)
		rc = pgexec_envp(&spec, &r->envp);
	if (rc == 0)
		rc = text_fd(sql, &r->in_fd);
	if (rc == 0)
		rc = text_fd("", &r->out_fd);
	if (rc == 0)
		rc = r->log_fd = branch_log_open(b, O_RDWR | O_CREAT | O_APPEND);
	if (rc < 0 || !r->cwd || fstat(r->log_fd, &st) < 0)
		return err_set(e, rc < 0 ? rc : -ENOMEM,
			       "cannot prepare the server: %s",
			       strerrordesc_np(rc < 0 ? -rc : ENOMEM));
	r->log_off = (uint64_t)st.st_size;
	return 0;
}

/* Its end, which is waited for as long as it takes. */
static int wait_for(struct single *s, int *ret_status)
{
	struct proc p;
	int rc;

	{
		LOCK_SCOPE(&s->lock);
		p = s->proc;
	}
	rc = proc_wait(&p, -1, ret_status);
	LOCK_SCOPE(&s->lock);
	s->proc = (struct proc){0, -1};
	return rc;
}

static int say_why(const struct run *r, struct err *e)
{
	CLEAN(clean_free) char *text = malloc(LOG_TAIL + 1);
	CLEAN(clean_free) char *why = NULL;
	uint64_t off = r->log_off;
	struct stat st;
	ssize_t n = 0;

	if (text && fstat(r->log_fd, &st) == 0) {
		if ((uint64_t)st.st_size > off + LOG_TAIL)
			off = (uint64_t)st.st_size - LOG_TAIL;
		n = fd_pread_full(r->log_fd, text, LOG_TAIL, off);
	}
	if (text && n > 0) {
		text[n] = '\0';
		why = pgexec_log_reason(text);
	}
	return err_set(e, -EIO, "%s", why ? why : "its server ended without a message");
}

static int read_out(const struct run *r, char **ret_out)
{
	struct stat st;
	CLEAN(clean_free) char *text = NULL;
	ssize_t n;

	if (!ret_out)
		return 0;
	if (fstat(r->out_fd, &st) < 0 || st.st_size > OUT_MAX)
		return -EFBIG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	n = fd_pread_full(r->out_fd, text, (size_t)st.st_size, 0);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	*ret_out = steal(text);
	return 0;
}

int single_run(struct single *s, struct fleet *f, struct branch *b, const char *dbname,
	       const char *sql, char **ret_out, struct err *e)
{
	CLEAN(run_fini)
	struct run r = {
		.conf = fleet_conf_now(f), .in_fd = -1, .out_fd = -1, .log_fd = -1};
	struct proc_spec spec = PROC_SPEC_INIT;
	struct branch_info info;
	int status = 0, rc = make_run(&r, f, b, dbname, sql, e);

	if (rc < 0)
		return rc;
	branch_info(b, &info);
	spec.argv = r.argv;
	spec.envp = r.envp;
	if (r.conf->privileged)
		fleet_conf_ids(r.conf, &info, &spec.uid, &spec.gid);
	spec.cwd = r.cwd;
	spec.death_signal = SIGKILL;
	spec.stdin_fd = r.in_fd;
	spec.stdout_fd = r.out_fd;
	spec.stderr_fd = r.log_fd;
	{
		LOCK_SCOPE(&s->lock);
		rc = s->stopped ? -ECANCELED : proc_spawn(&spec, &s->proc);
	}
	if (rc < 0)
		return err_set(e, rc, "cannot run '%s': %s", r.argv[0],
			       strerrordesc_np(-rc));
	rc = wait_for(s, &status);
	if (rc < 0)
		return err_set(e, rc, "cannot wait for the server: %s",
			       strerrordesc_np(-rc));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return say_why(&r, e);
	rc = read_out(&r, ret_out);
	return rc < 0 ? err_set(e, rc, "cannot read what it printed") : 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgexec.c - how a branch's server is called.
 *
 * Everything that keeps a branch from doing harm outside is a -c argument: these
 * beat postgresql.conf and postgresql.auto.conf, and of two for one setting the
 * last wins.  So the order is: what the user configured, then safety, then paths.
 *
 * Paths survive a rename of the branch: the data directory is named by number
 * (MNT/.run/NO/data), and the socket directory relative to it, which also keeps
 * it short whatever the mountpoint's length.
 */
#include "pg/pgexec.h"

#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define WAL_SEGMENT_DEFAULT (UINT64_C(16) << 20)

/* A setting that is forced for the majors that know it. */
struct forced {
	const char *setting;
	int from, before; /* majors; 0: any */
};

static const struct forced forced[] = {
	/* nothing of this cluster goes to the parent's archive (hazard 5) */
	{"archive_mode=off", 0, 0},
	{"archive_command=", 0, 0},
	{"archive_library=", 15, 0},
	{"archive_timeout=0", 0, 0},
	/* and it follows nobody (hazard 8) */
	{"restore_command=", 0, 0},
	{"archive_cleanup_command=", 0, 0},
	{"recovery_end_command=", 0, 0},
	{"primary_conninfo=", 0, 0},
	{"primary_slot_name=", 0, 0},
	{"promote_trigger_file=", 0, 16},
	{"recovery_target=", 0, 0},
	{"recovery_target_lsn=", 0, 0},
	{"recovery_target_name=", 0, 0},
	{"recovery_target_time=", 0, 0},
	{"recovery_target_xid=", 0, 0},
	{"recovery_target_timeline=latest", 0, 0},
	{"sync_replication_slots=off", 17, 0},
	/* a standby is promoted by SQL, and one that recovers is not ready yet */
	{"hot_standby=on", 0, 0},
	/* a commit must not wait for standbys that only the parent has */
	{"synchronous_standby_names=", 0, 0},
	/* no port or log of the parent (hazard 7) */
	{"stats_temp_directory=pg_stat_tmp", 0, 15},
	{"logging_collector=off", 0, 0},
	{"log_destination=stderr", 0, 0},
	{"ssl=off", 0, 0},
	{"listen_addresses=", 0, 0},
	{"port=5432", 0, 0},
	/* jobs (hazard 19); a placeholder where pg_cron is not loaded */
	{"cron.launch_active_jobs=off", 0, 0},
	/* a commit that was acknowledged is there after a power cut; a directory fsync
	 * that failed is not tried again */
	{"fsync=on", 0, 0},
	{"full_page_writes=on", 0, 0},
	{"data_sync_retry=off", 0, 0},
	/* recycled WAL would count as the branch's own data (hazard 12) */
	{"wal_recycle=off", 0, 0},
	{"wal_init_zero=off", 0, 0},
};

/* A growing list of strings, ended by NULL. */
struct list {
	char **v;
	size_t n;
	bool failed;
};

static void list_take(struct list *l, char *s)
{
	char **v;

	v = s ? realloc(l->v, (l->n + 2) * sizeof(*v)) : NULL;
	if (!v) {
		free(s);
		l->failed = true;
		return;
	}
	l->v = v;
	v[l->n++] = s;
	v[l->n] = NULL;
}

static void list_setting(struct list *l, char *setting)
{
	list_take(l, strdup("-c"));
	list_take(l, setting);
}

static int list_finish(struct list *l, char ***ret_list)
{
	if (l->failed) {
		pgexec_free_list(&l->v);
		return -ENOMEM;
	}
	*ret_list = l->v;
	return 0;
}

void pgexec_free_list(char ***list)
{
	int saved = errno;

	if (*list)
		for (char **p = *list; *p; p++)
			free(*p);
	free(*list);
	*list = NULL;
	errno = saved;
}

static void add_safety(struct list *l, const struct pgexec_spec *s)
{
	uint64_t seg = s->wal_segment_bytes;

	for (size_t i = 0; i < ARRAY_SIZE(forced); i++) {
		const struct forced *f = &forced[i];

		if (s->major < f->from || (f->before && s->major >= f->before))
			continue;
		list_setting(l, strdup(f->setting));
	}
	/* a server refuses a min_wal_size below two segments */
	if (seg < WAL_SEGMENT_DEFAULT)
		seg = WAL_SEGMENT_DEFAULT;
	list_setting(l, text_format("min_wal_size=%lluMB",
				    (unsigned long long)(seg >> 20) * 2));
	if (s->unprepared)
		list_setting(l, strdup("max_logical_replication_workers=0"));
	if (s->major >= 14)
		list_setting(l, text_format("recovery_init_sync_method=%s",
					    s->first_start ? "syncfs" : "fsync"));
}

static void add_paths(struct list *l, const struct pgexec_spec *s, const char *run)
{
	if (s->config_file)
		list_setting(l, text_format("config_file=%s", s->config_file));
	else
		list_setting(l,
			     text_format("config_file=%s/data/postgresql.conf", run));
	list_setting(l, text_format("data_directory=%s/data", run));
	list_setting(l, text_format("hba_file=%s/pg_hba.conf", run));
	list_setting(l, text_format("ident_file=%s/pg_ident.conf", run));
	/* not the parent's; and "" would make the server complain at each start */
	if (s->pid_file)
		list_setting(l, text_format("external_pid_file=%s/external.pid", run));
	list_setting(l, text_format("unix_socket_directories=../../.run/%u", s->no));
	list_setting(l, strdup("unix_socket_group="));
	list_setting(l, strdup("unix_socket_permissions=0777"));
}

int pgexec_argv(const struct pgexec_spec *s, char ***ret_argv)
{
	CLEAN(clean_free) char *run = NULL;
	struct list l = {NULL, 0, false};

	run = text_format("%s/.run/%u", s->mountpoint, s->no);
	if (!run)
		return -ENOMEM;
	list_take(&l, text_format("%s/postgres", s->bin_dir));
	list_take(&l, strdup("-D"));
	list_take(&l, text_format("%s/data", run));
	for (const char *const *p = s->settings; p && *p; p++)
		list_setting(&l, strdup(*p));
	add_safety(&l, s);
	add_paths(&l, s, run);
	return list_finish(&l, ret_argv);
}

int pgexec_envp(const struct pgexec_spec *s, char ***ret_envp)
{
	struct list l = {NULL, 0, false};

	list_take(&l, strdup("PATH=/usr/local/bin:/usr/bin:/bin"));
	list_take(&l, text_format("PGBRANCHFS_STORE=%s", s->store_path));
	return list_finish(&l, ret_envp);
}

/* The start of line number `line` (from 1), or NULL. */
static const char *nth_line(const char *text, unsigned line)
{
	while (--line) {
		text = strchr(text, '\n');
		if (!text)
			return NULL;
		text++;
	}
	return *text ? text : NULL;
}

static bool starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

int pgexec_parse_pidfile(const char *text, struct pgexec_pidfile *ret_pf)
{
	struct pgexec_pidfile pf = {0, 0, 0, false, false};
	const char *p;
	char *end;
	long pid;

	/* a server in single-user mode writes its pid negated */
	pid = strtol(text, &end, 10);
	if (end == text || (*end != '\n' && *end != '\0') || pid == 0 ||
	    pid > INT32_MAX || pid < -INT32_MAX)
		return -EINVAL;
	pf.pid = (pid_t)(pid < 0 ? -pid : pid);
	p = nth_line(text, 7);
	if (p) {
		unsigned long key, id;

		if (sscanf(p, "%lu %lu", &key, &id) == 2 && key <= UINT32_MAX &&
		    id <= INT32_MAX) {
			pf.shm_key = (uint32_t)key;
			pf.shm_id = (int)id;
		}
	}
	p = nth_line(text, 8);
	if (p) {
		pf.standby = starts_with(p, "standby");
		pf.ready = pf.standby || starts_with(p, "ready");
	}
	*ret_pf = pf;
	return 0;
}

bool pgexec_pidfile_is_ours(const char *text, uint32_t no)
{
	const char *dir = nth_line(text, 2);
	char tail[40];
	size_t len, tail_len;

	if (!dir)
		return false;
	len = strcspn(dir, "\n");
	tail_len = (size_t)snprintf(tail, sizeof(tail), "/.run/%u/data", no); /* fits */
	return len >= tail_len && memcmp(dir + len - tail_len, tail, tail_len) == 0;
}

int pgexec_parse_version(const char *text)
{
	char *end;
	long v;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	v = strtol(text, &end, 10);
	/* "9.6" was the last with a major version of two numbers */
	if (v <= 0 || v > 999 || (*end != '\n' && *end != '\0' && *end != '.'))
		return -EINVAL;
	return (int)v;
}

int pgexec_parse_banner(const char *text)
{
	static const char mark[] = "(PostgreSQL) ";
	const char *p = strstr(text, mark);
	char *end;
	long v;

	if (!p || !isdigit((unsigned char)p[sizeof(mark) - 1]))
		return -EINVAL;
	/* "18.1", but also "18beta2" and "19devel" */
	v = strtol(p + sizeof(mark) - 1, &end, 10);
	return v > 0 && v <= 999 ? (int)v : -EINVAL;
}

/* Where the message begins in a line of severity FATAL or PANIC, or NULL. */
static const char *fatal_message(const char *line)
{
	static const char *const severities[] = {
		"FATAL:  ", "PANIC:  ", "FATAL: ", "PANIC: "};

	for (size_t i = 0; i < ARRAY_SIZE(severities); i++) {
		const char *p = strstr(line, severities[i]);

		if (p)
			return p + strlen(severities[i]);
	}
	return NULL;
}

char *pgexec_log_reason(const char *log)
{
	CLEAN(clean_free) char *copy = strdup(log);
	const char *last = NULL, *fatal = NULL, *before = NULL;
	char *cursor = copy, *line;

	while (copy && (line = text_next_line(&cursor))) {
		const char *msg = fatal_message(line);
		const char *plain = strstr(line, "LOG:  ");

		if (msg)
			fatal = msg;
		else if (plain && !fatal)
			before = plain + 6;
		if (*line)
			last = line;
	}
	/* which setting was wrong is told by the line before */
	if (fatal && before && strstr(fatal, "contains errors"))
		return text_format("%s (%s)", before, fatal);
	if (fatal)
		last = fatal;
	return last ? strdup(last) : NULL;
}

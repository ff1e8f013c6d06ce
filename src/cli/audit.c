/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs audit: the lines of an audit log that are asked for, as a table, or as
 * they are.
 */
#include "ctl/audit.h"
#include "cli/cli.h"
#include "cli/mounts.h"
#include "cli/table.h"
#include "ctl/audit_line.h"

#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const struct table_column columns[] = {
	{"TIME", false},    {"USER", false},   {"PID", true},     {"COMMAND", false},
	{"VERB", false},    {"BRANCH", false}, {"PARENT", false}, {"VALUE", false},
	{"VERDICT", false}, {"REASON", false},
};

struct query {
	const char *branch, *verb, *verdict; /* NULL: any */
	bool has_uid, json;
	uid_t uid;
	time_t since;
};

/* A line that is a record; text is taken apart. */
static bool wanted(const struct query *q, const struct audit_line *l)
{
	const struct {
		const char *want, *key;
	} words[] = {{q->branch, "branch"}, {q->verb, "verb"}, {q->verdict, "verdict"}};
	const char *uid = audit_line_get(l, "uid"), *when = audit_line_get(l, "time");
	uint64_t number;
	time_t t;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const char *is = audit_line_get(l, words[i].key);

		if (words[i].want && (!is || strcmp(is, words[i].want) != 0))
			return false;
	}
	if (q->has_uid && (!uid || text_parse_u64(uid, 10, UINT32_MAX, &number) < 0 ||
			   (uid_t)number != q->uid))
		return false;
	if (q->since) {
		char to_second[21];

		/* 2026-11-22T10:00:00.000001Z: the fraction does not matter */
		(void)snprintf(to_second, sizeof(to_second), "%.19sZ",
			       when ? when : "");
		if (text_parse_time(to_second, &t) < 0 || t < q->since)
			return false;
	}
	return true;
}

static void add_user(struct table *t, const char *uid)
{
	const struct passwd *pw = NULL;
	uint64_t number;

	if (uid && text_parse_u64(uid, 10, UINT32_MAX, &number) == 0)
		pw = getpwuid((uid_t)number);
	table_add(t, pw ? pw->pw_name : uid ? uid : "-", NULL);
}

static void add_row(struct table *t, const struct audit_line *l)
{
	static const char *const keys[] = {"pid",    "comm",  "verb",    "branch",
					   "parent", "value", "verdict", "reason"};
	const char *when = audit_line_get(l, "time");

	table_add(t, when ? when : "-", NULL);
	add_user(t, audit_line_get(l, "uid"));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *value = audit_line_get(l, keys[i]);
		CLEAN(clean_free) char *plain = strdup(value ? value : "-");

		/* what clients wrote must not reach the terminal as commands */
		for (char *p = plain; p && *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				*p = '?';
		table_add(t, plain ? plain : "-", NULL);
	}
}

/* Prints what is asked for; *ret_bad: lines that are no records. */
static int print_lines(FILE *f, const struct query *q, size_t *ret_bad)
{
	struct table t = {.columns = columns, .ncolumns = ARRAY_SIZE(columns)};
	CLEAN(clean_free) char *line = NULL;
	struct str out = STR_INIT;
	size_t size = 0, n = 0;
	bool failed;
	ssize_t len;

	*ret_bad = 0;
	if (q->json)
		(void)putchar('[');
	while ((len = getline(&line, &size, f)) > 0) {
		CLEAN(clean_free) char *copy = NULL;
		struct audit_line l;

		line[strcspn(line, "\n")] = '\0';
		copy = strdup(line);
		if (copy && audit_line_parse(copy, &l) == 0) {
			if (!wanted(q, &l))
				continue;
			if (q->json)
				printf("%s\n%s", n ? "," : "", line);
			else
				add_row(&t, &l);
			n++;
		} else if (line[0]) {
			(*ret_bad)++;
		}
	}
	if (q->json)
		printf("%s]\n", n ? "\n" : "");
	else if (n)
		table_render(&t, false, 0, n, &out);
	failed = t.failed || out.failed || ferror(f);
	if (out.len)
		(void)fwrite(out.s, 1, out.len, stdout); /* cli_flush tells */
	str_fini(&out);
	table_fini(&t);
	return failed ? -EIO : 0;
}

/* The log that is meant: a file, one of a store, or one of a mount. */
static int find_log(const char *where, char **ret_path, struct err *e)
{
	CLEAN(mount_entry_fini) struct mount_entry m = {NULL, NULL, 0};
	struct stat st;
	bool dead;
	int rc;

	if (where && stat(where, &st) == 0 && S_ISREG(st.st_mode)) {
		*ret_path = strdup(where);
		return *ret_path ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	if (where) {
		*ret_path = text_format("%s/" AUDIT_FILE, where);
		if (!*ret_path)
			return err_set(e, -ENOMEM, "out of memory");
		if (stat(*ret_path, &st) == 0 && S_ISREG(st.st_mode))
			return 0;
		free(*ret_path);
	}
	rc = mounts_choose(where, &m, &dead, e);
	if (rc < 0)
		return rc;
	*ret_path = text_format("%s/" AUDIT_FILE, m.store);
	return *ret_path ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int parse_since(const struct cli_command *self, const char *word,
		       struct query *q)
{
	uint64_t ago_s;

	if (text_parse_time(word, &q->since) == 0)
		return 0;
	if (text_parse_duration(word, &ago_s) < 0 || ago_s > (uint64_t)time(NULL))
		return cli_usage(
			self,
			"--since takes a time such as 2026-11-22T10:00:00Z, or "
			"how long ago, such as 2h, not '%s'",
			word);
	q->since = time(NULL) - (time_t)ago_s;
	return 0;
}

static int parse_args(const struct cli_command *self, int argc, char **argv,
		      struct query *q)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"user", required_argument, NULL, 'u'},
		{"branch", required_argument, NULL, 'b'},
		{"verb", required_argument, NULL, 'v'},
		{"verdict", required_argument, NULL, 'd'},
		{"since", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	CLEAN(err_fini) struct err e = ERR_INIT;
	int opt, rc = 0;
	gid_t gid;

	while (rc == 0 && (opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(self);
		if (opt == 'j')
			q->json = true;
		else if (opt == 'b')
			q->branch = optarg;
		else if (opt == 'v')
			q->verb = optarg;
		else if (opt == 'd')
			q->verdict = optarg;
		else if (opt == 's')
			rc = parse_since(self, optarg, q);
		else if (opt != 'u')
			rc = cli_usage(self, NULL);
		else if (cli_user(optarg, &q->uid, &gid, &e) < 0)
			return cli_fail(&e);
		else
			q->has_uid = true;
	}
	if (rc == 0 && argc - optind > 1)
		rc = cli_usage(self, "%s takes at most one place", self->name);
	return rc != 0 ? rc : -1;
}

static int run_audit(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(clean_free) char *path = NULL;
	struct query q = {.branch = NULL};
	size_t bad = 0;
	int rc = parse_args(self, argc, argv, &q);
	FILE *f;

	if (rc >= 0)
		return rc;
	if (find_log(argv[optind], &path, &e) < 0)
		return cli_fail(&e);
	f = fopen(path, "re");
	if (!f) {
		(void)err_set(&e, -errno, "cannot read '%s': %s", path,
			      strerrordesc_np(errno));
		(void)err_hint(&e, "only root and the user that mounted it may");
		return cli_fail(&e);
	}
	rc = print_lines(f, &q, &bad);
	(void)fclose(f); /* it was only read */
	if (rc < 0) {
		(void)err_set(&e, rc, "cannot read all of '%s'", path);
		return cli_fail(&e);
	}
	rc = cli_flush();
	if (bad > 0)
		(void)fprintf(stderr,
			      "pgbranchfs: %zu lines of '%s' are no records: a full "
			      "disk may have cut them\n",
			      bad, path);
	return rc;
}

const struct cli_command cmd_audit = {
	.name = "audit",
	.args = "[MOUNTPOINT|STORE|FILE] [--user USER] [--branch NAME] [--verb VERB] "
		"[--verdict VERDICT] [--since TIME] [--json]",
	.summary = "Show who asked for what, and what came of it",
	.help = "  MOUNTPOINT  whose store's log; may be left out when only one "
		"pgbranchfs is mounted\n"
		"  --user      of this user only: a name or number\n"
		"  --branch    about this branch only\n"
		"  --verb      such as create, discard, connect\n"
		"  --verdict   allowed, denied or failed\n"
		"  --since     an RFC 3339 time, or how long ago, such as 2h\n"
		"  --json      the records as an array of objects\n",
	.run = run_audit,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon keeps one answer.  A lock on the file, which the kernel keeps for all
 * processes of the machine, makes that the answer to our question.
 */
#include "cli/ask.h"

#include "base/fd.h"
#include "base/text.h"
#include "cli/listing.h"
#include "cli/table.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#define ANSWER_MAX (256 * 1024 * 1024)

static const struct table_column columns[] = {
	{"KIND", false},  {"NAME", false}, {"BYTES", true},
	{"STATE", false}, {"WHY", false},
};

void ask_fini(struct ask *a)
{
	mount_entry_fini(&a->mount);
	free(a->text);
	free(a->rows);
}

static int parse_days(const struct cli_command *self, const char *word, struct ask *a)
{
	uint64_t days;

	if (text_parse_u64(word, 10, 36500, &days) < 0 || days == 0)
		return cli_usage(self, "--unused takes days, at least 1, not '%s'",
				 word);
	a->unused_days = (uint32_t)days;
	return 0;
}

int ask_args(const struct cli_command *self, bool has_unused, int argc, char **argv,
	     struct ask *a)
{
	const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"apply", no_argument, NULL, 'a'},
		{"help", no_argument, NULL, 'h'},
		{has_unused ? "unused" : NULL, required_argument, NULL, 'u'},
		{NULL, 0, NULL, 0},
	};
	CLEAN(err_fini) struct err e = ERR_INIT;
	bool dead = false;
	int opt, rc = 0;

	while (rc == 0 && (opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(self);
		if (opt == 'j')
			a->json = true;
		else if (opt == 'a')
			a->apply = true;
		else if (opt == 'u')
			rc = parse_days(self, optarg, a);
		else
			rc = cli_usage(self, NULL);
	}
	if (rc == 0 && argc - optind > 1)
		rc = cli_usage(self, "%s takes at most one directory", self->name);
	if (rc != 0)
		return rc;
	if (mounts_choose(argv[optind], &a->mount, &dead, &e) < 0)
		return cli_fail(&e);
	if (!dead)
		return -1;
	(void)err_set(&e, -ENOTCONN, "the daemon of '%s' is dead", a->mount.mountpoint);
	(void)err_hint(&e, "mount the store %s there again", a->mount.store);
	return cli_fail(&e);
}

/* What .error says of the question, as far as it can be read. */
static int refused(const struct ask *a, int rc, struct err *e)
{
	CLEAN(clean_free) char *path = text_format("%s/.error", a->mount.mountpoint);
	CLEAN(clean_free) char *text = NULL;

	if (path && fd_read_file(AT_FDCWD, path, 65536, &text, NULL) == 0 && text[0]) {
		const char *hint = strstr(text, "\nhint: ");

		(void)err_set(e, rc, "%.*s", (int)strcspn(text, "\n"), text);
		if (hint) {
			hint += strlen("\nhint: ");
			(void)err_hint(e, "%.*s", (int)strcspn(hint, "\n"), hint);
		}
		return rc;
	}
	return err_set(e, rc, "the daemon refused: %s", strerrordesc_np(-rc));
}

/* A descriptor, or what is in e. */
static int open_upkeep(const struct ask *a, const char *path, const char *what,
		       struct err *e)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = -errno;

	if (fd >= 0)
		return fd;
	if (rc != -EACCES)
		return err_set(e, rc, "cannot open '%s': %s", path,
			       strerrordesc_np(-rc));
	(void)err_set(e, rc, "you may not %s '%s'", what, a->mount.mountpoint);
	return err_hint(e, "only root and the user that mounted it may");
}

int ask_to_do(struct ask *a, const char *request, struct err *e)
{
	CLEAN(clean_free) char *path = text_format("%s/.upkeep", a->mount.mountpoint);
	CLEAN(clean_fd) int fd = -1;

	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	fd = open_upkeep(a, path, "change branches of", e);
	if (fd < 0)
		return fd;
	return write(fd, request, strlen(request)) < 0 ? refused(a, -errno, e) : 0;
}

int ask_daemon(struct ask *a, const char *question, struct err *e)
{
	CLEAN(clean_free) char *path = text_format("%s/.upkeep", a->mount.mountpoint);
	CLEAN(clean_fd) int fd = -1;
	int rc;

	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	fd = open_upkeep(a, path, "clean up", e);
	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX) < 0) {
		rc = -errno;
		return err_set(e, rc, "cannot lock '%s': %s", path,
			       strerrordesc_np(-rc));
	}
	if (write(fd, question, strlen(question)) < 0)
		return refused(a, -errno, e);
	rc = fd_read_file(AT_FDCWD, path, ANSWER_MAX, &a->text, NULL);
	if (rc == 0)
		rc = ask_parse(a);
	return rc < 0 ? err_set(e, rc, "cannot read '%s': %s", path,
				strerrordesc_np(-rc))
		      : 0;
}

/* The field at *cursor, which goes behind the tab that ends it; NULL: there is none. */
static char *next_field(char **cursor)
{
	char *field = *cursor, *end = field ? strchr(field, '\t') : NULL;

	if (!end)
		return NULL;
	*end = '\0';
	*cursor = end + 1;
	return field;
}

static int parse_row(char *line, struct ask_row *ret_row)
{
	const char *kind = next_field(&line);
	const char *name = kind ? next_field(&line) : NULL;
	const char *bytes = name ? next_field(&line) : NULL;
	const char *state = bytes ? next_field(&line) : NULL;
	uint64_t n;

	if (!state || strchr(line, '\t') ||
	    text_parse_u64(bytes, 10, UINT64_MAX, &n) < 0)
		return -EBADMSG;
	*ret_row = (struct ask_row){kind, name, state, line, n};
	return 0;
}

int ask_parse(struct ask *a)
{
	char *cursor = a->text, *line;

	while ((line = text_next_line(&cursor)) != NULL) {
		struct ask_row *v;
		int rc;

		if (strcmp(line, "end") == 0)
			return *cursor ? -EBADMSG : 0;
		v = reallocarray(a->rows, a->n + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		a->rows = v;
		rc = parse_row(line, &v[a->n]);
		if (rc < 0)
			return rc;
		a->n++;
	}
	return -EBADMSG;
}

size_t ask_count(const struct ask *a, const char *state)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++)
		n += strcmp(a->rows[i].state, state) == 0;
	return n;
}

static void add_json(const struct ask *a, struct str *out)
{
	str_add(out, "[");
	for (size_t i = 0; i < a->n; i++) {
		const struct ask_row *r = &a->rows[i];

		str_add(out, i ? ",\n  {\"kind\": " : "\n  {\"kind\": ");
		str_json(out, r->kind);
		str_add(out, ", \"name\": ");
		str_json(out, r->name);
		str_printf(out, ", \"bytes\": %llu, \"state\": ",
			   (unsigned long long)r->bytes);
		str_json(out, r->state);
		str_add(out, ", \"why\": ");
		str_json(out, r->why);
		str_add(out, "}");
	}
	str_add(out, "\n]\n");
}

static void add_table(const struct ask *a, struct str *out)
{
	CLEAN(table_fini)
	struct table t = {.columns = columns, .ncolumns = ARRAY_SIZE(columns)};
	char size[8];

	for (size_t i = 0; i < a->n; i++) {
		const struct ask_row *r = &a->rows[i];

		listing_size(r->bytes, size);
		table_add(&t, r->kind, NULL);
		table_add(&t, r->name, NULL);
		table_add(&t, r->bytes ? size : "-", NULL);
		table_add(&t, r->state, NULL);
		table_add(&t, r->why, NULL);
	}
	table_render(&t, false, 0, SIZE_MAX, out);
	out->failed |= t.failed;
}

int ask_print(const struct ask *a, const char *nothing, struct err *e)
{
	CLEAN(str_fini) struct str out = STR_INIT;

	if (a->json)
		add_json(a, &out);
	else if (a->n)
		add_table(a, &out);
	else
		str_printf(&out, "%s\n", nothing);
	if (out.failed)
		return err_set(e, -ENOMEM, "out of memory");
	(void)fputs(out.s, stdout); /* cli_flush tells */
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgconf.c - pg_hba.conf, pg_ident.conf and, where the data directory's own would
 * reach outside, postgresql.conf.
 *
 * Includes are positional (the last setting of a name wins), so an include from
 * inside is replaced by its text, which is the same to the server.
 */
#include "pg/pgconf.h"

#include "base/text.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define TOP_FILE "postgresql.conf"
#define DEPTH_MAX 10 /* as in Postgres (CONF_FILE_MAX_DEPTH) */

char *pgconf_hba(void)
{
	return strdup("# made by pgbranchfs at each start\n"
		      "local replication all reject\n"
		      "local all all peer map=" PGCONF_MAP "\n");
}

/* Appends s as a quoted token of pg_ident.conf. */
static void add_token(struct str *t, const char *s)
{
	str_add(t, "\"");
	for (; *s; s++) {
		if (*s == '"')
			str_add(t, "\"");
		str_addn(t, s, 1);
	}
	str_add(t, "\"");
}

/* Does one line of the file hold it? */
static bool token_ok(const char *s)
{
	return *s && *s != '/' && !strpbrk(s, "\r\n");
}

static bool listed_before(const char *const *list, const char *const *item)
{
	for (; list < item; list++)
		if (!strcmp(*list, *item))
			return true;
	return false;
}

static void add_mapping(struct str *t, const char *user, const char *role)
{
	if (!token_ok(user) || !token_ok(role))
		return;
	str_add(t, PGCONF_MAP " ");
	add_token(t, user);
	str_add(t, " ");
	add_token(t, role);
	str_add(t, "\n");
}

char *pgconf_ident(const char *const *admins, const char *superuser,
		   const struct pgconf_role *roles, size_t n)
{
	struct str t = STR_INIT;

	str_add(&t, "# made by pgbranchfs at each start\n");
	for (const char *const *p = admins; *p; p++)
		if (!listed_before(admins, p))
			add_mapping(&t, *p, superuser);
	for (size_t i = 0; roles && i < n; i++)
		add_mapping(&t, roles[i].user, roles[i].role);
	if (!roles)
		str_add(&t, PGCONF_MAP " /^(.*)$ \\1\n");
	return str_steal(&t);
}

enum directive { DIR_NONE, DIR_INCLUDE, DIR_IF_EXISTS, DIR_DIR };

static const struct {
	const char *name;
	enum directive kind;
} directives[] = {
	{"include", DIR_INCLUDE},
	{"include_if_exists", DIR_IF_EXISTS},
	{"include_dir", DIR_DIR},
};

static const char *skip_blank(const char *s)
{
	while (*s == ' ' || *s == '\t' || *s == '\r')
		s++;
	return s;
}

/* Appends the value at s to out, unquoted as Postgres does for file names. */
static void add_value(struct str *out, const char *s)
{
	if (*s != '\'') {
		str_addn(out, s, strcspn(s, " \t\r\n#"));
		return;
	}
	for (s++; *s; s++) {
		if (*s == '\'' && s[1] != '\'')
			return;
		if ((*s == '\'' || *s == '\\') && s[1])
			s++;
		str_addn(out, s, 1);
	}
}

/* Length of the name that a line, which begins with it, sets. */
static size_t name_length(const char *p)
{
	size_t n = 0;

	while (isalnum((unsigned char)p[n]) || p[n] == '_' || p[n] == '.' ||
	       p[n] == '$')
		n++;
	return n;
}

static bool is_name(const char *p, const char *name)
{
	size_t len = name_length(p);

	return len == strlen(name) && !strncasecmp(p, name, len);
}

static enum directive directive_of(const char *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(directives); i++)
		if (is_name(p, directives[i].name))
			return directives[i].kind;
	return DIR_NONE;
}

bool pgconf_may_set(const char *text, const char *name)
{
	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += strspn(p, " \t\r\n");
		if (is_name(p, name) || directive_of(p) != DIR_NONE)
			return true;
	}
	return false;
}

/* Which include directive a line is; its value goes to *ret_value (heap). */
static enum directive parse_line(const char *line, char **ret_value)
{
	struct str value = STR_INIT;
	const char *p = skip_blank(line);
	enum directive kind = directive_of(p);

	if (kind == DIR_NONE)
		return DIR_NONE;
	p = skip_blank(p + name_length(p));
	if (*p == '=')
		p = skip_blank(p + 1);
	str_add(&value, "");
	add_value(&value, p);
	*ret_value = str_steal(&value);
	return kind;
}

static bool climbs(const char *path)
{
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return true;
		p += n;
		p += strspn(p, "/");
	}
	return false;
}

struct filter {
	const struct pgconf_source *src;
	const char *data_path;
	struct str text;
	struct str dropped;
	bool needed;
};

static int filter_file(struct filter *f, const char *path, const char *text,
		       unsigned depth);

static void drop(struct filter *f, const char *path, const char *line)
{
	f->needed = true;
	str_printf(&f->dropped, "%s: %s\n", path, skip_blank(line));
	str_printf(&f->text, "# left out by pgbranchfs: %s\n", skip_blank(line));
}

/* Is a failure to read inside the data directory just that, or a way out of it? */
static bool leads_out(int rc)
{
	return rc != -ENOENT && rc != -EIO && rc != -ENOMEM && rc != -EFBIG;
}

/* Puts the text of an included file in.  -ENOENT: there is none. */
static int inline_file(struct filter *f, const char *from, const char *line,
		       const char *path, unsigned depth)
{
	CLEAN(clean_free) char *text = NULL;
	int rc;

	if (depth >= DEPTH_MAX) {
		drop(f, from, line);
		return 0;
	}
	rc = f->src->read(f->src->ctx, path, &text);
	if (rc < 0 && leads_out(rc)) {
		drop(f, from, line);
		return 0;
	}
	return rc < 0 ? rc : filter_file(f, path, text, depth + 1);
}

struct names {
	char **v;
	size_t n;
	bool failed;
};

static void names_add(void *to, const char *name)
{
	struct names *l = to;
	size_t len = strlen(name);
	char **v;

	/* the names that Postgres takes from an include_dir */
	if (len < 6 || name[0] == '.' || strcmp(name + len - 5, ".conf") != 0)
		return;
	v = realloc(l->v, (l->n + 1) * sizeof(*v));
	if (!v) {
		l->failed = true;
		return;
	}
	l->v = v;
	v[l->n] = strdup(name);
	if (v[l->n])
		l->n++;
	else
		l->failed = true;
}

static void names_fini(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int names_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int inline_dir(struct filter *f, const char *from, const char *line,
		      const char *path, unsigned depth)
{
	CLEAN(names_fini) struct names l = {NULL, 0, false};
	int rc;

	rc = f->src->list(f->src->ctx, path, names_add, &l);
	if (rc < 0 && leads_out(rc)) {
		drop(f, from, line);
		return 0;
	}
	if (rc < 0)
		return rc;
	if (l.failed)
		return -ENOMEM;
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), names_compare);
	for (size_t i = 0; i < l.n; i++) {
		CLEAN(clean_free) char *file = text_format("%s/%s", path, l.v[i]);

		if (!file)
			return -ENOMEM;
		rc = inline_file(f, from, line, file, depth);
		if (rc < 0 && rc != -ENOENT)
			return rc;
	}
	return 0;
}

/* The path of `value` named in file `from`, relative to the data directory. */
static char *resolve(const char *from, const char *value)
{
	const char *slash = strrchr(from, '/');

	if (!slash)
		return strdup(value);
	return text_format("%.*s/%s", (int)(slash - from), from, value);
}

static int filter_include(struct filter *f, const char *from, const char *line,
			  enum directive kind, const char *value, unsigned depth)
{
	CLEAN(clean_free) char *path = NULL;
	int rc;

	if (!value)
		return -ENOMEM;
	if (!*value || *value == '/' || climbs(value)) {
		drop(f, from, line);
		return 0;
	}
	path = resolve(from, value);
	if (!path)
		return -ENOMEM;
	rc = kind == DIR_DIR ? inline_dir(f, from, line, path, depth)
			     : inline_file(f, from, line, path, depth);
	if (rc != -ENOENT)
		return rc;
	/* the server shall say itself that a file is missing */
	if (kind != DIR_IF_EXISTS)
		str_printf(&f->text, "%s '%s/%s'\n",
			   kind == DIR_DIR ? "include_dir" : "include", f->data_path,
			   path);
	return 0;
}

static int filter_file(struct filter *f, const char *path, const char *text,
		       unsigned depth)
{
	CLEAN(clean_free) char *copy = strdup(text);
	char *cursor = copy, *line;

	if (!copy)
		return -ENOMEM;
	while ((line = text_next_line(&cursor))) {
		CLEAN(clean_free) char *value = NULL;
		enum directive kind = parse_line(line, &value);
		int rc;

		if (kind == DIR_NONE) {
			str_add(&f->text, line);
			str_add(&f->text, "\n");
			continue;
		}
		rc = filter_include(f, path, line, kind, value, depth);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void filter_fini(struct filter *f)
{
	str_fini(&f->text);
	str_fini(&f->dropped);
}

int pgconf_filter(const struct pgconf_source *src, const char *data_path,
		  char **ret_text, char **ret_dropped)
{
	CLEAN(filter_fini)
	struct filter f = {src, data_path, STR_INIT, STR_INIT, false};
	CLEAN(clean_free) char *top = NULL, *text = NULL;
	char *dropped;
	int rc;

	str_add(&f.text, "# made by pgbranchfs at each start\n");
	str_add(&f.dropped, "");
	rc = src->read(src->ctx, TOP_FILE, &top);
	if (rc < 0 && rc != -ENOENT && !leads_out(rc))
		return rc;
	if (rc < 0)
		f.needed = true;
	else
		rc = filter_file(&f, TOP_FILE, top, 0);
	if (rc < 0 && top)
		return rc;
	if (f.text.failed || f.dropped.failed)
		return -ENOMEM;
	if (!f.needed) {
		*ret_text = NULL;
		*ret_dropped = NULL;
		return 0;
	}
	text = str_steal(&f.text);
	dropped = f.dropped.s ? str_steal(&f.dropped) : strdup("");
	if (!text || !dropped) {
		free(dropped);
		return -ENOMEM;
	}
	*ret_text = steal(text);
	*ret_dropped = dropped;
	return 0;
}

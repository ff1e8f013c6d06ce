/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One table: a row a key.  Everything that a person may get wrong is an error, because
 * a rule that was read in another way than it was meant lets somebody in: a key that is
 * there twice, a name that nobody has, a list that ends early, a policy for nobody.
 */
#include "ctl/policy_conf.h"

#include "base/fd.h"
#include "base/text.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

enum key_kind {
	KEY_MATCH,
	KEY_BOOL,
	KEY_SEE,
	KEY_BRANCH,
	KEY_BRANCHES,
	KEY_COUNT,
	KEY_SIZE,
	KEY_TIME, /* "never" is 0 */
	KEY_ROLE,
	KEY_SERVER_USER,
	KEY_PATH,
};

struct key_row {
	struct policy_key k;
	enum key_kind kind;
	size_t offset; /* of the member of struct policy */
};

#define KEY(name, kind, about)                                                         \
	{                                                                              \
		{#name, about}, kind, offsetof(struct policy, name)                    \
	}
#define KEY_TO(name, member, kind, about)                                              \
	{                                                                              \
		{name, about}, kind, offsetof(struct policy, member)                   \
	}
static const struct key_row rows[] = {
	KEY(match, KEY_MATCH, "whom it is for: uid:N, user:NAME, group:NAME"),
	KEY(create, KEY_BOOL, "may make branches"),
	KEY(from, KEY_BRANCHES, "of which branches, besides the default parent"),
	KEY(default_parent, KEY_BRANCH, "what mkdir NAME branches from"),
	KEY(max_branches, KEY_COUNT, "how many a uid may have"),
	KEY(max_bytes, KEY_SIZE, "what all branches of a uid may hold"),
	KEY_TO("ttl", ttl_s, KEY_TIME, "how long a new branch lives"),
	KEY_TO("max_ttl", max_ttl_s, KEY_TIME, "how far ahead its end may be set"),
	KEY(role, KEY_ROLE, "the Postgres role in every branch"),
	KEY(create_role, KEY_BOOL, "make the role where it is missing"),
	KEY(server_user, KEY_SERVER_USER, "whom the servers run as"),
	KEY(sanitize, KEY_PATH, "SQL that is run before a branch may be entered"),
	KEY(merge, KEY_BOOL, "may merge"),
	KEY(protect, KEY_BOOL, "may protect branches"),
	KEY_TO("see", see_all, KEY_SEE, "own: others' branches are hidden"),
};

#define ROLE_MAX 63
#define COUNT_MAX 1000000
#define SANITIZE_BYTES_MAX 16777216

const struct policy_key *policy_conf_key(size_t i)
{
	return i < ARRAY_SIZE(rows) ? &rows[i].k : NULL;
}

struct policy_set *policy_set_new(void)
{
	struct policy_set *s = calloc(1, sizeof(*s));

	if (s)
		atomic_init(&s->refs, 1);
	return s;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

int policy_conf_begin(struct policy_set *s, const char *name, size_t len, unsigned line,
		      struct policy **ret_policy, struct err *e)
{
	CLEAN(clean_free) char *copy = strndup(name, len);
	struct policy *p, **v;

	if (!copy)
		return no_memory(e);
	if (strlen("policy ") + len > POLICY_SECTION_MAX || text_check_name(copy) < 0) {
		(void)err_set(e, -EINVAL, "'%s' is no name for a policy", copy);
		return err_hint(e,
				"letters, digits, '_', '-' and '.', at most %d bytes",
				POLICY_SECTION_MAX - (int)strlen("policy "));
	}
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i]->name, copy) == 0)
			return err_set(e, -EINVAL,
				       "policy '%s' is there twice, first in line %u",
				       copy, s->v[i]->line);
	v = realloc(s->v, (s->n + 1) * sizeof(struct policy *));
	if (!v)
		return no_memory(e);
	s->v = v;
	p = calloc(1, sizeof(*p));
	if (!p)
		return no_memory(e);
	p->name = steal(copy);
	p->line = line;
	p->max_branches = p->max_bytes = p->ttl_s = p->max_ttl_s = POLICY_UNSET;
	v[s->n++] = p;
	if (strcmp(p->name, POLICY_DEFAULT) == 0)
		s->fallback = p;
	*ret_policy = p;
	return 0;
}

/* Calls fn with each of the items between commas; an empty one is an error. */
static int each_item(struct policy *p, const char *value,
		     int (*fn)(struct policy *p, const char *item, struct err *e),
		     struct err *e)
{
	for (const char *at = value;; at++) {
		size_t len = strcspn(at, ",");
		const char *next = at + len;
		CLEAN(clean_free) char *item = NULL;
		int rc;

		at += strspn(at, " \t");
		len = at < next ? (size_t)(next - at) : 0;
		while (len && strchr(" \t", at[len - 1]))
			len--;
		item = strndup(at, len);
		if (!item)
			return no_memory(e);
		if (len == 0)
			return err_set(e, -EINVAL,
				       "there is an empty place in the list '%s'",
				       value);
		rc = fn(p, item, e);
		if (rc < 0 || !*next)
			return rc;
		at = next;
	}
}

static int add_match(struct policy *p, const char *item, struct err *e)
{
	struct policy_match m = {.is_group = false}, *v;
	uint64_t uid;

	if (strncmp(item, "uid:", 4) == 0 &&
	    text_parse_u64(item + 4, 10, UINT32_MAX - 1, &uid) == 0) {
		m.id = (uint32_t)uid;
	} else if ((strncmp(item, "user:", 5) == 0 && item[5]) ||
		   (strncmp(item, "group:", 6) == 0 && item[6])) {
		m.is_group = item[0] == 'g';
		m.name = strdup(strchr(item, ':') + 1);
		if (!m.name)
			return no_memory(e);
	} else {
		(void)err_set(e, -EINVAL, "'%s' matches nobody", item);
		return err_hint(e, "write uid:NUMBER, user:NAME or group:NAME, with "
				   "commas between them");
	}
	v = realloc(p->match, (p->n_match + 1) * sizeof(*v));
	if (!v) {
		free(m.name);
		return no_memory(e);
	}
	p->match = v;
	v[p->n_match++] = m;
	return 0;
}

static int add_parent(struct policy *p, const char *item, struct err *e)
{
	size_t n = 0;
	char **v;

	if (text_check_name(item) < 0)
		return err_set(e, -EINVAL, "'%s' is no name of a branch", item);
	while (p->from && p->from[n])
		n++;
	v = realloc(p->from, (n + 2) * sizeof(char *));
	if (!v)
		return no_memory(e);
	p->from = v;
	v[n] = strdup(item);
	v[n + 1] = NULL;
	return v[n] ? 0 : no_memory(e);
}

/*
 * The role stands between quotes in pg_ident.conf, where a leading '/' or '+' means
 * something else all the same.
 */
static bool role_ok(const char *s)
{
	if (!*s || strlen(s) > ROLE_MAX || strchr("/+", *s))
		return false;
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '"')
			return false;
	return strcmp(s, "all") != 0;
}

/* What a text should be; NULL: it is. */
static const char *text_wants(enum key_kind kind, const char *value)
{
	if (kind == KEY_BRANCH)
		return text_check_name(value) < 0 ? "the name of a branch" : NULL;
	if (kind == KEY_ROLE)
		return role_ok(value) ? NULL : "the name of a role, at most 63 bytes";
	return *value ? NULL : "not empty";
}

static int set_text(char **member, enum key_kind kind, const char *value,
		    const char **ret_wants)
{
	*ret_wants = text_wants(kind, value);
	if (*ret_wants)
		return -EINVAL;
	if (kind == KEY_SERVER_USER && strcmp(value, "owner") == 0)
		return 0;
	*member = strdup(value);
	return *member ? 0 : -ENOMEM;
}

static int set_number(uint64_t *member, enum key_kind kind, const char *value,
		      const char **ret_wants)
{
	uint64_t v = 0;
	int rc = 0;

	if (kind == KEY_COUNT) {
		*ret_wants = "a number of branches";
		rc = text_parse_u64(value, 10, COUNT_MAX, &v);
	} else if (kind == KEY_SIZE) {
		*ret_wants = "a size such as 500M or 5G";
		rc = text_parse_size(value, &v);
	} else if (strcmp(value, "never") != 0) {
		*ret_wants = "a time such as 30m, 24h or 7d, or never";
		rc = text_parse_duration(value, &v);
	}
	if (rc == 0 && v > INT64_MAX / 1000)
		rc = -ERANGE;
	if (rc == 0)
		*member = v;
	return rc < 0 ? -EINVAL : 0;
}

static int set_bool(bool *member, enum key_kind kind, const char *value,
		    const char **ret_wants)
{
	*ret_wants = kind == KEY_SEE ? "own or all" : "yes or no";
	if (kind != KEY_SEE)
		return text_parse_bool(value, member);
	if (strcmp(value, "own") != 0 && strcmp(value, "all") != 0)
		return -EINVAL;
	*member = value[0] == 'a';
	return 0;
}

static int set_value(struct policy *p, const struct key_row *row, const char *value,
		     const char **ret_wants)
{
	void *member = (char *)p + row->offset;

	switch (row->kind) {
	case KEY_BOOL:
	case KEY_SEE:
		return set_bool(member, row->kind, value, ret_wants);
	case KEY_COUNT:
	case KEY_SIZE:
	case KEY_TIME:
		return set_number(member, row->kind, value, ret_wants);
	default:
		return set_text(member, row->kind, value, ret_wants);
	}
}

static const struct key_row *row_find(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].k.name, key) == 0)
			return &rows[i];
	return NULL;
}

int policy_conf_set(struct policy *p, const char *key, const char *value, unsigned line,
		    struct err *e)
{
	const struct key_row *row = row_find(key);
	const char *wants = "another one";
	uint64_t bit;
	int rc;

	if (!row) {
		(void)err_set(e, -EINVAL, "there is no '%s' in a policy", key);
		return err_hint(e, "pgbranchfs(1) has the list");
	}
	bit = UINT64_C(1) << (row - rows);
	if (p->seen & bit)
		return err_set(e, -EINVAL, "%s is set twice in policy '%s'", key,
			       p->name);
	p->seen |= bit;
	if (row->kind == KEY_ROLE || row->kind == KEY_SERVER_USER)
		p->role_line = line;
	if (row->kind == KEY_MATCH)
		return each_item(p, value, add_match, e);
	if (row->kind == KEY_BRANCHES)
		return each_item(p, value, add_parent, e);
	rc = set_value(p, row, value, &wants);
	if (rc == -ENOMEM)
		return no_memory(e);
	return rc < 0 ? err_set(e, -EINVAL, "bad value '%s' for %s: it should be %s",
				value, key, wants)
		      : 0;
}

bool policy_conf_is_list(const char *line)
{
	size_t len = strcspn(line, " \t=:");
	const struct key_row *row;
	char key[32];

	if (len >= sizeof(key))
		return false;
	memcpy(key, line, len);
	key[len] = '\0';
	row = row_find(key);
	return row && (row->kind == KEY_MATCH || row->kind == KEY_BRANCHES);
}

/* The owner of a branch reads its files if its server does. */
static int check_role(const struct policy *p, const char *superuser, struct err *e)
{
	bool restricted = p->role && strcmp(p->role, superuser) != 0;

	if (restricted && !p->server_user) {
		(void)err_set(e, -EINVAL,
			      "policy '%s' gives the role '%s', but with "
			      "server_user=owner the owner could read the files",
			      p->name, p->role);
		return err_hint(e, "set server_user to a user that nobody works as, or "
				   "leave role out");
	}
	if (p->server_user && !restricted) {
		(void)err_set(e, -EINVAL,
			      "policy '%s' makes its users superusers of servers that "
			      "run as '%s', as those of other branches do",
			      p->name, p->server_user);
		return err_hint(e, "set role to one that is no superuser, or leave "
				   "server_user out");
	}
	if (p->create_role && restricted && text_check_name(p->role) < 0) {
		(void)err_set(e, -EINVAL, "policy '%s' would make a role '%s'", p->name,
			      p->role);
		return err_hint(e, "a role that is made has a plain name: letters, "
				   "digits, '_', '-' and '.'");
	}
	if (p->create_role && !restricted)
		return err_set(e, -EINVAL,
			       "policy '%s' has create_role, but no role to create",
			       p->name);
	return 0;
}

static int check_one(const struct policy_set *s, const struct policy *p,
		     const char *superuser, unsigned *ret_line, struct err *e)
{
	int rc;

	*ret_line = p->line;
	if (p == s->fallback && p->n_match)
		return err_set(e, -EINVAL,
			       "policy '" POLICY_DEFAULT
			       "' is for those whom no other matches: it has no match");
	if (p != s->fallback && !p->n_match) {
		(void)err_set(e, -EINVAL, "policy '%s' is for nobody", p->name);
		return err_hint(e, "add match=, such as match=group:developers");
	}
	if (p->ttl_s != POLICY_UNSET && p->max_ttl_s != POLICY_UNSET && p->max_ttl_s &&
	    (p->ttl_s == 0 || p->ttl_s > p->max_ttl_s))
		return err_set(e, -EINVAL,
			       "policy '%s' gives branches a longer life than its "
			       "max_ttl allows",
			       p->name);
	if (p->role_line)
		*ret_line = p->role_line;
	rc = check_role(p, superuser, e);
	return rc < 0 ? -EINVAL : 0;
}

int policy_conf_end(const struct policy_set *s, const char *superuser,
		    unsigned *ret_line, struct err *e)
{
	for (size_t i = 0; i < s->n; i++)
		if (check_one(s, s->v[i], superuser, ret_line, e) < 0)
			return -EINVAL;
	return 0;
}

/* --- what the machine has to say --- */

#define LOOKUP_MAX 1048576

/* 0, -ENOENT, or another failure of the database. */
static int find_user(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
	struct passwd pw, *found = NULL;
	int rc = ERANGE;

	for (size_t size = 4096; rc == ERANGE && size <= LOOKUP_MAX; size *= 4) {
		CLEAN(clean_free) char *buf = malloc(size);

		if (!buf)
			return -ENOMEM;
		rc = getpwnam_r(name, &pw, buf, size, &found);
		if (rc == 0 && found) {
			*ret_uid = pw.pw_uid;
			*ret_gid = pw.pw_gid;
			return 0;
		}
	}
	return rc ? -rc : -ENOENT;
}

static int find_group(const char *name, gid_t *ret_gid)
{
	struct group gr, *found = NULL;
	int rc = ERANGE;

	for (size_t size = 4096; rc == ERANGE && size <= LOOKUP_MAX; size *= 4) {
		CLEAN(clean_free) char *buf = malloc(size);

		if (!buf)
			return -ENOMEM;
		rc = getgrnam_r(name, &gr, buf, size, &found);
		if (rc == 0 && found) {
			*ret_gid = gr.gr_gid;
			return 0;
		}
	}
	return rc ? -rc : -ENOENT;
}

static int resolve_match(const struct policy *p, struct policy_match *m, struct err *e)
{
	gid_t gid = 0;
	uid_t uid = 0;
	int rc;

	if (!m->name)
		return 0;
	rc = m->is_group ? find_group(m->name, &gid) : find_user(m->name, &uid, &gid);
	if (rc < 0)
		return err_set(e, rc, "policy '%s' is for %s '%s', which there is not",
			       p->name, m->is_group ? "group" : "user", m->name);
	m->id = m->is_group ? gid : uid;
	return 0;
}

static int resolve_server_user(struct policy *p, bool privileged, struct err *e)
{
	int rc;

	if (!p->server_user)
		return 0;
	if (!privileged) {
		(void)err_set(e, -EPERM,
			      "policy '%s' wants servers to run as '%s', which only a "
			      "mount of root's can do",
			      p->name, p->server_user);
		return err_hint(e, "mount as root, or leave server_user out");
	}
	rc = find_user(p->server_user, &p->server_uid, &p->server_gid);
	if (rc < 0)
		return err_set(e, rc,
			       "there is no user '%s', as whom policy '%s' "
			       "wants servers to run",
			       p->server_user, p->name);
	if (p->server_uid == 0)
		return err_set(e, -EINVAL, "servers cannot run as root");
	return 0;
}

/* Whoever can write the file has its SQL run by a superuser. */
static int resolve_sanitize(struct policy *p, const char *dir, struct err *e)
{
	CLEAN(clean_fd) int fd = -1;
	struct stat st;

	if (!p->sanitize)
		return 0;
	if (p->sanitize[0] != '/') {
		char *path = text_format("%s/%s", dir, p->sanitize);

		if (!path)
			return no_memory(e);
		free(p->sanitize);
		p->sanitize = path;
	}
	fd = fd_open_regular(AT_FDCWD, p->sanitize, O_RDONLY);
	if (fd < 0)
		return err_set(e, fd, "cannot open '%s', which policy '%s' runs: %s",
			       p->sanitize, p->name, strerrordesc_np(-fd));
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "cannot look at '%s'", p->sanitize);
	if ((st.st_uid != 0 && st.st_uid != geteuid()) ||
	    st.st_mode & (S_IWGRP | S_IWOTH)) {
		(void)err_set(e, -EPERM,
			      "'%s' can be changed by others, and its SQL is run by a "
			      "superuser",
			      p->sanitize);
		return err_hint(e, "make it root's, and writable by root alone");
	}
	if (st.st_size > SANITIZE_BYTES_MAX)
		return err_set(e, -EFBIG, "'%s' is too large", p->sanitize);
	return 0;
}

static int resolve_one(struct policy *p, const char *dir, bool privileged,
		       struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < p->n_match; i++)
		rc = resolve_match(p, &p->match[i], e);
	if (rc == 0)
		rc = resolve_server_user(p, privileged, e);
	return rc == 0 ? resolve_sanitize(p, dir, e) : rc;
}

int policy_set_resolve(struct policy_set *s, const char *dir, bool privileged,
		       unsigned *ret_line, struct err *e)
{
	for (size_t i = 0; i < s->n; i++) {
		int rc = resolve_one(s->v[i], dir, privileged, e);

		*ret_line = s->v[i]->line;
		if (rc < 0)
			return rc;
	}
	return 0;
}

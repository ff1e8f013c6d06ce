/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that asks waits for the answer, so neither its number nor its groups can
 * change while they are read.  A process in a user namespace of its own can neither
 * take a group that it was not given nor drop one without the host's consent
 * (/proc/PID/setgroups), and /proc shows the host's numbers.
 */
#include "ctl/caller.h"

#include "base/fd.h"
#include "base/text.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_MAX 1048576 /* 65536 groups fit */
#define PASSWD_MAX 1048576

void groups_fini(struct groups *g)
{
	free(g->v);
	*g = (struct groups)GROUPS_INIT;
}

bool groups_have(const struct groups *g, gid_t gid)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->v[i] == gid)
			return true;
	return false;
}

static int groups_add(struct groups *g, gid_t gid)
{
	gid_t *v = realloc(g->v, (g->n + 1) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	g->v = v;
	v[g->n++] = gid;
	return 0;
}

/* The text behind "\nKEY:", or NULL. */
static const char *status_line(const char *status, const char *key)
{
	const char *at = strstr(status, key);

	return at ? at + strlen(key) : NULL;
}

/* The next number of the line at *at; false at its end. */
static bool next_number(const char **at, unsigned long *ret_v)
{
	char *end;

	*at += strspn(*at, " \t");
	if (**at < '0' || **at > '9')
		return false;
	*ret_v = strtoul(*at, &end, 10);
	*at = end;
	return true;
}

int caller_parse_groups(const char *status, uid_t uid, struct groups *ret_groups)
{
	CLEAN(groups_fini) struct groups g = GROUPS_INIT;
	const char *at = status_line(status, "\nUid:");
	unsigned long v, fsuid = 0;
	int n = 0, rc = 0;

	while (at && n < 4 && next_number(&at, &v)) {
		fsuid = v;
		n++;
	}
	if (n != 4 || fsuid != uid)
		return -EINVAL;
	at = status_line(status, "\nGroups:");
	if (!at)
		return -EINVAL;
	while (rc == 0 && next_number(&at, &v))
		rc = v > UINT32_MAX ? -EINVAL : groups_add(&g, (gid_t)v);
	if (rc < 0)
		return rc;
	*ret_groups = g;
	g = (struct groups)GROUPS_INIT;
	return 0;
}

/* The passwd entry of a uid in *ret_buf, which is the caller's to free. */
static bool find_passwd(uid_t uid, struct passwd *pw, char **ret_buf)
{
	struct passwd *found = NULL;
	int rc = ERANGE;

	for (size_t size = 4096; rc == ERANGE && size <= PASSWD_MAX; size *= 4) {
		char *buf = malloc(size);

		if (!buf)
			return false;
		rc = getpwuid_r(uid, pw, buf, size, &found);
		if (rc == 0 && found) {
			*ret_buf = buf;
			return true;
		}
		free(buf);
	}
	return false;
}

char *caller_user_name(uid_t uid)
{
	CLEAN(clean_free) char *buf = NULL;
	struct passwd pw;

	return find_passwd(uid, &pw, &buf) ? strdup(pw.pw_name) : NULL;
}

int caller_groups_of(uid_t uid, gid_t gid, struct groups *ret_groups)
{
	CLEAN(groups_fini) struct groups g = GROUPS_INIT;
	CLEAN(clean_free) char *buf = NULL;
	struct passwd pw;
	int n = 64;

	if (!find_passwd(uid, &pw, &buf)) {
		int rc = groups_add(&g, gid);

		if (rc < 0)
			return rc;
	} else {
		for (int before = 0; before != n;) {
			gid_t *v = realloc(g.v, (size_t)n * sizeof(*v));

			if (!v)
				return -ENOMEM;
			g.v = v;
			before = n;
			/* says how many there are if they do not fit */
			if (getgrouplist(pw.pw_name, pw.pw_gid, g.v, &n) >= 0)
				break;
		}
		g.n = (size_t)n;
	}
	*ret_groups = g;
	g = (struct groups)GROUPS_INIT;
	return 0;
}

int caller_groups(const struct caller *who, struct groups *ret_groups)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/status", (int)who->pid);
	CLEAN(clean_free) char *status = NULL;
	CLEAN(groups_fini) struct groups g = GROUPS_INIT;
	int rc;

	if (!path)
		return -ENOMEM;
	if (who->pid <= 0 ||
	    fd_read_file(AT_FDCWD, path, STATUS_MAX, &status, NULL) < 0 ||
	    caller_parse_groups(status, who->uid, &g) < 0)
		return caller_groups_of(who->uid, who->gid, ret_groups);
	rc = groups_add(&g, who->gid);
	if (rc < 0)
		return rc;
	*ret_groups = g;
	g = (struct groups)GROUPS_INIT;
	return 0;
}

bool caller_in_group(const struct caller *who, gid_t gid)
{
	CLEAN(groups_fini) struct groups g = GROUPS_INIT;

	if (who->gid == gid)
		return true;
	/* without memory nobody is in a group */
	return caller_groups(who, &g) == 0 && groups_have(&g, gid);
}

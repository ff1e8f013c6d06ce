/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server knows who connects by the name that its machine has for the uid, and looks
 * that up in pg_ident.conf.  Who may enter a branch is not known when its server starts
 * (groups change, branches are shared), so each uid is written there when it comes: the
 * look-up of the socket is answered behind that.
 */
#include "pg/roles.h"

#include <pwd.h>
#include <string.h>

#define IDENT_FILE "pg_ident.conf"
#define PASSWD_MAX 16384

static void role_fini(struct pgconf_role *r)
{
	free((char *)r->user);
	free((char *)r->role);
}

void roles_fini(struct roles *r)
{
	for (size_t i = 0; i < r->n; i++)
		role_fini(&r->v[i]);
	free(r->v);
	r->v = NULL;
	r->n = 0;
}

int roles_set(struct roles *r, const char *user, const char *role)
{
	struct pgconf_role fresh = {strdup(user), strdup(role)}, *v;

	for (size_t i = 0; i < r->n && fresh.user && fresh.role; i++) {
		if (strcmp(r->v[i].user, user) != 0)
			continue;
		if (strcmp(r->v[i].role, role) == 0) {
			role_fini(&fresh);
			return 0;
		}
		role_fini(&r->v[i]);
		r->v[i] = fresh;
		(void)atomic_fetch_add(&r->version, 1);
		return 1;
	}
	v = fresh.user && fresh.role ? realloc(r->v, (r->n + 1) * sizeof(*v)) : NULL;
	if (!v) {
		role_fini(&fresh);
		return -ENOMEM;
	}
	r->v = v;
	v[r->n++] = fresh;
	(void)atomic_fetch_add(&r->version, 1);
	return 1;
}

/* The passwd name of a uid, or NULL: then peer authentication cannot know it. */
static char *user_name(uid_t uid)
{
	CLEAN(clean_free) char *buf = malloc(PASSWD_MAX);
	struct passwd pw, *found = NULL;

	if (!buf || getpwuid_r(uid, &pw, buf, PASSWD_MAX, &found) != 0 || !found)
		return NULL;
	return strdup(pw.pw_name);
}

int roles_write(struct overlay *run, const struct roles *r,
		const struct roles_rules *rules, struct err *e)
{
	static const struct pgconf_role nobody[1];
	const uid_t uids[] = {geteuid(), 0, rules->owner};
	const char *admins[ARRAY_SIZE(uids) + 1];
	CLEAN(clean_free) char *ident = NULL;
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(uids) - rules->strict; i++) {
		admins[n] = user_name(uids[i]);
		if (admins[n])
			n++;
	}
	admins[n] = NULL;
	ident = pgconf_ident(admins, rules->superuser,
			     !rules->strict ? NULL
			     : r->n         ? r->v
					    : nobody,
			     r->n);
	for (size_t i = 0; i < n; i++)
		free((char *)admins[i]);
	if (!ident)
		return err_set(e, -ENOMEM, "out of memory");
	rc = overlay_write_file(run, IDENT_FILE, ident, strlen(ident), 0600);
	return rc < 0 ? err_set(e, rc, "cannot write " IDENT_FILE ": %s",
				strerrordesc_np(-rc))
		      : 0;
}

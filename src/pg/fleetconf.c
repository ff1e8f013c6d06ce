/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fleetconf.c - what a server is started with, and whom it runs as: a copy that never
 * changes, held by each run that was begun with it.
 */
#include "pg/fleet_priv.h"

#include <string.h>

static void conf_free(struct fleet_conf *c)
{
	for (char **p = c->settings; p && *p; p++)
		free(*p);
	free(c->settings);
	free(c->mountpoint);
	free(c->bin_dir);
	free(c->superuser);
	free(c);
}

struct fleet_conf *fleet_conf_get(struct fleet_conf *c)
{
	(void)atomic_fetch_add(&c->refs, 1);
	return c;
}

struct fleet_conf *fleet_conf_put(struct fleet_conf *c)
{
	if (c && atomic_fetch_sub(&c->refs, 1) == 1)
		conf_free(c);
	return NULL;
}

static char **copy_settings(const char *const *from)
{
	size_t n = 0;
	char **to;

	while (from && from[n])
		n++;
	to = calloc(n + 1, sizeof(*to));
	for (size_t i = 0; to && i < n; i++) {
		to[i] = strdup(from[i]);
		if (to[i])
			continue;
		while (i > 0)
			free(to[--i]);
		free(to);
		return NULL;
	}
	return to;
}

int fleet_conf_new(const struct fleet_config *cfg, struct fleet_conf **ret_conf)
{
	struct fleet_conf *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	atomic_init(&c->refs, 1);
	c->mountpoint = strdup(cfg->mountpoint);
	c->bin_dir = cfg->bin_dir ? strdup(cfg->bin_dir) : NULL;
	c->superuser = strdup(cfg->superuser);
	c->settings = copy_settings(cfg->settings);
	c->run_as_uid = cfg->run_as_uid;
	c->run_as_gid = cfg->run_as_gid;
	c->privileged = cfg->privileged;
	c->idle_timeout_s = cfg->idle_timeout_s;
	c->keep_idle_connections = cfg->keep_idle_connections;
	c->start_timeout_s = cfg->start_timeout_s;
	c->strict_roles = cfg->strict_roles;
	if (!c->mountpoint || !c->superuser || !c->settings ||
	    (cfg->bin_dir && !c->bin_dir)) {
		conf_free(c);
		return -ENOMEM;
	}
	*ret_conf = c;
	return 0;
}

void fleet_conf_ids(const struct fleet_conf *c, const struct branch_info *info,
		    uid_t *ret_uid, gid_t *ret_gid)
{
	if (!c->privileged) {
		*ret_uid = geteuid();
		*ret_gid = getegid();
	} else if (info->masking) {
		/* whose it will be must not get at it before */
		*ret_uid = c->run_as_uid;
		*ret_gid = c->run_as_gid;
	} else if (info->server_uid != 0) {
		*ret_uid = info->server_uid;
		*ret_gid = info->server_gid;
	} else if (info->owner == 0) {
		/* a server refuses to run as root */
		*ret_uid = c->run_as_uid;
		*ret_gid = c->run_as_gid;
	} else {
		*ret_uid = info->owner;
		*ret_gid = info->group;
	}
}

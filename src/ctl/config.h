/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config.h - the settings of a mount, from STORE/pgbranchfs.conf or -c FILE (INI,
 * read with inih).  One table row a setting: section, name, type, default.
 *
 * A file is loaded into a fresh object; any error leaves no object.  Unknown
 * sections and keys, bad values, over-long lines and repeated keys are errors
 * that name the file and line.
 */
#ifndef CTL_CONFIG_H
#define CTL_CONFIG_H

#include "base/err.h"
#include "ctl/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct config {
	/* [branch] */
	char *default_parent;
	char *idle_connections;    /* "ignore" or "keep" */
	uint64_t idle_timeout_s;   /* 0: never */
	uint64_t ttl_s, max_ttl_s; /* 0: never */
	uint64_t trash_s;          /* 0: discarded branches are not kept */
	uint64_t reserve_bytes;
	uint64_t squash_layers;     /* 0: never */
	uint64_t auto_checkpoint_s; /* 0: never */
	uint64_t keep;              /* of these, for each branch */
	uint64_t keep_safety_s;     /* 0: they stay */
	uint64_t cold_after_s;      /* 0: never */
	uint64_t start_timeout_s;
	/* [server] */
	char *bin_dir; /* "auto" or a directory */
	char *run_as;  /* a user name or number */
	char *superuser;
	/* [settings], as "name=value", ended by NULL */
	char **settings;
	/* [policy NAME] */
	struct policy_set *policies; /* a reference; never NULL */
};

/* The defaults alone. */
int config_default(struct config **ret_config, struct err *e) MUST_CHECK;
/* path NULL: the defaults; a missing file is an error, and so is a name of a user or a
 * file in it that is not there. */
int config_load(const char *path, struct config **ret_config, struct err *e) MUST_CHECK;
/* The same from len bytes of text, with a NUL behind them; name: for the errors.
 * Pure.  Takes the text apart. */
int config_parse(const char *name, char *text, size_t len, struct config **ret_config,
		 struct err *e) MUST_CHECK;
struct config *config_free(struct config *c);

/*
 * For a reload: puts running's values of the settings that cannot change while
 * mounted into fresh, and logs which of them the file wanted to change.
 */
int config_keep_fixed(struct config *fresh, const struct config *running) MUST_CHECK;

/* One row of the table of settings, as documents and new stores show it. */
struct config_setting {
	const char *section, *name;
	const char *value; /* the default, as one writes it */
	bool reloadable;
	const char *about; /* one line */
};
/* Row i, or NULL behind the last one. */
const struct config_setting *config_setting(size_t i);
/* Text for `name = value`: 0, or -EINVAL when the file may not say this. */
int config_check(const char *section, const char *name, const char *value,
		 struct err *e) MUST_CHECK;

#endif

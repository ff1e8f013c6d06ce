/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config.c - the table of all settings: defaults, what a value may be, and setting one.
 * config_read.c reads files.
 */
#include "ctl/config_priv.h"

#include "base/log.h"
#include "base/text.h"
#include "ctl/policy_conf.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SETTING_NAME_MAX 63

enum config_type {
	CONFIG_NAME,    /* of a branch */
	CONFIG_WORD,    /* a user or a role: any text without blanks at its ends */
	CONFIG_DIR,     /* "auto" or an absolute path */
	CONFIG_KEEP,    /* "ignore" or "keep" */
	CONFIG_TIME,    /* seconds; "never" is 0 */
	CONFIG_TIMEOUT, /* seconds, at least one */
	CONFIG_SIZE,
	CONFIG_RUN,   /* a number from 2 on; "never" is 0 */
	CONFIG_COUNT, /* a number from 1 on */
};

struct config_row {
	struct config_setting s;
	enum config_type type;
	size_t offset; /* of the member of struct config */
};

#define ROW(section, name, member, type, value, reloadable, about)                     \
	{                                                                              \
		{section, name, value, reloadable, about}, type,                       \
			offsetof(struct config, member)                                \
	}

static const struct config_row config_rows[] = {
	ROW("branch", "default_parent", default_parent, CONFIG_NAME, "main", true,
	    "what mkdir NAME branches from"),
	ROW("branch", "idle_connections", idle_connections, CONFIG_KEEP, "ignore", true,
	    "keep: connections that do nothing keep a server awake, too"),
	ROW("branch", "idle_timeout", idle_timeout_s, CONFIG_TIME, "5m", true,
	    "stop a server that nobody used for so long; never: keep it"),
	ROW("branch", "ttl", ttl_s, CONFIG_TIME, "never", true,
	    "how long a new branch lives"),
	ROW("branch", "max_ttl", max_ttl_s, CONFIG_TIME, "never", true,
	    "how far ahead the end of a branch's life may be set"),
	ROW("branch", "trash", trash_s, CONFIG_TIME, "0", true,
	    "how long discarded branches are kept in .trash"),
	ROW("branch", "auto_checkpoint", auto_checkpoint_s, CONFIG_TIME, "never", true,
	    "take a checkpoint of a branch that is written so often"),
	ROW("branch", "keep", keep, CONFIG_COUNT, "24", true,
	    "how many of these a branch keeps, fewer the older they are"),
	ROW("branch", "keep_safety", keep_safety_s, CONFIG_TIME, "7d", true,
	    "how long checkpoints from before a rollback or reset are kept"),
	ROW("branch", "reserve", reserve_bytes, CONFIG_SIZE, "1G", true,
	    "refuse new branches when the store has less free space"),
	ROW("branch", "cold_after", cold_after_s, CONFIG_TIME, "never", true,
	    "compress what lies below branches that nobody used for so long"),
	ROW("branch", "squash", squash_layers, CONFIG_RUN, "8", true,
	    "merge layers that have no name when so many lie on one another"),
	ROW("branch", "start_timeout", start_timeout_s, CONFIG_TIMEOUT, "60s", true,
	    "how long a server may take to start"),
	ROW("server", "bin_dir", bin_dir, CONFIG_DIR, "auto", true,
	    "where postgres and initdb are; auto: find them"),
	ROW("server", "run_as", run_as, CONFIG_WORD, "postgres", false,
	    "the user that servers of root's branches run under"),
	ROW("server", "superuser", superuser, CONFIG_WORD, "postgres", false,
	    "the superuser role of the cluster"),
};

/*
 * Settings that the daemon decides: a branch finds its files, its socket and its
 * isolation by them, or the freeze relies on them (what a server has not
 * fsynced may still be in the kernel when the branch is made).
 */
static const char *const config_ours[] = {
	"archive_cleanup_command",
	"archive_command",
	"archive_library",
	"archive_mode",
	"archive_timeout",
	"config_file",
	"cron.launch_active_jobs",
	"data_directory",
	"data_sync_retry",
	"external_pid_file",
	"fsync",
	"full_page_writes",
	"hba_file",
	"ident_file",
	"listen_addresses",
	"log_destination",
	"logging_collector",
	"min_wal_size",
	"port",
	"primary_conninfo",
	"primary_slot_name",
	"promote_trigger_file",
	"recovery_end_command",
	"recovery_init_sync_method",
	"restore_command",
	"ssl",
	"stats_temp_directory",
	"sync_replication_slots",
	"synchronous_standby_names",
	"unix_socket_directories",
	"unix_socket_group",
	"unix_socket_permissions",
	"wal_init_zero",
	"wal_recycle",
};

const struct config_setting *config_setting(size_t i)
{
	return i < ARRAY_SIZE(config_rows) ? &config_rows[i].s : NULL;
}

struct config *config_free(struct config *c)
{
	if (!c)
		return NULL;
	free(c->default_parent);
	free(c->idle_connections);
	free(c->bin_dir);
	free(c->run_as);
	free(c->superuser);
	for (char **s = c->settings; s && *s; s++)
		free(*s);
	free(c->settings);
	(void)policy_set_put(c->policies); /* returns NULL */
	free(c);
	return NULL;
}

static void config_freep(struct config **c)
{
	int saved = errno;

	*c = config_free(*c);
	errno = saved;
}

static bool is_text_type(enum config_type type)
{
	return type == CONFIG_NAME || type == CONFIG_WORD || type == CONFIG_DIR ||
	       type == CONFIG_KEEP;
}

static int replace_text(char **member, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*member);
	*member = copy;
	return 0;
}

/* Is value one that a text row takes?  NULL, or what it should be. */
static const char *text_wants(enum config_type type, const char *value)
{
	if (type == CONFIG_NAME)
		return text_check_name(value) < 0 ? "the name of a branch" : NULL;
	if (type == CONFIG_DIR)
		return strcmp(value, "auto") != 0 && value[0] != '/'
			       ? "auto or an absolute path"
			       : NULL;
	if (type == CONFIG_KEEP)
		return strcmp(value, "ignore") != 0 && strcmp(value, "keep") != 0
			       ? "ignore or keep"
			       : NULL;
	return value[0] == '\0' || strlen(value) > SETTING_NAME_MAX
		       ? "a name of 1 to 63 bytes"
		       : NULL;
}

static int parse_run(const char *value, uint64_t *ret_v)
{
	if (strcmp(value, "never") == 0) {
		*ret_v = 0;
		return 0;
	}
	if (text_parse_u64(value, 10, 1000000, ret_v) < 0 || *ret_v < 2)
		return -EINVAL;
	return 0;
}

static int parse_number(enum config_type type, const char *value, uint64_t *ret_v,
			const char **ret_wants)
{
	if (type == CONFIG_SIZE) {
		*ret_wants = "a size such as 500M or 1G";
		return text_parse_size(value, ret_v);
	}
	if (type == CONFIG_RUN) {
		*ret_wants = "a number of layers, at least 2, or never";
		return parse_run(value, ret_v);
	}
	if (type == CONFIG_COUNT) {
		*ret_wants = "a number of at least 1, such as 24";
		return text_parse_u64(value, 10, 10000, ret_v) < 0 || *ret_v == 0
			       ? -EINVAL
			       : 0;
	}
	if (type == CONFIG_TIME && strcmp(value, "never") == 0) {
		*ret_v = 0;
		return 0;
	}
	*ret_wants = type == CONFIG_TIME ? "a time such as 30s, 5m or 2h, or never"
					 : "a time of at least 1s, such as 60s";
	int rc = text_parse_duration(value, ret_v);
	if (rc == 0 && type == CONFIG_TIMEOUT && *ret_v == 0)
		return -EINVAL;
	/* it becomes milliseconds in a signed number later */
	if (rc == 0 && *ret_v > INT64_MAX / 1000)
		return -ERANGE;
	return rc;
}

/* Sets the row's member; c NULL: only checks the value. */
static int row_set(struct config *c, const struct config_row *row, const char *value,
		   struct err *e)
{
	const char *wants = NULL;
	uint64_t number = 0;
	int rc = 0;

	if (is_text_type(row->type)) {
		wants = text_wants(row->type, value);
		rc = wants ? -EINVAL : 0;
	} else {
		rc = parse_number(row->type, value, &number, &wants);
	}
	if (rc < 0)
		return err_set(e, -EINVAL, "bad value '%s' for %s: it should be %s",
			       value, row->s.name, wants);
	if (!c)
		return 0;
	if (!is_text_type(row->type)) {
		*(uint64_t *)(void *)((char *)c + row->offset) = number;
		return 0;
	}
	if (replace_text((char **)(void *)((char *)c + row->offset), value) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}

int config_default(struct config **ret_config, struct err *e)
{
	CLEAN(config_freep) struct config *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->settings = calloc(1, sizeof(*c->settings));
	c->policies = policy_set_new();
	if (!c->settings || !c->policies)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < ARRAY_SIZE(config_rows); i++) {
		int rc = row_set(c, &config_rows[i], config_rows[i].s.value, e);

		if (rc < 0)
			return rc;
	}
	*ret_config = steal(c);
	return 0;
}

/* Postgres takes '-' for '_' on its command line, so '-' is refused. */
static bool setting_name_ok(const char *name)
{
	size_t n = 0;

	if (!isalpha((unsigned char)name[0]) && name[0] != '_')
		return false;
	for (; name[n]; n++) {
		if (!isalnum((unsigned char)name[n]) && !strchr("_.", name[n]))
			return false;
	}
	return n <= SETTING_NAME_MAX;
}

static int check_server_setting(const char *name, struct err *e)
{
	if (!setting_name_ok(name))
		return err_set(e, -EINVAL, "'%s' is no name of a Postgres setting",
			       name);
	for (size_t i = 0; i < ARRAY_SIZE(config_ours); i++) {
		if (strcasecmp(name, config_ours[i]) != 0)
			continue;
		(void)err_set(e, -EINVAL,
			      "%s is decided by pgbranchfs for every branch",
			      config_ours[i]);
		(void)err_hint(e, "remove the line");
		return -EINVAL;
	}
	if (strncasecmp(name, "recovery_target", strlen("recovery_target")) == 0)
		return err_set(e, -EINVAL,
			       "%s is decided by pgbranchfs for every branch", name);
	return 0;
}

static int add_server_setting(struct config *c, const char *name, const char *value,
			      struct err *e)
{
	size_t n = 0, len = strlen(name);
	char **grown;

	for (; c->settings[n]; n++) {
		if (strncasecmp(c->settings[n], name, len) == 0 &&
		    c->settings[n][len] == '=')
			return err_set(e, -EINVAL, "%s is set twice in [settings]",
				       name);
	}
	grown = realloc(c->settings, (n + 2) * sizeof(*grown));
	if (!grown)
		return err_set(e, -ENOMEM, "out of memory");
	c->settings = grown;
	grown[n + 1] = NULL;
	grown[n] = text_format("%s=%s", name, value);
	return grown[n] ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static const struct config_row *row_find(const char *section, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_rows); i++) {
		if (strcmp(config_rows[i].s.section, section) == 0 &&
		    strcmp(config_rows[i].s.name, name) == 0)
			return &config_rows[i];
	}
	return NULL;
}

int config_check(const char *section, const char *name, const char *value,
		 struct err *e)
{
	const struct config_row *row = row_find(section, name);

	if (strlen(name) + strlen(" = ") + strlen(value) > CONFIG_LINE_MAX)
		return err_set(e, -EINVAL, "the value for %s is too long", name);
	/* what inih would read differently from what was meant */
	if (strpbrk(value, "\r\n") || strstr(value, " ;") ||
	    isspace((unsigned char)*value))
		return err_set(e, -EINVAL,
			       "the value for %s cannot be written to a file", name);
	if (strcmp(section, "settings") == 0)
		return check_server_setting(name, e);
	if (!row)
		return err_set(e, -EINVAL, "there is no setting %s in [%s]", name,
			       section);
	return row_set(NULL, row, value, e);
}

/* Which section has a setting of this name, for the hint; NULL: none. */
static const char *section_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_rows); i++) {
		if (strcmp(config_rows[i].s.name, name) == 0)
			return config_rows[i].s.section;
	}
	return NULL;
}

int config_set(struct config *c, uint64_t *seen, const char *section, const char *name,
	       const char *value, struct err *e)
{
	const struct config_row *row = row_find(section, name);
	const char *other;
	int rc;

	if (strcmp(section, "settings") == 0) {
		rc = check_server_setting(name, e);
		return rc < 0 ? rc : add_server_setting(c, name, value, e);
	}
	if (!row) {
		other = section_of(name);
		(void)err_set(e, -EINVAL, "there is no setting '%s' in [%s]", name,
			      section);
		if (other)
			return err_hint(e, "it belongs into [%s]", other);
		return err_hint(e, "settings of Postgres go into [settings]");
	}
	if (*seen & (UINT64_C(1) << (row - config_rows)))
		return err_set(e, -EINVAL, "%s is set twice", name);
	*seen |= UINT64_C(1) << (row - config_rows);
	return row_set(c, row, value, e);
}

bool config_has_section(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_rows); i++) {
		const char *known = config_rows[i].s.section;

		if (strlen(known) == len && strncmp(name, known, len) == 0)
			return true;
	}
	return len == strlen("settings") && strncmp(name, "settings", len) == 0;
}

int config_keep_fixed(struct config *fresh, const struct config *running)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_rows); i++) {
		const struct config_row *row = &config_rows[i];
		char **to = (char **)(void *)((char *)fresh + row->offset);
		const char *from =
			*(char *const *)(const void *)((const char *)running +
						       row->offset);

		if (row->s.reloadable || !is_text_type(row->type) ||
		    strcmp(*to, from) == 0)
			continue;
		log_warn("config: %s cannot change while mounted; keeping '%s'",
			 row->s.name, from);
		if (replace_text(to, from) < 0)
			return -ENOMEM;
	}
	return 0;
}

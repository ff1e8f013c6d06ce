/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config_read.c - the configuration file.
 *
 * Loading is three steps: defaults from the table, then the file's lines through
 * inih, then one look at what inih returns.
 *
 * The packaged libinih cuts a line over 199 bytes and delivers the rest of it as
 * if nothing happened, takes an indented line for more of the value above, does
 * not tell a section without keys, and gives no line numbers.  So the lines
 * reach it through a reader of ours, which counts them, refuses those that would
 * be cut, drops the indent and checks each section's name.
 */
#include "ctl/config_priv.h"

#include "base/fd.h"
#include "base/text.h"
#include "ctl/policy_conf.h"

#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX (1024 * 1024)

struct config_load {
	const char *path;
	char *cursor;          /* the rest of the file */
	unsigned line;         /* the one that was given to inih last */
	uint64_t seen;         /* bit i: row i has been set */
	struct policy *policy; /* whose section this is, or NULL */
	struct config *cfg;
	struct err *e;
	int rc; /* the first error; nothing is read behind it */
};

static void config_freep(struct config **c)
{
	int saved = errno;

	*c = config_free(*c);
	errno = saved;
}

static int load_key(struct config_load *ld, const char *section, const char *name,
		    const char *value)
{
	if (section[0] == '\0')
		return err_set(ld->e, -EINVAL, "'%s' stands before the first [section]",
			       name);
	if (ld->policy)
		return policy_conf_set(ld->policy, name, value, ld->line, ld->e);
	return config_set(ld->cfg, &ld->seen, section, name, value, ld->e);
}

/* Called by inih for each name=value; 0 tells it that something was wrong. */
static int config_handler(void *ctx, const char *section, const char *name,
			  const char *value)
{
	struct config_load *ld = ctx;

	if (ld->rc == 0)
		ld->rc = load_key(ld, section, name, value);
	return ld->rc == 0;
}

/* at: behind [policy.  inih would cut the name of such a section; it is not asked. */
static int begin_policy(struct config_load *ld, const char *at)
{
	size_t len;

	at += strspn(at, " \t");
	len = strcspn(at, "]");
	while (len && strchr(" \t", at[len - 1]))
		len--;
	return policy_conf_begin(ld->cfg->policies, at, len, ld->line, &ld->policy,
				 ld->e);
}

/* In a list, what looks like one more item behind a ';' is a comment to inih. */
static int check_list(struct config_load *ld, const char *line)
{
	if (!ld->policy || !policy_conf_is_list(line) || !strchr(line, ';'))
		return 0;
	(void)err_set(ld->e, -EINVAL, "there is a ';' in a list");
	return err_hint(ld->e, "put commas between names, and comments on lines of "
			       "their own");
}

/* line starts with '['; but for a policy it may come more than once. */
static int check_section(struct config_load *ld, const char *line)
{
	size_t len = strcspn(line, "]");

	if (line[len] != ']')
		return err_set(ld->e, -EINVAL, "the section's ] is missing");
	if (strspn(line + len + 1, " \t\r") != strcspn(line + len + 1, ";#"))
		return err_set(ld->e, -EINVAL, "there is more behind the section's ]");
	ld->policy = NULL;
	if (strncmp(line, "[policy", strlen("[policy")) == 0 &&
	    strchr(" \t]", line[strlen("[policy")]))
		return begin_policy(ld, line + strlen("[policy"));
	if (config_has_section(line + 1, len - 1))
		return 0;
	(void)err_set(ld->e, -EINVAL, "there is no section [%.*s]", (int)len - 1,
		      line + 1);
	(void)err_hint(ld->e, "known are [branch], [server], [settings] and "
			      "[policy NAME]");
	return -EINVAL;
}

/* Hands inih the next line, as fgets would; NULL ends the file for it. */
static char *config_reader(char *buf, int size, void *ctx)
{
	struct config_load *ld = ctx;
	char *line;
	size_t len;

	if (ld->rc < 0)
		return NULL;
	line = text_next_line(&ld->cursor);
	if (!line)
		return NULL;
	ld->line++;
	line += strspn(line, " \t");
	len = strlen(line);
	/* a long comment harms nobody, and inih need not see it */
	if (line[0] == '#' || line[0] == ';')
		len = 0;
	if (len > CONFIG_LINE_MAX || (size_t)size < len + 2) {
		ld->rc = err_set(ld->e, -EINVAL, "the line is longer than %d bytes",
				 CONFIG_LINE_MAX);
		return NULL;
	}
	if (len > 0 && line[0] == '[') {
		ld->rc = check_section(ld, line);
	} else if (len > 0) {
		ld->rc = check_list(ld, line);
	}
	if (ld->rc < 0)
		return NULL;
	memcpy(buf, line, len);
	buf[len] = '\n';
	buf[len + 1] = '\0';
	return buf;
}

static int parse_lines(struct config_load *ld)
{
	int rc = ini_parse_stream(config_reader, ld, config_handler, ld);

	if (ld->rc == 0 && rc > 0) {
		ld->line = (unsigned)rc;
		ld->rc = err_set(
			ld->e, -EINVAL,
			"neither a [section] nor a line of the form name = value");
	}
	if (ld->rc == 0 && rc < 0)
		return err_set(ld->e, -ENOMEM, "%s: out of memory", ld->path);
	if (ld->rc == 0)
		ld->rc = policy_conf_end(ld->cfg->policies, ld->cfg->superuser,
					 &ld->line, ld->e);
	if (ld->rc < 0)
		(void)err_wrap(ld->e, ld->rc, "%s:%u", ld->path, ld->line);
	return ld->rc;
}

int config_parse(const char *name, char *text, size_t len, struct config **ret_config,
		 struct err *e)
{
	CLEAN(config_freep) struct config *c = NULL;
	struct config_load ld = {.path = name, .cursor = text, .e = e};
	int rc = config_default(&c, e);

	if (rc < 0)
		return rc;
	if (strlen(text) != len)
		return err_set(e, -EINVAL, "%s: there is a NUL byte in it", name);
	ld.cfg = c;
	rc = parse_lines(&ld);
	if (rc < 0)
		return rc;
	*ret_config = steal(c);
	return 0;
}

int config_load(const char *path, struct config **ret_config, struct err *e)
{
	CLEAN(config_freep) struct config *c = NULL;
	CLEAN(clean_free) char *text = NULL, *dir = NULL;
	const char *slash;
	unsigned line = 0;
	size_t len;
	int rc;

	if (!path)
		return config_default(ret_config, e);
	rc = fd_read_file(AT_FDCWD, path, CONFIG_BYTES_MAX, &text, &len);
	if (rc < 0)
		return err_set(e, rc, "cannot read '%s': %s", path,
			       strerrordesc_np(-rc));
	slash = strrchr(path, '/');
	dir = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	if (!dir)
		return err_set(e, -ENOMEM, "out of memory");
	rc = config_parse(path, text, len, &c, e);
	if (rc < 0)
		return rc;
	rc = policy_set_resolve(c->policies, dir, geteuid() == 0, &line, e);
	if (rc < 0)
		return err_wrap(e, rc, "%s:%u", path, line);
	*ret_config = steal(c);
	return 0;
}

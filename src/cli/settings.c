/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file is made from the table that reads it, so a new setting shows up in new
 * stores by itself.
 */
#include "cli/settings.h"

#include "base/fd.h"
#include "base/text.h"
#include "ctl/config.h"

#include <string.h>

#define CONFIG_FILE "pgbranchfs.conf"

static const char *given_value(const struct settings_given *given, const char *name)
{
	if (strcmp(name, "superuser") == 0)
		return given->superuser;
	if (strcmp(name, "bin_dir") == 0)
		return given->bin_dir;
	if (strcmp(name, "run_as") == 0)
		return given->run_as;
	return NULL;
}

int settings_check(const struct settings_given *given, struct err *e)
{
	const struct config_setting *s;

	for (size_t i = 0; (s = config_setting(i)); i++) {
		const char *value = given_value(given, s->name);
		int rc = value ? config_check(s->section, s->name, value, e) : 0;

		if (rc < 0)
			return rc;
	}
	return 0;
}

static void add_setting(struct str *out, const struct config_setting *s,
			const char *value)
{
	str_printf(out, "; %s\n", s->about);
	str_printf(out, "%s%s = %s\n", value ? "" : ";", s->name,
		   value ? value : s->value);
}

static void render(const struct settings_given *given, struct str *out)
{
	const struct config_setting *s;
	const char *section = "";

	str_add(out, "; Settings of this store; see pgbranchfs(1).\n"
		     "; SIGHUP to the daemon reads them again.\n");
	for (size_t i = 0; (s = config_setting(i)); i++) {
		if (strcmp(s->section, section) != 0)
			str_printf(out, "\n[%s]\n", s->section);
		section = s->section;
		add_setting(out, s, given_value(given, s->name));
	}
	str_add(out, "\n[settings]\n"
		     "; any setting of Postgres, for every branch\n"
		     ";shared_buffers = 64MB\n");
}

int settings_write(int storefd, const struct settings_given *given, struct err *e)
{
	struct str text = STR_INIT;
	int rc;

	if (faccessat(storefd, CONFIG_FILE, F_OK, 0) == 0)
		return 0;
	render(given, &text);
	rc = text.failed
		     ? -ENOMEM
		     : fd_replace_file(storefd, CONFIG_FILE, text.s, text.len, 0644, 1);
	str_fini(&text);
	return rc < 0 ? err_set(e, rc, "cannot write %s: %s", CONFIG_FILE,
				strerrordesc_np(-rc))
		      : 0;
}

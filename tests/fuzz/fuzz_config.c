/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration file. */
#include "base/text.h"
#include "ctl/config.h"
#include "fuzz.h"

static void check_values(const struct config *c)
{
	MUST(text_check_name(c->default_parent) == 0);
	MUST(strcmp(c->idle_connections, "ignore") == 0 ||
	     strcmp(c->idle_connections, "keep") == 0);
	MUST(c->idle_timeout_s <= INT64_MAX / 1000);
	MUST(c->start_timeout_s >= 1 && c->start_timeout_s <= INT64_MAX / 1000);
	MUST(strcmp(c->bin_dir, "auto") == 0 || c->bin_dir[0] == '/');
	MUST(c->run_as[0] && c->superuser[0]);
}

/* Settings of servers become a command line: the same again when written down. */
static void check_settings(const struct config *c)
{
	CLEAN(str_fini) struct str text = STR_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct config *again;
	size_t n = 0;

	str_add(&text, "[settings]\n");
	for (; c->settings[n]; n++) {
		const char *value = strchr(c->settings[n], '=');

		MUST(value && value > c->settings[n]);
		MUST(!strpbrk(c->settings[n], "\n"));
		str_add(&text, c->settings[n]);
		str_add(&text, "\n");
	}
	MUST(!text.failed);
	if (config_parse("again", text.s, text.len, &again, &e) < 0) {
		(void)fprintf(stderr, "%s\n", err_text(&e));
		MUST(!"the settings can be read again");
	}
	for (size_t i = 0; i <= n; i++)
		MUST(i == n ? !again->settings[i]
			    : strcmp(again->settings[i], c->settings[i]) == 0);
	config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char *text = fuzz_text(data, size);
	struct config *c = NULL;
	int rc = config_parse("FILE", text, size, &c, &e);

	if (rc < 0) {
		MUST(!c);
		MUST(strncmp(err_text(&e), "FILE:", 5) == 0);
	} else {
		check_values(c);
		check_settings(c);
		config_free(c);
	}
	free(text);
	return 0;
}

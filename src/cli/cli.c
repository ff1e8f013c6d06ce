/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line looks up its first word in one table; everything behind it
 * belongs to the command.
 */
#include "cli/cli.h"

#include "base/text.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct cli_command *const cli_commands[] = {
	&cmd_init, &cmd_mount,  &cmd_umount, &cmd_list,  &cmd_tree, &cmd_status,
	&cmd_gc,   &cmd_doctor, &cmd_remask, &cmd_audit, &cmd_send, &cmd_receive,
};

int cli_fail(const struct err *e)
{
	(void)fflush(stdout); /* keeps the order of the two streams */
	(void)fprintf(stderr, "pgbranchfs: %s\n", err_text(e));
	if (e->hint)
		(void)fprintf(stderr, "hint: %s\n", e->hint);
	return CLI_FAILED;
}

int cli_help(const struct cli_command *self)
{
	printf("usage: pgbranchfs %s %s\n\n%s.\n", self->name, self->args,
	       self->summary);
	if (self->help[0] != '\0')
		printf("\n%s", self->help);
	printf("\nSee pgbranchfs(1).\n");
	return cli_flush();
}

int cli_usage(const struct cli_command *self, const char *fmt, ...)
{
	va_list ap;

	if (fmt) {
		(void)fputs("pgbranchfs: ", stderr);
		va_start(ap, fmt);
		(void)vfprintf(stderr, fmt, ap);
		va_end(ap);
		(void)fputc('\n', stderr);
	}
	if (self) {
		(void)fprintf(stderr, "usage: pgbranchfs %s %s\n", self->name,
			      self->args);
		(void)fprintf(stderr, "hint: see pgbranchfs %s --help\n", self->name);
	} else {
		(void)fputs("hint: see pgbranchfs --help\n", stderr);
	}
	return CLI_USAGE;
}

int cli_flush(void)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	if (fflush(stdout) == 0 && !ferror(stdout))
		return CLI_OK;
	(void)err_set(&e, -EIO, "cannot write to standard output");
	return cli_fail(&e);
}

/* getpwnam_r's buffer has no upper limit that one could know. */
static int find_passwd(const char *name, uid_t uid, uid_t *ret_uid, gid_t *ret_gid)
{
	struct passwd pw, *found = NULL;
	size_t size = 4096;
	int rc = ERANGE;

	while (rc == ERANGE && size <= 1024 * 1024) {
		CLEAN(clean_free) char *buf = malloc(size);

		if (!buf)
			return -ENOMEM;
		rc = name ? getpwnam_r(name, &pw, buf, size, &found)
			  : getpwuid_r(uid, &pw, buf, size, &found);
		size *= 4;
	}
	if (rc != 0 || !found)
		return -ENOENT;
	*ret_uid = pw.pw_uid;
	*ret_gid = pw.pw_gid;
	return 0;
}

int cli_user(const char *user, uid_t *ret_uid, gid_t *ret_gid, struct err *e)
{
	uint64_t number;
	int rc = find_passwd(user, 0, ret_uid, ret_gid);

	if (rc == 0)
		return 0;
	/* (uid_t)-1 means "no uid" to the kernel */
	if (text_parse_u64(user, 10, UINT32_MAX - 1, &number) < 0)
		return err_set(e, rc, "there is no user '%s'", user);
	if (find_passwd(NULL, (uid_t)number, ret_uid, ret_gid) < 0) {
		*ret_uid = (uid_t)number;
		*ret_gid = (gid_t)number;
	}
	return 0;
}

static int print_overview(void)
{
	printf("usage: pgbranchfs COMMAND [OPTION...]\n\n"
	       "Branches of a Postgres cluster as directories: mkdir makes one, rmdir\n"
	       "discards it, connecting to the socket in it starts its server.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(cli_commands); i++)
		printf("  %-8s%s\n", cli_commands[i]->name, cli_commands[i]->summary);
	printf("\n  --help     this text; behind a command: its options\n"
	       "  --version  the version\n\n"
	       "See pgbranchfs(1).\n");
	return cli_flush();
}

int cli_main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;

	if (!word)
		return cli_usage(NULL, "a command is missing");
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ||
	    strcmp(word, "help") == 0)
		return print_overview();
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
		printf("pgbranchfs %s\n", PACKAGE_VERSION);
		return cli_flush();
	}
	for (size_t i = 0; i < ARRAY_SIZE(cli_commands); i++) {
		if (strcmp(word, cli_commands[i]->name) == 0)
			return cli_commands[i]->run(cli_commands[i], argc - 1,
						    argv + 1);
	}
	return cli_usage(NULL, "there is no command '%s'", word);
}

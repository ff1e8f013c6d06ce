/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cli.h - the command line: one table of commands, one file each, and what they
 * share: how to say that something failed, and the exit status.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_command {
	const char *name;
	const char *args;    /* behind the name in the usage line */
	const char *summary; /* one line */
	const char *help;    /* the options, a line each, for --help */
	/* argv[0] is the command's name; returns the exit status */
	int (*run)(const struct cli_command *self, int argc, char **argv);
};

extern const struct cli_command cmd_init;
extern const struct cli_command cmd_mount;
extern const struct cli_command cmd_umount;
extern const struct cli_command cmd_list;
extern const struct cli_command cmd_tree;
extern const struct cli_command cmd_status;
extern const struct cli_command cmd_gc;
extern const struct cli_command cmd_doctor;
extern const struct cli_command cmd_remask;
extern const struct cli_command cmd_audit;
extern const struct cli_command cmd_send;
extern const struct cli_command cmd_receive;

/* Runs what argv says; returns the exit status. */
int cli_main(int argc, char **argv);

/* Prints the sentence and the hint to stderr; returns CLI_FAILED. */
int cli_fail(const struct err *e);
/* Prints the help of the command to stdout; returns CLI_OK. */
int cli_help(const struct cli_command *self);
/* Wrong usage: prints the sentence (NULL: getopt has said it) and where help is;
 * returns CLI_USAGE. */
int cli_usage(const struct cli_command *self, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Flushes stdout; returns CLI_FAILED, with a sentence, if it could not be written. */
int cli_flush(void);

/* A user's name or number to its ids; a number needs no entry in passwd. */
int cli_user(const char *user, uid_t *ret_uid, gid_t *ret_gid,
	     struct err *e) MUST_CHECK;

#endif

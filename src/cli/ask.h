/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ask.h - what gc and doctor share: a question that is written to .upkeep of a mount,
 * and the answer that is read from it, as a table or JSON.
 */
#ifndef CLI_ASK_H
#define CLI_ASK_H

#include "cli/cli.h"
#include "cli/mounts.h"

#include <stddef.h>

struct ask_row {
	const char *kind, *name, *state, *why; /* in the answer's text */
	uint64_t bytes;
};

struct ask {
	struct mount_entry mount;
	bool json, apply;
	uint32_t unused_days; /* 0: not given */
	char *text;           /* owned: the answer */
	struct ask_row *rows; /* owned */
	size_t n;
};

#define ASK_INIT                                                                       \
	{                                                                              \
		.json = false                                                          \
	}
void ask_fini(struct ask *a);

#define ASK_ARGS "[MOUNTPOINT] [--apply] [--json]"
#define ASK_HELP                                                                       \
	"  MOUNTPOINT  may be left out when only one pgbranchfs is mounted\n"          \
	"  --json      the rows as an array of objects\n"

/* As show_args: -1: go on; otherwise the exit status. */
int ask_args(const struct cli_command *self, bool has_unused, int argc, char **argv,
	     struct ask *a);
/* Asks the daemon; waits until it has done what was asked for. */
int ask_daemon(struct ask *a, const char *question, struct err *e) MUST_CHECK;
/* The same for what has no answer but that it was done. */
int ask_to_do(struct ask *a, const char *request, struct err *e) MUST_CHECK;
/* Takes the answer's text apart; -EBADMSG if it is not whole. */
int ask_parse(struct ask *a) MUST_CHECK;
/* How many rows are in this state. */
size_t ask_count(const struct ask *a, const char *state);
/* Prints the rows; nothing: the sentence instead of a table without rows. */
int ask_print(const struct ask *a, const char *nothing, struct err *e) MUST_CHECK;

#endif

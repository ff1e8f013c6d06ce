/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * watch.h - shows something on the whole terminal, again and again in place, until
 * somebody presses q or interrupts it, or until it cannot be had any more.
 */
#ifndef CLI_WATCH_H
#define CLI_WATCH_H

#include "base/err.h"
#include "base/text.h"

struct watch_spec {
	unsigned interval_s;
	/* Fetches what is to be shown.  On a thread of its own, so that a mount that
	 * does not answer leaves the keys alone. */
	int (*load)(void *ctx, struct err *e);
	/* What load fetched is what draw shows from now on; load is not running. */
	void (*take)(void *ctx);
	/* Appends at most `lines` lines of at most `columns` columns. */
	void (*draw)(void *ctx, size_t columns, size_t lines, struct str *out);
	void *ctx;
};

/* Can it be done here?  Otherwise a sentence. */
int watch_check(struct err *e) MUST_CHECK;
/*
 * Returns the exit status; why it could not go on is on stderr then.  Ends the process
 * itself when load does not return: ctx must live until then.
 */
int watch_run(const struct watch_spec *spec);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * err.h - an error that a person reads: one sentence, an errno and a hint.
 *
 * Used on the command path (registry, pg, ctl, cli).  The data path returns
 * bare -errno.  A struct err lives in the caller's memory: start it with
 * ERR_INIT, end it with err_fini (or CLEAN(err_fini)).  Every function accepts
 * a NULL err and then only passes the code through.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/cleanup.h"

struct err {
	int code;   /* 0 or -errno */
	char *msg;  /* owned; lower case, no full stop */
	char *hint; /* owned or NULL: what to do about it */
};

#define ERR_INIT                                                                       \
	{                                                                              \
		0, NULL, NULL                                                          \
	}

/* Sets the sentence, replacing what was there.  Returns code (a -errno). */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Adds "what to do" to the error that is set.  Returns its code, also if e is NULL:
 * then the one that this thread set last. */
int err_hint(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "context: " in front of the sentence.  Returns e->code (code if NULL). */
int err_wrap(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Moves src into dst; src is empty afterwards. */
void err_move(struct err *dst, struct err *src);
/* The sentence, never NULL (falls back to strerror). */
const char *err_text(const struct err *e);
void err_fini(struct err *e);

#endif

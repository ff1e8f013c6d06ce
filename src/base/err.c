/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sentence is formatted before the old one is released, so that a caller may
 * quote err_text(e) in the new one.  Out of memory loses the sentence, never the
 * code: err_text then falls back to the system's text for it.
 */
#include "base/err.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The code that this thread set last: what err_hint returns without an err. */
static _Thread_local int last_code;

PRINTF_LIKE(1, 0)
static char *err_format(const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		return NULL;
	return s;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	char *msg;
	va_list ap;

	last_code = code;
	if (!e)
		return code;
	va_start(ap, fmt);
	msg = err_format(fmt, ap);
	va_end(ap);
	err_fini(e);
	e->code = code;
	e->msg = msg;
	return code;
}

int err_hint(struct err *e, const char *fmt, ...)
{
	char *hint;
	va_list ap;

	if (!e)
		return last_code;
	va_start(ap, fmt);
	hint = err_format(fmt, ap);
	va_end(ap);
	free(e->hint);
	e->hint = hint;
	return e->code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char *context, *msg;
	va_list ap;

	last_code = code;
	if (!e)
		return code;
	va_start(ap, fmt);
	context = err_format(fmt, ap);
	va_end(ap);
	if (e->code == 0)
		e->code = code;
	if (!context)
		return e->code;
	msg = text_format("%s: %s", context, err_text(e));
	free(context);
	if (msg) {
		free(e->msg);
		e->msg = msg;
	}
	return e->code;
}

void err_move(struct err *dst, struct err *src)
{
	if (!src || dst == src)
		return;
	if (!dst) {
		err_fini(src);
		return;
	}
	err_fini(dst);
	*dst = *src;
	*src = (struct err)ERR_INIT;
}

const char *err_text(const struct err *e)
{
	if (!e)
		return "unknown error";
	if (e->msg)
		return e->msg;
	/* strerrordesc_np needs no buffer and is safe in threads, unlike strerror */
	const char *text = strerrordesc_np(e->code < 0 ? -e->code : e->code);
	return text ? text : "unknown error";
}

void err_fini(struct err *e)
{
	int saved = errno;

	if (!e)
		return;
	free(e->msg);
	free(e->hint);
	*e = (struct err)ERR_INIT;
	errno = saved;
}

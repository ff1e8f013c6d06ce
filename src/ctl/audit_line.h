/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * audit_line.h - a line of the audit log, read back.  Pure.
 */
#ifndef CTL_AUDIT_LINE_H
#define CTL_AUDIT_LINE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

#define AUDIT_FIELDS_MAX 32

struct audit_field {
	const char *key;
	const char *value; /* of a string without its escapes; NULL: null */
};

/* Points into the text that it was made of. */
struct audit_line {
	struct audit_field fields[AUDIT_FIELDS_MAX];
	size_t n;
};

/* Takes text, a line without its newline, apart.  -EBADMSG: it is no flat JSON object.
 */
int audit_line_parse(char *text, struct audit_line *ret_line) MUST_CHECK;
/* NULL: it is null, or there is no such key. */
const char *audit_line_get(const struct audit_line *l, const char *key);

#endif

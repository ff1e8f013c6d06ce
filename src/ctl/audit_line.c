/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much JSON as audit.c writes: one object of strings, numbers and literals.
 * Strings are decoded in place, since no escape is shorter than what it stands for.
 */
#include "ctl/audit_line.h"

#include <string.h>

static char *skip_blanks(char *p)
{
	return p + strspn(p, " \t\r");
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at;

	if (c >= 'A' && c <= 'F')
		c = (char)(c - 'A' + 'a');
	at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* The four digits behind \u; -1: they are none. */
static int hex_unit(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		int d = hex_digit(p[i]);

		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static char *put_utf8(char *out, int v)
{
	if (v == 0 || (v >= 0xd800 && v <= 0xdfff))
		v = 0xfffd; /* audit.c writes none of these */
	if (v < 0x80) {
		*out++ = (char)v;
	} else if (v < 0x800) {
		*out++ = (char)(0xc0 | v >> 6);
		*out++ = (char)(0x80 | (v & 0x3f));
	} else {
		*out++ = (char)(0xe0 | v >> 12);
		*out++ = (char)(0x80 | (v >> 6 & 0x3f));
		*out++ = (char)(0x80 | (v & 0x3f));
	}
	return out;
}

/* p: behind the first quote.  Behind the last one, or NULL; ends the text in place. */
static char *parse_string(char *p)
{
	static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	char *out = p;

	while (*p != '"') {
		const char *name;

		if (!*p)
			return NULL;
		if (*p != '\\') {
			*out++ = *p++;
			continue;
		}
		p++;
		if (*p == 'u') {
			int v = hex_unit(p + 1);

			if (v < 0)
				return NULL;
			out = put_utf8(out, v);
			p += 5;
			continue;
		}
		name = *p ? strchr(names, *p) : NULL;
		if (!name)
			return NULL;
		*out++ = meant[name - names];
		p++;
	}
	*out = '\0';
	return p + 1;
}

/* A value; *ret_end is the first byte behind it, which is kept there. */
static int parse_value(char *p, const char **ret_value, char **ret_end)
{
	size_t len;

	if (*p == '"') {
		*ret_value = p + 1;
		*ret_end = parse_string(p + 1);
		return *ret_end ? 0 : -EBADMSG;
	}
	len = strspn(p, "+-.0123456789abcdefghijklmnopqrstuvwxyzE");
	if (len == 0)
		return -EBADMSG;
	*ret_value = len == 4 && memcmp(p, "null", 4) == 0 ? NULL : p;
	*ret_end = p + len;
	return 0;
}

static int parse_field(char **at, struct audit_field *f)
{
	char *p = skip_blanks(*at), *end;
	int rc;

	if (*p != '"')
		return -EBADMSG;
	f->key = p + 1;
	p = parse_string(p + 1);
	if (!p)
		return -EBADMSG;
	p = skip_blanks(p);
	if (*p != ':')
		return -EBADMSG;
	rc = parse_value(skip_blanks(p + 1), &f->value, &end);
	if (rc == 0)
		*at = end;
	return rc;
}

int audit_line_parse(char *text, struct audit_line *ret_line)
{
	struct audit_line l = {.n = 0};
	char *p = skip_blanks(text), next = ',';

	if (*p++ != '{')
		return -EBADMSG;
	while (next == ',') {
		char *end;

		if (l.n == AUDIT_FIELDS_MAX || parse_field(&p, &l.fields[l.n]) < 0)
			return -EBADMSG;
		l.n++;
		end = p;
		p = skip_blanks(p);
		next = *p++;
		if (next != ',' && next != '}')
			return -EBADMSG;
		*end = '\0'; /* of a number; a string has its end */
	}
	if (*skip_blanks(p))
		return -EBADMSG;
	*ret_line = l;
	return 0;
}

const char *audit_line_get(const struct audit_line *l, const char *key)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->fields[i].key, key) == 0)
			return l->fields[i].value;
	return NULL;
}

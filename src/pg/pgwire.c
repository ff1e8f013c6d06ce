/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgwire.c - first packets of a client and the error answer to them.
 *
 * A packet before authentication has no type byte: an int32 length that counts
 * itself, then an int32 that is the protocol version or one of three codes which
 * were chosen never to be one.
 */
#include "pg/pgwire.h"

#include <string.h>

#define CODE_CANCEL 80877102u
#define CODE_SSL 80877103u
#define CODE_GSSENC 80877104u

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void add_be32(struct str *out, uint32_t v)
{
	const char b[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};

	str_addn(out, b, sizeof(b));
}

bool pgwire_is_cancel(const uint8_t head[static PGWIRE_HEAD])
{
	return get_be32(head + 4) == CODE_CANCEL;
}

enum pgwire_first pgwire_first_packet(const uint8_t *buf, size_t len, size_t *ret_used)
{
	uint32_t total;

	if (len < 4)
		return PGWIRE_MORE;
	total = get_be32(buf);
	if (total < 8 || total > PGWIRE_STARTUP_MAX)
		return PGWIRE_BAD;
	if (len < total)
		return PGWIRE_MORE;
	*ret_used = total;
	switch (get_be32(buf + 4)) {
	case CODE_SSL:
	case CODE_GSSENC:
		return PGWIRE_ENCRYPT;
	case CODE_CANCEL:
		return PGWIRE_CANCEL;
	default:
		return PGWIRE_STARTUP;
	}
}

static void add_field(struct str *out, char type, const char *value)
{
	str_addn(out, &type, 1);
	str_addn(out, value, strlen(value) + 1);
}

void pgwire_error(struct str *out, const char *sqlstate, const char *msg,
		  const char *hint)
{
	struct str body = STR_INIT;

	add_field(&body, 'S', "FATAL");
	add_field(&body, 'V', "FATAL");
	add_field(&body, 'C', sqlstate);
	add_field(&body, 'M', msg);
	if (hint && *hint)
		add_field(&body, 'H', hint);
	str_addn(&body, "", 1);
	if (body.failed)
		out->failed = true;
	str_addn(out, "E", 1);
	add_be32(out, (uint32_t)body.len + 4);
	if (body.s)
		str_addn(out, body.s, body.len);
	str_fini(&body);
}

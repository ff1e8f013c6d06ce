/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgwire.h - the little of the Postgres protocol that is needed to tell a client
 * why it cannot be served.  Pure functions, for bytes from anybody.
 */
#ifndef PG_PGWIRE_H
#define PG_PGWIRE_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PGWIRE_STARTUP_MAX 10000 /* as in Postgres (MAX_STARTUP_PACKET_LENGTH) */
#define PGWIRE_CANNOT_CONNECT_NOW "57P03"

enum pgwire_first {
	PGWIRE_MORE,    /* not complete yet */
	PGWIRE_ENCRYPT, /* asks for TLS or GSS: answered by one 'N', then it goes on */
	PGWIRE_CANCEL,  /* wants no answer at all */
	PGWIRE_STARTUP,
	PGWIRE_BAD,
};

/* So many bytes of a client's first packet tell what it is. */
#define PGWIRE_HEAD 8
/* Does a request to cancel a query begin so? */
bool pgwire_is_cancel(const uint8_t head[static PGWIRE_HEAD]);
/* What the first packet in buf is; *ret_used is its length unless MORE or BAD. */
enum pgwire_first pgwire_first_packet(const uint8_t *buf, size_t len, size_t *ret_used);
/* Appends an ErrorResponse of severity FATAL; hint may be NULL. */
void pgwire_error(struct str *out, const char *sqlstate, const char *msg,
		  const char *hint);

#endif

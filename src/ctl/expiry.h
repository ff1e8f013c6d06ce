/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * expiry.h - discards branches whose time is over, unless somebody uses them, and
 * empties the trash.
 *
 * Loop thread only, but for expiry_soon and expiry_held.
 */
#ifndef CTL_EXPIRY_H
#define CTL_EXPIRY_H

#include "base/cleanup.h"

#include <stdint.h>

struct control;
struct expiry;

int expiry_new(struct control *c, struct expiry **ret_expiry) MUST_CHECK;
struct expiry *expiry_free(struct expiry *x); /* NULL is fine; returns NULL */
/* Something changed that may make a branch expire earlier: look again.  Any thread. */
void expiry_soon(struct control *c);
/* Seconds for which nothing expires yet, because the clock is not believed; 0: none. */
int64_t expiry_held(struct control *c);

#endif

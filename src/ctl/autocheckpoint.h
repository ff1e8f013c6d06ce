/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * autocheckpoint.h - checkpoints that are taken by the clock, and the end of those that
 * nobody asked for.  A loop timer; the work is done on the pool.
 */
#ifndef CTL_AUTOCHECKPOINT_H
#define CTL_AUTOCHECKPOINT_H

#include "base/cleanup.h"

struct autocheckpoint;
struct control;

int autocheckpoint_new(struct control *c, struct autocheckpoint **ret_a) MUST_CHECK;
/* NULL is fine; returns NULL.  The pool has ended. */
struct autocheckpoint *autocheckpoint_free(struct autocheckpoint *a);
/* The settings have changed: look again.  Loop thread. */
void autocheckpoint_soon(struct autocheckpoint *a);

#endif

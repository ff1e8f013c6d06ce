/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * upkeep.h - gc and doctor as requests: what could be cleaned up and what is wrong, and
 * doing something about it.
 *
 * Nothing is removed but with `apply`, and each thing is looked at once more just
 * before. For root and the user that mounted.
 */
#ifndef CTL_UPKEEP_H
#define CTL_UPKEEP_H

#include "ctl/control.h"

/* text: see input_parse_upkeep, input_is_adopt, remask_ask.  b is not looked at.  As
 * the requests of control.h. */
void upkeep_ask(struct control *c, const struct caller *who, struct branch *b,
		const char *text, control_done done, void *ctx);
/* The last answer, see report.h, or what to ask: heap string, NULL: out of memory. */
char *upkeep_answer(struct control *c);

#endif

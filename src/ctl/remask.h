/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remask.h - a masked branch becomes a newly masked copy of what its parent is now.
 *
 * It is in use until the copy is ready, and what it was is kept as a checkpoint.  For
 * root and the user that mounted.
 */
#ifndef CTL_REMASK_H
#define CTL_REMASK_H

#include "ctl/control.h"

bool remask_is_asked(const char *text);
/* text: "remask NAME".  As the requests of control.h; the answer comes when all is
 * done. */
void remask_ask(struct control *c, const struct caller *who, const char *text,
		control_done done, void *ctx);

#endif

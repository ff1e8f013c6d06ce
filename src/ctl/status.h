/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * status.h - the texts that the mount shows: made from memory, never by asking or
 * starting a server.
 */
#ifndef CTL_STATUS_H
#define CTL_STATUS_H

#include "base/text.h"
#include "ctl/control.h"

enum status_file {
	STATUS_README, /* of the root */
	STATUS_TREE,
	STATUS_ERROR,
	STATUS_UPKEEP,
	STATUS_METRICS,
	STATUS_TEXT, /* from here on, of a branch */
	STATUS_JSON,
	STATUS_STATE,
	STATUS_URL,
	STATUS_PARENT,
	STATUS_OWNER,
	STATUS_EXPIRES,
	STATUS_PROTECTED,
	STATUS_ROLLBACK,
	STATUS_RESET,
	STATUS_TRASHED, /* of one in the trash */
};

/* Appends the file's content; b is NULL for those of the root.  Those show each caller
 * what that one may see. */
int status_render(struct control *c, enum status_file which, struct branch *b,
		  const struct caller *who, struct str *out) MUST_CHECK;

#endif

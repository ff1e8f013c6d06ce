/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a branch: given as it is, and with the right sum behind it. */
#include "record.h"

static void check(const struct branch_meta *m)
{
	char name[NAME_LEN_MAX + 1];
	time_t t;

	MUST(m->no > 0 && m->no < UINT32_C(1) << 26);
	MUST(m->top > 0 && m->top != m->base);
	MUST(m->mode <= 07777);
	MUST(m->data_no < UINT32_C(1) << 26);
	MUST(m->created >= 0 && m->last_active >= 0 && m->expires >= 0);
	MUST(memchr(m->name, '\0', sizeof(m->name)));
	MUST(memchr(m->parent, '\0', sizeof(m->parent)));
	MUST(m->name[0] == '\0' || text_check_name(m->name) == 0 ||
	     trash_name_parse(m->name, name, &t) == 0);
	MUST(m->parent[0] == '\0' || text_check_name(m->parent) == 0);
}

FUZZ_RECORD(branch_meta)

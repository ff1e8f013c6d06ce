/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a checkpoint: given as it is, and with the right sum behind it. */
#include "record.h"

static void check(const struct checkpoint_meta *m)
{
	MUST(m->branch_no > 0 && m->branch_no < UINT32_C(1) << 26);
	MUST(m->seq > 0 && m->seq <= CHECKPOINT_SEQ_MAX);
	MUST(m->base > 0);
	MUST(m->kind < CHECKPOINT_KINDS);
	MUST(m->taken >= 0);
	MUST(memchr(m->name, '\0', sizeof(m->name)));
	MUST(memchr(m->branch, '\0', sizeof(m->branch)));
	MUST(text_check_name(m->name) == 0);
	MUST(text_check_name(m->branch) == 0);
}

FUZZ_RECORD(checkpoint_meta)

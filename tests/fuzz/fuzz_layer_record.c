/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a layer: given as it is, and with the right sum behind it. */
#include "record.h"

static void check(const struct layer_meta *m)
{
	MUST(m->id > 0);
	MUST(m->parent != m->id);
	MUST(m->max_fid >= 0);
}

FUZZ_RECORD(layer_meta)

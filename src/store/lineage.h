/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lineage.h - while a store is opened: the sealed layers by their numbers, each made
 * once from its record, with all that it stands on.
 */
#ifndef STORE_LINEAGE_H
#define STORE_LINEAGE_H

#include "store/registry_priv.h"

struct lineage_layer;

/* Zeroed but for r; CLEAN(lineage_fini) gives its references back. */
struct lineage {
	struct registry *r;
	struct lineage_layer *known;
	uint32_t bad_layer; /* the last one whose record could not be read */
};

void lineage_fini(struct lineage *ln);
/* The layer if it is known by now, borrowed; else NULL. */
struct layer *lineage_find(const struct lineage *ln, uint32_t id);
/* The same, read from disk if need be; what is wrong is logged.  id 0: NULL. */
int lineage_get(struct lineage *ln, uint32_t id, struct layer **ret_layer) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * branch_meta.h - the records of branches and layers as text: INI with a checksum as
 * the last line.  Pure functions, no I/O.
 */
#ifndef STORE_BRANCH_META_H
#define STORE_BRANCH_META_H

#include "base/cleanup.h"
#include "store/trash_name.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* branches/NAME.ini */
struct branch_meta {
	char name[TRASH_NAME_MAX]; /* as the file's, so that swapped files are found
				    * out; "" in records of early builds */
	uint32_t no;               /* the branch's number, for life */
	uint32_t top;    /* the layer that it writes; made on disk at the first write */
	uint32_t base;   /* the top's parent layer; 0: none */
	bool fresh;      /* the top is fresh (layer.h) */
	char parent[64]; /* the parent's name when this branch was made; "" for main */
	uint32_t parent_no;
	int64_t created, last_active; /* seconds since the epoch */
	int64_t expires;              /* likewise; 0: never */
	uint32_t owner, group, mode;
	bool is_protected, prepared, started, stopped_by_hand;
};

/* layers/ID/layer.ini */
struct layer_meta {
	uint32_t id;
	uint32_t parent; /* 0: none */
	bool fresh;
};

/* Heap strings; NULL: out of memory. */
char *branch_meta_encode(const struct branch_meta *m);
char *layer_meta_encode(const struct layer_meta *m);
/* -EBADMSG for anything else than encode made; -ENOMEM. */
int branch_meta_decode(const char *text, struct branch_meta *ret_meta) MUST_CHECK;
int layer_meta_decode(const char *text, struct layer_meta *ret_meta) MUST_CHECK;

#endif

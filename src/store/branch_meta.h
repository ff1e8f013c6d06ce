/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * branch_meta.h - the records of branches, checkpoints and layers as text: INI with a
 * checksum as the last line.  Pure functions, no I/O.
 */
#ifndef STORE_BRANCH_META_H
#define STORE_BRANCH_META_H

#include "base/cleanup.h"
#include "store/trash_name.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Far from where the counting would begin anew. */
#define LAYER_ID_MAX (UINT32_MAX - (UINT32_C(1) << 20))

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
	uint32_t data_no;           /* of its data, after a rollback; 0: no */
	char parent_checkpoint[64]; /* that it was made from; "": from the parent as it
				       was then */
	uint32_t server_uid, server_gid; /* whom its servers run as; 0: its owner */
	char make_role[64];              /* a role to be made at its next start */
	bool masking;    /* not yet to be entered: SQL runs that masks its data */
	char masked[64]; /* by what that was done; "": it was not */
};

/* Why a checkpoint was taken. */
enum checkpoint_kind {
	CHECKPOINT_NAMED,  /* somebody wanted it: stays until somebody drops it */
	CHECKPOINT_AUTO,   /* by the clock: thinned out */
	CHECKPOINT_SAFETY, /* before its branch became something else */
	CHECKPOINT_KINDS
};

#define CHECKPOINT_SEQ_MAX ((UINT32_C(1) << 29) - 1)

/* branches/NO@SEQ.ini */
struct checkpoint_meta {
	uint32_t branch_no;
	uint32_t seq; /* 1 .. CHECKPOINT_SEQ_MAX, grows within the branch */
	char name[64];
	char branch[64]; /* the branch's name when the record was written */
	uint32_t base;   /* the sealed layer that it stands on */
	uint32_t kind;   /* enum checkpoint_kind */
	int64_t taken;   /* seconds since the epoch */
	bool prepared;   /* as the branch's record had it then, like... */
	bool masking;    /* ...these */
	char masked[64], make_role[64];
	uint32_t owner, group; /* of the branch when the record was written */
};

/* layers/ID/layer.ini */
struct layer_meta {
	uint32_t id;
	uint32_t parent; /* 0: none */
	bool fresh;
	int64_t max_fid; /* of one that is made of others: the largest number that was
			  * given out in them, or below; 0: what its files say */
};

/* Heap strings; NULL: out of memory. */
char *branch_meta_encode(const struct branch_meta *m);
char *layer_meta_encode(const struct layer_meta *m);
char *checkpoint_meta_encode(const struct checkpoint_meta *m);
/* -EBADMSG for anything else than encode made; -ENOMEM. */
int branch_meta_decode(const char *text, struct branch_meta *ret_meta) MUST_CHECK;
int layer_meta_decode(const char *text, struct layer_meta *ret_meta) MUST_CHECK;
int checkpoint_meta_decode(const char *text,
			   struct checkpoint_meta *ret_meta) MUST_CHECK;

#endif

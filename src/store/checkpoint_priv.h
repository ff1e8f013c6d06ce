/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint_priv.h - checkpoints as the files of the registry see them; for them
 * alone.
 */
#ifndef STORE_CHECKPOINT_PRIV_H
#define STORE_CHECKPOINT_PRIV_H

#include "store/checkpoint.h"
#include "store/registry_priv.h"

/* lock: registry->table; changed under registry->change, too, so that holders of that
 * may keep a pointer. */
struct checkpoint {
	struct checkpoint_meta m;
	struct layer *layer; /* owned, and one user of it */
};

/* Those of one branch, also when that is gone. */
struct checkpoint_set {
	UT_hash_handle hh; /* in registry->checkpoints, by no */
	uint32_t no;
	uint32_t next_seq;
	struct checkpoint **v; /* the oldest first */
	size_t n;
};

/* --- checkpoint.c --- */

/* What its record's file is called, without the ending: NO@SEQ, and back. */
void checkpoint_record_name(uint32_t no, uint32_t seq, char buf[static TRASH_NAME_MAX]);
bool checkpoint_record_parse(const char *name, uint32_t *ret_no, uint32_t *ret_seq);

/* With registry->table held. */
struct checkpoint_set *checkpoints_of_locked(struct registry *r, uint32_t no);
/* NULL: there is none. */
struct checkpoint *checkpoint_by_seq_locked(struct registry *r, uint32_t no,
					    uint32_t seq);
struct checkpoint *checkpoint_by_name_locked(struct registry *r, uint32_t no,
					     const char *name);
void checkpoints_count_locked(struct registry *r, uint32_t no, unsigned *ret_named,
			      unsigned *ret_others);

/* --- checkpoint_find.c, with registry->table held --- */

void checkpoint_fill_info_locked(struct registry *r, const struct checkpoint_meta *m,
				 struct checkpoint_info *ret);

/* --- checkpoint.c --- */

/* With registry->change held, or before anybody else has the registry. */
struct checkpoint *checkpoint_seq(struct registry *r, uint32_t no, uint32_t seq);
/* The number was given out. */
int checkpoint_note_seq(struct registry *r, uint32_t no, uint32_t seq) MUST_CHECK;
/* Its record is there; a reference on base is taken. */
int checkpoint_add(struct registry *r, const struct checkpoint_meta *m,
		   struct layer *base) MUST_CHECK;
/* The name is not looked at. */
int checkpoint_take_locked(struct registry *r, struct branch *b,
			   const struct checkpoint_spec *spec,
			   struct checkpoint_meta *ret_meta, struct err *e) MUST_CHECK;
/* A branch is about to go: the records of those that stay get its last name. */
void checkpoints_before_discard(struct registry *r, struct branch *b);
/* It went: so do those that nobody asked for. */
void checkpoints_drop_unnamed(struct registry *r, uint32_t no);
void checkpoints_free(struct registry *r);

#endif

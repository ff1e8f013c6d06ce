/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer_priv.h - what the files of a layer share; for them alone.  All of it wants
 * layer->lock held for writing.
 */
#ifndef STORE_LAYER_PRIV_H
#define STORE_LAYER_PRIV_H

#include "store/layer.h"

int layer_make_part_locked(struct layer *l, enum layer_part part) MUST_CHECK;
int layer_make_dirnames_locked(struct layer *l, uint64_t dir, mode_t mode,
			       struct dirnames **ret_names) MUST_CHECK;
/* The number was given out. */
void layer_note_fid_locked(struct layer *l, uint64_t fid);
/* Forgets the attribute record in memory, if there is one. */
void layer_drop_attrs_locked(struct layer *l, uint64_t fid);

#endif

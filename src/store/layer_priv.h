/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer_priv.h - what the files of a layer share; for them alone.
 */
#ifndef STORE_LAYER_PRIV_H
#define STORE_LAYER_PRIV_H

#include "store/layer.h"

/* With layer->lock held for writing. */
int layer_make_part_locked(struct layer *l, enum layer_part part) MUST_CHECK;
int layer_make_dirnames_locked(struct layer *l, uint64_t dir, mode_t mode,
			       struct dirnames **ret_names) MUST_CHECK;
/* The number was given out. */
void layer_note_fid_locked(struct layer *l, uint64_t fid);
/* Forgets the attribute record in memory, if there is one. */
void layer_drop_attrs_locked(struct layer *l, uint64_t fid);
void layer_drop_index_locked(struct layer *l);
/* Is all that its index says on disk?  A failed fsync is remembered in it: then never.
 */
bool layer_is_settled_locked(struct layer *l);

/* A hold on the index of this layer alone, if it is in memory: true, then to be given
 * back. */
bool layer_index_get(struct layer *l);
void layer_index_put(struct layer *l);

#endif

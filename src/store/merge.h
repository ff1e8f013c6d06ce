/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * merge.h - writes one layer that says what a run of sealed layers says together.
 *
 *     above                        above
 *     run[0]     names, files  \
 *     run[1]     of their own   >  out
 *     run[2]                   /
 *     below                        below
 *
 * What no name leads to any more, seen from the topmost of the run, is left out;
 * numbers of files stay.  A file that one of the layers alone has is linked, as sealed
 * layers never change and the old ones go soon; the others are read through the run and
 * written anew.
 *
 * The layers of the run must be sealed and durable.  Used by one thread at a time,
 * takes no lock of anybody else, and is worked off in steps.
 */
#ifndef STORE_MERGE_H
#define STORE_MERGE_H

#include "store/layer.h"

struct merge;

/* run: the topmost first; borrowed for the merge's life.  id: of the new layer, which
 * nobody else knows. */
int merge_new(struct store *s, struct layer *const *run, unsigned n, uint32_t id,
	      struct merge **ret_merge) MUST_CHECK;
/* Stops; what was written stays on disk.  NULL is fine; returns NULL. */
struct merge *merge_free(struct merge *m);
/* Copies about max_bytes.  1: all of it is there and durable, with its record, and can
 * be named as a parent; 0: call again. */
int merge_step(struct merge *m, uint64_t max_bytes) MUST_CHECK;

#endif

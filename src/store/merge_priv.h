/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * merge_priv.h - what merge.c and merge_file.c share; for them alone.
 */
#ifndef STORE_MERGE_PRIV_H
#define STORE_MERGE_PRIV_H

#include "store/merge.h"
#include "store/overlay_priv.h"

/* A file that is being written anew. */
struct merging {
	struct cowfile *f; /* all of it, as the view shows it */
	struct bfile *dst;
	struct blockmap map; /* what the layers above the whole file, or all, own */
	bool has_map;
	bool cloned; /* dst has the bytes of the lowest part already */
	struct stat st;
	uint64_t off;
};

struct merge {
	struct layer *const *run; /* borrowed; the topmost first */
	unsigned n;
	struct layer *out;
	struct overlay *view;
	struct seen *seen;
	bool named;
	uint64_t *files; /* numbers of files that the run has parts of */
	size_t nfiles, next;
	struct merging now; /* f is NULL between two files */
	uint64_t budget;    /* what is left of this step */
};

/* Goes on with the file; when it is done, m->next is the next one. */
int merge_file(struct merge *m, uint64_t fid) MUST_CHECK;
/* Gives up the one that is being written. */
void merge_file_end(struct merge *m);

#endif

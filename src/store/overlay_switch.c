/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * overlay_switch.c - the open files of a tree move from a run of sealed layers to the
 * layer that they were merged to.
 *
 * The bytes are the same, so nobody notices.  A file's part of the merged layer takes
 * the place of its parts of the run; those above and below stay.  Nothing here can
 * fail, as a stack only gets shorter.
 */
#include "store/overlay_priv.h"

static bool is_in(const struct layer *l, struct layer *const *run, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (run[i] == l)
			return true;
	return false;
}

/* A merged layer has no file that no name led to when it was made. */
static bool can_follow(struct cowfile *f, struct layer *const *run, unsigned n,
		       struct layer *merged)
{
	READ_SCOPE(&f->lock);
	for (unsigned i = 0; i < f->nparts; i++)
		if (is_in(f->parts[i]->layer, run, n))
			return layer_has_file(merged, f->fid);
	return true;
}

int overlay_can_switch(struct overlay *o, struct layer *const *run, unsigned n,
		       struct layer *merged)
{
	struct cowfile *f, *next;

	READ_SCOPE(&o->freeze);
	LOCK_SCOPE(&o->files);
	HASH_ITER(hh, o->open, f, next)
	if (!can_follow(f, run, n, merged))
		return -EBUSY;
	return 0;
}

static void switch_file(struct cowfile *f, struct layer *merged)
{
	unsigned kept = 0;
	bool done = false;

	WRITE_SCOPE(&f->lock);
	for (unsigned i = 0; i < f->nparts; i++) {
		struct bfile *part = f->parts[i];

		if (part->layer->leaving) {
			bfile_put(part);
			part = done ? NULL : layer_file(merged, f->fid);
			done = true;
		}
		if (part)
			f->parts[kept++] = part;
	}
	f->nparts = kept;
}

void overlay_switch_locked(struct overlay *o, struct layer *merged)
{
	struct cowfile *f, *next;

	LOCK_SCOPE(&o->files);
	HASH_ITER(hh, o->open, f, next)
	switch_file(f, merged);
}

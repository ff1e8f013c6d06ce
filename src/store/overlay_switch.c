/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * overlay_switch.c - the open files of a tree move from a run of sealed layers to the
 * layer that they were merged to.
 *
 * The bytes are the same, so nobody notices.  A file's part of the merged layer takes
 * the place of its parts of the run; those above and below stay.  Once all files are
 * locked nothing can fail, as a stack only gets shorter.  A file that is read all the
 * time may let no writer in; then it is tried again later, as the tree stands still
 * meanwhile.
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

/* Up to `end`, NULL: all. */
static void unlock_files(struct overlay *o, const struct cowfile *end)
{
	struct cowfile *f, *next;

	HASH_ITER(hh, o->open, f, next)
	{
		if (f == end)
			break;
		(void)pthread_rwlock_unlock(&f->lock);
	}
}

int overlay_switch_begin(struct overlay *o, const struct timespec *until)
{
	struct cowfile *f, *next;

	(void)pthread_mutex_lock(&o->files); /* until overlay_switch_end */
	HASH_ITER(hh, o->open, f, next)
	{
		if (pthread_rwlock_timedwrlock(&f->lock, until) == 0)
			continue;
		unlock_files(o, f);
		(void)pthread_mutex_unlock(&o->files);
		return -EBUSY;
	}
	return 0;
}

void overlay_switch_end(struct overlay *o)
{
	unlock_files(o, NULL);
	(void)pthread_mutex_unlock(&o->files);
}

void overlay_switch_locked(struct overlay *o, struct layer *merged)
{
	struct cowfile *f, *next;

	HASH_ITER(hh, o->open, f, next)
	switch_file(f, merged);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * merge.c - what goes into a merged layer, in the order in which it is made: names,
 * attributes, files, and when all that is durable, the layer's record.
 *
 * The run is looked at through a tree of its own (view), whose top is a layer that is
 * never written.  So the bytes of a block are what any branch above reads there, and
 * merge_file.c only decides which blocks belong to the run.
 */
#include "store/merge_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* --- what can be seen from the top of the run --- */

struct seen {
	UT_hash_handle hh;
	uint64_t fid;
	bool is_dir;
};

struct walk {
	struct merge *m;
	int rc;
};

static struct seen *seen_find(const struct merge *m, uint64_t fid)
{
	struct seen *s = NULL;

	HASH_FIND(hh, m->seen, &fid, sizeof(fid), s);
	return s;
}

static int seen_add(struct merge *m, uint64_t fid, bool is_dir)
{
	struct seen *s;

	if (seen_find(m, fid))
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->fid = fid;
	s->is_dir = is_dir;
	HASH_ADD(hh, m->seen, fid, sizeof(s->fid), s);
	if (s->hh.tbl)
		return 0;
	free(s);
	return -ENOMEM;
}

static void seen_free(struct merge *m)
{
	struct seen *s, *next;

	HASH_ITER(hh, m->seen, s, next)
	{
		HASH_DEL(m->seen, s);
		free(s);
	}
}

static bool on_name(void *ctx, const char *name, uint64_t fid, mode_t type,
		    uint64_t cookie)
{
	struct walk *w = ctx;

	(void)name;
	(void)cookie;
	/* what is damaged is left as it is, for somebody to look at */
	w->rc = type == 0 ? -EIO : seen_add(w->m, fid, S_ISDIR(type));
	return w->rc == 0;
}

/* New ones are added behind, so one pass meets them all. */
static int see_all(struct merge *m)
{
	struct walk w = {m, 0};
	int rc = seen_add(m, OVERLAY_ROOT, true);

	for (struct seen *s = m->seen; rc == 0 && s; s = s->hh.next) {
		if (s->is_dir)
			rc = overlay_readdir(m->view, s->fid, 0, on_name, &w);
		rc = rc < 0 ? rc : w.rc;
	}
	return rc;
}

/* --- names --- */

/* The first of the run from i on whose directory of names is on disk; n: none. */
static unsigned names_on_disk(const struct merge *m, uint64_t dir, unsigned i)
{
	for (; i < m->n; i++) {
		const struct dirnames *d = dirnames_find(m->run[i]->dirs, dir);

		if (d && d->on_disk)
			break;
	}
	return i;
}

static int stat_names(const struct layer *l, uint64_t dir, struct stat *ret_st)
{
	char path[BFILE_PATH_MAX];

	layer_part_path(l, PART_NAMES, dir, path);
	return fstatat(l->store->fd, path, ret_st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno
									    : 0;
}

/* Has a layer of the run that is higher than i a word on the name? */
static bool overruled(const struct merge *m, unsigned i, uint64_t dir, const char *name)
{
	while (i-- > 0)
		if (layer_entry(m->run[i], dir, name))
			return true;
	return false;
}

/* Nothing shows below: then there is nothing to hide. */
static bool hides_nothing(const struct merge *m, uint64_t dir, const struct entry *e)
{
	return e->kind == ENTRY_WHITEOUT &&
	       !entry_visible(layer_chain_entry(m->out->parent, dir, e->name));
}

static int put_entries(struct merge *m, uint64_t dir)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->n; i++) {
		const struct dirnames *d = dirnames_find(m->run[i]->dirs, dir);
		struct entry *e, *next;

		if (!d)
			continue;
		HASH_ITER(hh, d->entries, e, next)
		if (rc == 0 && !overruled(m, i, dir, e->name) &&
		    !hides_nothing(m, dir, e))
			rc = layer_set_entry(m->out, dir, e->name, e->kind, e->fid);
	}
	return rc;
}

/* Permissions are those that it was made with, times those of its last change. */
static int put_dir(struct merge *m, uint64_t dir)
{
	unsigned first = names_on_disk(m, dir, 0), i;
	struct stat made = {.st_mode = 0700}, st;
	struct timespec times[2] = {{0, 0}, {0, 0}};
	char path[BFILE_PATH_MAX];
	int rc = 0;

	for (i = first; rc == 0 && i < m->n; i = names_on_disk(m, dir, i + 1))
		rc = stat_names(m->run[i], dir, &made);
	if (rc == 0 && first < m->n) {
		rc = stat_names(m->run[first], dir, &st);
		times[0] = st.st_atim;
		times[1] = st.st_mtim;
	}
	if (rc == 0)
		rc = layer_make_dirnames(m->out, dir, made.st_mode & 07777, NULL);
	if (rc == 0)
		rc = put_entries(m, dir);
	layer_part_path(m->out, PART_NAMES, dir, path);
	if (rc == 0 &&
	    (fchmodat(m->out->store->fd, path, (made.st_mode & 07777) | 0700, 0) < 0 ||
	     utimensat(m->out->store->fd, path, times, 0) < 0))
		rc = -errno;
	return rc;
}

static int put_names(struct merge *m)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->n; i++) {
		struct dirnames *d, *next;

		HASH_ITER(hh, m->run[i]->dirs, d, next)
		{
			if (rc < 0)
				break;
			if (d->bad)
				rc = -EIO;
			else if (seen_find(m, d->dir) &&
				 !dirnames_find(m->out->dirs, d->dir))
				rc = put_dir(m, d->dir);
		}
	}
	return rc;
}

/* --- attributes --- */

/* A record's own time is when the attributes changed. */
static int put_attrs(struct merge *m, const struct attr_rec *a)
{
	const struct timespec times[2] = {a->attrs.changed, a->attrs.changed};
	char path[BFILE_PATH_MAX];
	int rc = a->bad ? -EIO : layer_set_attrs(m->out, a->fid, &a->attrs);

	layer_part_path(m->out, PART_ATTR, a->fid, path);
	if (rc == 0 &&
	    utimensat(m->out->store->fd, path, times, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	return rc;
}

static int put_all_attrs(struct merge *m)
{
	int rc = 0;

	for (unsigned i = 0; i < m->n; i++) {
		struct attr_rec *a, *next;
		struct attrs have;

		HASH_ITER(hh, m->run[i]->attrs, a, next)
		{
			if (!seen_find(m, a->fid) ||
			    layer_attrs(m->out, a->fid, &have) == 1)
				continue; /* gone, or a higher one has been put */
			rc = put_attrs(m, a);
			if (rc < 0)
				return rc;
		}
	}
	return rc;
}

/* --- files --- */

static int list_files(struct merge *m)
{
	struct seen *s, *next;

	m->files = calloc(HASH_COUNT(m->seen), sizeof(*m->files));
	if (!m->files)
		return -ENOMEM;
	HASH_ITER(hh, m->seen, s, next)
	{
		bool ours = false;

		for (unsigned i = 0; i < m->n && !s->is_dir && !ours; i++)
			ours = layer_has_file(m->run[i], s->fid);
		if (ours)
			m->files[m->nfiles++] = s->fid;
	}
	return 0;
}

static int finish(struct merge *m)
{
	int rc = layer_flush(m->out);

	FAULT_POINT("merge.flushed");
	if (rc == 0)
		rc = layer_prepare_seal(m->out);
	FAULT_POINT("merge.sealed");
	return rc < 0 ? rc : 1;
}

int merge_step(struct merge *m, uint64_t max_bytes)
{
	int rc = 0;

	if (!m->named) {
		rc = see_all(m);
		if (rc == 0)
			rc = put_names(m);
		if (rc == 0)
			rc = put_all_attrs(m);
		if (rc == 0)
			rc = list_files(m);
		m->named = rc == 0;
		FAULT_POINT("merge.named");
	}
	m->budget = max_bytes;
	while (rc == 0 && m->budget > 0 && m->next < m->nfiles)
		rc = merge_file(m, m->files[m->next]);
	return rc < 0 || m->next < m->nfiles ? rc : finish(m);
}

/* A layer over parent that does not count as standing on it. */
static struct layer *stand_aside(struct store *s, uint32_t id, struct layer *parent)
{
	struct layer *l = layer_new(s, id, parent ? layer_get(parent) : NULL, false);

	if (l && parent)
		atomic_fetch_sub(&parent->users, 1);
	return l;
}

int merge_new(struct store *s, struct layer *const *run, unsigned n, uint32_t id,
	      struct merge **ret_merge)
{
	struct merge *m = calloc(1, sizeof(*m));
	struct layer *below, *top;
	int rc = -ENOMEM;

	if (!m)
		return rc;
	m->run = run;
	m->n = n;
	below = layer_get_parent(run[n - 1]);
	m->out = stand_aside(s, id, below);
	layer_put(below);
	top = stand_aside(s, id, run[0]);
	if (m->out && top) {
		m->out->loaded = true; /* nothing is in it */
		m->out->holds = 1;
		m->out->merged = true;
		rc = overlay_new(layer_get(top), 0, &m->view);
	}
	if (rc == 0) /* known now that the run is loaded */
		m->out->max_fid = run[0]->max_fid;
	layer_put(top);
	if (rc < 0) {
		merge_free(m);
		return rc;
	}
	*ret_merge = m;
	return 0;
}

struct merge *merge_free(struct merge *m)
{
	if (!m)
		return NULL;
	merge_file_end(m);
	overlay_put(m->view);
	layer_put(m->out);
	seen_free(m);
	free(m->files);
	free(m);
	return NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * overlay_file.c - the table of a tree's open files, and what goes to disk without
 * being asked for.
 *
 * A file is open once, however many have it open: its bytes, size and map have one
 * owner.
 */
#include "store/overlay_priv.h"

#include <string.h>

static struct cowfile *file_new(struct overlay *o, uint64_t fid)
{
	struct cowfile *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->o = o;
	f->fid = fid;
	f->opens = 1;
	(void)pthread_rwlock_init(&f->lock, NULL);
	return f;
}

static int open_checked(struct overlay *o, uint64_t fid, struct cowfile **ret_file)
{
	struct cowfile *f;
	struct stat st;
	int rc = overlay_stat_file_locked(o, fid, &st);

	if (rc == -ENOENT)
		return overlay_stat_dir_locked(o, fid, &st) == 0 ? -EISDIR : -ESTALE;
	if (rc < 0)
		return rc;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	f = file_new(o, fid);
	if (!f)
		return -ENOMEM;
	rc = cowfile_stack(f);
	if (rc == 0) {
		HASH_ADD(hh, o->open, fid, sizeof(f->fid), f);
		if (!f->hh.tbl)
			rc = -ENOMEM;
	}
	if (rc < 0) {
		cowfile_free(f);
		return rc;
	}
	*ret_file = f;
	return 0;
}

static bool is_in_wal_dir(struct overlay *o, uint64_t fid)
{
	const struct entry *dir =
		layer_chain_entry(o->top, OVERLAY_ROOT, OVERLAY_WAL_DIR);

	if (!dir || dir->kind != ENTRY_DIR)
		return false;
	for (struct layer *l = o->top; l; l = l->parent) {
		struct dirnames *d = dirnames_find(l->dirs, dir->fid);
		struct entry *e, *next;

		if (!d)
			continue;
		HASH_ITER(hh, d->entries, e, next)
		if (e->fid == fid)
			return true;
	}
	return false;
}

int overlay_open_locked(struct overlay *o, uint64_t fid, struct cowfile **ret_file)
{
	struct cowfile *f = NULL;
	const struct entry *e;
	int rc;

	LOCK_SCOPE(&o->files);
	HASH_FIND(hh, o->open, &fid, sizeof(fid), f);
	if (f) {
		f->opens++;
		*ret_file = f;
		return 0;
	}
	rc = open_checked(o, fid, &f);
	if (rc < 0)
		return rc;
	if (o->watch_name) {
		e = layer_chain_entry(o->top, OVERLAY_ROOT, o->watch_name);
		f->watched = e && e->fid == fid;
	}
	f->is_wal = is_in_wal_dir(o, fid);
	*ret_file = f;
	return 0;
}

int overlay_open(struct overlay *o, uint64_t fid, struct cowfile **ret_file)
{
	READ_SCOPE(&o->freeze);
	READ_SCOPE(&o->names);
	return overlay_open_locked(o, fid, ret_file);
}

void overlay_close(struct overlay *o, struct cowfile *f)
{
	bool last;

	if (!f)
		return;
	READ_SCOPE(&o->freeze);
	cowfile_settle_mtime(f);
	{
		LOCK_SCOPE(&o->files);
		last = --f->opens == 0;
		if (last)
			HASH_DEL(o->open, f);
	}
	if (!last)
		return;
	if (atomic_load(&f->unlinked))
		layer_remove_file(o->top, f->fid);
	cowfile_free(f);
}

struct fid_list {
	uint64_t *v;
	size_t n, cap;
};

static int fid_list_add(struct fid_list *ls, uint64_t fid)
{
	if (ls->n == ls->cap) {
		size_t cap = ls->cap ? ls->cap * 2 : 64;
		uint64_t *v = realloc(ls->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		ls->v = v;
		ls->cap = cap;
	}
	ls->v[ls->n++] = fid;
	return 0;
}

static void fid_list_fini(struct fid_list *ls)
{
	free(ls->v);
}

/* Files of the top layer whose map on disk is not the one in memory; with bytes, also
 * those with writes that no fsync covered. */
static int list_unsaved(struct overlay *o, bool bytes, struct fid_list *ls)
{
	struct bfile *f, *next;
	int rc = 0;

	READ_SCOPE(&o->freeze);
	READ_SCOPE(&o->top->lock);
	HASH_ITER(hh, o->top->files, f, next)
	if (rc == 0 && (dsync_dirty(&f->map_sync) || (bytes && dsync_dirty(&f->data))))
		rc = fid_list_add(ls, f->fid);
	return rc;
}

static int sync_files(struct overlay *o, bool bytes)
{
	CLEAN(fid_list_fini) struct fid_list ls = {NULL, 0, 0};
	int rc = list_unsaved(o, bytes, &ls);

	for (size_t i = 0; i < ls.n; i++) {
		struct cowfile *f;
		int one = overlay_open(o, ls.v[i], &f);

		if (one == -ESTALE)
			continue; /* unlinked meanwhile */
		if (one == 0) {
			one = cowfile_sync(f, 0);
			overlay_close(o, f);
		}
		rc = rc < 0 ? rc : one;
	}
	return rc;
}

int overlay_sync(struct overlay *o)
{
	return sync_files(o, false);
}

int overlay_settle(struct overlay *o)
{
	struct layer *top, *below;
	int rc = 0;

	{
		READ_SCOPE(&o->freeze);
		top = layer_get(o->top);
	}
	below = layer_get_parent(top);
	if (below) /* first, as what is above may rely on what is below */
		rc = layer_flush(below);
	layer_put(below);
	if (rc == 0)
		rc = sync_files(o, true);
	if (rc == 0)
		rc = layer_sync_dirs(top);
	layer_put(top);
	return rc;
}

/* --- whole files by path, for the daemon itself --- */

int overlay_read_file(struct overlay *o, const char *path, size_t max_bytes,
		      char **ret_buf, size_t *ret_len)
{
	CLEAN(clean_free) char *buf = NULL;
	struct cowfile *f;
	struct node_attr a;
	ssize_t n;
	int rc = overlay_walk(o, path, &a);

	if (rc == 0)
		rc = overlay_open(o, a.fid, &f);
	if (rc < 0)
		return rc;
	buf = malloc(max_bytes + 1);
	n = buf ? cowfile_read(f, buf, max_bytes + 1, 0) : -ENOMEM;
	overlay_close(o, f);
	if (n < 0)
		return (int)n;
	if ((size_t)n > max_bytes)
		return -EFBIG;
	buf[n] = '\0';
	*ret_buf = steal(buf);
	if (ret_len)
		*ret_len = (size_t)n;
	return 0;
}

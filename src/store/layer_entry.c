/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer_entry.c - what a layer has as symlinks: entries of directories, and attribute
 * records.  Each is made, replaced and moved in one atomic step on disk.
 *
 * Memory first, where it can fail: what is on disk is in the index, too.
 */
#include "store/layer_priv.h"

#include "base/fault.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

/* "layers/0000002a/names/fffffffff/" and a name of 255 bytes */
#define ENTRY_PATH_MAX (BFILE_PATH_MAX + 256)

static int entry_path(const struct layer *l, uint64_t dir, const char *name,
		      char buf[static ENTRY_PATH_MAX])
{
	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	(void)snprintf(buf, ENTRY_PATH_MAX, "%s/names/%llx/%s", l->dir,
		       (unsigned long long)dir, name);
	return 0;
}

static void temp_path(struct layer *l, char buf[static BFILE_PATH_MAX])
{
	(void)snprintf(buf, BFILE_PATH_MAX, "%s/t.%x", l->dir,
		       atomic_fetch_add(&l->temp_seq, 1));
}

/* Makes path a symlink to text, replacing what is there. */
static int put_symlink(struct layer *l, const char *text, const char *path, bool exists)
{
	char temp[BFILE_PATH_MAX];
	int fd = l->store->fd, rc;

	if (FAULT_FAILS("layer.symlink", path))
		return -errno;
	if (!exists) {
		if (symlinkat(text, fd, path) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	temp_path(l, temp);
	while (symlinkat(text, fd, temp) < 0) {
		if (errno != EEXIST) /* left by a crash: take the next number */
			return -errno;
		temp_path(l, temp);
	}
	if (!FAULT_FAILS("layer.symlink-rename", path) &&
	    renameat(fd, temp, fd, path) == 0)
		return 0;
	rc = -errno;
	(void)unlinkat(fd, temp, 0); /* best effort on the way out */
	return rc;
}

/* Changes an entry of the index, which is on disk from here on. */
static void put_entry(struct layer *l, struct dirnames *d, struct entry *e,
		      enum entry_kind kind, uint64_t fid)
{
	/* one that was only made room for did not count: ENTRY_BAD shows nothing */
	d->subdirs -= e->on_disk || e->kind != ENTRY_BAD
			      ? layer_subdir_weight(l, d->dir, e)
			      : 0;
	e->kind = kind;
	e->fid = fid;
	e->on_disk = true;
	d->subdirs += layer_subdir_weight(l, d->dir, e);
}

static void take_entry(struct layer *l, struct dirnames *d, struct entry *e)
{
	d->subdirs -= layer_subdir_weight(l, d->dir, e);
	entry_remove(d, e);
}

int layer_set_entry(struct layer *l, uint64_t dir, const char *name,
		    enum entry_kind kind, uint64_t fid)
{
	char path[ENTRY_PATH_MAX], text[NAME_TARGET_MAX];
	struct dirnames *d;
	struct entry *e;
	bool existed;
	int rc;

	rc = entry_path(l, dir, name, path);
	if (rc < 0)
		return rc;
	WRITE_SCOPE(&l->lock);
	rc = layer_make_dirnames_locked(l, dir, 0700, &d);
	if (rc < 0)
		return rc;
	e = entry_find(d, name);
	existed = e != NULL;
	if (!e) /* memory first: it can fail, the rest of the step can't */
		e = entry_set(d, name, ENTRY_BAD, 0, false);
	if (!e)
		return -ENOMEM;
	entry_encode(kind, fid, text);
	rc = put_symlink(l, text, path, e->on_disk);
	if (rc < 0) {
		if (!existed)
			entry_remove(d, e);
		return rc;
	}
	put_entry(l, d, e, kind, fid);
	layer_note_fid_locked(l, fid);
	dsync_mark(&d->sync);
	return 0;
}

int layer_drop_entry(struct layer *l, uint64_t dir, const char *name)
{
	char path[ENTRY_PATH_MAX];
	struct dirnames *d;
	struct entry *e;
	int rc;

	rc = entry_path(l, dir, name, path);
	if (rc < 0)
		return rc;
	WRITE_SCOPE(&l->lock);
	d = dirnames_find(l->dirs, dir);
	e = entry_find(d, name);
	if (!e)
		return -ENOENT;
	if (e->on_disk &&
	    (FAULT_FAILS("layer.unlink", path) || unlinkat(l->store->fd, path, 0) < 0))
		return -errno;
	take_entry(l, d, e);
	dsync_mark(&d->sync);
	return 0;
}

/*
 * The move in two steps: a crash between them leaves both names for one file: more
 * than was asked, but nothing lost.  old: what `to` was, "" if nothing.
 */
static int move_by_steps(struct layer *l, const char *from, const char *to,
			 const char *text, const char *old, const char *whiteout)
{
	int rc = put_symlink(l, text, to, true), undo;

	if (rc < 0)
		return rc;
	rc = put_symlink(l, whiteout, from, true);
	if (rc == 0)
		return 0;
	if (*old)
		undo = put_symlink(l, old, to, true);
	else
		undo = unlinkat(l->store->fd, to, 0) < 0 ? -errno : 0;
	if (undo < 0)
		log_error("%s: cannot take a rename back: %s; after the next mount the "
			  "file has this name too",
			  to, strerror(-undo));
	return rc;
}

/* replaced: the entry that `to` has now, NULL if none. */
static int move_with_whiteout(struct layer *l, const char *from, const char *to,
			      const struct entry *moved, const struct entry *replaced)
{
	char text[NAME_TARGET_MAX], old[NAME_TARGET_MAX] = "", hide[NAME_TARGET_MAX];
	int fd = l->store->fd;

	entry_encode(ENTRY_WHITEOUT, 0, hide);
	if (!FAULT_FAILS("layer.whiteout", from) &&
	    renameat2(fd, from, fd, to, RENAME_WHITEOUT) == 0) {
		/* the device node that it left would not survive every copy, but
		 * it is read as a whiteout, so the rename is done in any case */
		(void)!put_symlink(l, hide, from, true);
		return 0;
	}
	if (errno != EINVAL && errno != EPERM && errno != ENOSYS && errno != EOPNOTSUPP)
		return -errno;
	entry_encode(moved->kind, moved->fid, text);
	if (replaced)
		entry_encode(replaced->kind, replaced->fid, old);
	return move_by_steps(l, from, to, text, old, hide);
}

int layer_move_entry(struct layer *l, uint64_t dir, const char *name, uint64_t newdir,
		     const char *newname, bool whiteout)
{
	char from[ENTRY_PATH_MAX], to[ENTRY_PATH_MAX];
	struct dirnames *d, *nd;
	struct entry *e, *ne;
	bool existed;
	int rc;

	rc = entry_path(l, dir, name, from);
	if (rc == 0)
		rc = entry_path(l, newdir, newname, to);
	if (rc < 0)
		return rc;
	WRITE_SCOPE(&l->lock);
	d = dirnames_find(l->dirs, dir);
	e = entry_find(d, name);
	if (!e || !e->on_disk)
		return -ENOENT;
	rc = layer_make_dirnames_locked(l, newdir, 0700, &nd);
	if (rc < 0)
		return rc;
	ne = entry_find(nd, newname);
	existed = ne != NULL;
	if (!ne)
		ne = entry_set(nd, newname, ENTRY_BAD, 0, false);
	if (!ne)
		return -ENOMEM;
	if (whiteout)
		rc = move_with_whiteout(l, from, to, e, ne->on_disk ? ne : NULL);
	else
		rc = FAULT_FAILS("layer.move", from) ||
				     renameat(l->store->fd, from, l->store->fd, to) < 0
			     ? -errno
			     : 0;
	FAULT_POINT("layer.entry-moved");
	if (rc < 0) {
		if (!existed)
			entry_remove(nd, ne);
		return rc;
	}
	put_entry(l, nd, ne, e->kind, e->fid);
	if (whiteout)
		put_entry(l, d, e, ENTRY_WHITEOUT, 0);
	else
		take_entry(l, d, e);
	dsync_mark(&d->sync);
	dsync_mark(&nd->sync);
	return 0;
}

/* --- attribute records --- */

static struct attr_rec *attr_find(struct layer *l, uint64_t fid)
{
	struct attr_rec *a = NULL;

	HASH_FIND(hh, l->attrs, &fid, sizeof(fid), a);
	return a;
}

int layer_attrs(struct layer *l, uint64_t fid, struct attrs *ret_attrs)
{
	struct attr_rec *a;

	READ_SCOPE(&l->lock);
	a = attr_find(l, fid);
	if (!a)
		return 0;
	if (a->bad)
		return -EIO;
	*ret_attrs = a->attrs;
	return 1;
}

void layer_drop_attrs_locked(struct layer *l, uint64_t fid)
{
	struct attr_rec *a = attr_find(l, fid);

	if (a)
		HASH_DEL(l->attrs, a);
	free(a);
}

int layer_set_attrs(struct layer *l, uint64_t fid, const struct attrs *a)
{
	char path[BFILE_PATH_MAX], text[NAME_TARGET_MAX];
	struct attr_rec *rec;
	int rc;

	WRITE_SCOPE(&l->lock);
	rc = layer_make_part_locked(l, PART_ATTR);
	if (rc < 0)
		return rc;
	rec = attr_find(l, fid);
	layer_part_path(l, PART_ATTR, fid, path);
	attrs_encode(fid, a, text);
	if (!rec) {
		rec = calloc(1, sizeof(*rec));
		if (!rec)
			return -ENOMEM;
		rec->fid = fid;
		rc = put_symlink(l, text, path, false);
		if (rc == 0) {
			HASH_ADD(hh, l->attrs, fid, sizeof(rec->fid), rec);
			if (!rec->hh.tbl)
				rc = -ENOMEM;
		}
		if (rc < 0) {
			free(rec);
			return rc;
		}
	} else {
		rc = put_symlink(l, text, path, true);
		if (rc < 0)
			return rc;
	}
	rec->attrs = *a;
	(void)clock_gettime(CLOCK_REALTIME, &rec->attrs.changed);
	rec->bad = false;
	dsync_mark(&l->parts[PART_ATTR]);
	return 0;
}

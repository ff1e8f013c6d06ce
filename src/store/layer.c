/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer.c - the directories and records of one layer.
 *
 * Order of the steps on disk: what an entry points to is made before the entry,
 * and goes after it.  A crash between leaves a file that no name means; it costs
 * space until the layer goes, and nothing else.
 */
#include "store/layer.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

/* "layers/0000002a/names/fffffffff/" and a name of 255 bytes */
#define ENTRY_PATH_MAX (BFILE_PATH_MAX + 256)

static const char *const part_names[PART_COUNT] = {"names", "full", "delta", "map",
						   "attr"};

static struct layer *layer_alloc(struct store *s)
{
	struct layer *l = calloc(1, sizeof(*l));
	pthread_rwlockattr_t attr;

	if (!l)
		return NULL;
	l->store = s;
	atomic_init(&l->refs, 1);
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlock_init(&l->lock, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	(void)pthread_mutex_init(&l->flush_lock, NULL);
	(void)pthread_mutex_init(&l->usage.lock, NULL);
	atomic_init(&l->usage.changed, true);
	dsync_init(&l->root);
	dsync_init(&l->removals);
	for (int i = 0; i < PART_COUNT; i++)
		dsync_init(&l->parts[i]);
	l->max_fid = 256;
	return l;
}

struct layer *layer_new(struct store *s, uint32_t id, struct layer *parent, bool fresh)
{
	struct layer *l = layer_alloc(s);

	if (!l) {
		layer_put(parent);
		return NULL;
	}
	l->id = id;
	l->parent = parent;
	l->fresh = fresh;
	(void)snprintf(l->dir, sizeof(l->dir), "layers/%08x", id);
	atomic_fetch_add(&s->layer_count, 1);
	if (parent)
		atomic_fetch_add(&parent->users, 1);
	return l;
}

struct layer *layer_new_scratch(struct store *s, const char *dir)
{
	struct layer *l = layer_alloc(s);

	if (!l)
		return NULL;
	l->scratch = true;
	l->loaded = true;
	(void)snprintf(l->dir, sizeof(l->dir), "%s", dir);
	return l;
}

struct layer *layer_get(struct layer *l)
{
	atomic_fetch_add(&l->refs, 1);
	return l;
}

static void layer_unload(struct layer *l)
{
	struct bfile *f, *next_file;
	struct attr_rec *a, *next_attr;

	dirnames_free_all(&l->dirs);
	HASH_ITER(hh, l->files, f, next_file)
	{
		HASH_DEL(l->files, f);
		bfile_put(f);
	}
	HASH_ITER(hh, l->attrs, a, next_attr)
	{
		HASH_DEL(l->attrs, a);
		free(a);
	}
}

struct layer *layer_put(struct layer *l)
{
	if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
		return NULL;
	layer_unload(l);
	layer_put(l->parent);
	if (!l->scratch)
		atomic_fetch_sub(&l->store->layer_count, 1);
	for (int i = 0; i < PART_COUNT; i++)
		dsync_fini(&l->parts[i]);
	dsync_fini(&l->root);
	dsync_fini(&l->removals);
	(void)pthread_mutex_destroy(&l->flush_lock);
	(void)pthread_mutex_destroy(&l->usage.lock);
	(void)pthread_rwlock_destroy(&l->lock);
	free(l);
	return NULL;
}

void layer_part_path(const struct layer *l, enum layer_part part, uint64_t fid,
		     char buf[static BFILE_PATH_MAX])
{
	(void)snprintf(buf, BFILE_PATH_MAX, "%s/%s/%llx", l->dir, part_names[part],
		       (unsigned long long)fid);
}

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

/* --- reading the index --- */

const struct entry *layer_entry(struct layer *l, uint64_t dir, const char *name)
{
	static const struct entry unreadable = {.kind = ENTRY_BAD};
	const struct dirnames *d = dirnames_find(l->dirs, dir);

	return d && d->bad ? &unreadable : entry_find(d, name);
}

const struct entry *layer_chain_entry(struct layer *l, uint64_t dir, const char *name)
{
	const struct entry *e = NULL;

	for (; l && !e; l = l->parent)
		e = layer_entry(l, dir, name);
	return e;
}

int layer_subdir_weight(const struct layer *l, uint64_t dir, const struct entry *e)
{
	const struct entry *old = NULL;

	if (!e)
		return 0;
	if (l->parent)
		old = layer_chain_entry(l->parent, dir, e->name);
	return (e->kind == ENTRY_DIR) - (old && old->kind == ENTRY_DIR);
}

static struct bfile *file_find(struct layer *l, uint64_t fid)
{
	struct bfile *f = NULL;

	HASH_FIND(hh, l->files, &fid, sizeof(fid), f);
	return f;
}

struct bfile *layer_file(struct layer *l, uint64_t fid)
{
	struct bfile *f;

	if (atomic_load(&l->sealed)) {
		f = file_find(l, fid);
		return f ? bfile_get(f) : NULL;
	}
	READ_SCOPE(&l->lock);
	f = file_find(l, fid);
	return f ? bfile_get(f) : NULL;
}

bool layer_has_file(struct layer *l, uint64_t fid)
{
	READ_SCOPE(&l->lock);
	return file_find(l, fid) != NULL;
}

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

/* --- changing it --- */

/* Makes the layer's own directory. */
static int make_root_locked(struct layer *l)
{
	int rc;

	if (l->made)
		return 0;
	rc = fd_mkdir(l->store->fd, l->dir, 0700);
	if (rc < 0)
		return rc;
	l->made = true;
	dsync_mark(&l->store->layers);
	dsync_mark(&l->root);
	return 0;
}

static int make_part_locked(struct layer *l, enum layer_part part)
{
	char path[BFILE_PATH_MAX];
	int rc;

	if (l->part_made[part])
		return 0;
	rc = make_root_locked(l);
	if (rc < 0)
		return rc;
	(void)snprintf(path, sizeof(path), "%s/%s", l->dir, part_names[part]);
	rc = fd_mkdir(l->store->fd, path, 0700);
	if (rc < 0)
		return rc;
	l->part_made[part] = true;
	dsync_mark(&l->root);
	dsync_mark(&l->parts[part]);
	return 0;
}

int layer_make_part(struct layer *l, enum layer_part part)
{
	WRITE_SCOPE(&l->lock);
	return make_part_locked(l, part);
}

static void note_fid_locked(struct layer *l, uint64_t fid)
{
	if (fid > l->max_fid && fid < FRESH_FID_FIRST)
		l->max_fid = fid;
}

static int make_dirnames_locked(struct layer *l, uint64_t dir, mode_t mode,
				struct dirnames **ret_names)
{
	char path[BFILE_PATH_MAX];
	struct dirnames *d;
	int rc;

	d = dirnames_add(&l->dirs, dir);
	if (!d)
		return -ENOMEM;
	if (!d->on_disk) {
		rc = make_part_locked(l, PART_NAMES);
		if (rc < 0)
			return rc;
		layer_part_path(l, PART_NAMES, dir, path);
		rc = fd_mkdir(l->store->fd, path, (mode & 07777) | 0700);
		if (rc < 0)
			return rc;
		d->on_disk = true;
		note_fid_locked(l, dir);
		dsync_mark(&l->parts[PART_NAMES]);
		dsync_mark(&d->sync);
	}
	if (ret_names)
		*ret_names = d;
	return 0;
}

int layer_make_dirnames(struct layer *l, uint64_t dir, mode_t mode,
			struct dirnames **ret_names)
{
	WRITE_SCOPE(&l->lock);
	return make_dirnames_locked(l, dir, mode, ret_names);
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
	rc = make_dirnames_locked(l, dir, 0700, &d);
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
	note_fid_locked(l, fid);
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
	rc = make_dirnames_locked(l, newdir, 0700, &nd);
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

int layer_set_attrs(struct layer *l, uint64_t fid, const struct attrs *a)
{
	char path[BFILE_PATH_MAX], text[NAME_TARGET_MAX];
	struct attr_rec *rec;
	int rc;

	WRITE_SCOPE(&l->lock);
	rc = make_part_locked(l, PART_ATTR);
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

static int index_file_locked(struct layer *l, struct bfile *f)
{
	HASH_ADD(hh, l->files, fid, sizeof(f->fid), f);
	if (!f->hh.tbl)
		return -ENOMEM;
	note_fid_locked(l, f->fid);
	return 0;
}

int layer_make_file(struct layer *l, uint64_t fid, enum bfile_kind kind, mode_t mode,
		    uint64_t size_bytes, struct bfile **ret_file)
{
	enum layer_part part = kind == BFILE_FULL ? PART_FULL : PART_DELTA;
	struct bfile *f = bfile_new(l, fid, kind);
	char path[BFILE_PATH_MAX];
	CLEAN(clean_fd) int fd = -1;
	int rc;

	if (!f)
		return -ENOMEM;
	layer_part_path(l, part, fid, path);
	{
		WRITE_SCOPE(&l->lock);
		rc = make_part_locked(l, part);
		/* O_TRUNC, not O_EXCL: a delta that a crash left without a map is
		 * not in the index, and holds nothing */
		if (rc == 0 && !FAULT_FAILS("layer.create", path))
			fd = openat(l->store->fd, path,
				    O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
				    (mode & 07777) | 0600);
		if (rc == 0 && fd < 0)
			rc = -errno;
		if (rc == 0 && size_bytes > 0 &&
		    (FAULT_FAILS("layer.create-size", path) ||
		     ftruncate(fd, (off_t)size_bytes) < 0))
			rc = -errno;
		if (rc == 0)
			rc = index_file_locked(l, f);
		if (rc < 0) {
			if (fd >= 0)
				(void)unlinkat(l->store->fd, path, 0); /* undo */
			bfile_put(f);
			return rc;
		}
		bfile_get(f);
	}
	dsync_mark(&l->parts[part]);
	bfile_wrote(f);
	bfile_adopt_fd(f, steal_fd(&fd));
	*ret_file = f;
	return 0;
}

/* Makes full/FID as something else than a regular file. */
static int make_other(struct layer *l, uint64_t fid, const char *target, mode_t mode)
{
	struct bfile *f = bfile_new(l, fid, BFILE_FULL);
	char path[BFILE_PATH_MAX];
	int rc;

	if (!f)
		return -ENOMEM;
	layer_part_path(l, PART_FULL, fid, path);
	WRITE_SCOPE(&l->lock);
	rc = make_part_locked(l, PART_FULL);
	if (rc == 0 && (FAULT_FAILS("layer.make-other", path) ||
			(target ? symlinkat(target, l->store->fd, path)
				: mknodat(l->store->fd, path, mode, 0)) < 0))
		rc = -errno;
	if (rc == 0)
		rc = index_file_locked(l, f);
	if (rc < 0) {
		bfile_put(f);
		return rc;
	}
	dsync_mark(&l->parts[PART_FULL]);
	layer_changed(l);
	return 0;
}

int layer_make_symlink(struct layer *l, uint64_t fid, const char *target)
{
	return make_other(l, fid, target, 0);
}

int layer_make_special(struct layer *l, uint64_t fid, mode_t mode)
{
	return make_other(l, fid, NULL, mode);
}

void layer_remove_file(struct layer *l, uint64_t fid)
{
	static const enum layer_part parts[] = {PART_FULL, PART_MAP, PART_DELTA,
						PART_ATTR};
	struct attr_rec *a;
	struct bfile *f;

	WRITE_SCOPE(&l->lock);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		char path[BFILE_PATH_MAX];

		if (!l->part_made[parts[i]])
			continue;
		layer_part_path(l, parts[i], fid, path);
		if (!FAULT_FAILS("layer.remove", path) &&
		    unlinkat(l->store->fd, path, 0) == 0)
			dsync_mark(&l->removals); /* itself it may be undone */
		else if (errno != ENOENT)
			log_warn("%s: cannot remove: %m; leaving it", path);
	}
	layer_changed(l);
	f = file_find(l, fid);
	if (f) {
		HASH_DEL(l->files, f);
		bfile_put(f);
	}
	a = attr_find(l, fid);
	if (a) {
		HASH_DEL(l->attrs, a);
		free(a);
	}
}

void layer_let_go(struct layer *l)
{
	struct bfile *f, *next;

	READ_SCOPE(&l->lock);
	HASH_ITER(hh, l->files, f, next)
	bfile_let_go(f);
}

void layer_remove_dirnames(struct layer *l, uint64_t dir)
{
	char path[BFILE_PATH_MAX];
	struct dirnames *d;

	WRITE_SCOPE(&l->lock);
	d = dirnames_find(l->dirs, dir);
	if (!d)
		return;
	if (d->on_disk) {
		layer_part_path(l, PART_NAMES, dir, path);
		if (fd_remove_tree(l->store->fd, path) < 0)
			log_warn("%s: cannot remove; leaving it", path);
		dsync_mark(&l->removals);
	}
	dirnames_remove(&l->dirs, d);
}

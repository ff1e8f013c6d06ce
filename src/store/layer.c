/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer.c - a layer in memory, its directories and files on disk.  Entries and
 * attribute records are in layer_entry.c.
 *
 * Order of the steps on disk: what an entry points to is made before the entry,
 * and goes after it.  A crash between leaves a file that no name means; it costs
 * space until the layer goes, and nothing else.
 */
#include "store/layer_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "store/cold.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char *const part_names[PART_COUNT] = {"names", "full", "delta",
						   "map",   "attr", "cold"};

void store_init(struct store *s)
{
	dsync_init(&s->layers);
	dsync_init(&s->records);
	(void)pthread_rwlock_init(&s->lineage, NULL);
	s->cold = cold_cache_new();
}

void store_fini(struct store *s)
{
	dsync_fini(&s->layers);
	dsync_fini(&s->records);
	(void)pthread_rwlock_destroy(&s->lineage);
	s->cold = cold_cache_free(s->cold);
}

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
	l->height = parent ? parent->height + 1 : 1;
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

struct layer *layer_get_parent(struct layer *l)
{
	READ_SCOPE(&l->store->lineage);
	return l->parent ? layer_get(l->parent) : NULL;
}

struct layer *layer_step_down(struct layer *l)
{
	struct layer *parent = layer_get_parent(l);

	layer_put(l);
	return parent;
}

void layer_drop_index_locked(struct layer *l)
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
	l->loaded = false;
}

struct layer *layer_put(struct layer *l)
{
	if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
		return NULL;
	layer_drop_index_locked(l); /* nobody else has it */
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

unsigned layer_depth(struct layer *l)
{
	unsigned n = 0;

	READ_SCOPE(&l->store->lineage);
	for (; l; l = l->parent)
		n++;
	return n;
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

/* --- changing it --- */

/* Makes the layer's own directory. */
static int make_root_locked(struct layer *l)
{
	int rc;

	if (l->made)
		return 0;
	if (l->gone)
		return -ESTALE;
	rc = fd_mkdir(l->store->fd, l->dir, 0700);
	if (rc < 0)
		return rc;
	l->made = true;
	dsync_mark(&l->store->layers);
	dsync_mark(&l->root);
	return 0;
}

int layer_make_part_locked(struct layer *l, enum layer_part part)
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
	return layer_make_part_locked(l, part);
}

void layer_note_fid_locked(struct layer *l, uint64_t fid)
{
	if (fid > l->max_fid && fid < FRESH_FID_FIRST)
		l->max_fid = fid;
}

int layer_make_dirnames_locked(struct layer *l, uint64_t dir, mode_t mode,
			       struct dirnames **ret_names)
{
	char path[BFILE_PATH_MAX];
	struct dirnames *d;
	int rc;

	d = dirnames_add(&l->dirs, dir);
	if (!d)
		return -ENOMEM;
	if (!d->on_disk) {
		rc = layer_make_part_locked(l, PART_NAMES);
		if (rc < 0)
			return rc;
		layer_part_path(l, PART_NAMES, dir, path);
		rc = fd_mkdir(l->store->fd, path, (mode & 07777) | 0700);
		if (rc < 0)
			return rc;
		d->on_disk = true;
		layer_note_fid_locked(l, dir);
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
	return layer_make_dirnames_locked(l, dir, mode, ret_names);
}

static int index_file_locked(struct layer *l, struct bfile *f)
{
	HASH_ADD(hh, l->files, fid, sizeof(f->fid), f);
	if (!f->hh.tbl)
		return -ENOMEM;
	layer_note_fid_locked(l, f->fid);
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
		rc = layer_make_part_locked(l, part);
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
	rc = layer_make_part_locked(l, PART_FULL);
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
	layer_drop_attrs_locked(l, fid);
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

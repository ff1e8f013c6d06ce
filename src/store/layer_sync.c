/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer_sync.c - when a layer's directories and files are on disk.
 *
 * Nothing here holds a lock over an fsync but the dsync of the very object, so that
 * all who need the same fsync share one.
 */
#include "store/layer_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "store/branch_meta.h"

#include <stdio.h>
#include <string.h>

/* fsyncs the directory at path if s says that something changed in it. */
static int sync_dir(struct store *st, struct dsync *s, const char *path)
{
	uint64_t mark;
	int rc = dsync_begin(s, &mark);

	if (rc <= 0)
		return rc;
	rc = fd_sync_dir(st->fd, path);
	if (rc == -ENOENT)
		rc = 0; /* removed meanwhile */
	if (rc < 0)
		log_error("%s: fsync failed: %s; it refuses fsync from now on", path,
			  strerror(-rc));
	return dsync_end(s, mark, rc);
}

static int sync_dirnames(struct layer *l, struct dirnames *d)
{
	char path[BFILE_PATH_MAX];

	layer_part_path(l, PART_NAMES, d->dir, path);
	return d->on_disk ? sync_dir(l->store, &d->sync, path) : 0;
}

/* fsyncs every directory of names that changed. */
static int sync_all_names(struct layer *l)
{
	struct dirnames *d, *next, **v = NULL;
	size_t n = 0;
	int rc = 0;

	{
		READ_SCOPE(&l->lock);
		v = calloc(HASH_COUNT(l->dirs) + 1, sizeof(struct dirnames *));
		if (!v)
			return -ENOMEM;
		HASH_ITER(hh, l->dirs, d, next)
		{
			if (!dsync_dirty(&d->sync))
				continue;
			atomic_fetch_add(&d->refs, 1);
			v[n++] = d;
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (rc == 0)
			rc = sync_dirnames(l, v[i]);
		dirnames_put(v[i]);
	}
	free(v);
	return rc;
}

/*
 * A file is removed as soon as its last name is gone or means another file, on disk in
 * this order too.  ext4 and XFS keep it; others (btrfs) make one directory durable
 * without what happened before in another one: there the names come first, or a
 * power cut leaves a name whose bytes are gone.
 */
static int settle_removals(struct layer *l)
{
	uint64_t mark;
	int rc;

	if (l->store->keeps_order || !dsync_dirty(&l->removals))
		return 0;
	rc = dsync_begin(&l->removals, &mark);
	if (rc <= 0)
		return rc;
	rc = sync_all_names(l);
	/* a failure sticks where it happened */
	return rc < 0 ? dsync_cancel(&l->removals, rc)
		      : dsync_end(&l->removals, mark, 0);
}

/* The entries that lead to the layer's parts. */
static int sync_root(struct layer *l)
{
	int rc = sync_dir(l->store, &l->root, l->dir);

	return rc < 0 ? rc : sync_dir(l->store, &l->store->layers, "layers");
}

int layer_sync_part(struct layer *l, enum layer_part part)
{
	char path[BFILE_PATH_MAX];
	int rc = 0;

	if (l->scratch || atomic_load(&l->durable))
		return 0;
	layer_part_path(l, part, 0, path);
	*strrchr(path, '/') = '\0';
	if (dsync_dirty(&l->parts[part]))
		rc = settle_removals(l);
	if (rc == 0)
		rc = sync_dir(l->store, &l->parts[part], path);
	return rc < 0 ? rc : sync_root(l);
}

int layer_sync_dirnames(struct layer *l, uint64_t dir)
{
	struct dirnames *d;
	int rc = 0;

	if (l->scratch || atomic_load(&l->durable))
		return 0;
	{
		READ_SCOPE(&l->lock);
		d = dirnames_find(l->dirs, dir);
		if (d)
			atomic_fetch_add(&d->refs, 1);
	}
	if (d) {
		rc = sync_dirnames(l, d);
		dirnames_put(d);
	}
	return rc < 0 ? rc : layer_sync_part(l, PART_NAMES);
}

int layer_sync_dirs(struct layer *l)
{
	static const enum layer_part objects[] = {PART_FULL, PART_DELTA, PART_MAP,
						  PART_COLD, PART_ATTR};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(objects); i++)
		rc = layer_sync_part(l, objects[i]);
	if (rc == 0)
		rc = sync_all_names(l);
	return rc < 0 ? rc : layer_sync_part(l, PART_NAMES);
}

bool layer_is_settled_locked(struct layer *l)
{
	struct dirnames *d, *next_dir;
	struct bfile *f, *next_file;

	if (l->scratch || atomic_load(&l->durable))
		return true;
	HASH_ITER(hh, l->files, f, next_file)
	if (dsync_dirty(&f->data) || dsync_dirty(&f->map_sync))
		return false;
	HASH_ITER(hh, l->dirs, d, next_dir)
	if (d->on_disk && dsync_dirty(&d->sync))
		return false;
	return true;
}

int layer_prepare_seal(struct layer *l)
{
	struct layer_meta meta = {.id = l->id,
				  .parent = l->parent ? l->parent->id : 0,
				  .fresh = l->fresh,
				  .max_fid = l->merged ? (int64_t)l->max_fid : 0};
	CLEAN(clean_free) char *text = layer_meta_encode(&meta);
	char path[BFILE_PATH_MAX];
	int rc;

	if (!text)
		return -ENOMEM;
	(void)snprintf(path, sizeof(path), "%s/layer.ini", l->dir);
	rc = fd_replace_file(l->store->fd, path, text, strlen(text), 0600, 0);
	if (rc < 0)
		return rc;
	dsync_mark(&l->root);
	return sync_root(l);
}

static int flush_file(struct bfile *f)
{
	struct map_image image;
	int rc = bfile_encode_map(f, &image);

	if (rc == 0)
		rc = bfile_sync_data(f);
	if (rc == 0)
		rc = bfile_save_map(f, &image);
	free(image.buf);
	return rc;
}

/* The index of a sealed layer does not change, and is held. */
static int flush_files(struct layer *l)
{
	struct bfile *f, *next;
	int rc = 0;

	HASH_ITER(hh, l->files, f, next)
	if (rc == 0)
		rc = flush_file(f);
	FAULT_POINT("layer.files-flushed");
	return rc;
}

static int flush_one(struct layer *l)
{
	int rc = 0;
	bool held;

	LOCK_SCOPE(&l->flush_lock);
	if (atomic_load(&l->durable))
		return 0;
	/* what is not in memory is on disk */
	held = layer_index_get(l);
	if (held)
		rc = flush_files(l);
	if (rc == 0)
		rc = layer_sync_dirs(l);
	if (rc == 0)
		atomic_store(&l->durable, true);
	if (held)
		layer_index_put(l);
	return rc;
}

/* A reference on the lowest of those that were not flushed, from l downwards. */
static struct layer *lowest_unflushed(struct layer *l)
{
	READ_SCOPE(&l->store->lineage);
	while (l->parent && !atomic_load(&l->parent->durable))
		l = l->parent;
	return layer_get(l);
}

/* From the bottom up, as a map may rely on the files below it (cowfile.c). */
int layer_flush(struct layer *l)
{
	bool last;
	int rc;

	do {
		struct layer *next = lowest_unflushed(l);

		rc = flush_one(next);
		last = next == l;
		layer_put(next);
	} while (rc == 0 && !last);
	return rc;
}

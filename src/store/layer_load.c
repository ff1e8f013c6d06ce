/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer_load.c - reads a layer's index from disk, and adds what follows from
 * its being fresh: a copy of a data directory must start without the original's
 * lock file, signal files, replication slots and scratch directories.  The list
 * is the one that pg_basebackup leaves out.
 */
#include "store/layer_priv.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "store/overlay.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

static const char *const fresh_hidden[] = {
	"postmaster.pid",  "postmaster.opts",          "standby.signal",
	"recovery.signal", "postgresql.auto.conf.tmp", "current_logfiles.tmp",
};

/* Directories that start empty: {directory, name}; NULL: the root. */
static const struct {
	const char *in, *name;
} fresh_emptied[] = {
	{NULL, "pg_replslot"}, {NULL, "pg_dynshmem"},  {NULL, "pg_notify"},
	{NULL, "pg_serial"},   {NULL, "pg_snapshots"}, {NULL, "pg_subtrans"},
	{NULL, "pg_stat_tmp"}, {"base", "pgsql_tmp"},
};

static void clean_dir(DIR **d)
{
	if (*d)
		(void)closedir(*d); /* read only */
}

/* Does the error say nothing about the store? */
static bool is_passing(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -EINTR;
}

/* Opens a directory of the layer: 1, or 0 if it is not there. */
static int open_part(const struct layer *l, const char *path, DIR **ret_dir)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, fd = -1, rc;

	*ret_dir = NULL;
	/* its atime is the branch's */
	if (!FAULT_FAILS("load.open", path)) {
		fd = openat(l->store->fd, path, flags | O_NOATIME);
		if (fd < 0 && errno == EPERM)
			fd = openat(l->store->fd, path, flags);
	}
	if (fd >= 0)
		*ret_dir = fdopendir(fd);
	if (*ret_dir)
		return 1;
	rc = -errno;
	clean_fd(&fd);
	if (rc == -ENOENT)
		return 0;
	log_error("%s: cannot read: %s", path, strerror(-rc));
	return is_passing(rc) ? rc : -EIO;
}

/* 1, or 0 at the end; a list that broke off is not taken for the whole. */
static int next_name(DIR *d, const char *path, const struct dirent **ret_ent)
{
	do {
		errno = 0;
		*ret_ent = FAULT_FAILS("load.readdir", path) ? NULL : readdir(d);
	} while (*ret_ent && (strcmp((*ret_ent)->d_name, ".") == 0 ||
			      strcmp((*ret_ent)->d_name, "..") == 0));
	if (*ret_ent || errno == 0)
		return *ret_ent != NULL;
	log_error("%s: cannot read: %m", path);
	return -EIO;
}

static int parse_fid(const char *name, uint64_t *ret_fid)
{
	return text_parse_u64(name, 16, (UINT64_C(1) << OVERLAY_FID_BITS) - 1, ret_fid);
}

/* What a name's record says; damaged ones become ENTRY_BAD. */
static enum entry_kind read_entry(const char *dirpath, int dirfd_, const char *name,
				  uint64_t *ret_fid)
{
	char text[NAME_TARGET_MAX + 1];
	enum entry_kind kind;
	ssize_t n = FAULT_FAILS("load.readlink", dirpath)
			    ? -1
			    : readlinkat(dirfd_, name, text, sizeof(text));
	struct stat st;

	*ret_fid = 0;
	if (n < 0 && fstatat(dirfd_, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0))
		return ENTRY_WHITEOUT; /* a rename's crash left it */
	if (n > 0 && n < (ssize_t)sizeof(text)) {
		text[n] = '\0';
		if (entry_decode(text, &kind, ret_fid) == 0)
			return kind;
	}
	log_error("%s/%s: damaged entry, refusing the name", dirpath, name);
	return ENTRY_BAD;
}

static int load_dirnames(struct layer *l, uint64_t dir)
{
	char path[BFILE_PATH_MAX];
	CLEAN(clean_dir) DIR *d = NULL;
	const struct dirent *ent;
	struct dirnames *names;
	int rc;

	names = dirnames_add(&l->dirs, dir);
	if (!names)
		return -ENOMEM;
	names->on_disk = true;
	layer_part_path(l, PART_NAMES, dir, path);
	rc = open_part(l, path, &d);
	while (rc > 0 && (rc = next_name(d, path, &ent)) > 0) {
		uint64_t fid;
		enum entry_kind kind = read_entry(path, dirfd(d), ent->d_name, &fid);

		if (!entry_set(names, ent->d_name, kind, fid, true))
			return -ENOMEM;
		layer_note_fid_locked(l, fid);
	}
	names->bad = rc < 0;
	return is_passing(rc) ? rc : 0;
}

/* Calls fn for each fid that names a file in the part's directory. */
static int load_part(struct layer *l, enum layer_part part, const char *part_name,
		     int (*fn)(struct layer *l, uint64_t fid))
{
	char path[BFILE_PATH_MAX];
	CLEAN(clean_dir) DIR *d = NULL;
	const struct dirent *ent;
	int rc;

	(void)snprintf(path, sizeof(path), "%s/%s", l->dir, part_name);
	rc = open_part(l, path, &d);
	if (rc <= 0)
		return rc;
	l->part_made[part] = true;
	while ((rc = next_name(d, path, &ent)) > 0) {
		uint64_t fid;

		if (parse_fid(ent->d_name, &fid) < 0) {
			if (strncmp(ent->d_name, ".tmp", 4) != 0)
				log_warn("%s/%s: not ours, ignoring", path,
					 ent->d_name);
			continue;
		}
		layer_note_fid_locked(l, fid);
		rc = fn(l, fid);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int add_file(struct layer *l, uint64_t fid, enum bfile_kind kind)
{
	struct bfile *f = NULL;

	HASH_FIND(hh, l->files, &fid, sizeof(fid), f);
	if (f)
		return 0; /* full counts before delta and is read first */
	f = bfile_new(l, fid, kind);
	if (!f)
		return -ENOMEM;
	HASH_ADD(hh, l->files, fid, sizeof(f->fid), f);
	if (!f->hh.tbl) {
		bfile_put(f);
		return -ENOMEM;
	}
	return 0;
}

static int add_full(struct layer *l, uint64_t fid)
{
	return add_file(l, fid, BFILE_FULL);
}

/* A delta counts from the moment that its map is there. */
static int add_delta(struct layer *l, uint64_t fid)
{
	return add_file(l, fid, BFILE_DELTA);
}

/* Called when the maps are known. */
static int check_delta(struct layer *l, uint64_t fid)
{
	struct bfile *f = NULL;

	HASH_FIND(hh, l->files, &fid, sizeof(fid), f);
	if (f)
		f->cold = false; /* its own bytes are there still */
	if (!f || f->kind != BFILE_DELTA)
		log_warn("%s/delta/%llx: has no map, as a crash leaves it; ignoring it",
			 l->dir, (unsigned long long)fid);
	return 0;
}

/*
 * Called before the deltas are looked for.  A whole file that is there counts, as the
 * compressed one may be what a crash left.
 */
static int add_cold(struct layer *l, uint64_t fid)
{
	struct bfile *f = NULL;
	int rc = 0;

	HASH_FIND(hh, l->files, &fid, sizeof(fid), f);
	if (f && f->kind == BFILE_FULL)
		return 0;
	if (!f)
		rc = add_file(l, fid, BFILE_FULL);
	HASH_FIND(hh, l->files, &fid, sizeof(fid), f);
	if (f)
		f->cold = true;
	return rc;
}

static int add_attrs(struct layer *l, uint64_t fid)
{
	char path[BFILE_PATH_MAX], text[NAME_TARGET_MAX + 1];
	struct attr_rec *a = calloc(1, sizeof(*a));
	struct stat st;
	ssize_t n;

	if (!a)
		return -ENOMEM;
	a->fid = fid;
	layer_part_path(l, PART_ATTR, fid, path);
	n = readlinkat(l->store->fd, path, text, sizeof(text));
	if (n > 0 && n < (ssize_t)sizeof(text))
		text[n] = '\0';
	else
		text[0] = '\0';
	if (attrs_decode(text, fid, &a->attrs) < 0) {
		log_error("%s: damaged attributes, refusing the file", path);
		a->bad = true;
	}
	layer_drop_attrs_locked(l, fid); /* of an attempt that failed half way */
	if (fstatat(l->store->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		a->attrs.changed = st.st_mtim;
	HASH_ADD(hh, l->attrs, fid, sizeof(a->fid), a);
	if (!a->hh.tbl) {
		free(a);
		return -ENOMEM;
	}
	return 0;
}

static int fresh_hide(struct layer *l, struct dirnames *root, const char *name)
{
	if (entry_find(root, name) ||
	    !entry_visible(layer_chain_entry(l->parent, OVERLAY_ROOT, name)))
		return 0;
	return entry_set(root, name, ENTRY_WHITEOUT, 0, false) ? 0 : -ENOMEM;
}

/* Puts an empty directory, fid, in the place of the original's. */
static int fresh_empty(struct layer *l, const char *in, const char *name, uint64_t fid)
{
	const struct entry *e, *old;
	uint64_t dir = OVERLAY_ROOT;
	struct dirnames *names;

	if (in) {
		e = layer_chain_entry(l->parent, OVERLAY_ROOT, in);
		if (!e || e->kind != ENTRY_DIR)
			return 0;
		dir = e->fid;
	}
	old = layer_chain_entry(l->parent, dir, name);
	if (!old || old->kind != ENTRY_DIR)
		return 0;
	names = dirnames_add(&l->dirs, dir);
	if (!names || !dirnames_add(&l->dirs, fid)) /* the second: it exists */
		return -ENOMEM;
	if (entry_find(names, name))
		return 0; /* the branch has made up its own mind since */
	return entry_set(names, name, ENTRY_DIR, fid, false) ? 0 : -ENOMEM;
}

static int load_fresh(struct layer *l)
{
	struct dirnames *root = dirnames_add(&l->dirs, OVERLAY_ROOT);
	uint64_t first = FRESH_FID_FIRST + (uint64_t)l->id * FRESH_FIDS;
	int rc = root ? 0 : -ENOMEM;

	_Static_assert(ARRAY_SIZE(fresh_emptied) <= FRESH_FIDS, "a number for each");

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(fresh_hidden); i++)
		rc = fresh_hide(l, root, fresh_hidden[i]);
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(fresh_emptied); i++)
		rc = fresh_empty(l, fresh_emptied[i].in, fresh_emptied[i].name,
				 first + i);
	return rc;
}

static int load_names(struct layer *l)
{
	char path[BFILE_PATH_MAX];
	CLEAN(clean_dir) DIR *d = NULL;
	const struct dirent *ent;
	int rc;

	(void)snprintf(path, sizeof(path), "%s/names", l->dir);
	rc = open_part(l, path, &d);
	if (rc <= 0)
		return rc;
	l->part_made[PART_NAMES] = true;
	while ((rc = next_name(d, path, &ent)) > 0) {
		uint64_t dir;

		if (parse_fid(ent->d_name, &dir) < 0) {
			log_warn("%s/%s: not ours, ignoring", path, ent->d_name);
			continue;
		}
		layer_note_fid_locked(l, dir);
		rc = load_dirnames(l, dir);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static void count_subdirs(struct layer *l)
{
	struct dirnames *d, *next_dir;
	struct entry *e, *next;

	HASH_ITER(hh, l->dirs, d, next_dir)
	HASH_ITER(hh, d->entries, e, next)
	d->subdirs += layer_subdir_weight(l, d->dir, e);
}

static int load_one(struct layer *l)
{
	int rc = 0;

	WRITE_SCOPE(&l->lock);
	if (l->loaded)
		return 0;
	if (l->parent && l->parent->max_fid > l->max_fid)
		l->max_fid = l->parent->max_fid; /* never given out again below us */
	l->made = faccessat(l->store->fd, l->dir, F_OK, 0) == 0;
	if (!l->made && errno != ENOENT)
		rc = -errno; /* unreadable is not empty */
	if (l->made) {
		rc = load_names(l);
		if (rc == 0)
			rc = load_part(l, PART_FULL, "full", add_full);
		if (rc == 0)
			rc = load_part(l, PART_MAP, "map", add_delta);
		if (rc == 0)
			rc = load_part(l, PART_COLD, "cold", add_cold);
		if (rc == 0)
			rc = load_part(l, PART_DELTA, "delta", check_delta);
		if (rc == 0)
			rc = load_part(l, PART_ATTR, "attr", add_attrs);
	}
	if (rc == 0 && l->fresh && l->parent)
		rc = load_fresh(l);
	if (rc == 0)
		count_subdirs(l);
	if (rc == 0) {
		l->loaded = true;
		return 0;
	}
	layer_drop_index_locked(l);
	log_error("%s: cannot read the layer: %s", l->dir, strerror(-rc));
	return rc;
}

/* --- who needs it --- */

/* Holds all of a chain, listed from the bottom up. */
static int hold_chain(struct layer *l, struct layer ***ret_chain, unsigned *ret_n)
{
	struct layer **chain, *i;
	unsigned n = 0;

	READ_SCOPE(&l->store->lineage);
	for (i = l; i; i = i->parent)
		n++;
	chain = calloc(n, sizeof(struct layer *));
	if (!chain)
		return -ENOMEM;
	*ret_chain = chain;
	*ret_n = n;
	for (i = l; i; i = i->parent) {
		WRITE_SCOPE(&i->lock);
		i->holds++;
		chain[--n] = i;
	}
	return 0;
}

int layer_load(struct layer *l)
{
	CLEAN(clean_free) struct layer **chain = NULL;
	unsigned n = 0;
	/* all first: what is below stays while what is above is read */
	int rc = hold_chain(l, &chain, &n);

	if (rc < 0)
		return rc;
	/* from the bottom up, without recursion: chains may be long */
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = load_one(chain[i]);
	if (rc < 0)
		layer_unload(l);
	return rc;
}

bool layer_index_get(struct layer *l)
{
	WRITE_SCOPE(&l->lock);
	if (l->loaded)
		l->holds++;
	return l->loaded;
}

/* The time of its record is when it was used last. */
static void note_use(struct layer *l)
{
	char path[BFILE_PATH_MAX];

	if (!atomic_load(&l->durable))
		return;
	(void)snprintf(path, sizeof(path), "%s/layer.ini", l->dir);
	/* if it fails, it is compressed too early */
	(void)utimensat(l->store->fd, path, NULL, AT_SYMLINK_NOFOLLOW);
}

void layer_index_put(struct layer *l)
{
	WRITE_SCOPE(&l->lock);
	if (--l->holds > 0 || !l->loaded || !layer_is_settled_locked(l))
		return;
	layer_drop_index_locked(l);
	note_use(l);
}

void layer_unload(struct layer *l)
{
	READ_SCOPE(&l->store->lineage); /* what is not held may get another parent */
	for (; l; l = l->parent)
		layer_index_put(l);
}

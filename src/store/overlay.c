/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * overlay.c - a branch's tree: resolving names and numbers over the chain, the freeze.
 * Changes of names are in overlay_change.c, open files in overlay_file.c.
 *
 * A name means what the topmost layer with an entry for (directory, name) says;
 * a file's attributes are those of its topmost part.  Because entries point to numbers,
 * a directory of a lower layer is renamed by one entry, and hard links and renames
 * need no redirection below.
 */
#include "store/overlay_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int overlay_new(struct layer *top, uint32_t no, struct overlay **ret_overlay)
{
	struct overlay *o = calloc(1, sizeof(*o));
	pthread_rwlockattr_t attr;
	int rc = -ENOMEM;

	if (o)
		rc = layer_load(top);
	if (rc < 0) {
		free(o);
		layer_put(top);
		return rc;
	}
	/* a freeze must not wait for ever behind a stream of writers */
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&o->freeze, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	(void)pthread_rwlock_init(&o->names, NULL);
	(void)pthread_mutex_init(&o->files, NULL);
	o->top = top;
	o->no = no;
	atomic_init(&o->refs, 1);
	o->touched = true;
	atomic_init(&o->next_fid, top->max_fid + 1);
	*ret_overlay = o;
	return 0;
}

struct overlay *overlay_get(struct overlay *o)
{
	atomic_fetch_add(&o->refs, 1);
	return o;
}

struct overlay *overlay_put(struct overlay *o)
{
	struct cowfile *f, *next;

	if (!o || atomic_fetch_sub(&o->refs, 1) != 1)
		return NULL;
	HASH_ITER(hh, o->open, f, next)
	{
		HASH_DEL(o->open, f);
		cowfile_free(f);
	}
	layer_unload(o->top);
	layer_put(o->top);
	free(o->watch_name);
	(void)pthread_mutex_destroy(&o->files);
	(void)pthread_rwlock_destroy(&o->names);
	(void)pthread_rwlock_destroy(&o->freeze);
	free(o);
	return NULL;
}

void overlay_freeze(struct overlay *o, struct layer *new_top)
{
	WRITE_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	atomic_store(&o->top->sealed, true);
	new_top->max_fid = atomic_load(&o->next_fid) - 1;
	new_top->loaded = true; /* nothing is in it */
	new_top->holds = 1;
	layer_put(o->top);
	o->top = new_top;
}

void overlay_watch(struct overlay *o, const char *name, void (*fn)(void *ctx),
		   void *ctx)
{
	LOCK_SCOPE(&o->files);
	if (o->watch_name)
		return; /* the same again */
	o->watch_fn = fn;
	o->watch_ctx = ctx;
	o->watch_name = strdup(name); /* NULL: then nothing is watched */
}

uint32_t overlay_no(const struct overlay *o)
{
	return o->no;
}

bool overlay_is_gone(const struct overlay *o)
{
	return atomic_load(&o->gone);
}

unsigned overlay_depth(const struct overlay *o)
{
	return layer_depth(o->top);
}

/* --- attributes --- */

static void put_file(struct bfile **f)
{
	bfile_put(*f);
}

/* stat of one layer's file of that number; -ENOENT if it has none. */
static int stat_in_layer(struct layer *l, uint64_t fid, struct stat *ret_st)
{
	CLEAN(put_file) struct bfile *f = layer_file(l, fid);
	char path[BFILE_PATH_MAX];

	if (!f)
		return -ENOENT;
	bfile_path(f, path);
	if (f->cold)
		return bfile_stat(f, ret_st) < 0 ? -EIO : 0; /* it has said why */
	if (!FAULT_FAILS("overlay.stat", path) &&
	    fstatat(l->store->fd, path, ret_st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	log_error("%s: cannot stat: %m", path);
	return -EIO;
}

int overlay_stat_file_locked(struct overlay *o, uint64_t fid, struct stat *ret_st)
{
	bool found = false, own = true;
	blkcnt_t blocks = 0;

	for (struct layer *l = o->top; l; l = l->parent) {
		struct stat st;
		int rc;

		own = own && !layer_is_shared(l, o->no);
		if (found && !own)
			break;
		rc = stat_in_layer(l, fid, &st);
		if (rc == -ENOENT)
			continue;
		if (rc < 0)
			return rc;
		if (own)
			blocks += st.st_blocks;
		if (!found)
			*ret_st = st;
		found = true;
	}
	if (found)
		ret_st->st_blocks = blocks;
	return found ? 0 : -ENOENT;
}

/* Adds up what the layers know of a directory; false if this one has no part of it. */
static bool dir_path(struct layer *l, uint64_t fid, bool *known, long *subdirs,
		     char path[static BFILE_PATH_MAX])
{
	struct dirnames *d;

	READ_SCOPE(&l->lock);
	d = dirnames_find(l->dirs, fid);
	if (!d)
		return false;
	*known = true;
	*subdirs += d->subdirs;
	if (!d->on_disk)
		return false;
	layer_part_path(l, PART_NAMES, fid, path);
	return true;
}

/* One that only follows from a fresh layer has no part. */
int overlay_stat_dir_locked(struct overlay *o, uint64_t fid, struct stat *ret_st)
{
	char first[BFILE_PATH_MAX] = "", last[BFILE_PATH_MAX] = "";
	bool known = false;
	long subdirs = 0;
	struct stat st;

	for (struct layer *l = o->top; l; l = l->parent)
		if (dir_path(l, fid, &known, &subdirs, last) && !*first)
			memcpy(first, last, sizeof(first));
	*ret_st = (struct stat){.st_mode = S_IFDIR | 0700};
	ret_st->st_nlink = (nlink_t)(2 + subdirs);
	if (!*first)
		return known ? 0 : -ESTALE;
	if (fstatat(o->top->store->fd, first, ret_st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(o->top->store->fd, last, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		log_error("%s: cannot stat: %m", first);
		return -EIO;
	}
	ret_st->st_mode = st.st_mode;
	ret_st->st_nlink = (nlink_t)(2 + subdirs);
	return 0;
}

int overlay_attrs_locked(struct overlay *o, uint64_t fid, struct attrs *ret)
{
	int rc = 0;

	*ret = (struct attrs){.nlink = 1};
	for (struct layer *l = o->top; l && rc == 0; l = l->parent)
		rc = layer_attrs(l, fid, ret);
	return rc < 0 ? rc : 0;
}

/* An open file's size and link count are known better than the disk knows them. */
static void add_open_state(struct overlay *o, uint64_t fid, struct node_attr *a)
{
	struct cowfile *f = NULL;

	LOCK_SCOPE(&o->files);
	HASH_FIND(hh, o->open, &fid, sizeof(fid), f);
	if (!f)
		return;
	a->size_bytes = atomic_load(&f->size_bytes);
	if (atomic_load(&f->unlinked))
		a->nlink = 0;
}

static struct timespec later(const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec > b->tv_sec ? *a : *b;
	return a->tv_nsec > b->tv_nsec ? *a : *b;
}

int overlay_attr_locked(struct overlay *o, uint64_t fid, struct node_attr *ret)
{
	struct attrs a;
	struct stat st;
	int rc = overlay_stat_file_locked(o, fid, &st);

	if (rc == -ENOENT)
		rc = overlay_stat_dir_locked(o, fid, &st);
	if (rc == 0)
		rc = overlay_attrs_locked(o, fid, &a);
	if (rc < 0)
		return rc;
	*ret = (struct node_attr){
		.fid = fid,
		.mode = (st.st_mode & S_IFMT) |
			(a.has_mode ? a.mode : st.st_mode & 07777),
		.nlink = S_ISDIR(st.st_mode) ? (uint32_t)st.st_nlink : a.nlink,
		.atime = st.st_atim,
		.mtime = st.st_mtim,
		/* chmod, link and unlink change the record, not the file */
		.ctime = later(&st.st_ctim, &a.changed),
	};
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
		ret->size_bytes = (uint64_t)st.st_size;
	if (S_ISREG(st.st_mode)) {
		ret->blocks = (uint64_t)st.st_blocks;
		add_open_state(o, fid, ret);
	}
	return 0;
}

int overlay_getattr(struct overlay *o, uint64_t fid, struct node_attr *ret_attr)
{
	READ_SCOPE(&o->freeze);
	READ_SCOPE(&o->names);
	return overlay_attr_locked(o, fid, ret_attr);
}

/* --- names --- */

int overlay_entry_locked(struct overlay *o, uint64_t dir, const char *name,
			 const struct entry **ret_entry)
{
	const struct entry *e;

	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	e = layer_chain_entry(o->top, dir, name);
	if (!entry_visible(e))
		return -ENOENT;
	if (e->kind == ENTRY_BAD)
		return -EIO;
	*ret_entry = e;
	return 0;
}

/* Logs what is wrong with an entry, by the path of its record. */
static int bad_entry(struct overlay *o, uint64_t dir, const struct entry *e,
		     const char *what)
{
	const struct layer *l = o->top;

	while (l->parent && entry_find(dirnames_find(l->dirs, dir), e->name) != e)
		l = l->parent;
	log_error("%s/names/%llx/%s: %s (%llx), refusing the name", l->dir,
		  (unsigned long long)dir, e->name, what, (unsigned long long)e->fid);
	return -EIO;
}

int overlay_lookup(struct overlay *o, uint64_t dir, const char *name,
		   struct node_attr *ret_attr)
{
	const struct entry *e;
	int rc;

	READ_SCOPE(&o->freeze);
	READ_SCOPE(&o->names);
	rc = overlay_entry_locked(o, dir, name, &e);
	if (rc == 0)
		rc = overlay_attr_locked(o, e->fid, ret_attr);
	if (rc == -ESTALE)
		rc = bad_entry(o, dir, e, "its file is in no layer");
	else if (rc == 0 && (ret_attr->mode & S_IFMT) != entry_type_mode(e->kind))
		rc = bad_entry(o, dir, e, "not what its file is");
	return rc;
}

/* One name of one layer, in the list that a merged directory is made from. */
struct listed {
	const struct entry *e;
	unsigned depth; /* 0: the top */
};

struct listing {
	struct listed *v;
	size_t n, cap;
};

static void listing_fini(struct listing *ls)
{
	free(ls->v);
}

static int listed_cmp(const void *pa, const void *pb)
{
	const struct listed *a = pa, *b = pb;
	int by_name;

	if (a->e->cookie != b->e->cookie)
		return a->e->cookie < b->e->cookie ? -1 : 1;
	by_name = strcmp(a->e->name, b->e->name);
	if (by_name != 0)
		return by_name;
	return a->depth < b->depth ? -1 : a->depth > b->depth;
}

/* Collects what every layer says about dir, sorted, the topmost word first. */
static int list_locked(struct overlay *o, uint64_t dir, uint64_t after,
		       struct listing *ls)
{
	unsigned depth = 0;

	for (struct layer *l = o->top; l; l = l->parent, depth++) {
		struct dirnames *d = dirnames_find(l->dirs, dir);
		struct entry *e, *next;

		if (!d)
			continue;
		if (d->bad)
			return -EIO;
		HASH_ITER(hh, d->entries, e, next)
		{
			if (e->cookie <= after)
				continue;
			if (ls->n == ls->cap) {
				size_t cap = ls->cap ? ls->cap * 2 : 64;
				struct listed *v = realloc(ls->v, cap * sizeof(*v));

				if (!v)
					return -ENOMEM;
				ls->v = v;
				ls->cap = cap;
			}
			ls->v[ls->n++] = (struct listed){e, depth};
		}
	}
	if (ls->n > 1)
		qsort(ls->v, ls->n, sizeof(*ls->v), listed_cmp);
	return 0;
}

/* Is element i overruled by a layer above, or a whiteout? */
static bool hidden(const struct listing *ls, size_t i)
{
	if (i > 0 && strcmp(ls->v[i - 1].e->name, ls->v[i].e->name) == 0)
		return true;
	return !entry_visible(ls->v[i].e);
}

int overlay_readdir(struct overlay *o, uint64_t dir, uint64_t after,
		    bool (*fn)(void *ctx, const char *name, uint64_t fid, mode_t type,
			       uint64_t cookie),
		    void *ctx)
{
	CLEAN(listing_fini) struct listing ls = {NULL, 0, 0};
	struct stat st;
	int rc;

	READ_SCOPE(&o->freeze);
	READ_SCOPE(&o->names);
	rc = overlay_stat_dir_locked(o, dir, &st);
	if (rc == 0)
		rc = list_locked(o, dir, after, &ls);
	for (size_t i = 0; rc == 0 && i < ls.n; i++) {
		const struct entry *e = ls.v[i].e;

		if (hidden(&ls, i))
			continue;
		if (!fn(ctx, e->name, e->fid, entry_type_mode(e->kind), e->cookie))
			break;
	}
	return rc;
}

bool overlay_is_empty_locked(struct overlay *o, uint64_t dir)
{
	CLEAN(listing_fini) struct listing ls = {NULL, 0, 0};

	if (list_locked(o, dir, 0, &ls) < 0)
		return false; /* not known: then better not */
	for (size_t i = 0; i < ls.n; i++)
		if (!hidden(&ls, i))
			return false;
	return true;
}

int overlay_fsyncdir(struct overlay *o, uint64_t dir)
{
	struct layer *top;
	int rc = 0;

	{
		READ_SCOPE(&o->freeze);
		top = layer_get(o->top);
	}
	while (rc == 0 && top && !atomic_load(&top->durable)) {
		/* what the entries point to, first */
		rc = layer_sync_part(top, PART_FULL);
		if (rc == 0)
			rc = layer_sync_part(top, PART_ATTR);
		if (rc == 0)
			rc = layer_sync_dirnames(top, dir);
		top = layer_step_down(top);
	}
	layer_put(top);
	return rc;
}

int overlay_walk(struct overlay *o, const char *path, struct node_attr *ret_attr)
{
	CLEAN(clean_free) char *copy = strdup(path);
	uint64_t dir = OVERLAY_ROOT;
	char *save = NULL, *name;
	const struct entry *e;
	int rc;

	if (!copy)
		return -ENOMEM;
	READ_SCOPE(&o->freeze);
	READ_SCOPE(&o->names);
	for (name = strtok_r(copy, "/", &save); name;
	     name = strtok_r(NULL, "/", &save)) {
		rc = overlay_entry_locked(o, dir, name, &e);
		if (rc < 0)
			return rc;
		dir = e->fid;
	}
	rc = overlay_attr_locked(o, dir, ret_attr);
	return rc == -ESTALE ? -EIO : rc; /* a name without bytes */
}

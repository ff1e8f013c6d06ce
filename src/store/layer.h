/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer.h - one level of a branch on disk, with a complete index of it in memory.
 *
 *   layers/ID/layer.ini        its parent; written once, before anything stands on it
 *   layers/ID/names/DIR/NAME   entries of directory DIR (names.h)
 *   layers/ID/full/FID         files, symlinks, fifos, sockets: all of it
 *   layers/ID/delta/FID        sparse: blocks written in this layer...
 *   layers/ID/map/FID          ...and which of them count
 *   layers/ID/attr/FID         mode and link count where they differ
 *   layers/ID/cold/FID         in the place of full/FID or delta/FID: compressed
 *
 * A layer is made on disk at its first write.  A sealed layer never changes again:
 * its index is read without a lock.  The index of a layer that is not sealed is guarded
 * by its rwlock `lock` (functions ending in _locked want it held for writing).
 * Layers are reference counted and hold a reference to their parent.
 *
 * The index is in memory while somebody holds it (layer_load, layer_unload), and longer
 * where it says something that the disk does not know yet.
 */
#ifndef STORE_LAYER_H
#define STORE_LAYER_H

#include "base/metrics.h"
#include "store/bfile.h"
#include "store/dsync.h"
#include "store/names.h"

/* What all layers of a store share. */
struct store {
	int fd;
	struct fdcache *fds;
	struct cold_cache *cold;
	bool keeps_order;     /* a directory is never durable before another one's
				 earlier changes */
	struct dsync layers;  /* of the directory layers/ */
	struct dsync records; /* of branches/ */
	atomic_uint layer_count;
	pthread_rwlock_t lineage; /* against a layer's parent being replaced */
	/* what was there already, and what had to be fetched from disk */
	struct metric_counter fd_hits, fd_misses, map_hits, map_misses;
};

enum layer_part {
	PART_NAMES,
	PART_FULL,
	PART_DELTA,
	PART_MAP,
	PART_ATTR,
	PART_COLD,
	PART_COUNT
};

/*
 * Numbers from here on belong to directories that follow from a fresh layer: eight for
 * each layer id, so they need no record and are the same after every mount.
 */
#define FRESH_FID_FIRST (UINT64_C(1) << 35)
#define FRESH_FIDS 8

struct attr_rec {
	UT_hash_handle hh;
	uint64_t fid;
	struct attrs attrs;
	bool bad;
};

/* What the layer takes on disk, as it was found last: layer_usage.c. */
struct layer_usage {
	atomic_bool changed; /* since then, or never looked */
	pthread_mutex_t lock;
	uint64_t blocks;  /* lock: lock */
	bool settled;     /* lock: lock; stays as it is until a change */
	int64_t again_ms; /* lock: lock; otherwise to be taken again then */
	unsigned round;   /* lock: registry->stats; which one counted it last */
};

struct layer {
	struct store *store;
	/*
	 * Owned reference; NULL at the bottom.  Replaced by one that says the same
	 * (squash.h): under store->lineage, and under the freeze lock of all trees that
	 * stand on the layer.  So whoever holds neither, nor registry->change, asks
	 * layer_get_parent.
	 */
	struct layer *parent;
	uint32_t id;
	uint32_t height; /* larger than its parent's, whatever the numbers are */
	char dir[24];    /* below the store: "layers/0000002a" */
	bool fresh;   /* starts without what a copy of a data directory must not have */
	bool scratch; /* never synced: a run directory */
	bool merged;  /* made of others; its record says which numbers were given out */
	unsigned search_round; /* lock: registry->change; which search met it last */
	bool chilled;          /* gone through by chill.c; lock: registry->change */
	bool leaving; /* its place is taken by a merged one; lock: store->lineage */
	atomic_uint refs;
	atomic_uint users; /* child layers, branches and checkpoints that stand on it */
	/* How many of these are checkpoints of the branch with data number own_by, or
	 * layers that only those have, besides its own way down: holdings.c. */
	atomic_uint own_users, own_by;

	pthread_rwlock_t lock;
	atomic_bool sealed;
	unsigned holds; /* lock: lock; who needs the index */
	bool loaded;    /* lock: lock */
	bool gone;      /* lock: lock; its branch stands on another one now */
	bool made;      /* the directory exists; lock: lock */
	bool part_made[PART_COUNT];
	uint64_t max_fid; /* largest number given out in it, or below it */
	struct dirnames *dirs;
	struct bfile *files;
	struct attr_rec *attrs;

	struct dsync root, parts[PART_COUNT]; /* directory entries against fsync */
	struct dsync removals;      /* of files whose names went, against those names */
	pthread_mutex_t flush_lock; /* one flush at a time */
	atomic_bool durable;        /* sealed and all of it on disk */
	atomic_uint temp_seq;
	struct layer_usage usage;
};

/* The parts that need no disk. */
void store_init(struct store *s);
void store_fini(struct store *s);

/*
 * A layer object; no disk access.  parent: a reference that the layer takes
 * over (also on failure), and one user more for it.  NULL: out of memory.
 */
struct layer *layer_new(struct store *s, uint32_t id, struct layer *parent, bool fresh);
/* A scratch layer at dir below the store, empty. */
struct layer *layer_new_scratch(struct store *s, const char *dir);
struct layer *layer_get(struct layer *l);
struct layer *layer_put(struct layer *l); /* NULL is fine; returns NULL */
/* A new reference on what it stands on, or NULL. */
struct layer *layer_get_parent(struct layer *l);
/* Gives l back and has its parent: for a walk down a chain. */
struct layer *layer_step_down(struct layer *l);

/* One hold more on the index of this layer and of all below it; what is not in memory
 * is read from disk, the lowest first. */
int layer_load(struct layer *l) MUST_CHECK;
/* Gives that back.  An index that nobody holds goes, once all of it is on disk. */
void layer_unload(struct layer *l);

/* How many layers that is, with all below it. */
unsigned layer_depth(struct layer *l);

/* What the name means from this layer downwards, whiteouts included; NULL: nothing. */
const struct entry *layer_chain_entry(struct layer *l, uint64_t dir, const char *name);

/*
 * By how much an entry changes the number of subdirectories that the layers below
 * show: 1, 0, or -1 if it hides one.  e: NULL for none.
 */
int layer_subdir_weight(const struct layer *l, uint64_t dir, const struct entry *e);

/* The layer's own word on a name, file or attributes; NULL if it has none.  Names
 * of a layer that is not sealed are guarded by its overlay's names lock. */
const struct entry *layer_entry(struct layer *l, uint64_t dir, const char *name);
struct bfile *layer_file(struct layer *l, uint64_t fid); /* a new reference */
bool layer_has_file(struct layer *l, uint64_t fid);
/* 0 not there, 1 found, -EIO damaged. */
int layer_attrs(struct layer *l, uint64_t fid, struct attrs *ret_attrs) MUST_CHECK;

/* Changes; only before the seal.  All leave the index as it was on failure. */
int layer_make_part(struct layer *l, enum layer_part part) MUST_CHECK;
int layer_make_dirnames(struct layer *l, uint64_t dir, mode_t mode,
			struct dirnames **ret_names) MUST_CHECK;
/* Makes dir/name mean (kind, fid), atomically, whatever it was in this layer. */
int layer_set_entry(struct layer *l, uint64_t dir, const char *name,
		    enum entry_kind kind, uint64_t fid) MUST_CHECK;
/* Takes the layer's own entry away. */
int layer_drop_entry(struct layer *l, uint64_t dir, const char *name) MUST_CHECK;
/* Moves an entry of this layer; with whiteout the old name is hidden, in the
 * same atomic step where the file system can do that. */
int layer_move_entry(struct layer *l, uint64_t dir, const char *name, uint64_t newdir,
		     const char *newname, bool whiteout) MUST_CHECK;
int layer_set_attrs(struct layer *l, uint64_t fid, const struct attrs *a) MUST_CHECK;
/* Makes full/FID (O_EXCL) or delta/FID of this size; a new reference. */
int layer_make_file(struct layer *l, uint64_t fid, enum bfile_kind kind, mode_t mode,
		    uint64_t size_bytes, struct bfile **ret_file) MUST_CHECK;
int layer_make_symlink(struct layer *l, uint64_t fid, const char *target) MUST_CHECK;
/* A fifo or a socket. */
int layer_make_special(struct layer *l, uint64_t fid, mode_t mode) MUST_CHECK;
/* Forgets and removes what the layer has of fid: bytes, map, attributes. */
void layer_remove_file(struct layer *l, uint64_t fid);
/* Removes names/DIR of a directory that is gone. */
void layer_remove_dirnames(struct layer *l, uint64_t dir);

/* Closes the files of a layer whose directory was removed. */
void layer_let_go(struct layer *l);

/* fsync of one of the directories, if it changed; and of the way to it. */
int layer_sync_part(struct layer *l, enum layer_part part) MUST_CHECK;
int layer_sync_dirnames(struct layer *l, uint64_t dir) MUST_CHECK;
/* The same of all of them: what entries point to first, then the entries. */
int layer_sync_dirs(struct layer *l) MUST_CHECK;
/* Writes layer.ini and makes the way to it durable: after it, records may name
 * the layer as a parent. */
int layer_prepare_seal(struct layer *l) MUST_CHECK;
/* Makes all of a sealed layer and of those below it durable; blocks. */
int layer_flush(struct layer *l) MUST_CHECK;

/* Does somebody else stand on it than the branch with data number `no`, on whose way
 * down it is? */
static inline bool layer_is_shared(const struct layer *l, uint32_t no)
{
	unsigned own = atomic_load(&l->own_by) == no ? atomic_load(&l->own_users) : 0;

	return atomic_load(&l->users) > 1 + own;
}

/* Something was written to it that may take or free space. */
static inline void layer_changed(struct layer *l)
{
	if (!atomic_load(&l->usage.changed))
		atomic_store(&l->usage.changed, true);
}
/*
 * The 512-byte blocks of its files.  Needs no index; reads directories when something
 * changed since the last time, so not on the loop thread.
 */
int layer_blocks(struct layer *l, uint64_t *ret_blocks) MUST_CHECK;

void layer_part_path(const struct layer *l, enum layer_part part, uint64_t fid,
		     char buf[static BFILE_PATH_MAX]);

#endif

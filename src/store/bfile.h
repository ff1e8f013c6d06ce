/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bfile.h - a backing file: what one layer holds of one file's bytes, either all of
 * it (full/FID) or the blocks that its map names (delta/FID with map/FID).  In a sealed
 * layer the bytes of either may be compressed: then they are in cold/FID.
 *
 * Descriptors come from a cache of bounded size: bfile_pin opens if need be and
 * keeps the file open until bfile_unpin.  A file with writes that no fsync
 * covered stays open, so that a write-back error reaches the fsync.
 *
 * A bfile is reference counted.  The map of a sealed layer's file never changes
 * and is read without a lock once bfile_map returned it; that of a top layer's
 * is guarded by the lock of the cowfile that writes it.
 */
#ifndef STORE_BFILE_H
#define STORE_BFILE_H

#include "store/blockmap.h"
#include "store/coldfile.h"
#include "store/dsync.h"
#include "store/names.h"

struct layer;
struct fdcache;

enum bfile_kind { BFILE_FULL, BFILE_DELTA };

struct bfile {
	UT_hash_handle hh; /* in layer->files, by fid */
	uint64_t fid;
	struct layer *layer; /* not counted: the layer outlives its files */
	enum bfile_kind kind;
	atomic_uint refs;
	uint64_t name_dir; /* the directory it was created in; 0: not in this mount */

	pthread_mutex_t lock; /* fd, pins, used, map's loading */
	int fd;
	unsigned pins;
	bool used;                 /* since the cache's hand came by */
	bool in_cache;             /* lock: the cache's */
	struct bfile *prev, *next; /* lock: the cache's; ring */

	struct dsync data;        /* writes against fdatasync */
	bool has_map;             /* loaded or new */
	struct blockmap map;      /* BFILE_DELTA */
	struct dsync map_sync;    /* changes of the map against its record */
	bool cold;                /* compressed; stays so while it is in an index */
	struct cold_index *index; /* lock: lock; of a cold one, once it was needed */
	bool cut;                 /* the line was lowered since the map was saved */
};

int fdcache_new(unsigned max_fds, struct fdcache **ret_cache) MUST_CHECK;
struct fdcache *fdcache_free(struct fdcache *c);
/* How many descriptors it holds, and how many it would. */
void fdcache_count(struct fdcache *c, unsigned *ret_open, unsigned *ret_max);

/* A bfile of an index: one reference, no descriptor yet. */
struct bfile *bfile_new(struct layer *l, uint64_t fid, enum bfile_kind kind);
struct bfile *bfile_get(struct bfile *f);
struct bfile *bfile_put(struct bfile *f); /* NULL is fine; returns NULL */

/* The descriptor (writable if the layer is not sealed); -errno. */
int bfile_pin(struct bfile *f) MUST_CHECK;
/* What it holds, whether it is compressed or not: as fd_pread_full, fstat(2) with the
 * size of the bytes, and lseek(2) with SEEK_DATA or SEEK_HOLE. */
ssize_t bfile_pread(struct bfile *f, void *buf, size_t len,
		    uint64_t off_bytes) MUST_CHECK;
int bfile_stat(struct bfile *f, struct stat *ret_st) MUST_CHECK;
int64_t bfile_seek(struct bfile *f, uint64_t off_bytes, int whence) MUST_CHECK;
void bfile_unpin(struct bfile *f);
/* Closes the descriptor now unless it is in use: the file was removed, and its space
 * is free only then. */
void bfile_let_go(struct bfile *f);
/* Gives the cache a descriptor of a file that was just made. */
void bfile_adopt_fd(struct bfile *f, int fd);

/* Its bytes or the space for them changed: an fsync has something to do. */
void bfile_wrote(struct bfile *f);

/* Loads the map at first use; -EIO (logged with the file's name) if damaged. */
int bfile_map(struct bfile *f, const struct blockmap **ret_map) MUST_CHECK;
/* Gives a new delta its map. */
void bfile_new_map(struct bfile *f, uint64_t below_bytes);

/* fdatasync of the bytes, if something was written. */
int bfile_sync_data(struct bfile *f) MUST_CHECK;
/*
 * Makes the map's record durable if it changed.  The bytes it speaks of must be:
 * encode takes the map (under the cowfile's lock) before the bytes' fsync, save
 * comes after it.  *ret_buf NULL: nothing to save.
 */
struct map_image {
	uint8_t *buf;
	size_t len;
	uint64_t mark;
};
int bfile_encode_map(struct bfile *f, struct map_image *ret_image) MUST_CHECK;
int bfile_save_map(struct bfile *f, struct map_image *image) MUST_CHECK;

/* Path below the store: "layers/0000002a/full/1a3"; buf takes BFILE_PATH_MAX. */
#define BFILE_PATH_MAX 64
void bfile_path(const struct bfile *f, char buf[static BFILE_PATH_MAX]);

#endif

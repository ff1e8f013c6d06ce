/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bfile.c - backing files and the cache of their descriptors.
 *
 * The cache is a clock: a ring of open files with a hand.  A file that was used
 * since the hand last came by is spared once; one that is pinned or has writes
 * that no fsync covered is spared, and synced if no other is left.  If every file
 * is in use, the cache grows past its bound rather than fail a request.
 *
 * Lock order: cache->lock, then bfile->lock (only tried).  bfile->lock is
 * held over open() of that file, never over another one's I/O.
 */
#include "store/bfile.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "store/cold.h"
#include "store/layer.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAP_RECORD_MAX (UINT64_C(40) << 20)

struct fdcache {
	pthread_mutex_t lock;
	struct bfile *hand; /* ring of files with a descriptor */
	unsigned count, max;
};

int fdcache_new(unsigned max_fds, struct fdcache **ret_cache)
{
	struct fdcache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	(void)pthread_mutex_init(&c->lock, NULL);
	c->max = max_fds;
	*ret_cache = c;
	return 0;
}

void fdcache_count(struct fdcache *c, unsigned *ret_open, unsigned *ret_max)
{
	LOCK_SCOPE(&c->lock);
	*ret_open = c->count;
	*ret_max = c->max;
}

struct fdcache *fdcache_free(struct fdcache *c)
{
	if (c) {
		(void)pthread_mutex_destroy(&c->lock);
		free(c);
	}
	return NULL;
}

static void ring_remove_locked(struct fdcache *c, struct bfile *f)
{
	if (!f->in_cache)
		return;
	if (c->hand == f)
		c->hand = f->next == f ? NULL : f->next;
	f->prev->next = f->next;
	f->next->prev = f->prev;
	f->in_cache = false;
	c->count--;
}

static void ring_add_locked(struct fdcache *c, struct bfile *f)
{
	if (f->in_cache)
		return;
	if (!c->hand) {
		f->prev = f->next = f;
		c->hand = f;
	} else { /* behind the hand: the last that it reaches */
		f->next = c->hand;
		f->prev = c->hand->prev;
		f->prev->next = f;
		f->next->prev = f;
	}
	f->in_cache = true;
	c->count++;
}

/* Closes f's descriptor unless somebody needs it; true if it went. */
static bool evict(struct bfile *f)
{
	bool gone = false;

	if (pthread_mutex_trylock(&f->lock) != 0)
		return false;
	if (f->used) {
		f->used = false;
	} else if (f->pins == 0 && f->fd >= 0 &&
		   pthread_mutex_trylock(&f->data.lock) == 0) {
		if (!dsync_dirty(&f->data)) {
			(void)close(f->fd); /* nothing unwritten in it */
			f->fd = -1;
			gone = true;
		}
		(void)pthread_mutex_unlock(&f->data.lock);
	}
	(void)pthread_mutex_unlock(&f->lock);
	return gone;
}

static void sweep_locked(struct fdcache *c, const struct bfile *keep)
{
	for (unsigned steps = 2 * c->count; c->count > c->max && steps > 0; steps--) {
		struct bfile *victim = c->hand;

		c->hand = victim->next;
		if (victim != keep && evict(victim))
			ring_remove_locked(c, victim);
	}
}

/* A reference to a file that only its unsynced writes keep open, or NULL. */
static struct bfile *find_unsynced_locked(struct fdcache *c, const struct bfile *keep)
{
	struct bfile *f = c->hand;

	for (unsigned steps = c->count; steps > 0; steps--, f = f->next) {
		unsigned refs = atomic_load(&f->refs);

		if (f == keep || !dsync_dirty(&f->data) || atomic_load(&f->data.failed))
			continue;
		while (refs > 0) /* 0: about to be freed by another thread */
			if (atomic_compare_exchange_weak(&f->refs, &refs, refs + 1))
				return f;
	}
	return NULL;
}

/*
 * Makes room.  Where every file has writes that no fsync covered, one after the other
 * is synced early: an fsync more than was asked for beats refusing an open.
 * What it reports stays with the file for the fsync that will ask.
 */
static void cache_add(struct fdcache *c, struct bfile *f)
{
	struct bfile *unsynced;
	int rc;

	do {
		unsynced = NULL;
		{
			LOCK_SCOPE(&c->lock);
			ring_add_locked(c, f);
			sweep_locked(c, f);
			if (c->count > c->max)
				unsynced = find_unsynced_locked(c, f);
		}
		if (unsynced) {
			rc = bfile_sync_data(unsynced);
			bfile_put(unsynced);
		}
	} while (unsynced && rc == 0);
}

struct bfile *bfile_new(struct layer *l, uint64_t fid, enum bfile_kind kind)
{
	struct bfile *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->layer = l;
	f->fid = fid;
	f->kind = kind;
	f->fd = -1;
	atomic_init(&f->refs, 1);
	(void)pthread_mutex_init(&f->lock, NULL);
	dsync_init(&f->data);
	dsync_init(&f->map_sync);
	return f;
}

struct bfile *bfile_get(struct bfile *f)
{
	atomic_fetch_add(&f->refs, 1);
	return f;
}

struct bfile *bfile_put(struct bfile *f)
{
	struct fdcache *c;

	if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
		return NULL;
	c = f->layer->store->fds;
	(void)pthread_mutex_lock(&c->lock);
	ring_remove_locked(c, f);
	(void)pthread_mutex_unlock(&c->lock);
	clean_fd(&f->fd);
	if (f->has_map)
		blockmap_fini(&f->map);
	if (f->index)
		cold_index_fini(f->index);
	free(f->index);
	dsync_fini(&f->data);
	dsync_fini(&f->map_sync);
	(void)pthread_mutex_destroy(&f->lock);
	free(f);
	return NULL;
}

void bfile_path(const struct bfile *f, char buf[static BFILE_PATH_MAX])
{
	layer_part_path(f->layer,
			f->cold                 ? PART_COLD
			: f->kind == BFILE_FULL ? PART_FULL
						: PART_DELTA,
			f->fid, buf);
}

/* Missing, or something else than a file: that is the store's fault, not the caller's.
 */
static int open_error(int rc)
{
	return rc == -ENOENT || rc == -EISDIR || rc == -ELOOP || rc == -EBADMSG ||
			       rc == -ENXIO
		       ? -EIO
		       : rc;
}

int bfile_pin(struct bfile *f)
{
	bool opened = false;
	int fd;

	{
		LOCK_SCOPE(&f->lock);
		if (f->fd < 0) {
			char path[BFILE_PATH_MAX];
			int flags = atomic_load(&f->layer->sealed) ? O_RDONLY : O_RDWR;
			int rc;

			bfile_path(f, path);
			/* what one branch reads must not show in another's atime */
			rc = FAULT_FAILS("bfile.open", path)
				     ? -errno
				     : fd_open_regular(f->layer->store->fd, path,
						       flags | O_NOATIME);
			if (rc == -EPERM) /* of another's store */
				rc = fd_open_regular(f->layer->store->fd, path, flags);
			if (rc < 0) {
				log_error("%s: cannot open: %s", path, strerror(-rc));
				return open_error(rc);
			}
			f->fd = rc;
			opened = true;
		}
		f->pins++;
		f->used = true;
		fd = f->fd;
	}
	metric_add(opened ? &f->layer->store->fd_misses : &f->layer->store->fd_hits, 1);
	if (opened)
		cache_add(f->layer->store->fds, f);
	return fd;
}

void bfile_unpin(struct bfile *f)
{
	LOCK_SCOPE(&f->lock);
	f->pins--;
}

void bfile_let_go(struct bfile *f)
{
	struct fdcache *c = f->layer->store->fds;

	LOCK_SCOPE(&c->lock);
	LOCK_SCOPE(&f->lock);
	if (f->pins > 0)
		return;
	ring_remove_locked(c, f);
	clean_fd(&f->fd);
	f->fd = -1;
}

void bfile_adopt_fd(struct bfile *f, int fd)
{
	{
		LOCK_SCOPE(&f->lock);
		f->fd = fd;
		f->used = true;
	}
	cache_add(f->layer->store->fds, f);
}

/* The index of a cold file, read at first use; its descriptor is pinned. */
static int need_index(struct bfile *f, int fd)
{
	struct cold_index *x;
	char path[BFILE_PATH_MAX];
	int rc;

	LOCK_SCOPE(&f->lock);
	if (f->index)
		return 0;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	bfile_path(f, path);
	rc = cold_index_load(fd, path, f->fid, x);
	if (rc == 0 && x->delta != (f->kind == BFILE_DELTA)) {
		log_error("%s: is of another kind of file, refusing it", path);
		cold_index_fini(x);
		rc = -EIO;
	}
	if (rc < 0)
		free(x);
	else
		f->index = x;
	return rc;
}

ssize_t bfile_pread(struct bfile *f, void *buf, size_t len, uint64_t off)
{
	int fd = bfile_pin(f);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = f->cold ? need_index(f, fd) : 0;
	if (n == 0)
		n = f->cold ? cold_pread(f, fd, buf, len, off)
			    : fd_pread_full(fd, buf, len, off);
	bfile_unpin(f);
	return n;
}

int bfile_stat(struct bfile *f, struct stat *ret_st)
{
	int fd = bfile_pin(f), rc;

	if (fd < 0)
		return fd;
	rc = fstat(fd, ret_st) < 0 ? -errno : 0;
	if (rc == 0 && f->cold)
		rc = need_index(f, fd);
	if (rc == 0 && f->cold)
		ret_st->st_size = (off_t)f->index->size_bytes;
	bfile_unpin(f);
	return rc;
}

/* Frames of zeros are its holes. */
static int64_t seek_cold(const struct cold_index *x, uint64_t off, int whence)
{
	if (off >= x->size_bytes)
		return -ENXIO;
	for (uint32_t i = (uint32_t)(off / x->frame_bytes); i < x->n; i++) {
		uint64_t at = (uint64_t)i * x->frame_bytes;

		if ((x->offs[i + 1] > x->offs[i]) == (whence == SEEK_DATA))
			return (int64_t)(at > off ? at : off);
	}
	return whence == SEEK_DATA ? -ENXIO : (int64_t)x->size_bytes;
}

int64_t bfile_seek(struct bfile *f, uint64_t off, int whence)
{
	int fd = bfile_pin(f);
	int64_t at;

	if (fd < 0)
		return fd;
	if (f->cold) {
		at = need_index(f, fd);
		at = at < 0 ? at : seek_cold(f->index, off, whence);
	} else {
		at = lseek(fd, (off_t)off, whence);
		at = at < 0 ? -errno : at;
	}
	bfile_unpin(f);
	return at;
}

void bfile_wrote(struct bfile *f)
{
	dsync_mark(&f->data);
	layer_changed(f->layer);
}

void bfile_new_map(struct bfile *f, uint64_t below_bytes)
{
	blockmap_init(&f->map, below_bytes);
	f->has_map = true;
	dsync_mark(&f->map_sync);
}

int bfile_map(struct bfile *f, const struct blockmap **ret_map)
{
	char path[BFILE_PATH_MAX];
	CLEAN(clean_free) char *buf = NULL;
	size_t len;
	int rc;

	LOCK_SCOPE(&f->lock);
	if (f->has_map) {
		metric_add(&f->layer->store->map_hits, 1);
		*ret_map = &f->map;
		return 0;
	}
	metric_add(&f->layer->store->map_misses, 1);
	layer_part_path(f->layer, PART_MAP, f->fid, path);
	rc = fd_read_regular(f->layer->store->fd, path, MAP_RECORD_MAX, &buf, &len);
	if (rc == 0)
		rc = blockmap_decode((const uint8_t *)buf, len, f->layer->id, f->fid,
				     &f->map);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		log_error("%s: damaged block map (%s), refusing the file", path,
			  strerror(-rc));
		return -EIO;
	}
	f->has_map = true;
	*ret_map = &f->map;
	return 0;
}

int bfile_sync_data(struct bfile *f)
{
	char path[BFILE_PATH_MAX];
	uint64_t mark;
	int rc = dsync_begin(&f->data, &mark);
	int fd;

	if (rc <= 0)
		return rc;
	fd = bfile_pin(f);
	if (fd < 0) /* a failed write-back waits for the one who can open it */
		return dsync_cancel(&f->data, fd);
	bfile_path(f, path);
	rc = FAULT_FAILS("bfile.fdatasync", path) || fdatasync(fd) < 0 ? -errno : 0;
	if (rc < 0)
		log_error("%s: fsync failed: %s; the file refuses fsync from now on",
			  path, strerror(-rc));
	bfile_unpin(f);
	FAULT_POINT("bfile.data-synced");
	return dsync_end(&f->data, mark, rc);
}

int bfile_encode_map(struct bfile *f, struct map_image *ret_image)
{
	*ret_image = (struct map_image){.mark = atomic_load(&f->map_sync.marks)};
	if (f->kind != BFILE_DELTA || !f->has_map || !dsync_dirty(&f->map_sync))
		return 0;
	return blockmap_encode(&f->map, f->layer->id, f->fid, &ret_image->buf,
			       &ret_image->len);
}

int bfile_save_map(struct bfile *f, struct map_image *image)
{
	char path[BFILE_PATH_MAX];
	uint64_t now;
	int rc;

	if (!image->buf)
		return 0;
	rc = dsync_begin(&f->map_sync, &now);
	if (rc <= 0)
		return rc;
	if (image->mark <=
	    atomic_load(&f->map_sync.covered)) /* a later one was saved */
		return dsync_end(&f->map_sync, atomic_load(&f->map_sync.covered), 0);
	layer_part_path(f->layer, PART_MAP, f->fid, path);
	rc = layer_make_part(f->layer, PART_MAP);
	if (rc == 0)
		rc = fd_replace_file(f->layer->store->fd, path, image->buf, image->len,
				     0600, 0);
	/* the old map is still in its place, and the next try writes all of it: a disk
	 * that was full for a while is no reason to refuse the file for ever */
	if (rc < 0)
		return dsync_cancel(&f->map_sync, rc);
	dsync_mark(&f->layer->parts[PART_MAP]);
	FAULT_POINT("bfile.map-saved");
	return dsync_end(&f->map_sync, image->mark, 0);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cold.c - the frames that were decoded last, by layer, file and place; the oldest
 * makes room.  A frame is copied out under the cache's lock and decoded without it, so
 * two who need the same one at once may both decode it.
 */
#include "store/cold.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "store/layer.h"

#include <string.h>
#include <sys/stat.h>

struct frame_key {
	uint64_t fid;
	uint32_t layer, i;
};

struct frame {
	UT_hash_handle hh; /* the oldest first */
	struct frame_key key;
	uint32_t len;
	uint8_t bytes[];
};

struct cold_cache {
	pthread_mutex_t lock;
	struct frame *frames; /* lock: lock */
};

struct cold_cache *cold_cache_new(void)
{
	struct cold_cache *c = calloc(1, sizeof(*c));

	if (c)
		(void)pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void drop_oldest(struct cold_cache *c)
{
	struct frame *f = c->frames;

	HASH_DEL(c->frames, f);
	free(f);
}

struct cold_cache *cold_cache_free(struct cold_cache *c)
{
	if (!c)
		return NULL;
	while (c->frames)
		drop_oldest(c);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

static bool copy_cached(struct cold_cache *c, const struct frame_key *key, void *buf,
			uint32_t from, uint32_t len)
{
	struct frame *f = NULL;

	LOCK_SCOPE(&c->lock);
	HASH_FIND(hh, c->frames, key, sizeof(*key), f);
	if (!f || from + len > f->len)
		return false;
	memcpy(buf, f->bytes + from, len);
	HASH_DEL(c->frames, f); /* to the end: it is the newest */
	HASH_ADD(hh, c->frames, key, sizeof(*key), f);
	if (!f->hh.tbl)
		free(f);
	return true;
}

/* Takes the frame over. */
static void cache_put(struct cold_cache *c, struct frame *f)
{
	struct frame *old = NULL;

	LOCK_SCOPE(&c->lock);
	HASH_FIND(hh, c->frames, &f->key, sizeof(f->key), old);
	if (!old) {
		HASH_ADD(hh, c->frames, key, sizeof(f->key), f);
		old = f->hh.tbl ? NULL : f;
	} else {
		old = f;
	}
	free(old);
	if (HASH_COUNT(c->frames) > COLD_CACHE_FRAMES)
		drop_oldest(c);
}

int cold_index_load(int fd, const char *path, uint64_t fid, struct cold_index *ret)
{
	CLEAN(clean_free) uint8_t *buf = NULL;
	uint8_t head[COLD_HEAD];
	uint64_t bytes = 0;
	struct stat st;
	ssize_t n = fd_pread_full(fd, head, sizeof(head), 0);
	int rc = n < 0 ? (int)n : cold_head_decode(head, (size_t)n, &bytes);

	if (rc == 0 && fstat(fd, &st) < 0)
		rc = -errno;
	if (rc == 0 && bytes > (uint64_t)st.st_size)
		rc = -EBADMSG;
	if (rc == 0) {
		buf = malloc(bytes);
		n = buf ? fd_pread_full(fd, buf, bytes, 0) : -ENOMEM;
		rc = n < 0 ? (int)n
			   : cold_index_decode(buf, (size_t)n, (uint64_t)st.st_size,
					       fid, ret);
	}
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	log_error("%s: damaged compressed file (%s), refusing it", path, strerror(-rc));
	return -EIO;
}

int cold_frame_load(int fd, const char *path, const struct cold_index *x, uint32_t i,
		    uint8_t *buf)
{
	uint32_t stored = (uint32_t)(x->offs[i + 1] - x->offs[i]);
	CLEAN(clean_free) uint8_t *in = malloc(stored + 1);
	ssize_t n;
	int rc;

	if (!in)
		return -ENOMEM;
	n = FAULT_FAILS("cold.pread", path) ? -errno
					    : fd_pread_full(fd, in, stored, x->offs[i]);
	rc = n < 0 ? (int)n : (uint64_t)n < stored ? -EBADMSG : 0;
	if (rc == 0)
		rc = cold_frame_decode(in, stored, x->sums[i], buf,
				       cold_frame_len(x, i));
	if (rc == -EBADMSG)
		log_error("%s: frame %u of %u is damaged, refusing it", path, i, x->n);
	return rc == -EBADMSG ? -EIO : rc;
}

/* From `from` on, within one frame. */
static int read_frame(struct bfile *f, int fd, uint32_t i, uint8_t *buf, uint32_t from,
		      uint32_t len)
{
	struct cold_cache *c = f->layer->store->cold;
	const struct cold_index *x = f->index;
	struct frame *fr;
	char path[BFILE_PATH_MAX];
	int rc;
	struct frame_key key;

	memset(&key, 0, sizeof(key)); /* it is compared as a whole */
	key.fid = f->fid;
	key.layer = f->layer->id;
	key.i = i;
	if (c && copy_cached(c, &key, buf, from, len))
		return 0;
	fr = calloc(1, sizeof(*fr) + cold_frame_len(x, i));
	if (!fr)
		return -ENOMEM;
	fr->key = key;
	fr->len = cold_frame_len(x, i);
	bfile_path(f, path);
	rc = cold_frame_load(fd, path, x, i, fr->bytes);
	if (rc == 0)
		memcpy(buf, fr->bytes + from, len);
	if (rc == 0 && c)
		cache_put(c, fr);
	else
		free(fr);
	return rc;
}

ssize_t cold_pread(struct bfile *f, int fd, void *buf, size_t len, uint64_t off)
{
	const struct cold_index *x = f->index;
	uint64_t end, pos = off;

	if (off >= x->size_bytes)
		return 0;
	if (len > x->size_bytes - off)
		len = x->size_bytes - off;
	end = off + len;
	while (pos < end) {
		uint32_t i = (uint32_t)(pos / x->frame_bytes);
		uint32_t from = (uint32_t)(pos % x->frame_bytes);
		uint64_t n = cold_frame_len(x, i) - from;
		int rc;

		if (n > end - pos)
			n = end - pos;
		rc = read_frame(f, fd, i, (uint8_t *)buf + (pos - off), from,
				(uint32_t)n);
		if (rc < 0)
			return rc;
		pos += n;
	}
	return (ssize_t)len;
}

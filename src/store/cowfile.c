/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cowfile.c - the stack of a file, and reading through it.
 *
 *     top     delta  [..##....#]|aaaa     # a block of its own, | the line
 *     middle  delta  [#....#...]          . look one part further down
 *     bottom  full   [BBBBBBBBB]
 *
 * Each part decides block by block; below a part's line (blockmap.h) the next one
 * is asked.  Sealed parts never change, so a reader needs the file's lock for
 * reading only, and that against changes of the top part alone.
 */
#include "store/overlay_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

void cowfile_free(struct cowfile *f)
{
	for (unsigned i = 0; i < f->nparts; i++)
		bfile_put(f->parts[i]);
	free(f->parts);
	layer_put(f->top);
	(void)pthread_rwlock_destroy(&f->lock);
	free(f);
}

static int push_part(struct cowfile *f, struct bfile *part)
{
	struct bfile **parts =
		realloc(f->parts, (f->nparts + 1) * sizeof(struct bfile *));

	if (!parts) {
		bfile_put(part);
		return -ENOMEM;
	}
	f->parts = parts;
	f->parts[f->nparts++] = part;
	return 0;
}

int cowfile_stack(struct cowfile *f)
{
	struct stat st;
	int rc = 0;

	f->top = layer_get(f->o->top);
	for (struct layer *l = f->top; l; l = l->parent) {
		struct bfile *part = layer_file(l, f->fid);

		if (!part)
			continue;
		rc = push_part(f, part);
		if (rc < 0)
			return rc;
		if (part->kind == BFILE_FULL)
			break;
	}
	if (f->nparts == 0)
		return -EIO; /* a name without bytes */
	rc = bfile_stat(f->parts[0], &st);
	if (rc < 0)
		return rc;
	atomic_store(&f->size_bytes, (uint64_t)st.st_size);
	f->mtime = st.st_mtim;
	if (f->parts[0]->kind == BFILE_DELTA && cowfile_has_top(f)) {
		const struct blockmap *m;

		rc = bfile_map(f->parts[0], &m);
		/* a truncation that reached the disk before its map */
		if (rc == 0 && m->below_bytes > (uint64_t)st.st_size) {
			blockmap_cut(&f->parts[0]->map, (uint64_t)st.st_size);
			f->parts[0]->cut = true;
			dsync_mark(&f->parts[0]->map_sync);
		}
	}
	return rc;
}

bool cowfile_is_watched(const struct cowfile *f)
{
	return f->watched;
}

bool cowfile_is_wal(const struct cowfile *f)
{
	return f->is_wal;
}

/*
 * The line of a part is no higher than the size that the one below it had when it was
 * sealed, and both reach the disk from the bottom up.  So where a lower part is asked
 * behind its end, something was cut off it.
 */
static int too_short(const struct bfile *part)
{
	char path[BFILE_PATH_MAX];

	bfile_path(part, path);
	log_error("%s: shorter than what stands on it says", path);
	return -EIO;
}

/* The same, and nothing at all is there. */
static int no_bottom(const struct cowfile *f)
{
	char path[BFILE_PATH_MAX];

	bfile_path(f->parts[f->nparts - 1], path);
	log_error("%s: what it stands on is in no layer", path);
	return -EIO;
}

static int read_bytes(struct cowfile *f, unsigned i, uint8_t *buf, uint64_t len,
		      uint64_t off)
{
	struct bfile *part = f->parts[i];
	ssize_t n = FAULT_FAILS("cowfile.pread",
				part->kind == BFILE_FULL ? "full" : "delta")
			    ? -errno
			    : bfile_pread(part, buf, len, off);

	if (n < 0)
		return (int)n;
	if (i > 0 && (uint64_t)n < len)
		return too_short(part);
	memset(buf + n, 0, len - (uint64_t)n);
	return 0;
}

/*
 * Finds out who has the bytes from off on: true in *ret_owned if the part itself,
 * otherwise the parts below.  Returns how many bytes, at most len, go together.
 */
static uint64_t next_run(const struct blockmap *m, uint64_t off, uint64_t len,
			 bool *ret_owned)
{
	uint64_t first = off / BLOCK_SIZE;
	uint64_t last = (off + len - 1) / BLOCK_SIZE;
	uint64_t end = (first + blockmap_run(m, first, last - first + 1, ret_owned)) *
		       BLOCK_SIZE;

	return end - off < len ? end - off : len;
}

/* What of a run below the line is still visible. */
static uint64_t visible(const struct blockmap *m, uint64_t off, uint64_t len)
{
	if (off >= m->below_bytes)
		return 0;
	return m->below_bytes - off < len ? m->below_bytes - off : len;
}

int cowfile_read_parts(struct cowfile *f, unsigned i, uint8_t *buf, uint64_t len,
		       uint64_t off)
{
	const struct blockmap *m;
	int rc = 0;

	if (i >= f->nparts)
		return no_bottom(f);
	if (f->parts[i]->kind == BFILE_FULL)
		return read_bytes(f, i, buf, len, off);
	rc = bfile_map(f->parts[i], &m);
	while (rc == 0 && len > 0) {
		bool owned;
		uint64_t n = next_run(m, off, len, &owned), below;

		if (owned) {
			rc = read_bytes(f, i, buf, n, off);
		} else {
			below = visible(m, off, n);
			if (below > 0)
				rc = cowfile_read_parts(f, i + 1, buf, below, off);
			memset(buf + below, 0, n - below);
		}
		buf += n;
		off += n;
		len -= n;
	}
	return rc;
}

ssize_t cowfile_read(struct cowfile *f, void *buf, size_t len, uint64_t off)
{
	uint64_t size;
	int rc;

	READ_SCOPE(&f->lock);
	size = atomic_load(&f->size_bytes);
	if (off >= size || len == 0)
		return 0;
	if (len > size - off)
		len = size - off;
	rc = cowfile_read_parts(f, 0, buf, len, off);
	return rc < 0 ? rc : (ssize_t)len;
}

/* --- holes --- */

/* A stretch of a file that is all data or all hole. */
struct stretch {
	uint64_t end;
	bool data;
};

static int stretch_of_fd(struct cowfile *f, unsigned i, uint64_t off, uint64_t end,
			 struct stretch *ret)
{
	struct bfile *part = f->parts[i];
	int64_t data, hole;
	struct stat st;
	int rc = bfile_stat(part, &st);

	if (rc < 0)
		return rc;
	if (i > 0 && (uint64_t)st.st_size < end)
		return too_short(part);
	data = bfile_seek(part, off, SEEK_DATA);
	hole = data == (int64_t)off ? bfile_seek(part, off, SEEK_HOLE) : -1;
	ret->data = data == (int64_t)off;
	if (ret->data)
		ret->end = hole > (int64_t)off ? (uint64_t)hole : end;
	else
		ret->end = data > (int64_t)off ? (uint64_t)data : end;
	if (ret->end > end)
		ret->end = end;
	return 0;
}

/* What stands at off, as far as part i and those below know in one go. */
static int stretch_at(struct cowfile *f, unsigned i, uint64_t off, uint64_t end,
		      struct stretch *ret)
{
	const struct blockmap *m;
	uint64_t n, below;
	bool owned;
	int rc;

	*ret = (struct stretch){end, false};
	if (i >= f->nparts)
		return no_bottom(f);
	if (f->parts[i]->kind == BFILE_FULL)
		return stretch_of_fd(f, i, off, end, ret);
	rc = bfile_map(f->parts[i], &m);
	if (rc < 0)
		return rc;
	n = next_run(m, off, end - off, &owned);
	if (owned)
		return stretch_of_fd(f, i, off, off + n, ret);
	below = visible(m, off, n);
	if (below > 0)
		return stretch_at(f, i + 1, off, off + below, ret);
	ret->end = off + n;
	return 0;
}

int64_t cowfile_seek(struct cowfile *f, uint64_t off, int whence)
{
	struct stretch s;
	uint64_t size;

	READ_SCOPE(&f->lock);
	size = atomic_load(&f->size_bytes);
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (off >= size)
		return -ENXIO;
	for (; off < size; off = s.end) {
		int rc = stretch_at(f, 0, off, size, &s);

		if (rc < 0)
			return rc;
		if (s.data == (whence == SEEK_DATA))
			return (int64_t)off;
	}
	return whence == SEEK_HOLE ? (int64_t)size : -ENXIO;
}

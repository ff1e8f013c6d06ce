/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * merge_file.c - one file of a merged layer.
 *
 * The parts that the run has of it, from the top down to the first whole one:
 *
 *     run[0]  delta  [..#...]|aa      merged:  delta [#.#...]|aa    no whole one: the
 *     run[1]  delta  [#.....|..]                                    lowest line counts
 *
 *     run[0]  delta  [..#...]|aa      merged:  full  [BB#BBBaa]
 *     run[1]  full   [BBBBBBBB]
 *
 * A block belongs to the run if one of its parts owns it: those above that one do not,
 * and so show it.
 */
#include "store/merge_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK (UINT64_C(32) * BLOCK_SIZE)
#define LINK_COST UINT64_C(4096) /* what a file that is not copied counts for */

/* The parts of the file in the run, the topmost first, down to a whole one. */
struct parts {
	struct bfile **v; /* references */
	unsigned n;
};

static void parts_fini(struct parts *p)
{
	for (unsigned i = 0; i < p->n; i++)
		bfile_put(p->v[i]);
	free(p->v);
}

static int parts_find(const struct merge *m, uint64_t fid, struct parts *p)
{
	p->v = calloc(m->n, sizeof(struct bfile *));
	if (!p->v)
		return -ENOMEM;
	for (unsigned i = 0; i < m->n; i++) {
		struct bfile *f = layer_file(m->run[i], fid);

		if (f)
			p->v[p->n++] = f;
		if (f && f->kind == BFILE_FULL)
			break;
	}
	return 0;
}

static bool is_whole(const struct parts *p)
{
	return p->v[p->n - 1]->kind == BFILE_FULL;
}

/* --- linked --- */

/* The map names its layer, so it is written anew. */
static int put_map(struct merge *m, struct bfile *f)
{
	CLEAN(clean_free) uint8_t *buf = NULL;
	const struct blockmap *map;
	char path[BFILE_PATH_MAX];
	size_t len;
	int rc = bfile_map(f, &map);

	if (rc == 0)
		rc = blockmap_encode(map, m->out->id, f->fid, &buf, &len);
	if (rc == 0)
		rc = layer_make_part(m->out, PART_MAP);
	layer_part_path(m->out, PART_MAP, f->fid, path);
	if (rc == 0)
		rc = fd_replace_file(m->out->store->fd, path, buf, len, 0600, 0);
	dsync_mark(&m->out->parts[PART_MAP]);
	return rc;
}

/* 1, or 0 where the file system cannot. */
static int link_part(struct merge *m, struct bfile *f)
{
	enum layer_part part = f->cold                 ? PART_COLD
			       : f->kind == BFILE_FULL ? PART_FULL
						       : PART_DELTA;
	char from[BFILE_PATH_MAX], to[BFILE_PATH_MAX];
	int fd = m->out->store->fd, rc = layer_make_part(m->out, part);

	bfile_path(f, from);
	layer_part_path(m->out, part, f->fid, to);
	if (rc < 0)
		return rc;
	if (FAULT_FAILS("merge.link", from) || linkat(fd, from, fd, to, 0) < 0)
		return errno == EPERM || errno == EMLINK || errno == EOPNOTSUPP ||
				       errno == EXDEV || errno == ENOSYS
			       ? 0
			       : -errno;
	dsync_mark(&m->out->parts[part]);
	rc = f->kind == BFILE_DELTA ? put_map(m, f) : 0;
	return rc < 0 ? rc : 1;
}

/* What is no regular file, where there are no links. */
static int copy_other(struct merge *m, uint64_t fid, const struct stat *st)
{
	CLEAN(clean_free) char *target = NULL;
	int rc;

	if (!S_ISLNK(st->st_mode))
		return layer_make_special(m->out, fid, st->st_mode);
	rc = overlay_readlink(m->view, fid, &target);
	return rc < 0 ? rc : layer_make_symlink(m->out, fid, target);
}

/* --- written anew --- */

/* What the deltas own together. */
static int add_maps(struct merging *w, const struct parts *p)
{
	uint64_t line = (uint64_t)w->st.st_size;
	const struct blockmap *map;
	unsigned i;
	int rc = 0;

	for (i = 0; rc == 0 && i < p->n && p->v[i]->kind == BFILE_DELTA; i++) {
		rc = bfile_map(p->v[i], &map);
		if (rc == 0 && map->below_bytes < line)
			line = map->below_bytes;
	}
	blockmap_init(&w->map, line);
	w->has_map = true;
	while (rc == 0 && i-- > 0) {
		rc = bfile_map(p->v[i], &map);
		for (uint64_t b = 0; rc == 0 && b < map->nbits; b++)
			if (blockmap_owns(map, b))
				rc = blockmap_add(&w->map, b, 1);
	}
	return rc;
}

/* A whole file begins as a clone of its lowest part, where that costs nothing. */
static int begin_bytes(struct merging *w, struct bfile *lowest)
{
	int to = bfile_pin(w->dst), from, rc = 0;

	if (to < 0)
		return to;
	from = bfile_pin(lowest);
	if (from >= 0 && lowest->kind == BFILE_FULL && !lowest->cold) {
		w->cloned = fd_clone(from, to) == 0;
		if (w->cloned && ftruncate(to, w->st.st_size) < 0)
			rc = -errno;
	}
	if (from >= 0)
		bfile_unpin(lowest);
	bfile_unpin(w->dst);
	return from < 0 ? from : rc;
}

static int begin(struct merge *m, uint64_t fid, const struct parts *p,
		 const struct stat *st)
{
	enum bfile_kind kind = is_whole(p) ? BFILE_FULL : BFILE_DELTA;
	struct merging *w = &m->now;
	int rc = overlay_open(m->view, fid, &w->f);

	if (rc < 0)
		return rc;
	w->st = *st;
	w->off = 0;
	rc = add_maps(w, p);
	if (rc == 0)
		rc = layer_make_file(m->out, fid, kind, st->st_mode & 07777,
				     (uint64_t)st->st_size, &w->dst);
	if (rc == 0 && kind == BFILE_DELTA) {
		bfile_new_map(w->dst, w->map.below_bytes);
		for (uint64_t b = 0; rc == 0 && b < w->map.nbits; b++)
			if (blockmap_owns(&w->map, b))
				rc = blockmap_add(&w->dst->map, b, 1);
	}
	return rc < 0 ? rc : begin_bytes(w, p->v[p->n - 1]);
}

/* Has the block at off to be written? */
static bool is_needed(const struct merging *w, uint64_t off)
{
	if (w->dst->kind == BFILE_FULL && !w->cloned)
		return true;
	return blockmap_owns(&w->map, off / BLOCK_SIZE) ||
	       (w->cloned && off + BLOCK_SIZE > w->map.below_bytes);
}

static bool is_zero(const uint8_t *p, uint64_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Zeros are holes, where nothing else is yet. */
static int write_blocks(struct merging *w, const uint8_t *buf, uint64_t len)
{
	int fd = bfile_pin(w->dst), rc = fd < 0 ? fd : 0;
	uint64_t n;

	for (uint64_t done = 0; rc == 0 && done < len; done += n) {
		uint64_t off = w->off + done;

		n = len - done < BLOCK_SIZE ? len - done : BLOCK_SIZE;
		if (!is_needed(w, off) || (!w->cloned && is_zero(buf + done, n)))
			continue;
		rc = FAULT_FAILS("merge.pwrite", NULL)
			     ? -errno
			     : fd_pwrite_full(fd, buf + done, n, off);
	}
	if (fd >= 0)
		bfile_unpin(w->dst);
	return rc;
}

/* Where the next block lies that has to be written; the end if there is none. */
static uint64_t next_needed(const struct merging *w, uint64_t off)
{
	uint64_t size = (uint64_t)w->st.st_size;

	while (off < size && !is_needed(w, off))
		off += BLOCK_SIZE;
	return off < size ? off : size;
}

static int copy_chunk(struct merging *w, uint8_t *buf)
{
	ssize_t n = cowfile_read(w->f, buf, CHUNK, w->off);
	int rc;

	if (n <= 0)
		return n < 0 ? (int)n : -EIO; /* shorter than its size says */
	rc = write_blocks(w, buf, (uint64_t)n);
	w->off += (uint64_t)n;
	return rc;
}

static int end_file(struct merging *w)
{
	const struct timespec times[2] = {w->st.st_atim, w->st.st_mtim};
	int fd = bfile_pin(w->dst), rc;

	if (fd < 0)
		return fd;
	rc = futimens(fd, times) < 0 ? -errno : 0;
	bfile_unpin(w->dst);
	bfile_wrote(w->dst);
	return rc;
}

static void spend(struct merge *m, uint64_t bytes)
{
	m->budget -= bytes < m->budget ? bytes : m->budget;
}

/* Goes on until the file or the step is over. */
static int copy(struct merge *m)
{
	CLEAN(clean_free) uint8_t *buf = malloc(CHUNK);
	struct merging *w = &m->now;
	int rc = buf ? 0 : -ENOMEM;

	while (rc == 0 && m->budget > 0) {
		w->off = next_needed(w, w->off);
		if (w->off >= (uint64_t)w->st.st_size) {
			rc = end_file(w);
			merge_file_end(m);
			m->next++;
			break;
		}
		rc = copy_chunk(w, buf);
		spend(m, CHUNK);
	}
	return rc;
}

void merge_file_end(struct merge *m)
{
	struct merging *w = &m->now;

	if (w->f)
		overlay_close(m->view, w->f);
	bfile_put(w->dst);
	if (w->has_map)
		blockmap_fini(&w->map);
	*w = (struct merging){.f = NULL};
}

/* Also of what is no regular file. */
static int stat_part(struct bfile *f, struct stat *ret_st)
{
	char path[BFILE_PATH_MAX];

	if (f->cold)
		return bfile_stat(f, ret_st);
	bfile_path(f, path);
	return fstatat(f->layer->store->fd, path, ret_st, AT_SYMLINK_NOFOLLOW) < 0
		       ? -errno
		       : 0;
}

int merge_file(struct merge *m, uint64_t fid)
{
	CLEAN(parts_fini) struct parts p = {NULL, 0};
	struct stat st;
	int rc;

	if (m->now.f)
		return copy(m);
	rc = parts_find(m, fid, &p);
	if (rc == 0)
		rc = stat_part(p.v[0], &st);
	if (rc == 0 && p.n == 1) {
		rc = link_part(m, p.v[0]);
		if (rc == 0 && !S_ISREG(st.st_mode)) {
			rc = copy_other(m, fid, &st);
			rc = rc < 0 ? rc : 1;
		}
		if (rc > 0) {
			m->next++;
			spend(m, LINK_COST);
			return 0;
		}
	}
	if (rc == 0)
		rc = begin(m, fid, &p, &st);
	if (rc < 0)
		merge_file_end(m);
	return rc < 0 ? rc : copy(m);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chill.c - the way of a file from full/FID or delta/FID to cold/FID:
 *
 *   1. cold/.tmp-FID is written and fsynced, and read back: all of it decodes to what
 *      the plain file holds
 *   2. it is renamed to cold/FID, and the directories are fsynced
 *   3. if nobody has the layer's index by now, the plain file goes
 *
 * While both are there the plain one counts (layer_load.c), so a crash costs the work
 * only.  An index is read under the layer's lock, and 3 is done under it: so what an
 * index says of a file stays true as long as it is held.
 *
 * When a layer was used last is the time of its record's file, which is touched when
 * its index leaves memory; cold.done beside it says that all of it was gone through.
 */
#include "store/chill.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"
#include "store/checkpoint_priv.h"
#include "store/cold.h"
#include "store/registry_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BYTES_MIN 16384 /* shorter files cost a block or two whatever they hold */
#define AGAIN_MS INT64_C(600000)

struct chill {
	struct layer *l; /* a reference */
	struct {
		uint64_t fid;
		enum layer_part part;
	} * v;
	size_t n, next;
	unsigned files;
	uint64_t before, after; /* bytes on disk of those that went */
};

/* --- which layer --- */

static void mark_path(const struct layer *l, const char *name,
		      char buf[static BFILE_PATH_MAX])
{
	(void)snprintf(buf, BFILE_PATH_MAX, "%s/%s", l->dir, name);
}

static bool is_cold(struct layer *l, uint64_t after_s)
{
	char path[BFILE_PATH_MAX];
	struct stat st;

	if (l->chilled || !atomic_load(&l->durable))
		return false;
	{
		READ_SCOPE(&l->lock);
		if (l->holds > 0 || l->loaded)
			return false;
	}
	mark_path(l, "cold.done", path);
	l->chilled = fstatat(l->store->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (l->chilled)
		return false;
	mark_path(l, "layer.ini", path);
	return fstatat(l->store->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       time(NULL) - st.st_mtime >= (time_t)after_s;
}

/* A reference, or NULL. */
static struct layer *find_in_chain(struct registry *r, struct layer *l,
				   uint64_t after_s)
{
	for (; l && l->search_round != r->search_round; l = l->parent) {
		l->search_round = r->search_round;
		if (is_cold(l, after_s))
			return layer_get(l);
	}
	return NULL;
}

static struct layer *find_in_table(struct registry *r, const struct branch *by_no,
				   uint64_t after_s)
{
	struct layer *found = NULL;

	for (const struct branch *b = by_no; b && !found; b = b->hh_no.next)
		found = find_in_chain(r, b->top->parent, after_s);
	return found;
}

static struct layer *find(struct registry *r, uint64_t after_s)
{
	struct layer *found;

	LOCK_SCOPE(&r->change);
	r->search_round++;
	found = find_in_table(r, r->by_no, after_s);
	if (!found)
		found = find_in_table(r, r->trash_by_no, after_s);
	for (struct checkpoint_set *c = r->checkpoints; c && !found; c = c->hh.next)
		for (size_t i = 0; i < c->n && !found; i++)
			found = find_in_chain(r, c->v[i]->layer, after_s);
	return found;
}

static void clean_dir(DIR **d)
{
	if (*d)
		(void)closedir(*d); /* read only */
}

static int list_part(struct chill *c, enum layer_part part, const char *name)
{
	CLEAN(clean_dir) DIR *d = NULL;
	char path[BFILE_PATH_MAX];
	const struct dirent *ent;
	uint64_t fid;
	int fd;

	mark_path(c->l, name, path);
	fd = openat(c->l->store->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(fd) : NULL;
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((ent = readdir(d)) != NULL) {
		void *v;

		if (text_parse_u64(ent->d_name, 16, UINT64_MAX, &fid) < 0)
			continue;
		v = realloc(c->v, (c->n + 1) * sizeof(*c->v));
		if (!v)
			return -ENOMEM;
		c->v = v;
		c->v[c->n].fid = fid;
		c->v[c->n++].part = part;
	}
	return 0;
}

/* --- one file --- */

struct job {
	struct layer *l;
	uint64_t fid;
	enum layer_part part;
	struct stat st;
	int from, to;
	char temp[BFILE_PATH_MAX];
	struct cold_index x;
};

static void job_fini(struct job *j)
{
	clean_fd(&j->from);
	clean_fd(&j->to);
	cold_index_fini(&j->x);
}

/* What it takes on disk, at most, to be worth it. */
static uint64_t worth(const struct job *j)
{
	return (uint64_t)j->st.st_blocks * 512 / 4 * 3;
}

static int read_plain(const struct job *j, uint32_t i, uint8_t *buf)
{
	uint32_t len = cold_frame_len(&j->x, i);
	ssize_t n = fd_pread_full(j->from, buf, len, (uint64_t)i * j->x.frame_bytes);

	return n < 0 ? (int)n : (uint32_t)n == len ? 0 : -EIO;
}

/* 1: all frames are written; 0: it is not worth it. */
static int write_frames(struct job *j, uint8_t *in, uint8_t *out)
{
	struct cold_index *x = &j->x;
	uint64_t first = cold_index_bytes(x);
	int rc = 0;

	x->offs[0] = first;
	for (uint32_t i = 0; rc == 0 && i < x->n; i++) {
		uint32_t stored = 0;

		rc = read_plain(j, i, in);
		if (rc == 0)
			rc = cold_frame_encode(in, cold_frame_len(x, i), out, &stored,
					       &x->sums[i]);
		if (rc == 0)
			rc = FAULT_FAILS("chill.pwrite", NULL)
				     ? -errno
				     : fd_pwrite_full(j->to, out, stored, x->offs[i]);
		x->offs[i + 1] = x->offs[i] + stored;
		if (rc == 0 && x->offs[i + 1] > worth(j))
			return 0;
	}
	return rc < 0 ? rc : 1;
}

static int write_index(struct job *j)
{
	const struct timespec times[2] = {j->st.st_atim, j->st.st_mtim};
	CLEAN(clean_free) uint8_t *buf = NULL;
	int rc = cold_index_encode(&j->x, &buf);

	if (rc == 0)
		rc = fd_pwrite_full(j->to, buf, cold_index_bytes(&j->x), 0);
	if (rc == 0 &&
	    (fchmod(j->to, j->st.st_mode & 07777) < 0 || futimens(j->to, times) < 0 ||
	     FAULT_FAILS("chill.fsync", NULL) || fsync(j->to) < 0))
		rc = -errno;
	return rc;
}

/* What was written says what the plain file says: read from the file, by the code that
 * reads it later. */
static int verify(struct job *j, uint8_t *in, uint8_t *out)
{
	struct cold_index x;
	int rc = cold_index_load(j->to, j->temp, j->fid, &x);

	if (rc < 0)
		return rc;
	if (x.size_bytes != j->x.size_bytes || x.n != j->x.n)
		rc = -EIO;
	for (uint32_t i = 0; rc == 0 && i < x.n; i++) {
		rc = read_plain(j, i, in);
		if (rc == 0)
			rc = cold_frame_load(j->to, j->temp, &x, i, out);
		if (rc == 0 && memcmp(in, out, cold_frame_len(&x, i)) != 0)
			rc = -EIO;
	}
	cold_index_fini(&x);
	return rc;
}

/* 1: the temporary file is whole, durable and right; 0: not worth it. */
static int compress(struct job *j)
{
	CLEAN(clean_free) uint8_t *in = malloc(COLD_FRAME), *out = malloc(COLD_FRAME);
	struct stat st;
	int rc = in && out ? write_frames(j, in, out) : -ENOMEM;

	if (rc <= 0)
		return rc;
	rc = write_index(j);
	FAULT_POINT("chill.written");
	if (rc == 0)
		rc = verify(j, in, out);
	if (rc == 0 && fstat(j->to, &st) < 0)
		rc = -errno;
	return rc < 0 ? rc : (uint64_t)st.st_blocks * 512 <= worth(j);
}

static int put_in_place(struct job *j)
{
	char path[BFILE_PATH_MAX], dir[BFILE_PATH_MAX];
	int fd = j->l->store->fd, rc;

	layer_part_path(j->l, PART_COLD, j->fid, path);
	mark_path(j->l, "cold", dir);
	if (renameat(fd, j->temp, fd, path) < 0)
		return -errno;
	rc = fd_sync_dir(fd, dir);
	if (rc == 0)
		rc = fd_sync_dir(fd, j->l->dir);
	FAULT_POINT("chill.renamed");
	return rc;
}

/* -EBUSY: somebody has loaded the layer, and reads the plain file. */
static int remove_plain(struct job *j)
{
	char path[BFILE_PATH_MAX], cold[BFILE_PATH_MAX], aside[BFILE_PATH_MAX];
	int fd = j->l->store->fd, rc = 0;

	layer_part_path(j->l, j->part, j->fid, path);
	layer_part_path(j->l, PART_COLD, j->fid, cold);
	mark_path(j->l, "t.cold", aside);
	{
		WRITE_SCOPE(&j->l->lock);
		if (j->l->holds > 0 || j->l->loaded)
			rc = -EBUSY;
		else if (renameat(fd, path, fd, aside) <
			 0) /* fast, also of a long one */
			rc = -errno;
	}
	FAULT_POINT("chill.plain-gone");
	if (rc < 0)
		(void)unlinkat(fd, cold, 0); /* the plain one counts */
	else
		(void)unlinkat(fd, aside, 0); /* gc finds it */
	layer_changed(j->l);
	return rc;
}

static bool has_part(const struct job *j, enum layer_part part)
{
	char path[BFILE_PATH_MAX];
	struct stat st;

	layer_part_path(j->l, part, j->fid, path);
	/* what cannot be seen may be there */
	return fstatat(j->l->store->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	       errno != ENOENT;
}

/*
 * The index goes by which parts there are.  A delta without a map is what a crash
 * left, and counts for nothing: compressed it would pass for a whole file.  So would
 * one of two parts for the other.
 */
static bool is_alone(const struct job *j)
{
	if (j->part == PART_DELTA)
		return has_part(j, PART_MAP) && !has_part(j, PART_FULL);
	return !has_part(j, PART_MAP) && !has_part(j, PART_DELTA);
}

static int open_job(struct job *j)
{
	char path[BFILE_PATH_MAX];
	int fd = j->l->store->fd, rc;

	if (!is_alone(j))
		return 0;
	layer_part_path(j->l, j->part, j->fid, path);
	if (fstatat(fd, path, &j->st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(j->st.st_mode) || j->st.st_size < BYTES_MIN ||
	    j->st.st_blocks * 512 < BYTES_MIN)
		return 0;
	j->from = fd_open_regular(fd, path, O_RDONLY);
	if (j->from < 0)
		return j->from;
	rc = cold_index_init(&j->x, j->fid, j->part == PART_DELTA,
			     (uint64_t)j->st.st_size, COLD_FRAME);
	if (rc == 0)
		rc = layer_make_part(j->l, PART_COLD);
	if (rc < 0)
		return rc;
	(void)snprintf(j->temp, sizeof(j->temp), "%s/cold/.tmp-%llx", j->l->dir,
		       (unsigned long long)j->fid);
	j->to = openat(fd, j->temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		       0600);
	return j->to < 0 ? -errno : 1;
}

static int chill_file(struct registry *r, struct chill *c, uint64_t fid,
		      enum layer_part part, uint64_t *bytes)
{
	CLEAN(job_fini)
	struct job j = {.l = c->l, .fid = fid, .part = part, .from = -1, .to = -1};
	struct stat st = {.st_blocks = 0};
	int rc = open_job(&j);

	*bytes = rc > 0 ? (uint64_t)j.st.st_blocks * 512 : 4096;
	if (rc <= 0)
		return rc;
	rc = compress(&j);
	if (rc > 0) {
		(void)fstat(j.to, &st); /* for the figures */
		rc = put_in_place(&j);
	} else {
		(void)unlinkat(c->l->store->fd, j.temp, 0); /* gc finds it */
		return rc;
	}
	if (rc == 0)
		rc = remove_plain(&j);
	if (rc < 0)
		return rc;
	c->files++;
	c->before += (uint64_t)j.st.st_blocks * 512;
	c->after += (uint64_t)st.st_blocks * 512;
	metric_add(&r->cold_files, 1);
	metric_add(&r->cold_saved, (uint64_t)(j.st.st_blocks - st.st_blocks) * 512);
	return 0;
}

/* --- steps --- */

static void end(struct registry *r)
{
	struct chill *c = r->chill;

	layer_put(c->l);
	free(c->v);
	free(c);
	r->chill = NULL;
}

static int begin(struct registry *r, uint64_t after_s)
{
	struct layer *l = find(r, after_s);
	struct chill *c;
	int rc;

	if (!l)
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c) {
		layer_put(l);
		return -ENOMEM;
	}
	c->l = l;
	r->chill = c;
	rc = list_part(c, PART_FULL, "full");
	if (rc == 0)
		rc = list_part(c, PART_DELTA, "delta");
	return rc < 0 ? rc : 1;
}

static int finish(struct registry *r)
{
	struct chill *c = r->chill;
	char path[BFILE_PATH_MAX];
	int rc;

	mark_path(c->l, "cold.done", path);
	rc = fd_replace_file(c->l->store->fd, path, "", 0, 0600, 0);
	if (rc < 0)
		return rc;
	{
		LOCK_SCOPE(&r->change);
		c->l->chilled = true;
	}
	log_info("%s: %u files compressed, from %llu to %llu MiB", c->l->dir, c->files,
		 (unsigned long long)(c->before >> 20),
		 (unsigned long long)(c->after >> 20));
	end(r);
	return 1;
}

static int go_on(struct registry *r, uint64_t max_bytes)
{
	struct chill *c = r->chill;
	int rc = 0;

	for (uint64_t done = 0; rc == 0 && c->next < c->n && done < max_bytes;) {
		uint64_t bytes;

		if (atomic_load(&c->l->users) == 0)
			rc = -EBUSY; /* the layer is about to go */
		else
			rc = chill_file(r, c, c->v[c->next].fid, c->v[c->next].part,
					&bytes);
		c->next++;
		done += rc == 0 ? bytes : 0;
	}
	if (rc == 0 && c->next == c->n)
		rc = finish(r);
	return rc < 0 ? rc : 1;
}

int registry_chill(struct registry *r, uint64_t after_s, uint64_t max_bytes)
{
	int rc = 1;

	if ((after_s == 0 && !r->chill) || loop_now_ms() < r->chill_again_ms)
		return 0;
	if (!r->chill)
		rc = begin(r, after_s);
	if (rc > 0)
		rc = go_on(r, max_bytes);
	if (rc < 0 && r->chill)
		end(r);
	if (rc == -EBUSY)
		return 0; /* it is in use again */
	if (rc < 0)
		r->chill_again_ms = loop_now_ms() + AGAIN_MS;
	return rc;
}

void registry_chill_end(struct registry *r)
{
	if (r->chill)
		end(r);
}

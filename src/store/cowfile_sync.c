/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cowfile_sync.c - making what was written durable.
 *
 * Order of an fsync: bytes, then the map that says which of them count, then the
 * directory entries of both.  A crash between leaves old blocks, which no fsync
 * had promised.
 *
 * A file that is written block after block with an fsync each (the WAL) would pay
 * for metadata at every commit: a map in a file that exists below, allocation
 * in a new one.  So the next stretch is prepared at one fsync for many: copied up
 * from below, or filled with zeros where the file is a hole.  It starts with
 * 64 KiB and doubles to 1 MiB while the writer keeps in step.
 */
#include "store/overlay_priv.h"

#include "base/fault.h"
#include "base/fd.h"

#include <string.h>

#define AHEAD_FIRST 8 /* blocks: 64 KiB */
#define AHEAD_MAX 128 /* 1 MiB */
#define STEP_MAX (4 * BLOCK_SIZE)

/* The part of an fsync that belongs to one part of the stack. */
static int sync_part(struct cowfile *f, struct bfile *part, struct map_image *image)
{
	struct layer *l = part->layer;
	int rc;

	if (l->scratch || atomic_load(&l->durable))
		return 0;
	rc = bfile_sync_data(part);
	if (rc == 0)
		rc = bfile_save_map(part, image);
	if (rc < 0 || atomic_load(&f->unlinked))
		return rc;
	rc = layer_sync_part(l, part->kind == BFILE_FULL ? PART_FULL : PART_DELTA);
	if (rc == 0 && part->kind == BFILE_DELTA)
		rc = layer_sync_part(l, PART_MAP);
	if (rc == 0)
		rc = layer_sync_part(l, PART_ATTR);
	if (rc == 0 && part->name_dir)
		rc = layer_sync_dirnames(l, part->name_dir);
	return rc;
}

/* Before the file grows over a line that was lowered: see cowfile_write.c. */
int cowfile_settle_cut_locked(struct cowfile *f)
{
	struct bfile *top = f->parts[0];
	struct map_image image;
	int rc = 0;

	if (!top->cut || top->layer->scratch) {
		top->cut = false;
		return 0;
	}
	for (unsigned i = f->nparts; rc == 0 && i > 0; i--) {
		rc = bfile_encode_map(f->parts[i - 1], &image);
		if (rc == 0)
			rc = sync_part(f, f->parts[i - 1], &image);
		free(image.buf);
	}
	if (rc == 0)
		top->cut = false;
	return rc;
}

/* The next stretch's length in blocks; 0 the first time, which may be the only one. */
static uint64_t next_ahead(struct cowfile *f)
{
	static const uint64_t once = 1;

	if (f->ahead == 0)
		f->ahead = once;
	else if (f->ahead == once)
		f->ahead = AHEAD_FIRST;
	else if (f->ahead < AHEAD_MAX)
		f->ahead *= 2;
	return f->ahead == once ? 0 : f->ahead;
}

/* Copies the next blocks up if the file is written in step. */
static void copy_ahead(struct cowfile *f)
{
	struct bfile *top = f->parts[0];
	uint64_t room = top->map.below_bytes / BLOCK_SIZE; /* whole blocks below */
	uint64_t n;
	bool owned;

	if (f->run_end == 0 || f->run_end >= room)
		return;
	n = next_ahead(f);
	if (n > room - f->run_end)
		n = room - f->run_end;
	if (n == 0)
		return;
	n = blockmap_run(&top->map, f->run_end, n, &owned);
	if (!owned && cowfile_copy_blocks_locked(f, f->run_end, n) == 0)
		f->run_end += n;
}

/* Writes zeros into the hole behind the last write of a new WAL file. */
static void fill_ahead(struct cowfile *f)
{
	static const uint8_t zeros[AHEAD_MAX * BLOCK_SIZE];
	uint64_t pos = atomic_load(&f->wal_end), size = atomic_load(&f->size_bytes), n;
	uint64_t step = pos - f->synced_end;
	off_t data;
	int fd;

	f->synced_end = pos;
	/* after a long stretch one allocation is nothing, and twice the bytes are */
	if (step > STEP_MAX || pos < f->filled_end || pos >= size)
		return;
	n = next_ahead(f) * BLOCK_SIZE;
	if (n > size - pos)
		n = size - pos;
	fd = n > 0 ? bfile_pin(f->parts[0]) : -1;
	if (fd < 0)
		return;
	data = lseek(fd, (off_t)pos, SEEK_DATA);
	if (data >= (off_t)pos && (uint64_t)data < pos + n)
		n = (uint64_t)data - pos;
	if (n > 0 && fd_pwrite_full(fd, zeros, n, pos) == 0)
		bfile_wrote(f->parts[0]);
	f->filled_end = pos + (n > 0 ? n : AHEAD_FIRST * BLOCK_SIZE);
	bfile_unpin(f->parts[0]);
}

static void prepare_ahead(struct cowfile *f)
{
	if (f->parts[0]->kind == BFILE_FULL) {
		if (f->is_wal)
			fill_ahead(f);
	} else if (dsync_dirty(&f->parts[0]->map_sync)) {
		copy_ahead(f);
	}
}

/* What an fsync has to take along, decided under the lock, done without it. */
struct sync_plan {
	struct bfile **parts; /* references */
	struct map_image *images;
	unsigned n;
};

static void sync_plan_fini(struct sync_plan *p)
{
	for (unsigned i = 0; i < p->n; i++) {
		bfile_put(p->parts[i]);
		free(p->images[i].buf);
	}
	free(p->parts);
	free(p->images);
}

/* All parts that may not be on disk: the top, and below it those in layers that
 * were sealed a moment ago. */
static int sync_plan_make(struct cowfile *f, struct sync_plan *p)
{
	int rc = 0;

	p->parts = calloc(f->nparts, sizeof(struct bfile *));
	p->images = calloc(f->nparts, sizeof(*p->images));
	if (!p->parts || !p->images)
		return -ENOMEM;
	for (unsigned i = 0; i < f->nparts && rc == 0; i++) {
		struct bfile *part = f->parts[i];

		if (part->layer->scratch || atomic_load(&part->layer->durable))
			continue;
		rc = bfile_encode_map(part, &p->images[p->n]);
		if (rc == 0)
			p->parts[p->n++] = bfile_get(part);
	}
	return rc;
}

int cowfile_sync(struct cowfile *f, int datasync)
{
	CLEAN(sync_plan_fini) struct sync_plan plan = {NULL, NULL, 0};
	int rc;

	(void)datasync; /* times are all that it would leave out, and cost nothing */
	{
		READ_SCOPE(&f->o->freeze);
		WRITE_SCOPE(&f->lock);
		if (cowfile_has_top(f) && !f->o->top->scratch)
			prepare_ahead(f);
		rc = sync_plan_make(f, &plan);
	}
	/* from the bottom up: what is above may rely on what is below */
	for (unsigned i = plan.n; rc == 0 && i > 0; i--)
		rc = sync_part(f, plan.parts[i - 1], &plan.images[i - 1]);
	FAULT_POINT("cowfile.synced");
	return rc;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cowfile_write.c - changing the bytes of a file.
 *
 * Copy-up copies no more than the edges of a write.  Two rules follow from "the
 * size is the delta's size": a truncation lowers the line of the map in memory
 * only; before the file grows again, size and map go to disk
 * (cowfile_settle_cut_locked), so that a crash cannot show old bytes where
 * zeros were promised.
 */
#include "store/overlay_priv.h"

#include "base/fault.h"
#include "base/fd.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#define SIZE_MAX_BYTES ((uint64_t)INT64_MAX)

static int set_part_times(struct bfile *part, const struct timespec times[2])
{
	int fd = bfile_pin(part), rc;

	if (fd < 0)
		return fd;
	rc = futimens(fd, times) < 0 ? -errno : 0;
	bfile_unpin(part);
	return rc;
}

int cowfile_copy_up_locked(struct cowfile *f)
{
	struct overlay *o = f->o;
	struct bfile **parts, *part;
	struct stat st;
	int rc;

	if (cowfile_has_top(f))
		return 0;
	rc = bfile_stat(f->parts[0], &st);
	if (rc < 0)
		return rc;
	parts = calloc(f->nparts + 1, sizeof(struct bfile *));
	if (!parts)
		return -ENOMEM;
	rc = layer_make_file(o->top, f->fid, BFILE_DELTA, st.st_mode & 07777,
			     (uint64_t)st.st_size, &part);
	if (rc < 0) {
		free(parts);
		return rc;
	}
	bfile_new_map(part, (uint64_t)st.st_size);
	/* what copies up need not be a write: utimensat with UTIME_OMIT is not */
	(void)set_part_times(part, (struct timespec[2]){st.st_atim, st.st_mtim});
	memcpy(parts + 1, f->parts, f->nparts * sizeof(struct bfile *));
	parts[0] = part;
	free(f->parts);
	f->parts = parts;
	f->nparts++;
	layer_put(f->top);
	f->top = layer_get(o->top);
	return 0;
}

int cowfile_set_times(struct cowfile *f, const struct timespec times[2])
{
	int rc;

	READ_SCOPE(&f->o->freeze);
	WRITE_SCOPE(&f->lock);
	rc = cowfile_copy_up_locked(f);
	if (rc == 0)
		rc = set_part_times(f->parts[0], times);
	if (rc == 0 && times[1].tv_nsec != UTIME_OMIT)
		f->mtime = times[1];
	return rc;
}

void cowfile_wrote_late(struct cowfile *f)
{
	if (!atomic_load(&f->late))
		atomic_store(&f->late, true);
}

void cowfile_settle_mtime(struct cowfile *f)
{
	if (!atomic_load(&f->late))
		return;
	WRITE_SCOPE(&f->lock);
	atomic_store(&f->late, false);
	if (cowfile_has_top(f))
		(void)set_part_times(f->parts[0],
				     (struct timespec[2]){{0, UTIME_OMIT}, f->mtime});
}

/* Copies blocks up from below; those beyond the line are owned already. */
int cowfile_copy_blocks_locked(struct cowfile *f, uint64_t blkno, uint64_t count)
{
	struct bfile *top = f->parts[0];
	uint64_t len = count * BLOCK_SIZE, off = blkno * BLOCK_SIZE;
	uint64_t size = atomic_load(&f->size_bytes);
	CLEAN(clean_free) uint8_t *buf = NULL;
	int fd, rc;

	if (off >= size)
		return 0;
	if (len > size - off)
		len = size - off; /* never grow the file by it */
	buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	rc = cowfile_read_parts(f, 0, buf, len, off);
	if (rc < 0)
		return rc;
	fd = bfile_pin(top);
	if (fd < 0)
		return fd;
	rc = FAULT_FAILS("cowfile.copy-up", NULL) ? -errno
						  : fd_pwrite_full(fd, buf, len, off);
	bfile_unpin(top);
	bfile_wrote(top);
	if (rc < 0)
		return rc;
	rc = blockmap_add(&top->map, blkno, count);
	if (rc == 0)
		dsync_mark(&top->map_sync);
	return rc;
}

/* Makes the blocks that [off, off+len) covers in part only the file's own. */
static int own_edges(struct cowfile *f, uint64_t off, uint64_t len)
{
	const struct blockmap *m = &f->parts[0]->map;
	uint64_t end = off + len;
	uint64_t first = off / BLOCK_SIZE, last = (end - 1) / BLOCK_SIZE;
	int rc = 0;

	if (off % BLOCK_SIZE != 0 && !blockmap_owns(m, first))
		rc = cowfile_copy_blocks_locked(f, first, 1);
	if (rc == 0 && end % BLOCK_SIZE != 0 && !blockmap_owns(m, last))
		rc = cowfile_copy_blocks_locked(f, last, 1);
	return rc;
}

/* Marks the blocks that [off, off+len) touches as the top's. */
static int own_blocks(struct cowfile *f, uint64_t off, uint64_t len)
{
	struct bfile *top = f->parts[0];
	uint64_t first = off / BLOCK_SIZE;
	uint64_t count = (off + len - 1) / BLOCK_SIZE - first + 1;
	bool owned;
	int rc;

	if (blockmap_run(&top->map, first, count, &owned) >= count && owned)
		return 0;
	rc = blockmap_add(&top->map, first, count);
	if (rc < 0)
		return rc;
	dsync_mark(&top->map_sync);
	/* in step with the last one: the pattern that copying ahead is for */
	if (first > f->run_end || first + count <= f->run_end)
		f->ahead = 0;
	f->run_end = first + count;
	return 0;
}

static void wrote(struct cowfile *f, uint64_t end)
{
	bfile_wrote(f->parts[0]);
	if (end > atomic_load(&f->size_bytes))
		atomic_store(&f->size_bytes, end);
}

/*
 * A step that failed half way, as on a full disk, may have left the store's file
 * longer than this one is: after the next mount its size would be that.
 */
static void cut_surplus(struct cowfile *f, int fd, uint64_t end)
{
	uint64_t size = atomic_load(&f->size_bytes);

	if (end > size)
		(void)!ftruncate(fd, (off_t)size); /* the first error counts */
}

static int write_top(struct cowfile *f, const void *buf, size_t len, uint64_t off)
{
	struct bfile *top = f->parts[0];
	int fd = bfile_pin(top), rc;

	if (fd < 0)
		return fd;
	rc = FAULT_FAILS("cowfile.pwrite", NULL) ? -errno
						 : fd_pwrite_full(fd, buf, len, off);
	if (rc < 0)
		cut_surplus(f, fd, off + len);
	bfile_unpin(top);
	wrote(f, rc == 0 ? off + len : 0);
	if (f->is_wal)
		atomic_store(&f->wal_end, off + len);
	return rc;
}

/* Can the bytes go straight to the top part, changing neither map nor size? */
static bool plain_write(const struct cowfile *f, uint64_t off, size_t len)
{
	uint64_t first = off / BLOCK_SIZE;
	uint64_t count = (off + len - 1) / BLOCK_SIZE - first + 1;
	bool owned;

	if (!cowfile_has_top(f) || off + len > atomic_load(&f->size_bytes))
		return false;
	if (f->parts[0]->kind == BFILE_FULL)
		return true;
	return blockmap_run(&f->parts[0]->map, first, count, &owned) >= count && owned;
}

bool cowfile_would_grow(struct cowfile *f, size_t len, uint64_t off)
{
	if (len == 0 || off > SIZE_MAX_BYTES || len > SIZE_MAX_BYTES - off)
		return false;
	READ_SCOPE(&f->o->freeze);
	READ_SCOPE(&f->lock);
	return !plain_write(f, off, len);
}

static int write_locked(struct cowfile *f, const void *buf, size_t len, uint64_t off)
{
	int rc = cowfile_copy_up_locked(f);

	if (rc < 0)
		return rc;
	if (f->parts[0]->kind == BFILE_FULL)
		return write_top(f, buf, len, off);
	if (off + len > atomic_load(&f->size_bytes))
		rc = cowfile_settle_cut_locked(f);
	if (rc == 0)
		rc = own_edges(f, off, len);
	if (rc == 0)
		rc = write_top(f, buf, len, off);
	return rc < 0 ? rc : own_blocks(f, off, len);
}

int cowfile_write(struct cowfile *f, const void *buf, size_t len, uint64_t off)
{
	int rc;

	if (len == 0)
		return 0;
	if (off > SIZE_MAX_BYTES || len > SIZE_MAX_BYTES - off)
		return -EFBIG;
	{
		bool done = false;

		READ_SCOPE(&f->o->freeze);
		{
			READ_SCOPE(&f->lock);
			if (plain_write(f, off, len)) {
				rc = write_top(f, buf, len, off);
				done = true;
			}
		}
		if (!done) {
			WRITE_SCOPE(&f->lock);
			rc = write_locked(f, buf, len, off);
		}
	}
	if (rc == 0 && f->watched)
		f->o->watch_fn(f->o->watch_ctx);
	return rc;
}

static int set_size(struct cowfile *f, uint64_t size)
{
	struct bfile *top = f->parts[0];
	int fd = bfile_pin(top), rc;

	if (fd < 0)
		return fd;
	rc = FAULT_FAILS("cowfile.ftruncate", NULL) || ftruncate(fd, (off_t)size) < 0
		     ? -errno
		     : 0;
	bfile_unpin(top);
	if (rc == 0) {
		bfile_wrote(top);
		atomic_store(&f->size_bytes, size);
	}
	return rc;
}

int cowfile_truncate(struct cowfile *f, uint64_t size)
{
	struct bfile *top;
	int rc;

	if (size > SIZE_MAX_BYTES)
		return -EFBIG;
	READ_SCOPE(&f->o->freeze);
	WRITE_SCOPE(&f->lock);
	if (size == atomic_load(&f->size_bytes))
		return 0;
	rc = cowfile_copy_up_locked(f);
	if (rc < 0)
		return rc;
	top = f->parts[0];
	if (top->kind == BFILE_DELTA && size > atomic_load(&f->size_bytes))
		rc = cowfile_settle_cut_locked(f);
	if (rc == 0)
		rc = set_size(f, size);
	if (rc == 0 && top->kind == BFILE_DELTA && size < top->map.below_bytes) {
		blockmap_cut(&top->map, size);
		top->cut = true;
		dsync_mark(&top->map_sync);
	}
	return rc;
}

static int zero_by_writing(int fd, uint64_t off, uint64_t len)
{
	static const uint8_t zeros[65536];
	int rc = 0;

	while (rc == 0 && len > 0) {
		size_t n = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);

		rc = fd_pwrite_full(fd, zeros, n, off);
		off += n;
		len -= n;
	}
	return rc;
}

/* fallocate on the store's file, or what comes to the same where it can't. */
static int allocate_fd(int fd, int mode, uint64_t off, uint64_t len, uint64_t size)
{
	bool zero = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);

	if (!FAULT_FAILS("cowfile.fallocate", NULL) &&
	    fallocate(fd, mode, (off_t)off, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	if (zero) {
		uint64_t end = off + len;

		if (mode & FALLOC_FL_KEEP_SIZE && end > size)
			end = size;
		return end > off ? zero_by_writing(fd, off, end - off) : 0;
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > size)
		return ftruncate(fd, (off_t)(off + len)) < 0 ? -errno : 0;
	return 0; /* a reservation that the file system can't give */
}

static int allocate_top(struct cowfile *f, int mode, uint64_t off, uint64_t len)
{
	struct bfile *top = f->parts[0];
	uint64_t size = atomic_load(&f->size_bytes);
	int fd = bfile_pin(top), rc;

	if (fd < 0)
		return fd;
	rc = allocate_fd(fd, mode, off, len, size);
	if (rc < 0 && !(mode & FALLOC_FL_KEEP_SIZE))
		cut_surplus(f, fd, off + len);
	bfile_unpin(top);
	wrote(f, rc == 0 && !(mode & FALLOC_FL_KEEP_SIZE) ? off + len : 0);
	return rc;
}

/* The bytes of the range read as zeros afterwards. */
static int zero_delta(struct cowfile *f, int mode, uint64_t off, uint64_t len)
{
	uint64_t size = atomic_load(&f->size_bytes);
	uint64_t inside = off < size ? (size - off < len ? size - off : len) : 0;
	int rc = 0;

	if (inside > 0)
		rc = own_edges(f, off, inside);
	if (rc == 0)
		rc = allocate_top(f, mode, off, len);
	if (rc == 0 && inside > 0)
		rc = own_blocks(f, off, inside);
	return rc;
}

/* Room for a range: beyond the line in the delta, before it nothing to do. */
static int reserve_delta(struct cowfile *f, int mode, uint64_t off, uint64_t len)
{
	uint64_t line = f->parts[0]->map.below_bytes, end = off + len;

	if (end <= line)
		return 0; /* within what is there; its blocks are shared until written
			   */
	if (off < line)
		off = line;
	return allocate_top(f, mode, off, end - off);
}

int cowfile_fallocate(struct cowfile *f, int mode, uint64_t off, uint64_t len)
{
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	bool zero = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	int rc;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
		     FALLOC_FL_ZERO_RANGE) ||
	    ((mode & FALLOC_FL_PUNCH_HOLE) && (!keep || (mode & FALLOC_FL_ZERO_RANGE))))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	if (off > SIZE_MAX_BYTES || len > SIZE_MAX_BYTES - off)
		return -EFBIG;
	READ_SCOPE(&f->o->freeze);
	WRITE_SCOPE(&f->lock);
	rc = cowfile_copy_up_locked(f);
	if (rc < 0)
		return rc;
	if (f->parts[0]->kind == BFILE_FULL)
		return allocate_top(f, mode, off, len);
	if (!keep && off + len > atomic_load(&f->size_bytes))
		rc = cowfile_settle_cut_locked(f);
	if (rc < 0)
		return rc;
	return zero ? zero_delta(f, mode, off, len) : reserve_delta(f, mode, off, len);
}

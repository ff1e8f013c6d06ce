/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cowfile.h - the bytes of one regular file of a branch: a stack of backing files
 * in the branch's layers, the top one writable, copied up block by block.
 *
 * A cowfile is shared by all who have the file open (overlay_open hands out
 * references).  All functions are thread-safe; reads of different callers run
 * in parallel.  Everything returns 0 or a count, or -errno.
 */
#ifndef STORE_COWFILE_H
#define STORE_COWFILE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct cowfile;

/* Reads up to len bytes at off; short only at the end of the file. */
ssize_t cowfile_read(struct cowfile *f, void *buf, size_t len,
		     uint64_t off_bytes) MUST_CHECK;
/* Does a write of this range take space that the file has not got yet? */
bool cowfile_would_grow(struct cowfile *f, size_t len, uint64_t off_bytes);
/* Writes all of buf at off, growing the file; 0 or -errno (-ENOSPC, -EIO...). */
int cowfile_write(struct cowfile *f, const void *buf, size_t len,
		  uint64_t off_bytes) MUST_CHECK;
/*
 * The last write came from the kernel's cache, some time after it was made: the mtime
 * is the one that overlay_setattr was given, or gets.
 */
void cowfile_wrote_late(struct cowfile *f);
int cowfile_truncate(struct cowfile *f, uint64_t size_bytes) MUST_CHECK;
/* fallocate(2) modes 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]. */
int cowfile_fallocate(struct cowfile *f, int mode, uint64_t off_bytes,
		      uint64_t len) MUST_CHECK;
/* SEEK_DATA / SEEK_HOLE; returns the new offset or -ENXIO. */
int64_t cowfile_seek(struct cowfile *f, uint64_t off_bytes, int whence) MUST_CHECK;
/*
 * When it returns 0, all that was written before it, and the names under which
 * the file was created, survive a power cut.  A failure sticks to the file.
 */
int cowfile_sync(struct cowfile *f, int datasync) MUST_CHECK;

/* Is it the one that overlay_watch named when it was opened first? */
bool cowfile_is_watched(const struct cowfile *f);
/* Was it in the directory for WAL (overlay.h) when it was opened first? */
bool cowfile_is_wal(const struct cowfile *f);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cold.h - reading backing files that are stored compressed (coldfile.h).
 *
 * A read decodes the frames that it touches; a few that were decoded last are kept for
 * the whole store.  What is damaged is -EIO and named in the log, never other bytes.
 */
#ifndef STORE_COLD_H
#define STORE_COLD_H

#include "store/bfile.h"

#define COLD_CACHE_FRAMES 256 /* 16 MiB of the frames that we write */

struct cold_cache;
/* NULL: out of memory; then nothing is kept. */
struct cold_cache *cold_cache_new(void);
struct cold_cache *cold_cache_free(struct cold_cache *c);

/* Reads the index at path, which is logged when it is damaged; the descriptor is open.
 */
int cold_index_load(int fd, const char *path, uint64_t fid,
		    struct cold_index *ret_index) MUST_CHECK;
/* One frame, straight from the file; buf takes cold_frame_len. */
int cold_frame_load(int fd, const char *path, const struct cold_index *x, uint32_t i,
		    uint8_t *buf) MUST_CHECK;
/* Like fd_pread_full, of the bytes that the file stands for. */
ssize_t cold_pread(struct bfile *f, int fd, void *buf, size_t len,
		   uint64_t off_bytes) MUST_CHECK;

#endif

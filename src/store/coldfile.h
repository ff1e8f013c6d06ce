/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coldfile.h - a file's bytes in frames that are compressed one by one, with an index.
 * Pure functions, no I/O.
 *
 *    0  8  magic "pgbrcold"
 *    8  2  version (1)       10  2  0: all of a file, 1: the blocks of a delta
 *   12  4  incompat flags    16  8  fid
 *   24  8  size of the file  32  4  bytes a frame       36  4  number of frames
 *   40  8*frames                 of each: stored bytes, CRC-32 of what it decodes to
 *    …  4  CRC-32 of all before
 *    …     the frames, one behind the other
 *
 * All little endian.  A frame of no stored bytes is all zeros; one that is as long as
 * what it stands for is stored as it is; any other is a zstd frame.
 */
#ifndef STORE_COLDFILE_H
#define STORE_COLDFILE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COLD_FRAME UINT32_C(65536) /* of new files; see HACKING.md for why */
#define COLD_FRAME_MAX (UINT32_C(1) << 20)
#define COLD_HEAD 40

struct cold_index {
	uint64_t fid, size_bytes;
	bool delta;
	uint32_t frame_bytes, n;
	uint64_t *
		offs; /* owned; n + 1: where each frame lies in the file, and the end */
	uint32_t *sums; /* owned; n */
};

/* For a new file: offs and sums are to be filled in, all frames lie at the start. */
int cold_index_init(struct cold_index *x, uint64_t fid, bool delta, uint64_t size_bytes,
		    uint32_t frame_bytes) MUST_CHECK;
void cold_index_fini(struct cold_index *x);
/* How long the index is on disk. */
uint64_t cold_index_bytes(const struct cold_index *x);
/* The bytes that frame i stands for: frame_bytes but for the last one. */
uint32_t cold_frame_len(const struct cold_index *x, uint32_t i);

/* *ret_buf is heap memory of cold_index_bytes. */
int cold_index_encode(const struct cold_index *x, uint8_t **ret_buf) MUST_CHECK;
/* From the first COLD_HEAD bytes: how long the index is; -EBADMSG. */
int cold_head_decode(const uint8_t *head, size_t len, uint64_t *ret_bytes) MUST_CHECK;
/* file_bytes: the length of the whole file.  Fills an uninitialised index; -EBADMSG for
 * anything that encode did not make, or for another number than fid. */
int cold_index_decode(const uint8_t *buf, size_t len, uint64_t file_bytes, uint64_t fid,
		      struct cold_index *ret_index) MUST_CHECK;

/* Compresses one frame of len bytes into out, which has room for len.  How many bytes
 * are to be stored, and their sum. */
int cold_frame_encode(const uint8_t *in, uint32_t len, uint8_t *out,
		      uint32_t *ret_stored, uint32_t *ret_sum) MUST_CHECK;
/* Exactly len bytes come out, with this sum; -EBADMSG. */
int cold_frame_decode(const uint8_t *in, uint32_t stored, uint32_t sum, uint8_t *out,
		      uint32_t len) MUST_CHECK;

#endif

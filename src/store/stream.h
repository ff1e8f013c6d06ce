/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream.h - a data directory as a row of records: what `send` writes and `receive`
 * reads, compressed as one zstd stream.  Pure functions, no I/O.
 *
 *     "pgbrsend" version(2) 0(2)
 *     then records: type(1) length(4) payload(length)
 *
 *     H  text, a "key value" a line: what it is and where it comes from; first
 *     D  F  L  a directory, file or symlink:
 *        id(8) parent(8) mode(4) mtime(8) ns(4) size(8) name NUL [target NUL]
 *     K  one more name of a file: as F
 *     S  the last file begins as the one at this path of the base: text
 *     B  bytes of the last file: offset(8) and they
 *     C  CRC-32(4) of all bytes of the last file; behind its B, where there is an S
 *     E  number of records(8), bytes of files(8), CRC-32(4) of all before; last
 *
 * All little endian.  Objects are numbered from 1, the root, in the order in which they
 * come, and a parent comes before what is in it.
 */
#ifndef STORE_STREAM_H
#define STORE_STREAM_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STREAM_HEAD 12         /* bytes before the first record */
#define STREAM_RECORD 5        /* bytes before a payload */
#define STREAM_BYTES_MAX 65536 /* of one B */
#define STREAM_PAYLOAD_MAX (STREAM_BYTES_MAX + 8)
#define STREAM_ROOT 1

enum stream_type {
	STREAM_HEADER = 'H',
	STREAM_DIR = 'D',
	STREAM_FILE = 'F',
	STREAM_SYMLINK = 'L',
	STREAM_LINK = 'K',
	STREAM_SAME = 'S',
	STREAM_CHECK = 'C',
	STREAM_BYTES = 'B',
	STREAM_END = 'E',
};

struct stream_record {
	enum stream_type type;
	uint64_t id, parent;
	mode_t mode; /* permission bits */
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t size_bytes;
	const char *name, *target; /* borrowed */
	uint64_t off_bytes;        /* B */
	const uint8_t *bytes;      /* borrowed; B, H, S */
	uint32_t len;
	uint64_t records, total_bytes; /* E */
	uint32_t sum;                  /* E, C */
};

void stream_head_encode(uint8_t buf[static STREAM_HEAD]);
int stream_head_decode(const uint8_t buf[static STREAM_HEAD]) MUST_CHECK;
/* Into buf, which takes STREAM_RECORD + STREAM_PAYLOAD_MAX; how many bytes, or
 * -ENAMETOOLONG. */
int stream_encode(const struct stream_record *r, uint8_t *buf) MUST_CHECK;
/* The first STREAM_RECORD bytes of a record: how long its payload is; -EBADMSG. */
int stream_record_decode(const uint8_t buf[static STREAM_RECORD],
			 enum stream_type *ret_type, uint32_t *ret_len) MUST_CHECK;
/* The payload; -EBADMSG for anything that encode did not make. */
int stream_decode(enum stream_type type, const uint8_t *buf, uint32_t len,
		  struct stream_record *ret) MUST_CHECK;

#endif

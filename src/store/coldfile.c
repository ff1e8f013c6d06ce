/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coldfile.c - the format of cold/FID.  The sums are ours, not zstd's: one that covers
 * what comes out finds a wrong frame as well as a damaged one.
 */
#include "store/coldfile.h"

#include "base/bytes.h"

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define COLD_MAGIC "pgbrcold"
#define COLD_VERSION 1
#define LEVEL 3

static uint64_t frames_of(uint64_t size, uint32_t frame)
{
	return size / frame + (size % frame != 0);
}

int cold_index_init(struct cold_index *x, uint64_t fid, bool delta, uint64_t size,
		    uint32_t frame)
{
	uint64_t n = frames_of(size, frame);

	if (n > UINT32_MAX / 16)
		return -EFBIG;
	*x = (struct cold_index){.fid = fid,
				 .size_bytes = size,
				 .delta = delta,
				 .frame_bytes = frame,
				 .n = (uint32_t)n};
	x->offs = calloc(n + 1, sizeof(*x->offs));
	x->sums = calloc(n + 1, sizeof(*x->sums));
	if (x->offs && x->sums)
		return 0;
	cold_index_fini(x);
	return -ENOMEM;
}

void cold_index_fini(struct cold_index *x)
{
	free(x->offs);
	free(x->sums);
	*x = (struct cold_index){.n = 0};
}

uint64_t cold_index_bytes(const struct cold_index *x)
{
	return COLD_HEAD + UINT64_C(8) * x->n + 4;
}

uint32_t cold_frame_len(const struct cold_index *x, uint32_t i)
{
	uint64_t left = x->size_bytes - (uint64_t)i * x->frame_bytes;

	return left < x->frame_bytes ? (uint32_t)left : x->frame_bytes;
}

int cold_index_encode(const struct cold_index *x, uint8_t **ret_buf)
{
	size_t len = cold_index_bytes(x);
	uint8_t *buf = calloc(1, len);

	if (!buf)
		return -ENOMEM;
	memcpy(buf, COLD_MAGIC, 8);
	put16(buf + 8, COLD_VERSION);
	put16(buf + 10, x->delta);
	put64(buf + 16, x->fid);
	put64(buf + 24, x->size_bytes);
	put32(buf + 32, x->frame_bytes);
	put32(buf + 36, x->n);
	for (uint32_t i = 0; i < x->n; i++) {
		uint8_t *p = buf + COLD_HEAD + 8 * (size_t)i;

		put32(p, (uint32_t)(x->offs[i + 1] - x->offs[i]));
		put32(p + 4, x->sums[i]);
	}
	put32(buf + len - 4, (uint32_t)crc32_z(0, buf, len - 4));
	*ret_buf = buf;
	return 0;
}

int cold_head_decode(const uint8_t *head, size_t len, uint64_t *ret_bytes)
{
	uint32_t frame, n;
	uint64_t size;

	if (len < COLD_HEAD || memcmp(head, COLD_MAGIC, 8) != 0 ||
	    get16(head + 8) != COLD_VERSION || get16(head + 10) > 1 ||
	    get32(head + 12) != 0)
		return -EBADMSG;
	size = get64(head + 24);
	frame = get32(head + 32);
	n = get32(head + 36);
	if (size > INT64_MAX || frame == 0 || frame > COLD_FRAME_MAX ||
	    frames_of(size, frame) != n || n > UINT32_MAX / 16)
		return -EBADMSG;
	*ret_bytes = COLD_HEAD + UINT64_C(8) * n + 4;
	return 0;
}

/* Each frame lies behind the one before; the last one ends the file. */
static int decode_frames(const uint8_t *p, uint64_t file_bytes, struct cold_index *x)
{
	x->offs[0] = cold_index_bytes(x);
	for (uint32_t i = 0; i < x->n; i++, p += 8) {
		uint32_t stored = get32(p);

		if (stored > cold_frame_len(x, i))
			return -EBADMSG;
		x->offs[i + 1] = x->offs[i] + stored;
		x->sums[i] = get32(p + 4);
	}
	return x->offs[x->n] == file_bytes ? 0 : -EBADMSG;
}

int cold_index_decode(const uint8_t *buf, size_t len, uint64_t file_bytes, uint64_t fid,
		      struct cold_index *ret)
{
	struct cold_index x;
	uint64_t bytes;
	int rc = cold_head_decode(buf, len, &bytes);

	if (rc < 0)
		return rc;
	if (len != bytes || get64(buf + 16) != fid ||
	    get32(buf + len - 4) != (uint32_t)crc32_z(0, buf, len - 4))
		return -EBADMSG;
	rc = cold_index_init(&x, fid, get16(buf + 10) == 1, get64(buf + 24),
			     get32(buf + 32));
	if (rc < 0)
		return rc;
	rc = decode_frames(buf + COLD_HEAD, file_bytes, &x);
	if (rc < 0) {
		cold_index_fini(&x);
		return rc;
	}
	*ret = x;
	return 0;
}

static bool is_zero(const uint8_t *p, uint32_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

int cold_frame_encode(const uint8_t *in, uint32_t len, uint8_t *out,
		      uint32_t *ret_stored, uint32_t *ret_sum)
{
	size_t n;

	*ret_sum = (uint32_t)crc32_z(0, in, len);
	if (is_zero(in, len)) {
		*ret_stored = 0;
		return 0;
	}
	n = ZSTD_compress(out, len, in, len, LEVEL);
	if (ZSTD_isError(n) && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
		return -ENOMEM;
	if (ZSTD_isError(n) || n >= len) { /* no room: it did not get shorter */
		memcpy(out, in, len);
		n = len;
	}
	*ret_stored = (uint32_t)n;
	return 0;
}

int cold_frame_decode(const uint8_t *in, uint32_t stored, uint32_t sum, uint8_t *out,
		      uint32_t len)
{
	if (stored == 0)
		memset(out, 0, len);
	else if (stored == len)
		memcpy(out, in, len);
	else if (ZSTD_decompress(out, len, in, stored) != len)
		return -EBADMSG;
	return (uint32_t)crc32_z(0, out, len) == sum ? 0 : -EBADMSG;
}

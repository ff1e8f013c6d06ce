/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block map of a file.  Given once as it is, once with the sum put right, as no
 * fuzzer finds a CRC by itself.
 */
#include "fuzz.h"
#include "store/blockmap.h"

#include <endian.h>
#include <zlib.h>

#define HEAD 40

static void same_blocks(const struct blockmap *a, const struct blockmap *b)
{
	uint64_t n = a->nbits > b->nbits ? a->nbits : b->nbits;

	MUST(a->below_bytes == b->below_bytes);
	for (uint64_t blk = 0; blk < n + 2; blk++)
		MUST(blockmap_owns(a, blk) == blockmap_owns(b, blk));
}

/* Runs cover the map without gaps, each of one kind. */
static void check_runs(const struct blockmap *m)
{
	uint64_t end = m->nbits + 64;

	for (uint64_t blk = 0; blk < end;) {
		bool owned;
		uint64_t n = blockmap_run(m, blk, end - blk, &owned);

		MUST(n > 0 && n <= end - blk);
		MUST(owned == blockmap_owns(m, blk));
		MUST(owned == blockmap_owns(m, blk + n - 1));
		blk += n;
	}
}

static void check_changes(struct blockmap *m, uint64_t blk)
{
	uint64_t line = m->below_bytes;

	if (blockmap_add(m, blk, 3) == 0)
		MUST(blockmap_owns(m, blk) && blockmap_owns(m, blk + 2));
	blockmap_cut(m, line / 2);
	MUST(m->below_bytes == line / 2);
	MUST(blockmap_owns(m, line / 2 / BLOCK_SIZE + 1));
	check_runs(m);
}

static void decode(const uint8_t *buf, size_t len)
{
	struct blockmap m, again;
	uint32_t layer = 0;
	uint64_t fid = 0, line;
	uint8_t *out;
	size_t out_len;

	if (len >= HEAD) {
		memcpy(&layer, buf + 16, sizeof(layer));
		memcpy(&fid, buf + 24, sizeof(fid));
		layer = le32toh(layer);
		fid = le64toh(fid);
	}
	if (blockmap_decode(buf, len, layer, fid, &m) < 0)
		return;
	line = m.below_bytes / BLOCK_SIZE + (m.below_bytes % BLOCK_SIZE != 0);
	MUST(m.below_bytes <= INT64_MAX);
	MUST(m.nbits % 64 == 0 && m.nbits <= (line + 63) / 64 * 64);
	MUST(blockmap_decode(buf, len, layer + 1, fid, &again) == -EBADMSG);
	MUST(blockmap_decode(buf, len, layer, fid + 1, &again) == -EBADMSG);
	check_runs(&m);
	MUST(blockmap_encode(&m, layer, fid, &out, &out_len) == 0);
	MUST(out_len <= len);
	MUST(blockmap_decode(out, out_len, layer, fid, &again) == 0);
	same_blocks(&m, &again);
	check_changes(&m, len % 512);
	free(out);
	blockmap_fini(&again);
	blockmap_fini(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t sum;
	uint8_t *copy;

	decode(data, size);
	if (size < 4)
		return 0;
	copy = malloc(size);
	MUST(copy);
	memcpy(copy, data, size);
	sum = htole32((uint32_t)crc32_z(0, copy, size - 4));
	memcpy(copy + size - 4, &sum, sizeof(sum));
	decode(copy, size);
	free(copy);
	return 0;
}

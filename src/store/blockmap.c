/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blockmap.c - a bitmap and one number.
 *
 * A bitmap, because Postgres files are segments of 1 GiB: 16 KiB of bits at the
 * worst, and only for the part that existed when the layer was made.  Record:
 *
 *    0  8  magic "pgbrmap\n"
 *    8  2  version (1)         10  2  compat flags      12  4  incompat flags
 *   16  4  layer id            20  4  words of bitmap that follow
 *   24  8  fid                 32  8  below_bytes
 *   40  8*words                       bits, least significant first
 *    …  4  CRC-32 of all before
 *
 * All little endian.  Trailing zero words are left out.
 */
#include "store/blockmap.h"

#include "base/bytes.h"

#include <string.h>
#include <zlib.h>

#define MAP_MAGIC "pgbrmap\n"
#define MAP_VERSION 1
#define MAP_HEAD 40
#define MAP_WORDS_MAX (UINT32_C(1) << 22) /* files of up to 2 TiB */

static uint64_t blocks_up(uint64_t bytes)
{
	return bytes / BLOCK_SIZE + (bytes % BLOCK_SIZE != 0);
}

void blockmap_init(struct blockmap *m, uint64_t below_bytes)
{
	m->below_bytes = below_bytes;
	m->bits = NULL;
	m->nbits = 0;
}

void blockmap_fini(struct blockmap *m)
{
	free(m->bits);
	blockmap_init(m, 0);
}

bool blockmap_owns(const struct blockmap *m, uint64_t blkno)
{
	if (blkno >= blocks_up(m->below_bytes))
		return true;
	return blkno < m->nbits && (m->bits[blkno / 64] >> (blkno % 64) & 1);
}

static int map_grow(struct blockmap *m, uint64_t want_bits)
{
	uint64_t all = (blocks_up(m->below_bytes) + 63) / 64;
	uint64_t words = (want_bits + 63) / 64;
	uint64_t *bits;

	if (want_bits <= m->nbits)
		return 0;
	if (words > MAP_WORDS_MAX)
		return -EFBIG;
	if (words < 2 * (m->nbits / 64))
		words = 2 * (m->nbits / 64); /* amortised growth... */
	if (words > all)
		words = all; /* ...but never past the line */
	bits = realloc(m->bits, words * sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	memset(bits + m->nbits / 64, 0, (words - m->nbits / 64) * sizeof(*bits));
	m->bits = bits;
	m->nbits = words * 64;
	return 0;
}

int blockmap_add(struct blockmap *m, uint64_t blkno, uint64_t count)
{
	uint64_t line = blocks_up(m->below_bytes);
	uint64_t end;
	int rc;

	if (blkno >= line)
		return 0; /* owned without a bit */
	end = count > line - blkno ? line : blkno + count;
	rc = map_grow(m, end);
	if (rc < 0)
		return rc;
	for (uint64_t b = blkno; b < end; b++)
		m->bits[b / 64] |= UINT64_C(1) << (b % 64);
	return 0;
}

void blockmap_cut(struct blockmap *m, uint64_t size_bytes)
{
	if (size_bytes < m->below_bytes)
		m->below_bytes = size_bytes;
}

uint64_t blockmap_run(const struct blockmap *m, uint64_t blkno, uint64_t max,
		      bool *ret_owned)
{
	bool owned = blockmap_owns(m, blkno);
	uint64_t n = 1;

	*ret_owned = owned;
	if (blkno >= blocks_up(m->below_bytes))
		return max;
	while (n < max && blockmap_owns(m, blkno + n) == owned)
		n++;
	return n;
}

int blockmap_encode(const struct blockmap *m, uint32_t layer_id, uint64_t fid,
		    uint8_t **ret_buf, size_t *ret_len)
{
	uint64_t words = m->nbits / 64;
	uint64_t line = (blocks_up(m->below_bytes) + 63) / 64;
	size_t len;
	uint8_t *buf;

	if (words > line)
		words = line;
	while (words > 0 && m->bits[words - 1] == 0)
		words--;
	len = MAP_HEAD + words * 8 + 4;
	buf = calloc(1, len);
	if (!buf)
		return -ENOMEM;
	memcpy(buf, MAP_MAGIC, 8);
	put16(buf + 8, MAP_VERSION);
	put32(buf + 16, layer_id);
	put32(buf + 20, (uint32_t)words);
	put64(buf + 24, fid);
	put64(buf + 32, m->below_bytes);
	for (uint64_t w = 0; w < words; w++)
		put64(buf + MAP_HEAD + w * 8, m->bits[w]);
	put32(buf + len - 4, (uint32_t)crc32_z(0, buf, len - 4));
	*ret_buf = buf;
	*ret_len = len;
	return 0;
}

int blockmap_decode(const uint8_t *buf, size_t len, uint32_t layer_id, uint64_t fid,
		    struct blockmap *ret_map)
{
	static const uint8_t version[8] = {MAP_VERSION}; /* and no flags */
	struct blockmap m;
	uint64_t words;

	if (len < MAP_HEAD + 4 || memcmp(buf, MAP_MAGIC, 8) != 0 ||
	    memcmp(buf + 8, version, 8) != 0)
		return -EBADMSG;
	words = get32(buf + 20);
	if (words > MAP_WORDS_MAX || len != MAP_HEAD + words * 8 + 4)
		return -EBADMSG;
	if (get32(buf + len - 4) != (uint32_t)crc32_z(0, buf, len - 4))
		return -EBADMSG;
	if (get32(buf + 16) != layer_id || get64(buf + 24) != fid)
		return -EBADMSG;
	blockmap_init(&m, get64(buf + 32));
	if (m.below_bytes > INT64_MAX || /* no file is that long */
	    words > (blocks_up(m.below_bytes) + 63) / 64)
		return -EBADMSG;
	if (words > 0) {
		m.bits = malloc(words * sizeof(*m.bits));
		if (!m.bits)
			return -ENOMEM;
		m.nbits = words * 64;
		for (uint64_t w = 0; w < words; w++)
			m.bits[w] = get64(buf + MAP_HEAD + w * 8);
	}
	*ret_map = m;
	return 0;
}

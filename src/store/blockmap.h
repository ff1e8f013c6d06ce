/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blockmap.h - which blocks of a file one layer holds: bits, and the line below which
 * the layers underneath still count.
 *
 * Block b is owned if its bit is set, or if it lies wholly at or above
 * below_bytes: nothing underneath is visible there, so what the layer did not
 * write reads as zeros.  So a file that only grows never changes its map.
 * Pure: no I/O, no locks; the owner of the map serialises.
 */
#ifndef STORE_BLOCKMAP_H
#define STORE_BLOCKMAP_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_SIZE UINT64_C(8192)

struct blockmap {
	uint64_t below_bytes; /* bytes under it that are not owned come from below */
	uint64_t *bits;       /* owned; NULL while no bit is set */
	uint64_t nbits;       /* room in bits, a multiple of 64 */
};

void blockmap_init(struct blockmap *m, uint64_t below_bytes);
void blockmap_fini(struct blockmap *m);

bool blockmap_owns(const struct blockmap *m, uint64_t blkno);
/* Marks count blocks; -ENOMEM leaves the map as it was. */
int blockmap_add(struct blockmap *m, uint64_t blkno, uint64_t count) MUST_CHECK;
/* Lowers the line (truncation); raising it is not possible. */
void blockmap_cut(struct blockmap *m, uint64_t size_bytes);
/* From blkno, how many blocks up to max are owned (or not) like blkno itself. */
uint64_t blockmap_run(const struct blockmap *m, uint64_t blkno, uint64_t max,
		      bool *ret_owned);

/*
 * The record on disk (see HACKING.md): bound to its layer and file, so that a
 * map in the wrong place does not pass.  *ret_buf is heap memory.
 */
int blockmap_encode(const struct blockmap *m, uint32_t layer_id, uint64_t fid,
		    uint8_t **ret_buf, size_t *ret_len) MUST_CHECK;
/* Fills an uninitialised map; -EBADMSG for anything that encode did not make. */
int blockmap_decode(const uint8_t *buf, size_t len, uint32_t layer_id, uint64_t fid,
		    struct blockmap *ret_map) MUST_CHECK;

#endif

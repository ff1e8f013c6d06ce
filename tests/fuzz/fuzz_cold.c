/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A compressed file: its index, given as it is and with the sum put right, and then
 * each frame.  What decodes is as long as it says; what was encoded decodes to the
 * same.
 */
#include "base/bytes.h"
#include "fuzz.h"
#include "store/coldfile.h"

#include <zlib.h>

static void decode_frames(const struct cold_index *x, const uint8_t *data, size_t size)
{
	uint8_t *out = malloc(x->frame_bytes);

	MUST(out);
	for (uint32_t i = 0; i < x->n && i < 8; i++) {
		uint32_t stored = (uint32_t)(x->offs[i + 1] - x->offs[i]);

		MUST(stored <= cold_frame_len(x, i));
		MUST(x->offs[i + 1] <= size);
		(void)!cold_frame_decode(data + x->offs[i], stored, x->sums[i], out,
					 cold_frame_len(x, i));
	}
	free(out);
}

static void decode(const uint8_t *data, size_t size)
{
	struct cold_index x;
	uint64_t bytes;
	uint8_t *again;

	if (cold_head_decode(data, size, &bytes) < 0 || bytes > size ||
	    cold_index_decode(data, bytes, size, get64(data + 16), &x) < 0)
		return;
	MUST(cold_index_bytes(&x) == bytes);
	MUST(cold_index_encode(&x, &again) == 0);
	MUST(memcmp(again, data, bytes) == 0);
	decode_frames(&x, data, size);
	free(again);
	cold_index_fini(&x);
}

static void round_trip(const uint8_t *data, size_t size)
{
	uint32_t stored, sum, len = (uint32_t)(size < 4096 ? size : 4096);
	uint8_t *out = malloc(len + 1), *back = malloc(len + 1);

	MUST(out && back);
	if (len > 0) {
		MUST(cold_frame_encode(data, len, out, &stored, &sum) == 0);
		MUST(stored <= len);
		MUST(cold_frame_decode(out, stored, sum, back, len) == 0);
		MUST(memcmp(data, back, len) == 0);
	}
	free(out);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 1);
	uint64_t bytes;

	MUST(copy);
	if (size)
		memcpy(copy, data, size);
	decode(copy, size);
	if (cold_head_decode(copy, size, &bytes) == 0 && bytes <= size) {
		put32(copy + bytes - 4, (uint32_t)crc32_z(0, copy, bytes - 4));
		decode(copy, size);
	}
	round_trip(data, size);
	free(copy);
	return 0;
}

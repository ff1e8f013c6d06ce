/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a layer: given as it is, and with the right sum behind it. */
#include "base/text.h"
#include "fuzz.h"
#include "store/branch_meta.h"

#include <zlib.h>

static void check(const struct layer_meta *m)
{
	MUST(m->id > 0);
	MUST(m->parent != m->id);
	MUST(m->max_fid >= 0);
}

static void decode(const char *text)
{
	struct layer_meta m, again;
	char *out, *out2;

	if (layer_meta_decode(text, &m) < 0)
		return;
	check(&m);
	out = layer_meta_encode(&m);
	MUST(out);
	MUST(layer_meta_decode(out, &again) == 0);
	out2 = layer_meta_encode(&again);
	MUST(out2 && strcmp(out, out2) == 0);
	free(out);
	free(out2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *summed;

	decode(text);
	summed = text_format("%ssum = %08lx\n", text,
			     crc32_z(0, (const Bytef *)text, strlen(text)));
	MUST(summed);
	decode(summed);
	free(summed);
	free(text);
	return 0;
}

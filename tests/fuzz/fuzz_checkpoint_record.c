/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a checkpoint: given as it is, and with the right sum behind it. */
#include "base/text.h"
#include "fuzz.h"
#include "store/branch_meta.h"

#include <zlib.h>

static void check(const struct checkpoint_meta *m)
{
	MUST(m->branch_no > 0 && m->branch_no < UINT32_C(1) << 26);
	MUST(m->seq > 0 && m->seq <= CHECKPOINT_SEQ_MAX);
	MUST(m->base > 0);
	MUST(m->kind < CHECKPOINT_KINDS);
	MUST(m->taken >= 0);
	MUST(memchr(m->name, '\0', sizeof(m->name)));
	MUST(memchr(m->branch, '\0', sizeof(m->branch)));
	MUST(text_check_name(m->name) == 0);
	MUST(text_check_name(m->branch) == 0);
}

static void decode(const char *text)
{
	struct checkpoint_meta m, again;
	char *out, *out2;

	if (checkpoint_meta_decode(text, &m) < 0)
		return;
	check(&m);
	out = checkpoint_meta_encode(&m);
	MUST(out);
	MUST(checkpoint_meta_decode(out, &again) == 0);
	out2 = checkpoint_meta_encode(&again);
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

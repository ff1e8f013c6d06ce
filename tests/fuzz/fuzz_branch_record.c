/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a branch: given as it is, and with the right sum behind it. */
#include "base/text.h"
#include "fuzz.h"
#include "store/branch_meta.h"

#include <zlib.h>

static void check(const struct branch_meta *m)
{
	char name[NAME_LEN_MAX + 1];
	time_t t;

	MUST(m->no > 0 && m->no < UINT32_C(1) << 26);
	MUST(m->top > 0 && m->top != m->base);
	MUST(m->mode <= 07777);
	MUST(m->data_no < UINT32_C(1) << 26);
	MUST(m->created >= 0 && m->last_active >= 0 && m->expires >= 0);
	MUST(memchr(m->name, '\0', sizeof(m->name)));
	MUST(memchr(m->parent, '\0', sizeof(m->parent)));
	MUST(m->name[0] == '\0' || text_check_name(m->name) == 0 ||
	     trash_name_parse(m->name, name, &t) == 0);
	MUST(m->parent[0] == '\0' || text_check_name(m->parent) == 0);
}

static void decode(const char *text)
{
	struct branch_meta m, again;
	char *out, *out2;

	if (branch_meta_decode(text, &m) < 0)
		return;
	check(&m);
	out = branch_meta_encode(&m);
	MUST(out);
	MUST(branch_meta_decode(out, &again) == 0);
	out2 = branch_meta_encode(&again);
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

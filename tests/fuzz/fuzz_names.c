/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The texts of names and attributes.  The first byte is the number of the file that an
 * attribute belongs to; the rest is a text, given as it is and with the right sum.
 */
#include "base/text.h"
#include "fuzz.h"
#include "store/names.h"

#include <zlib.h>

static void decode_entry(const char *text)
{
	char again[NAME_TARGET_MAX];
	enum entry_kind kind;
	uint64_t fid;

	if (entry_decode(text, &kind, &fid) < 0)
		return;
	MUST(fid < UINT64_C(1) << 36);
	MUST(kind != ENTRY_BAD);
	MUST(kind != ENTRY_WHITEOUT || fid == 0);
	if (kind != ENTRY_WHITEOUT)
		MUST(entry_kind_of_mode(entry_type_mode(kind)) == kind);
	entry_encode(kind, fid, again);
	MUST(strcmp(text, again) == 0);
}

static void decode_attrs(const char *text, uint64_t fid)
{
	char again[NAME_TARGET_MAX];
	struct attrs a;

	if (attrs_decode(text, fid, &a) < 0)
		return;
	MUST(a.nlink > 0);
	MUST(a.mode <= 07777);
	MUST(a.has_mode || a.mode == 0);
	attrs_encode(fid, &a, again);
	MUST(strcmp(text, again) == 0);
	MUST(attrs_decode(text, fid + 1, &a) == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t fid = size > 0 ? data[0] : 0;
	char *text = size > 0 ? fuzz_text(data + 1, size - 1) : fuzz_text(data, 0);
	size_t len = strlen(text);
	char *summed;

	decode_entry(text);
	decode_attrs(text, fid);
	summed = text_format("%s.%08lx", text, crc32_z(0, (const Bytef *)text, len));
	MUST(summed);
	decode_entry(summed);
	free(summed);
	summed = text_format("%s.%08lx", text, crc32_z(fid, (const Bytef *)text, len));
	MUST(summed);
	decode_attrs(summed, fid);
	free(summed);
	free(text);
	return 0;
}

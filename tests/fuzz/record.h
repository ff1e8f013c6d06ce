/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record.h - a fuzz target for a kind of record of branch_meta.h, which has the sum of
 * its text as the last line: the input is tried as it is, and with the right sum.
 */
#ifndef TESTS_FUZZ_RECORD_H
#define TESTS_FUZZ_RECORD_H

#include "base/text.h"
#include "fuzz.h"
#include "store/branch_meta.h"

#include <zlib.h>

static inline void fuzz_record(const uint8_t *data, size_t size,
			       void (*decode)(const char *text))
{
	char *text = fuzz_text(data, size), *summed;

	decode(text);
	summed = text_format("%ssum = %08lx\n", text,
			     crc32_z(0, (const Bytef *)text, strlen(text)));
	MUST(summed);
	decode(summed);
	free(summed);
	free(text);
}

/* What is accepted passes `check`, and is written and read without loss. */
#define FUZZ_RECORD(kind)                                                              \
	static void decode(const char *text)                                           \
	{                                                                              \
		struct kind m, again;                                                  \
		char *out, *out2;                                                      \
                                                                                       \
		if (kind##_decode(text, &m) < 0)                                       \
			return;                                                        \
		check(&m);                                                             \
		out = kind##_encode(&m);                                               \
		MUST(out);                                                             \
		MUST(kind##_decode(out, &again) == 0);                                 \
		out2 = kind##_encode(&again);                                          \
		MUST(out2 &&strcmp(out, out2) == 0);                                   \
		free(out);                                                             \
		free(out2);                                                            \
	}                                                                              \
                                                                                       \
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                   \
	{                                                                              \
		fuzz_record(data, size, decode);                                       \
		return 0;                                                              \
	}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz.h - what the fuzz targets share.  Each is one decoder: it must take any bytes,
 * and what it accepts must have the properties that the rest of the code relies on.
 *
 * A target is linked with libFuzzer (--enable-fuzzers), or else with replay.c, which
 * feeds it files: `make check` does so with the corpora, AFL with one file at a time.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "base/cleanup.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Like assert, but never compiled out, and the fuzzer keeps the input. */
#define MUST(cond)                                                                     \
	do {                                                                           \
		if (!(cond)) {                                                         \
			(void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,         \
				      __LINE__, #cond);                                \
			abort();                                                       \
		}                                                                      \
	} while (0)

/* The input as a heap string of exactly that size, so that a read behind it shows. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	MUST(text);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

#endif

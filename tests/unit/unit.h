/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unit.h - what every unit test includes: cmocka with the headers that it wants
 * before it, and the little that it lacks.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A table test names the row that failed. */
#define ROW_EQUAL(row, a, b)                                                           \
	do {                                                                           \
		long long row_a_ = (long long)(a), row_b_ = (long long)(b);            \
		if (row_a_ != row_b_)                                                  \
			fail_msg("row '%s': %s is %lld, not %lld", (row), #a, row_a_,  \
				 row_b_);                                              \
	} while (0)

#define ROW_STRING(row, a, b)                                                          \
	do {                                                                           \
		const char *row_a_ = (a), *row_b_ = (b);                               \
		if (strcmp(row_a_, row_b_) != 0)                                       \
			fail_msg("row '%s': %s is '%s', not '%s'", (row), #a, row_a_,  \
				 row_b_);                                              \
	} while (0)

/* A new temp directory in *state; unit_dir_remove() takes it away. */
static inline int unit_dir_make(void **state)
{
	char *dir = strdup("/tmp/pbf.unit.XXXXXX");

	*state = dir && mkdtemp(dir) ? dir : NULL;
	return *state ? 0 : -1;
}

#endif

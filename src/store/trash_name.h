/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trash_name.h - what a discarded branch is called while it is in the trash: NAME@TIME,
 * with the second in which it was discarded, and microseconds where two would have the
 * same.  The name is also that of its record's file.  Pure.
 */
#ifndef STORE_TRASH_NAME_H
#define STORE_TRASH_NAME_H

#include "base/cleanup.h"
#include "base/text.h"

#include <time.h>

/* NAME@2026-11-22T10:00:00.000000Z and a NUL */
#define TRASH_NAME_MAX (NAME_LEN_MAX + 1 + 27 + 1)

/* usec < 0: without a fraction. */
void trash_name_format(const char *name, time_t t, long usec,
		       char buf[static TRASH_NAME_MAX]);
/* -EINVAL for what format does not make. */
int trash_name_parse(const char *s, char ret_name[static NAME_LEN_MAX + 1],
		     time_t *ret_time) MUST_CHECK;

#endif

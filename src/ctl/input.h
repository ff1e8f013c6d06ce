/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input.h - what people write: the name that mkdir is given, the word for `state`.
 * Pure: knows no branches, asks nobody.
 */
#ifndef CTL_INPUT_H
#define CTL_INPUT_H

#include "base/err.h"
#include "pg/fleet.h"

#include <stddef.h>

/*
 * Splits NAME[@PARENT] into heap strings; *ret_parent NULL: none was given.  The
 * parent's name is checked; whether NAME is fit for a branch is for the caller.
 */
int input_parse_spec(const char *spec, char **ret_name, char **ret_parent,
		     struct err *e) MUST_CHECK;

/*
 * One word of a write to a control file, without the blanks and newlines behind it:
 * a heap string.  -EINVAL: nothing, too long, or a NUL in it.
 */
int input_parse_word(const char *buf, size_t size, char **ret_word) MUST_CHECK;
/* "running" or "stopped". */
int input_parse_state(const char *word, enum pm_want *ret_want,
		      struct err *e) MUST_CHECK;

#endif

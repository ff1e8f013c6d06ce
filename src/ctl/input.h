/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input.h - what people write: the name that mkdir is given, the words for `state`,
 * `expires` and `protected`.  Pure: knows no branches, asks nobody.
 */
#ifndef CTL_INPUT_H
#define CTL_INPUT_H

#include "base/err.h"
#include "pg/fleet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/*
 * Splits NAME[@PARENT[:CHECKPOINT]] into heap strings; NULL: none was given.  The
 * names behind the @ are checked; whether NAME is fit for a branch is for the caller.
 */
int input_parse_spec(const char *spec, char **ret_name, char **ret_parent,
		     char **ret_checkpoint, struct err *e) MUST_CHECK;

/*
 * One word of a write to a control file, without the blanks and newlines behind it:
 * a heap string.  -EINVAL: nothing, too long, or a NUL in it.
 */
int input_parse_word(const char *buf, size_t size, char **ret_word) MUST_CHECK;
/* "running" or "stopped". */
int input_parse_state(const char *word, enum pm_want *ret_want,
		      struct err *e) MUST_CHECK;
/*
 * "never" (0), a time from now such as 2h, or an RFC 3339 time, to seconds since the
 * epoch.  -EINVAL: none of these, not in the future, or behind EXPIRES_MAX.
 */
int input_parse_expires(const char *word, time_t now, time_t *ret_expires,
			struct err *e) MUST_CHECK;
/* The last second that RFC 3339 can say. */
#define EXPIRES_MAX ((time_t)INT64_C(253402300799))
/* What .upkeep is asked: "gc [unused=DAYS] [apply]" or "doctor [apply]". */
#define UPKEEP_DAYS_MAX 36500
struct input_upkeep {
	bool doctor;
	bool apply;
	uint32_t unused_days; /* 0: branches that nobody used stay */
};
int input_parse_upkeep(const char *text, struct input_upkeep *ret_ask,
		       struct err *e) MUST_CHECK;
/* Or "adopt DIR NAME", for a directory that pgbranchfs receive has made. */
#define ADOPT_WORD_MAX 64
struct input_adopt {
	char dir[ADOPT_WORD_MAX], name[ADOPT_WORD_MAX];
};
bool input_is_adopt(const char *text);
int input_parse_adopt(const char *text, struct input_adopt *ret_ask,
		      struct err *e) MUST_CHECK;
/* "1" or "0". */
int input_parse_protected(const char *word, bool *ret_on, struct err *e) MUST_CHECK;

#endif

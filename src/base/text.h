/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * text.h - growing strings, JSON, and parsing of the small values that people
 * write: numbers, sizes, durations, times, names.  Pure: no I/O.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* A growing string.  Once an allocation failed, `failed` stays set and all
 * further appends do nothing; check it once at the end. */
struct str {
	char *s; /* NUL-terminated, or NULL when empty */
	size_t len, cap;
	bool failed;
};

#define STR_INIT                                                                       \
	{                                                                              \
		NULL, 0, 0, false                                                      \
	}

void str_add(struct str *t, const char *s);
void str_addn(struct str *t, const char *s, size_t n);
void str_printf(struct str *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Appends s as a quoted JSON string; bytes that are not UTF-8 become U+FFFD. */
void str_json(struct str *t, const char *s);
/* Appends s percent-encoded for a URI query value or path; "/" stays. */
void str_uri(struct str *t, const char *s);
/* The heap string, to be freed by the caller; NULL if an allocation failed. */
char *str_steal(struct str *t);
void str_fini(struct str *t);

/* Bytes of the well-formed UTF-8 character at s, 0 if there is none (not at the end).
 */
size_t text_utf8_len(const char *s);

/* printf into a new heap string; NULL when out of memory. */
char *text_format(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* All parsers take the whole string or fail with -EINVAL (-ERANGE over max). */
int text_parse_u64(const char *s, int base, uint64_t max, uint64_t *ret_v) MUST_CHECK;
/* "64M" -> bytes; suffixes K M G T, powers of 1024. */
int text_parse_size(const char *s, uint64_t *ret_bytes) MUST_CHECK;
/* "90", "90s", "5m", "2h", "1d" -> seconds. */
int text_parse_duration(const char *s, uint64_t *ret_seconds) MUST_CHECK;
/* "yes/no/true/false/on/off/1/0". */
int text_parse_bool(const char *s, bool *ret_v) MUST_CHECK;
/* RFC 3339, UTC or with offset -> seconds since the epoch. */
int text_parse_time(const char *s, time_t *ret_t) MUST_CHECK;
/* RFC 3339 in UTC, "2026-11-22T10:00:00Z"; buf takes 21 bytes. */
void text_format_time(time_t t, char buf[static 21]);

#define NAME_LEN_MAX 63
/*
 * A branch or checkpoint name: a letter or digit, then letters, digits, '_',
 * '-', '.'; NAME_LEN_MAX bytes.  0, -EINVAL or -ENAMETOOLONG.
 */
int text_check_name(const char *s) MUST_CHECK;

/* Next line of *cursor (modified in place: '\n' becomes NUL), or NULL. */
char *text_next_line(char **cursor);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsers here are strict on purpose: what a person or a script writes into a
 * control file is either wholly understood or refused, so no strtoul() with its
 * blanks, signs and silent prefixes.
 */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Makes room for n more bytes and a NUL; false (and failed) when it cannot. */
static bool str_reserve(struct str *t, size_t n)
{
	size_t need, cap;
	char *s;

	if (t->failed)
		return false;
	if (__builtin_add_overflow(t->len, n, &need) ||
	    __builtin_add_overflow(need, 1, &need)) {
		t->failed = true;
		return false;
	}
	if (need <= t->cap)
		return true;
	cap = t->cap ? t->cap : 64;
	while (cap < need) {
		if (cap > SIZE_MAX / 2) {
			cap = need;
			break;
		}
		cap *= 2;
	}
	s = realloc(t->s, cap);
	if (!s) {
		t->failed = true;
		return false;
	}
	t->s = s;
	t->cap = cap;
	return true;
}

void str_addn(struct str *t, const char *s, size_t n)
{
	if (!str_reserve(t, n))
		return;
	if (n)
		memcpy(t->s + t->len, s, n);
	t->len += n;
	t->s[t->len] = '\0';
}

void str_add(struct str *t, const char *s)
{
	str_addn(t, s, strlen(s));
}

void str_printf(struct str *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		t->failed = true;
		return;
	}
	if (!str_reserve(t, (size_t)n))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(t->s + t->len, (size_t)n + 1, fmt, ap); /* measured above */
	va_end(ap);
	t->len += (size_t)n;
}

/* RFC 3629 */
size_t text_utf8_len(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	unsigned lo = 0x80, hi = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	/* the second byte's range excludes overlong forms, surrogates, > 10FFFF */
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

void str_json(struct str *t, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	str_add(t, "\"");
	while (*p) {
		size_t n = text_utf8_len((const char *)p);

		if (n == 0) {
			str_add(t, "\xef\xbf\xbd"); /* U+FFFD */
			p++;
			continue;
		}
		if (*p == '"' || *p == '\\')
			str_printf(t, "\\%c", *p);
		else if (*p == '\n')
			str_add(t, "\\n");
		else if (*p == '\t')
			str_add(t, "\\t");
		else if (*p == '\r')
			str_add(t, "\\r");
		else if (*p < 0x20 || *p == 0x7f)
			str_printf(t, "\\u%04x", *p);
		else
			str_addn(t, (const char *)p, n);
		p += n;
	}
	str_add(t, "\"");
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

void str_uri(struct str *t, const char *s)
{
	for (; *s; s++) {
		if (is_alnum(*s) || strchr("-._~/", *s))
			str_addn(t, s, 1);
		else
			str_printf(t, "%%%02X", (unsigned char)*s);
	}
}

char *str_steal(struct str *t)
{
	char *s;

	str_addn(t, "", 0); /* an empty string is a result, not a failure */
	if (t->failed) {
		str_fini(t);
		return NULL;
	}
	s = t->s;
	*t = (struct str)STR_INIT;
	return s;
}

void str_fini(struct str *t)
{
	int saved = errno;

	free(t->s);
	*t = (struct str)STR_INIT;
	errno = saved;
}

char *text_format(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

static int digit_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

/* Reads the digits at *s, at least one, and moves *s behind them. */
static int parse_digits(const char **s, int base, uint64_t max, uint64_t *ret_v)
{
	const char *p = *s;
	uint64_t v = 0;
	bool over = false;

	if (digit_value(*p) >= base)
		return -EINVAL;
	for (; digit_value(*p) < base; p++) {
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)digit_value(*p), &v))
			over = true;
	}
	*s = p;
	if (over || v > max)
		return -ERANGE;
	*ret_v = v;
	return 0;
}

int text_parse_u64(const char *s, int base, uint64_t max, uint64_t *ret_v)
{
	uint64_t v = 0;
	int rc = parse_digits(&s, base, max, &v);

	if (*s)
		return -EINVAL;
	if (rc < 0)
		return rc;
	*ret_v = v;
	return 0;
}

struct text_unit {
	char letter; /* lower case */
	uint64_t factor;
};

/* A number, optionally followed by one letter of the table (any case). */
static int parse_with_unit(const char *s, const struct text_unit *units, size_t n_units,
			   uint64_t *ret_v)
{
	uint64_t v = 0, factor = 1;
	int rc = parse_digits(&s, 10, UINT64_MAX, &v);

	if (rc == -EINVAL)
		return rc;
	if (*s) {
		size_t i = 0;

		while (i < n_units && units[i].letter != (*s | 0x20))
			i++;
		if (i == n_units || s[1])
			return -EINVAL;
		factor = units[i].factor;
	}
	if (rc < 0 || __builtin_mul_overflow(v, factor, &v))
		return -ERANGE;
	*ret_v = v;
	return 0;
}

int text_parse_size(const char *s, uint64_t *ret_bytes)
{
	static const struct text_unit units[] = {
		{'k', UINT64_C(1) << 10},
		{'m', UINT64_C(1) << 20},
		{'g', UINT64_C(1) << 30},
		{'t', UINT64_C(1) << 40},
	};

	return parse_with_unit(s, units, ARRAY_SIZE(units), ret_bytes);
}

int text_parse_duration(const char *s, uint64_t *ret_seconds)
{
	static const struct text_unit units[] = {
		{'s', 1},
		{'m', 60},
		{'h', 3600},
		{'d', 86400},
	};

	return parse_with_unit(s, units, ARRAY_SIZE(units), ret_seconds);
}

int text_parse_bool(const char *s, bool *ret_v)
{
	static const char *const words[][2] = {
		{"no", "yes"},
		{"false", "true"},
		{"off", "on"},
		{"0", "1"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		for (int v = 0; v < 2; v++) {
			if (strcasecmp(s, words[i][v]) == 0) {
				*ret_v = v;
				return 0;
			}
		}
	}
	return -EINVAL;
}

/* Exactly n digits at *s, between lo and hi; moves *s behind them. */
static int parse_field(const char **s, int n, int lo, int hi, int *ret_v)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		if (!is_digit((*s)[i]))
			return -EINVAL;
		v = v * 10 + ((*s)[i] - '0');
	}
	if (v < lo || v > hi)
		return -EINVAL;
	*s += n;
	*ret_v = v;
	return 0;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

/* "Z" or "+hh:mm" up to the end of the string. */
static int parse_zone(const char *s, int *ret_offset_s)
{
	int hours, minutes, sign;

	if ((*s == 'Z' || *s == 'z') && !s[1]) {
		*ret_offset_s = 0;
		return 0;
	}
	if (*s != '+' && *s != '-')
		return -EINVAL;
	sign = *s++ == '-' ? -1 : 1;
	if (parse_field(&s, 2, 0, 23, &hours) < 0 || *s++ != ':' ||
	    parse_field(&s, 2, 0, 59, &minutes) < 0 || *s)
		return -EINVAL;
	*ret_offset_s = sign * (hours * 3600 + minutes * 60);
	return 0;
}

int text_parse_time(const char *s, time_t *ret_t)
{
	int year, month, day, hour, minute, second, offset_s;
	struct tm tm = {0};

	if (parse_field(&s, 4, 0, 9999, &year) < 0 || *s++ != '-' ||
	    parse_field(&s, 2, 1, 12, &month) < 0 || *s++ != '-' ||
	    parse_field(&s, 2, 1, days_in_month(year, month), &day) < 0)
		return -EINVAL;
	if (*s != 'T' && *s != 't' && *s != ' ')
		return -EINVAL;
	s++;
	if (parse_field(&s, 2, 0, 23, &hour) < 0 || *s++ != ':' ||
	    parse_field(&s, 2, 0, 59, &minute) < 0 || *s++ != ':' ||
	    parse_field(&s, 2, 0, 60, &second) < 0) /* 60: a leap second */
		return -EINVAL;
	if (*s == '.') {
		s++;
		if (!is_digit(*s))
			return -EINVAL;
		while (is_digit(*s))
			s++;
	}
	if (parse_zone(s, &offset_s) < 0)
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	tm.tm_mday = day;
	tm.tm_hour = hour;
	tm.tm_min = minute;
	tm.tm_sec = second;
	*ret_t = timegm(&tm) - offset_s;
	return 0;
}

void text_format_time(time_t t, char buf[static 21])
{
	struct tm tm;

	if (gmtime_r(&t, &tm) && tm.tm_year >= -1900 && tm.tm_year <= 9999 - 1900 &&
	    strftime(buf, 21, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
		return;
	/* outside RFC 3339: the nearest that it can say */
	memcpy(buf, t < 0 ? "0000-01-01T00:00:00Z" : "9999-12-31T23:59:59Z", 21);
}

int text_check_name(const char *s)
{
	size_t n = 0;

	if (!is_alnum(s[0]))
		return -EINVAL;
	for (; s[n]; n++) {
		if (!is_alnum(s[n]) && !strchr("_-.", s[n]))
			return -EINVAL;
	}
	return n > NAME_LEN_MAX ? -ENAMETOOLONG : 0;
}

char *text_next_line(char **cursor)
{
	char *line = *cursor, *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	if (end) {
		*end = '\0';
		*cursor = end + 1;
	} else {
		*cursor = line + strlen(line);
	}
	return line;
}

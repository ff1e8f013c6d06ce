/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsing takes the time apart and puts it together again: so there is one spelling for
 * each name, and what a client looks up is what a listing shows.
 */
#include "store/trash_name.h"

#include <stdio.h>
#include <string.h>

#define TIME_LEN 20 /* with the Z */
#define FRACTION_LEN 7

void trash_name_format(const char *name, time_t t, long usec,
		       char buf[static TRASH_NAME_MAX])
{
	char when[21];

	text_format_time(t, when);
	when[TIME_LEN - 1] = '\0';
	if (usec < 0)
		(void)snprintf(buf, TRASH_NAME_MAX, "%s@%sZ", name, when);
	else
		(void)snprintf(buf, TRASH_NAME_MAX, "%s@%s.%06ldZ", name, when,
			       usec % 1000000);
}

int trash_name_parse(const char *s, char ret_name[static NAME_LEN_MAX + 1],
		     time_t *ret_time)
{
	const char *at = strchr(s, '@');
	char name[NAME_LEN_MAX + 1], again[TRASH_NAME_MAX];
	size_t len = at ? strlen(at + 1) : 0;
	uint64_t usec = 0;
	time_t t;

	if (!at || at == s || at - s > NAME_LEN_MAX ||
	    (len != TIME_LEN && len != TIME_LEN + FRACTION_LEN))
		return -EINVAL;
	(void)snprintf(name, sizeof(name), "%.*s", (int)(at - s), s);
	if (text_check_name(name) < 0 || text_parse_time(at + 1, &t) < 0)
		return -EINVAL;
	if (len > TIME_LEN) {
		char digits[FRACTION_LEN];

		memcpy(digits, at + 1 + TIME_LEN, FRACTION_LEN - 1);
		digits[FRACTION_LEN - 1] = '\0';
		if (text_parse_u64(digits, 10, 999999, &usec) < 0)
			return -EINVAL;
	}
	trash_name_format(name, t, len > TIME_LEN ? (long)usec : -1, again);
	if (strcmp(again, s) != 0)
		return -EINVAL;
	memcpy(ret_name, name, sizeof(name));
	*ret_time = t;
	return 0;
}

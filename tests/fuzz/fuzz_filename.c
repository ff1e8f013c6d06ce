/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names as the kernel hands them on: is it one for a branch, is it a file of the tree,
 * does a directory keep it apart from others, does JSON hold it.  The input is a list
 * of names with slashes or NULs between, as no name has either.
 */
#include "base/text.h"
#include "fs/ctlfs.h"
#include "fuzz.h"
#include "store/names.h"

#include <ctype.h>

#define NAMES_MAX 64

static void check_branch_name(const char *name)
{
	size_t len = strlen(name);
	int rc = text_check_name(name);
	bool good = len > 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		good = good && c < 128 && (isalnum(c) || (i > 0 && strchr("_-.", c)));
	}
	if (good)
		MUST(rc == (len <= NAME_LEN_MAX ? 0 : -ENAMETOOLONG));
	else
		MUST(rc < 0);
}

static void check_file(const char *name)
{
	static const enum node_kind kinds[] = {NODE_ROOT, NODE_BRANCH};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct ctl_file *f = ctl_file_named(kinds[i], name);

		MUST(!f || strcmp(f->name, name) == 0);
	}
}

/* Length of the UTF-8 sequence at s, or 0; overlong ones and surrogates are none. */
static size_t utf8_len(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] < 0xe0 && (s[1] & 0xc0) == 0x80)
		return 2;
	if ((s[0] & 0xf0) == 0xe0 && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 &&
	    !(s[0] == 0xe0 && s[1] < 0xa0) && !(s[0] == 0xed && s[1] >= 0xa0))
		return 3;
	if (s[0] >= 0xf0 && s[0] < 0xf5 && (s[1] & 0xc0) == 0x80 &&
	    (s[2] & 0xc0) == 0x80 && (s[3] & 0xc0) == 0x80 &&
	    !(s[0] == 0xf0 && s[1] < 0x90) && !(s[0] == 0xf4 && s[1] >= 0x90))
		return 4;
	return 0;
}

/* One JSON string, and nothing in it that a reader would stumble over. */
static void check_json(const char *name)
{
	CLEAN(str_fini) struct str t = STR_INIT;
	size_t i = 1, n;

	str_json(&t, name);
	MUST(!t.failed && t.len >= 2 && t.s[0] == '"' && t.s[t.len - 1] == '"');
	while (i < t.len - 1) {
		MUST((unsigned char)t.s[i] >= 0x20 && t.s[i] != '"');
		if (t.s[i] == '\\') {
			MUST(strchr("\"\\/bfnrtu", t.s[i + 1]));
			i += t.s[i + 1] == 'u' ? 6 : 2;
			continue;
		}
		n = utf8_len((const unsigned char *)t.s + i);
		MUST(n > 0);
		i += n;
	}
	MUST(i == t.len - 1);
}

/* Each name finds its own entry, as often as it comes. */
static void check_directory(char *const *names, size_t n)
{
	struct dirnames *table = NULL, *d = dirnames_add(&table, 1);

	MUST(d);
	for (size_t i = 0; i < n; i++) {
		struct entry *e = entry_set(d, names[i], ENTRY_FILE, i, true);

		MUST(e && e->cookie >= 16 && e->cookie <= INT64_MAX);
	}
	for (size_t i = 0; i < n; i++) {
		struct entry *e = entry_find(d, names[i]);

		MUST(e && strcmp(e->name, names[i]) == 0);
		MUST(e->fid >= i && strcmp(names[e->fid], names[i]) == 0);
	}
	for (size_t i = 0; i < n; i++) {
		struct entry *e = entry_find(d, names[i]);

		if (e)
			entry_remove(d, e);
		MUST(!entry_find(d, names[i]));
	}
	dirnames_free_all(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *names[NAMES_MAX];
	size_t n = 0, start = 0;

	for (size_t i = 0; i <= size && n < NAMES_MAX; i++) {
		if (i < size && text[i] != '/' && text[i] != '\0')
			continue;
		text[i] = '\0';
		check_branch_name(text + start);
		check_file(text + start);
		check_json(text + start);
		names[n++] = text + start;
		start = i + 1;
	}
	check_directory(names, n);
	free(text);
	return 0;
}

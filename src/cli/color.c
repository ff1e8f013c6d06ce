/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/color.h"

#include <string.h>

int color_parse(const char *word, enum color_when *ret_when)
{
	static const char *const words[] = {
		[COLOR_AUTO] = "auto",
		[COLOR_ALWAYS] = "always",
		[COLOR_NEVER] = "never",
	};

	if (!word) {
		*ret_when = COLOR_ALWAYS;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i]) == 0) {
			*ret_when = (enum color_when)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool color_term_is_able(const char *term)
{
	return term && term[0] != '\0' && strcmp(term, "dumb") != 0;
}

bool color_wanted(enum color_when when, bool is_terminal, const char *term,
		  const char *no_color)
{
	if (when != COLOR_AUTO)
		return when == COLOR_ALWAYS;
	return is_terminal && color_term_is_able(term) && (!no_color || !*no_color);
}

const char *color_of_state(const char *state)
{
	static const struct {
		const char *state, *color;
	} rows[] = {
		{"running", COLOR_GOOD},  {"starting", COLOR_BUSY},
		{"stopping", COLOR_BUSY}, {"failed", COLOR_BAD},
		{"stopped", COLOR_DIM},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(state, rows[i].state) == 0)
			return rows[i].color;
	return COLOR_ELSE; /* of a newer daemon */
}

void color_add(struct str *out, const char *color, const char *s, size_t len)
{
	if (color)
		str_printf(out, "\033[%sm", color);
	str_addn(out, s, len);
	if (color)
		str_add(out, "\033[0m");
}

/*
 * A line is "├── NAME  STATE  depth N", and neither name nor state has a blank.  The
 * first one is a path, in which anything may stand.
 */
static void color_tree_line(struct str *out, const char *line, size_t len)
{
	static const char behind[] = "  depth ";
	CLEAN(clean_free) char *copy = strndup(line, len);
	const char *end = copy ? strstr(copy, behind) : NULL, *state = end;
	size_t before, n;

	while (state && state > copy && state[-1] != ' ')
		state--;
	if (!state || state == end) {
		str_addn(out, line, len);
		out->failed |= !copy;
		return;
	}
	CLEAN(clean_free) char *word = strndup(state, (size_t)(end - state));

	before = (size_t)(state - copy);
	n = (size_t)(end - state);
	str_addn(out, line, before);
	color_add(out, word ? color_of_state(word) : NULL, state, n);
	str_addn(out, line + before + n, len - before - n);
}

void color_tree(struct str *out, const char *text)
{
	size_t len = strcspn(text, "\n");

	str_addn(out, text, len);
	for (text += len; *text == '\n'; text += len) {
		str_add(out, "\n");
		text++;
		len = strcspn(text, "\n");
		color_tree_line(out, text, len);
	}
}

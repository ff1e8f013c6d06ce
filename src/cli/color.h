/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * color.h - when text for people is coloured, and in which colours.  Pure.
 */
#ifndef CLI_COLOR_H
#define CLI_COLOR_H

#include "base/text.h"

enum color_when { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/* "auto", "always" or "never"; NULL, an option without a word, is always. */
int color_parse(const char *word, enum color_when *ret_when) MUST_CHECK;
/* term and no_color: the variables TERM and NO_COLOR, NULL if they are not set. */
bool color_wanted(enum color_when when, bool is_terminal, const char *term,
		  const char *no_color);
/* Can a terminal of this kind be written to in place, and in colours? */
bool color_term_is_able(const char *term);

/* What a terminal is told to show text in a colour; NULL: as it is. */
#define COLOR_HEAD "1"
#define COLOR_GOOD "32"
#define COLOR_BUSY "33"
#define COLOR_BAD "31"
#define COLOR_ELSE "36"
#define COLOR_DIM "2"
const char *color_of_state(const char *state);

/* Appends len bytes of s in a colour. */
void color_add(struct str *out, const char *color, const char *s, size_t len);
/* Appends a text of .tree with its states coloured. */
void color_tree(struct str *out, const char *text);

#endif

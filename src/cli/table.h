/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * table.h - a table of texts in columns that are as wide as they must be.  Pure.
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "base/text.h"

struct table_column {
	const char *title;
	bool right; /* numbers stand at the right of their column */
};

struct table_cell {
	char *text;        /* owned */
	const char *color; /* as color.h has it; NULL: none */
};

struct table {
	const struct table_column *columns; /* borrowed */
	size_t ncolumns;
	struct table_cell *cells; /* row after row */
	size_t n;
	bool failed; /* out of memory: as of struct str */
};

/* The next cell, from the left, then in the next row; a copy of text. */
void table_add(struct table *t, const char *text, const char *color);
size_t table_rows(const struct table *t);
/*
 * Appends the titles and the first `rows` rows, a line each.  width: lines are cut to
 * so many columns; 0: they are not.
 */
void table_render(const struct table *t, bool color, size_t width, size_t rows,
		  struct str *out);
void table_fini(struct table *t);

/* How many columns a text takes, and how many bytes of it fit into `width`. */
size_t table_text_width(const char *text);
size_t table_text_cut(const char *text, size_t width);

#endif

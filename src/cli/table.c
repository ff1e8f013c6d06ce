/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each character counts as one column: the names here are those of branches, users
 * and mount points, and wide ones only push what stands behind them.
 */
#include "cli/table.h"

#include "cli/color.h"

#include <string.h>

#define GAP 2

void table_add(struct table *t, const char *text, const char *color)
{
	struct table_cell *cells;

	if (t->failed)
		return;
	cells = reallocarray(t->cells, t->n + 1, sizeof(*cells));
	if (cells) {
		t->cells = cells;
		cells[t->n] = (struct table_cell){strdup(text), color};
	}
	if (cells && cells[t->n].text)
		t->n++;
	else
		t->failed = true;
}

size_t table_rows(const struct table *t)
{
	return t->n / t->ncolumns;
}

void table_fini(struct table *t)
{
	while (t->n > 0)
		free(t->cells[--t->n].text);
	clean_free(&t->cells);
}

static size_t step(const char *s)
{
	size_t n = text_utf8_len(s);

	return n ? n : 1;
}

size_t table_text_width(const char *text)
{
	size_t width = 0;

	for (; *text; text += step(text))
		width++;
	return width;
}

size_t table_text_cut(const char *text, size_t width)
{
	size_t len = 0;

	for (; text[len] && width > 0; width--)
		len += step(text + len);
	return len;
}

static size_t column_width(const struct table *t, size_t column)
{
	size_t widest = table_text_width(t->columns[column].title), width;

	for (size_t i = column; i < t->n; i += t->ncolumns) {
		width = table_text_width(t->cells[i].text);
		if (width > widest)
			widest = width;
	}
	return widest;
}

/* Adds blanks, as far as there is room. */
static void pad(struct str *out, size_t n, size_t *left)
{
	for (; n > 0 && *left > 0; n--, (*left)--)
		str_addn(out, " ", 1);
}

static void add_cell(struct str *out, const char *text, const char *color, size_t *left)
{
	size_t len = table_text_cut(text, *left), width = table_text_width(text);

	color_add(out, len > 0 ? color : NULL, text, len);
	*left -= width < *left ? width : *left;
}

/* cells: of one row; NULL: the titles. */
static void add_row(const struct table *t, const struct table_cell *cells,
		    const size_t *widths, bool color, size_t left, struct str *out)
{
	for (size_t i = 0; i < t->ncolumns; i++) {
		const struct table_column *c = &t->columns[i];
		const char *text = cells ? cells[i].text : c->title;
		const char *col = cells ? cells[i].color : COLOR_HEAD;
		size_t room = widths[i] - table_text_width(text);

		if (c->right)
			pad(out, room, &left);
		add_cell(out, text, color ? col : NULL, &left);
		if (i + 1 == t->ncolumns)
			break;
		pad(out, GAP + (c->right ? 0 : room), &left);
	}
	str_add(out, "\n");
}

void table_render(const struct table *t, bool color, size_t width, size_t rows,
		  struct str *out)
{
	CLEAN(clean_free) size_t *widths = calloc(t->ncolumns, sizeof(*widths));
	size_t left = width ? width : SIZE_MAX;

	if (!widths || t->failed) {
		out->failed = true;
		return;
	}
	for (size_t i = 0; i < t->ncolumns; i++)
		widths[i] = column_width(t, i);
	add_row(t, NULL, widths, color, left, out);
	for (size_t i = 0; i < rows && i < table_rows(t); i++)
		add_row(t, &t->cells[i * t->ncolumns], widths, color, left, out);
}

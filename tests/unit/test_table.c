/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables and colours for people.
 */
#include "unit.h"

#include "cli/color.h"
#include "cli/table.h"

static void test_color_wanted(void **state)
{
	static const struct {
		const char *name;
		enum color_when when;
		bool is_terminal;
		const char *term, *no_color;
		bool wanted;
	} rows[] = {
		{"a terminal", COLOR_AUTO, true, "xterm", NULL, true},
		{"a pipe", COLOR_AUTO, false, "xterm", NULL, false},
		{"a dumb terminal", COLOR_AUTO, true, "dumb", NULL, false},
		{"an unknown terminal", COLOR_AUTO, true, NULL, NULL, false},
		{"an empty TERM", COLOR_AUTO, true, "", NULL, false},
		{"NO_COLOR", COLOR_AUTO, true, "xterm", "1", false},
		{"NO_COLOR, whatever it says", COLOR_AUTO, true, "xterm", "0", false},
		{"an empty NO_COLOR", COLOR_AUTO, true, "xterm", "", true},
		{"always", COLOR_ALWAYS, false, "dumb", "1", true},
		{"always, without TERM", COLOR_ALWAYS, false, NULL, NULL, true},
		{"never", COLOR_NEVER, true, "xterm", NULL, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ROW_EQUAL(rows[i].name,
			  color_wanted(rows[i].when, rows[i].is_terminal, rows[i].term,
				       rows[i].no_color),
			  rows[i].wanted);
}

static void test_color_parse(void **state)
{
	static const struct {
		const char *word;
		int rc;
		enum color_when when;
	} rows[] = {
		{"auto", 0, COLOR_AUTO},    {"always", 0, COLOR_ALWAYS},
		{"never", 0, COLOR_NEVER},  {NULL, 0, COLOR_ALWAYS},
		{"", -EINVAL, COLOR_NEVER}, {"Always", -EINVAL, COLOR_NEVER},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *name = rows[i].word ? rows[i].word : "no word";
		enum color_when when = COLOR_NEVER;

		ROW_EQUAL(name, color_parse(rows[i].word, &when), rows[i].rc);
		ROW_EQUAL(name, when, rows[i].when);
	}
}

static void test_color_tree(void **state)
{
	static const struct {
		const char *text, *colored;
	} rows[] = {
		{"", ""},
		{"/m", "/m"},
		{"/a  running  depth 1\n", "/a  running  depth 1\n"}, /* a path */
		{"/m\n├── a  running  depth 2\n│   └── b.c  failed  depth 3  (parent "
		 "x gone)\n└── d  stopped  depth 1\n",
		 "/m\n├── a  \033[32mrunning\033[0m  depth 2\n│   └── b.c  "
		 "\033[31mfailed\033[0m  depth 3  (parent x gone)\n└── d  "
		 "\033[2mstopped\033[0m  depth 1\n"},
		{"/m\n└── a  starting  depth 1", "/m\n└── a  \033[33mstarting\033[0m  "
						 "depth 1"},
		{"/m\n└── a  external  depth 1\n",
		 "/m\n└── a  \033[36mexternal\033[0m  depth 1\n"},
		{"/m\nnothing of that\n  depth 1\n",
		 "/m\nnothing of that\n  depth 1\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct str out = STR_INIT;

		color_tree(&out, rows[i].text);
		ROW_STRING(rows[i].text, out.s, rows[i].colored);
		str_fini(&out);
	}
}

static const struct table_column columns[] = {
	{"NAME", false}, {"N", true}, {"LAST", false}};

static void fill(struct table *t)
{
	*t = (struct table){.columns = columns, .ncolumns = ARRAY_SIZE(columns)};
	table_add(t, "a", NULL);
	table_add(t, "12345", COLOR_GOOD);
	table_add(t, "x", NULL);
	table_add(t, "jürgen", NULL);
	table_add(t, "7", NULL);
	table_add(t, "\xff", COLOR_BAD);
}

static void test_table(void **state)
{
	static const struct {
		const char *name;
		bool color;
		size_t width, rows;
		const char *text;
	} rows[] = {
		{"whole", false, 0, 10,
		 "NAME        N  LAST\na       12345  x\njürgen      7  \xff\n"},
		{"one row", false, 0, 1, "NAME        N  LAST\na       12345  x\n"},
		{"none", false, 0, 0, "NAME        N  LAST\n"},
		{"colours", true, 0, 1,
		 "\033[1mNAME\033[0m        \033[1mN\033[0m  \033[1mLAST\033[0m\n"
		 "a       \033[32m12345\033[0m  x\n"},
		{"cut in a word", false, 17, 10,
		 "NAME        N  LA\na       12345  x\njürgen      7  \xff\n"},
		{"cut in a colour", true, 10, 1,
		 "\033[1mNAME\033[0m      \na       \033[32m12\033[0m\n"},
		{"cut between characters, not bytes", false, 2, 10, "NA\na \njü\n"},
		{"one column", true, 1, 1, "\033[1mN\033[0m\na\n"},
	};
	struct table t, empty = {.columns = columns, .ncolumns = ARRAY_SIZE(columns)};
	struct str out = STR_INIT;

	(void)state;
	fill(&t);
	assert_int_equal(table_rows(&t), 2);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		table_render(&t, rows[i].color, rows[i].width, rows[i].rows, &out);
		ROW_STRING(rows[i].name, out.s, rows[i].text);
		str_fini(&out);
	}
	/* what was not added for want of memory is not left out silently */
	t.failed = true;
	table_render(&t, false, 0, 10, &out);
	assert_true(out.failed);
	str_fini(&out);
	table_fini(&t);
	table_render(&empty, false, 0, 10, &out);
	assert_string_equal(out.s, "NAME  N  LAST\n");
	str_fini(&out);
	table_fini(&empty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_color_wanted),
		cmocka_unit_test(test_color_parse),
		cmocka_unit_test(test_color_tree),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

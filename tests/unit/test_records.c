/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The texts on disk: entries, attributes, records of branches and layers. */
#include "store/branch_meta.h"
#include "store/names.h"
#include "unit.h"

#include <zlib.h>

static void test_entries(void **state)
{
	static const struct {
		enum entry_kind kind;
		uint64_t fid;
	} rows[] = {
		{ENTRY_FILE, 0x1a3},  {ENTRY_DIR, 256},
		{ENTRY_SYMLINK, 257}, {ENTRY_FIFO, (UINT64_C(1) << 36) - 1},
		{ENTRY_SOCKET, 300},  {ENTRY_WHITEOUT, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[NAME_TARGET_MAX];
		enum entry_kind kind;
		uint64_t fid;

		entry_encode(rows[i].kind, rows[i].fid, text);
		ROW_EQUAL(text, entry_decode(text, &kind, &fid), 0);
		ROW_EQUAL(text, kind, rows[i].kind);
		ROW_EQUAL(text, fid, rows[i].fid);
		for (size_t bit = 0; bit < strlen(text) * 8; bit++) {
			char bad[NAME_TARGET_MAX];

			memcpy(bad, text, sizeof(bad));
			bad[bit / 8] = (char)(bad[bit / 8] ^ 1 << bit % 8);
			ROW_EQUAL(bad, entry_decode(bad, &kind, &fid), -EBADMSG);
		}
		for (size_t n = 0; n < strlen(text); n++) {
			char cut[NAME_TARGET_MAX] = "";

			memcpy(cut, text, n);
			ROW_EQUAL(cut, entry_decode(cut, &kind, &fid), -EBADMSG);
		}
	}
}

/* Sums that are right over texts that nobody wrote. */
static void test_texts_of_others(void **state)
{
	static const char *const rows[] = {"f01a3", "f1A3",        "f",   "w0",
					   "x1",    "f1000000000", "f+1", "f1 "};
	static const char *const attr_rows[] = {"n0",       "n01",  "n1m", "n1m0700",
						"n1m10000", "n1m8", "nm7"};
	enum entry_kind kind;
	struct attrs a;
	uint64_t fid;
	char text[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		(void)snprintf(text, sizeof(text), "%s.%08lx", rows[i],
			       crc32_z(0, (const void *)rows[i], strlen(rows[i])));
		ROW_EQUAL(text, entry_decode(text, &kind, &fid), -EBADMSG);
	}
	for (size_t i = 0; i < ARRAY_SIZE(attr_rows); i++) {
		(void)snprintf(
			text, sizeof(text), "%s.%08lx", attr_rows[i],
			crc32_z(7, (const void *)attr_rows[i], strlen(attr_rows[i])));
		ROW_EQUAL(text, attrs_decode(text, 7, &a), -EBADMSG);
	}
}

static void test_attrs(void **state)
{
	static const struct attrs rows[] = {
		{.nlink = 2},
		{.has_mode = true, .mode = 0400, .nlink = 1},
		{.has_mode = true, .mode = 07777, .nlink = UINT32_MAX},
		{.has_mode = true, .mode = 0, .nlink = 3},
	};
	char text[NAME_TARGET_MAX];
	struct attrs a;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		attrs_encode(0x1a3, &rows[i], text);
		ROW_EQUAL(text, attrs_decode(text, 0x1a3, &a), 0);
		ROW_EQUAL(text, a.has_mode, rows[i].has_mode);
		ROW_EQUAL(text, a.mode, rows[i].mode);
		ROW_EQUAL(text, a.nlink, rows[i].nlink);
		ROW_EQUAL("another file's", attrs_decode(text, 0x1a4, &a), -EBADMSG);
	}
	ROW_EQUAL("empty", attrs_decode("", 0x1a3, &a), -EBADMSG);
}

static const struct branch_meta sample = {
	.name = "twelve",
	.no = 12,
	.top = 40,
	.base = 39,
	.fresh = true,
	.parent = "main",
	.parent_no = 1,
	.created = 1795375436,
	.last_active = 1795375999,
	.expires = 1795462399,
	.owner = 1001,
	.group = 100,
	.mode = 0750,
	.prepared = true,
};

static void test_branch_record(void **state)
{
	char *text = branch_meta_encode(&sample);
	size_t len = strlen(text);
	struct branch_meta m;

	(void)state;
	assert_int_equal(branch_meta_decode(text, &m), 0);
	assert_int_equal(memcmp(&m, &sample, sizeof(m)), 0);
	for (size_t bit = 0; bit < len * 8; bit++) {
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
		ROW_EQUAL(text, branch_meta_decode(text, &m), -EBADMSG);
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
	}
	for (size_t n = len; n-- > 0;) {
		text[n] = '\0';
		ROW_EQUAL(text, branch_meta_decode(text, &m), -EBADMSG);
	}
	free(text);
}

/* As early builds wrote it: without a name, and without an end. */
static void test_nameless_record(void **state)
{
	static const char text[] = "[branch]\nno = 12\ntop = 40\nbase = 39\n"
				   "fresh = yes\nparent = main\nparent_no = 1\n"
				   "created = 1795375436\nlast_active = 1795375999\n"
				   "owner = 1001\ngroup = 100\nmode = 750\n"
				   "protected = no\nprepared = yes\nstarted = no\n"
				   "stopped_by_hand = no\nsum = fe524f07\n";
	struct branch_meta m, nameless = sample;
	char *again;

	(void)state;
	assert_int_equal(branch_meta_decode(text, &m), 0);
	nameless.name[0] = '\0';
	nameless.expires = 0;
	again = branch_meta_encode(&nameless);
	assert_string_equal(again, text);
	assert_int_equal(branch_meta_decode(again, &m), 0);
	assert_string_equal(m.name, "");
	free(again);
}

static void test_layer_record(void **state)
{
	static const struct {
		struct layer_meta m;
		int rc;
	} rows[] = {
		{{.id = 1, .parent = 0, .fresh = false}, 0},
		{{.id = 9, .parent = 8, .fresh = true}, 0},
		{{.id = 9, .parent = 9, .fresh = false}, -EBADMSG}, /* a circle */
		{{.id = 9, .parent = 10, .fresh = false},
		 0}, /* a merged one is younger */
		{{.id = 9, .parent = 10, .max_fid = INT64_MAX}, 0},
		{{.id = 0, .parent = 0, .fresh = false}, -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *text = layer_meta_encode(&rows[i].m);
		struct layer_meta m;

		ROW_EQUAL(text, layer_meta_decode(text, &m), rows[i].rc);
		free(text);
	}
}

/* One record of each kind does not pass for the other. */
static void test_swapped(void **state)
{
	const struct layer_meta layer = {.id = 9, .parent = 8};
	char *b = branch_meta_encode(&sample), *l = layer_meta_encode(&layer);
	struct branch_meta bm;
	struct layer_meta lm;

	(void)state;
	assert_int_equal(branch_meta_decode(l, &bm), -EBADMSG);
	assert_int_equal(layer_meta_decode(b, &lm), -EBADMSG);
	free(b);
	free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_texts_of_others),
		cmocka_unit_test(test_attrs),
		cmocka_unit_test(test_branch_record),
		cmocka_unit_test(test_nameless_record),
		cmocka_unit_test(test_layer_record),
		cmocka_unit_test(test_swapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

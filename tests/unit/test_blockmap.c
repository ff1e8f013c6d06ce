/* SPDX-License-Identifier: GPL-2.0-or-later */
/* blockmap: who owns a block, and that no damaged record is taken for a good one. */
#include "store/blockmap.h"
#include "unit.h"

#define LAYER 7
#define FID UINT64_C(0x1a3)

static void test_ownership(void **state)
{
	static const struct {
		const char *name;
		uint64_t below_bytes;
		uint64_t add, count; /* blocks marked */
		uint64_t ask;
		bool owned;
	} rows[] = {
		{"nothing marked", 10 * BLOCK_SIZE, 0, 0, 3, false},
		{"marked", 10 * BLOCK_SIZE, 3, 1, 3, true},
		{"beside the mark", 10 * BLOCK_SIZE, 3, 1, 4, false},
		{"last of a run", 100 * BLOCK_SIZE, 60, 10, 69, true},
		{"after a run", 100 * BLOCK_SIZE, 60, 10, 70, false},
		{"at the line", 10 * BLOCK_SIZE, 0, 0, 10, true},
		{"far above the line", 10 * BLOCK_SIZE, 0, 0, 1000000000, true},
		{"block that the line cuts", 10 * BLOCK_SIZE + 1, 0, 0, 10, false},
		{"empty below", 0, 0, 0, 0, true},
		{"marks above the line change nothing", 2 * BLOCK_SIZE, 0, 1000, 1,
		 true},
		{"count past the end of the numbers", 5 * BLOCK_SIZE, 4, UINT64_MAX, 4,
		 true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct blockmap m;

		blockmap_init(&m, rows[i].below_bytes);
		if (rows[i].count)
			ROW_EQUAL(rows[i].name,
				  blockmap_add(&m, rows[i].add, rows[i].count), 0);
		ROW_EQUAL(rows[i].name, blockmap_owns(&m, rows[i].ask), rows[i].owned);
		blockmap_fini(&m);
	}
}

static void test_runs(void **state)
{
	struct blockmap m;
	bool owned;

	(void)state;
	blockmap_init(&m, 10 * BLOCK_SIZE);
	assert_int_equal(blockmap_add(&m, 2, 3), 0);
	assert_int_equal(blockmap_run(&m, 0, 100, &owned), 2);
	assert_false(owned);
	assert_int_equal(blockmap_run(&m, 2, 100, &owned), 3);
	assert_true(owned);
	assert_int_equal(blockmap_run(&m, 2, 2, &owned), 2);
	assert_int_equal(blockmap_run(&m, 5, 100, &owned), 5);
	assert_false(owned);
	assert_int_equal(blockmap_run(&m, 12, 100, &owned), 100);
	assert_true(owned);
	blockmap_cut(&m, 4 * BLOCK_SIZE);
	assert_true(blockmap_owns(&m, 4));
	blockmap_cut(&m, 9 * BLOCK_SIZE); /* only ever lower */
	assert_int_equal(m.below_bytes, 4 * BLOCK_SIZE);
	blockmap_fini(&m);
}

/* A record with a few runs of bits. */
static uint8_t *sample(size_t *ret_len)
{
	struct blockmap m;
	uint8_t *buf;

	blockmap_init(&m, 1000 * BLOCK_SIZE + 17);
	assert_int_equal(blockmap_add(&m, 0, 1), 0);
	assert_int_equal(blockmap_add(&m, 63, 2), 0);
	assert_int_equal(blockmap_add(&m, 700, 50), 0);
	assert_int_equal(blockmap_encode(&m, LAYER, FID, &buf, ret_len), 0);
	blockmap_fini(&m);
	return buf;
}

static void test_round_trip(void **state)
{
	struct blockmap m;
	size_t len;
	uint8_t *buf = sample(&len);

	(void)state;
	assert_int_equal(blockmap_decode(buf, len, LAYER, FID, &m), 0);
	assert_int_equal(m.below_bytes, 1000 * BLOCK_SIZE + 17);
	for (uint64_t b = 0; b < 1001; b++)
		assert_int_equal(blockmap_owns(&m, b),
				 b == 0 || b == 63 || b == 64 || (b >= 700 && b < 750));
	assert_true(blockmap_owns(&m, 1001));
	blockmap_fini(&m);
	free(buf);
}

static void test_damage(void **state)
{
	struct blockmap m;
	size_t len;
	uint8_t *buf = sample(&len);

	(void)state;
	for (size_t n = 0; n < len; n++)
		assert_int_equal(blockmap_decode(buf, n, LAYER, FID, &m), -EBADMSG);
	for (size_t bit = 0; bit < len * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(blockmap_decode(buf, len, LAYER, FID, &m), -EBADMSG);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(blockmap_decode(buf, len, LAYER + 1, FID, &m), -EBADMSG);
	assert_int_equal(blockmap_decode(buf, len, LAYER, FID + 1, &m), -EBADMSG);
	memset(buf, 0, len);
	assert_int_equal(blockmap_decode(buf, len, LAYER, FID, &m), -EBADMSG);
	free(buf);
}

/* The first released format must stay readable. */
static void test_version_1_sample(void **state)
{
	static const uint8_t v1[] = {
		'p', 'g', 'b', 'r', 'm', 'a', 'p', '\n', 1, 0,    0,    0,    0,
		0,   0,   0,   7,   0,   0,   0,   1,    0, 0,    0,    0xa3, 1,
		0,   0,   0,   0,   0,   0,   0,   0,    1, 0,    0,    0,    0,
		0,   5,   0,   0,   0,   0,   0,   0,    0, 0xfa, 0x53, 0x88, 0x12,
	};
	struct blockmap m;

	(void)state;
	assert_int_equal(blockmap_decode(v1, sizeof(v1), LAYER, FID, &m), 0);
	assert_int_equal(m.below_bytes, 65536);
	assert_true(blockmap_owns(&m, 0));
	assert_false(blockmap_owns(&m, 1));
	assert_true(blockmap_owns(&m, 2));
	blockmap_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ownership),        cmocka_unit_test(test_runs),
		cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_damage),
		cmocka_unit_test(test_version_1_sample),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

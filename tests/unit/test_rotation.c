/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which automatic checkpoints stay. */
#include "base/cleanup.h"
#include "ctl/rotation.h"
#include "unit.h"

#define HOUR 3600
#define DAY (24 * HOUR)

struct kept {
	time_t v[128];
	size_t n;
};

/* One more at `now`; then those that are too many go. */
static void step(struct kept *k, size_t keep, time_t now)
{
	size_t at;

	k->v[k->n++] = now;
	while ((at = rotation_victim(k->v, k->n, keep, now)) < k->n) {
		k->n--;
		for (size_t i = at; i < k->n; i++)
			k->v[i] = k->v[i + 1];
	}
}

/* Is there one whose age is near to this? */
static void expect_age(const struct kept *k, time_t now, time_t age)
{
	time_t best = 0;

	for (size_t i = 0; i < k->n; i++) {
		time_t a = now - k->v[i];

		if (a >= age / 2 && a <= age * 2)
			best = a;
	}
	if (best == 0)
		fail_msg("none is about %lld s old", (long long)age);
}

static void test_year(void **state)
{
	static const time_t ages[] = {600,     HOUR,     6 * HOUR, DAY,
				      7 * DAY, 30 * DAY, 120 * DAY};
	struct kept k = {.n = 0};
	time_t start = 1795341600, now = start;

	(void)state;
	for (; now < start + 365 * DAY; now += 600) {
		step(&k, 24, now);
		assert_true(k.n <= 24);
		assert_int_equal(k.v[k.n - 1], now);
		assert_int_equal(k.v[0], start);
	}
	assert_int_equal(k.n, 24);
	for (size_t i = 0; i < ARRAY_SIZE(ages); i++)
		expect_age(&k, now, ages[i]);
}

static void test_few(void **state)
{
	static const struct {
		size_t n, keep, victim;
		time_t v[5];
	} rows[] = {
		{0, 24, 0, {0}},
		{3, 3, 3, {10, 20, 30}},
		{2, 1, 0, {10, 20}}, /* the newest stays */
		{3, 1, 0, {10, 20, 30}},
		{3, 2, 1, {10, 20, 30}},
		{4, 3, 1, {10, 11, 50, 90}},     /* what is close together and old */
		{5, 4, 1, {5, 5, 5, 5, 5}},      /* all at one time */
		{4, 3, 1, {300, 200, 150, 100}}, /* a clock that was set back */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t at = rotation_victim(rows[i].v, rows[i].n, rows[i].keep, 100);

		ROW_EQUAL("row", at, rows[i].victim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_year),
		cmocka_unit_test(test_few),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

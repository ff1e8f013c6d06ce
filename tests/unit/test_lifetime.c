/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long branches live: `expires`, `protected`, ttl and max_ttl. */
#include "controlfix.h"

static int set_word(void (*set)(struct control *c, const struct caller *who,
				struct branch *b, const char *word, control_done done,
				void *ctx),
		    uid_t uid, const char *name, const char *word)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	set(control, &who, find_locked(name), word, finished, &r);
	return await(&r);
}

static int expires_as(uid_t uid, const char *name, const char *word)
{
	return set_word(control_set_expires, uid, name, word);
}

static int protect_as(uid_t uid, const char *name, const char *word)
{
	return set_word(control_set_protected, uid, name, word);
}

/* Is t what `seconds` from now is, give or take what the test took? */
static bool is_from_now(time_t t, time_t seconds)
{
	return t <= time(NULL) + seconds && t > time(NULL) + seconds - 60;
}

static void configure(uint64_t ttl_s, uint64_t max_ttl_s)
{
	cfg->ttl_s = ttl_s;
	cfg->max_ttl_s = max_ttl_s;
	control_configure(control, cfg);
}

static void test_expires(void **state)
{
	const struct branch_info *a;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	a = &find_locked("a")->info;
	assert_int_equal(a->expires, 0);
	assert_int_equal(expires_as(ME, "a", "2h"), 0);
	assert_true(is_from_now(a->expires, 7200));
	assert_int_equal(expires_as(ME, "a", "2099-01-01T00:00:00Z"), 0);
	assert_int_equal(a->expires, 4070908800);
	assert_int_equal(expires_as(ME, "a", "soon"), -EINVAL);
	check_error(ME, "'soon' is no time to expire at\n"
			"hint: write a time from now such as 2h, 90m or 7d, an RFC "
			"3339 time such as 2026-11-22T10:00:00Z, or never\n");
	assert_int_equal(expires_as(1234, "a", "never"), -EACCES);
	check_error(1234, "branch 'a' belongs to uid 1000, not to uid 1234\n"
			  "hint: ask its owner, or root\n");
	assert_int_equal(a->expires, 4070908800);
	assert_int_equal(expires_as(0, "a", "never"), 0);
	assert_int_equal(a->expires, 0);
	assert_int_equal(expires_as(0, "main", "2h"), -EPERM);
	check_error(0, "the base branch does not expire\n");
	assert_int_equal(expires_as(0, "main", "never"), 0);
}

static void test_limits(void **state)
{
	static const struct {
		uint64_t ttl_s, max_ttl_s;
		time_t expected; /* of a new branch, from now; 0: never */
	} rows[] = {
		{0, 0, 0},          {3600, 0, 3600},     {0, 7200, 7200},
		{3600, 7200, 3600}, {86400, 7200, 7200},
	};
	static const struct {
		const char *word;
		int rc;
	} words[] = {
		{"7200", 0},
		{"1h", 0},
		{"7260", -EPERM},
		{"never", -EPERM},
		{"2099-01-01T00:00:00Z", -EPERM},
	};
	char name[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct branch_info *b;

		configure(rows[i].ttl_s, rows[i].max_ttl_s);
		(void)snprintf(name, sizeof(name), "b%zu", i);
		assert_int_equal(create_as(ME, name), 0);
		b = &find_locked(name)->info;
		if (rows[i].expected)
			ROW_EQUAL(name, is_from_now(b->expires, rows[i].expected), 1);
		else
			ROW_EQUAL(name, b->expires, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		ROW_EQUAL(words[i].word, expires_as(0, "b0", words[i].word),
			  words[i].rc);
	assert_int_equal(expires_as(0, "main", "never"), 0);
	/* as far ahead as one can say */
	configure(INT64_MAX / 1000, 0);
	assert_int_equal(create_as(ME, "old"), 0);
	assert_int_equal(find_locked("old")->info.expires, INT64_C(253402300799));
}

static void test_protected(void **state)
{
	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	assert_int_equal(protect_as(1234, "a", "1"), -EACCES);
	assert_int_equal(protect_as(ME, "a", "yes"), -EINVAL);
	check_error(ME, "'yes' does not say whether to protect\n"
			"hint: write 1 to protect the branch, 0 to lift it\n");
	assert_int_equal(protect_as(ME, "a", "1"), 0);
	assert_int_equal(discard_as(0, "a"), -EPERM);
	check_error(0, "branch 'a' is protected\n"
		       "hint: its owner may write 0 to its file protected\n");
	assert_int_equal(protect_as(ME, "a", "0"), 0);
	assert_int_equal(discard_as(ME, "a"), 0);
	assert_int_equal(protect_as(0, "main", "0"), -EPERM);
	check_error(0, "the base branch stays protected\n");
	assert_true(find_locked("main")->info.is_protected);
	assert_int_equal(protect_as(0, "main", "1"), 0);
}

/* What is being discarded cannot be given a longer life, nor protected. */
static void test_claims(void **state)
{
	struct caller who = {ME, ME, 1};
	struct result r = {0};

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	world.hold_want = true;
	control_discard(control, &who, "a", finished, &r);
	assert_int_equal(expires_as(ME, "a", "never"), -EBUSY);
	assert_int_equal(protect_as(ME, "a", "1"), -EBUSY);
	answer_soon(world.held.done, world.held.ctx);
	assert_int_equal(await(&r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_expires),
		WORLD_TEST(test_limits),
		WORLD_TEST(test_protected),
		WORLD_TEST(test_claims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long branches live: `expires`, `protected`, ttl and max_ttl. */
#include "controlfix.h"

#include "ctl/expiry.h"
#include "ctl/request.h"

static int set_word(void (*set)(struct control *c, const struct caller *who,
				struct branch *b, const char *word, control_done done,
				void *ctx),
		    uid_t uid, const char *name, const char *word)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	set(control, &who, find(name), word, finished, &r);
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

static void test_expires(void **state)
{
	const struct branch_info *a;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	a = &find("a")->info;
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

		reconfigure(rows[i].ttl_s, rows[i].max_ttl_s, 0);
		(void)snprintf(name, sizeof(name), "b%zu", i);
		assert_int_equal(create_as(ME, name), 0);
		b = &find(name)->info;
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
	reconfigure(INT64_MAX / 1000, 0, 0);
	assert_int_equal(create_as(ME, "old"), 0);
	assert_int_equal(find("old")->info.expires, INT64_C(253402300799));
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
	assert_true(find("main")->info.is_protected);
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

/* Gives it an end in the past, as time does; the branch lived for `life` seconds. */
static struct branch *let_expire(const char *name, time_t life)
{
	struct branch *b = find(name);

	LOCK_SCOPE(&lock);
	b->info.expires = time(NULL) - 1;
	b->info.created = b->info.expires - life;
	expiry_soon(control);
	return b;
}

static void set_expires(struct branch *b, time_t expires)
{
	LOCK_SCOPE(&lock);
	b->info.expires = expires;
}

static bool is_discarded(const struct branch *b)
{
	LOCK_SCOPE(&lock);
	return b->info.discarded;
}

static unsigned keeps(void)
{
	LOCK_SCOPE(&lock);
	return world.keeps;
}

static void await_asked(unsigned n)
{
	LOCK_SCOPE(&lock);
	while (world.in_use_asked < n)
		(void)pthread_cond_wait(&changed, &lock);
}

static void await_discarded(const struct branch *b)
{
	LOCK_SCOPE(&lock);
	while (!b->info.discarded)
		(void)pthread_cond_wait(&changed, &lock);
}

static void test_expire(void **state)
{
	CLEAN(clean_free) char *log = NULL;
	const struct branch *b[4], *safe;
	char name[16];

	(void)state;
	/* more than are discarded at one time */
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		(void)snprintf(name, sizeof(name), "b%u", i);
		assert_int_equal(create_as(ME, name), 0);
	}
	assert_int_equal(create_as(ME, "stays"), 0);
	assert_int_equal(create_as(ME, "safe"), 0);
	assert_int_equal(protect_as(ME, "safe", "1"), 0);
	safe = let_expire("safe", 10);
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		(void)snprintf(name, sizeof(name), "b%u", i);
		b[i] = let_expire(name, 10);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
		await_discarded(b[i]);
	assert_non_null(find("stays"));
	assert_non_null(find("safe"));
	assert_non_null(find("main"));
	assert_int_equal(world.in_use_asked, ARRAY_SIZE(b));
	/* the reason is in the audit log, and in nobody's .error */
	control_stop();
	assert_int_equal(fd_read_file(world.dirfd, "audit.log", 1 << 20, &log, NULL),
			 0);
	assert_non_null(strstr(log, "\"verb\":\"expire\",\"branch\":\"b3\",\"parent\":"
				    "null,\"value\":null,\"verdict\":\"allowed\","
				    "\"reason\":\"it expired at 20"));
	assert_int_equal(control_start("/mnt"), 0);
	check_error(0, "");
	/* lifting the protection is enough */
	assert_int_equal(protect_as(ME, "safe", "0"), 0);
	await_discarded(safe);
}

/* Spared while it is in use, and for a grace from then on. */
static void test_spared(void **state)
{
	const struct branch *b;
	int64_t free_ms;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	WORLD_SET(in_use, true);
	b = let_expire("a", 20); /* the grace is two seconds */
	await_asked(3);
	assert_false(is_discarded(b));
	WORLD_SET(in_use, false);
	free_ms = loop_now_ms();
	await_discarded(b);
	assert_true(loop_now_ms() - free_ms >= 1900);
	assert_true(loop_now_ms() - free_ms < 30000);
}

/* A question that cannot be answered is asked again, and is no yes. */
static void test_not_known(void **state)
{
	const struct branch *b;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	WORLD_SET(in_use_rc, -EAGAIN);
	b = let_expire("a", 1);
	await_asked(2);
	assert_false(is_discarded(b));
	WORLD_SET(in_use_rc, 0);
	await_discarded(b);
}

/* What could not be discarded is tried again. */
static void test_retry(void **state)
{
	const struct branch *b;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	WORLD_SET(want_rc, -EBUSY);
	b = let_expire("a", 1);
	await_asked(2);
	assert_false(is_discarded(b));
	WORLD_SET(want_rc, 0);
	await_discarded(b);
}

/* Given more time at the last moment; and a failed discard leaves all as it was. */
static void test_more_time(void **state)
{
	struct result r = {0};
	struct branch *b;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	b = find("a");
	set_expires(b, time(NULL) + 1000);
	control_expire(control, b, finished, &r);
	assert_int_equal(await(&r), -ECANCELED);
	set_expires(b, 0);
	r.done = false;
	control_expire(control, b, finished, &r);
	assert_int_equal(await(&r), -ECANCELED);
	assert_int_equal(world.wants[PM_WANT_GONE], 0);
	WORLD_SET(discard_rc, -EIO);
	set_expires(b, 1);
	r.done = false;
	control_expire(control, b, finished, &r);
	assert_int_equal(await(&r), -EIO);
	assert_true(keeps() >= 1);
	WORLD_SET(want_rc, -EBUSY);
	WORLD_SET(keeps, 0);
	/* the timer may be at it just now, which is refused with the same code */
	for (int i = 0; i < 1000 && keeps() == 0; i++) {
		r.done = false;
		control_expire(control, b, finished, &r);
		assert_int_equal(await(&r), -EBUSY);
	}
	assert_true(keeps() >= 1);
	assert_int_equal(expires_as(ME, "a", "1h"), 0);
}

static int restore_as(uid_t uid, const char *from, const char *to)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_restore(control, &who, from, to, finished, &r);
	return await(&r);
}

static int purge_as(uid_t uid, const char *name)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_purge(control, &who, name, finished, &r);
	return await(&r);
}

static void test_trash(void **state)
{
	static const char a_there[] = "a@2001-01-01T00:00:00Z";
	struct branch *a;

	(void)state;
	reconfigure(0, 0, 1u << 31);
	assert_int_equal(create_as(ME, "a"), 0);
	a = find("a");
	assert_int_equal(discard_as(ME, "a"), 0);
	assert_string_equal(a->info.trash_name, a_there);
	assert_int_equal(world.wants[PM_WANT_GONE], 1);
	assert_int_equal(restore_as(1234, a_there, "a"), -EACCES);
	assert_int_equal(purge_as(1234, a_there), -EACCES);
	assert_int_equal(restore_as(ME, "b@2001-01-01T00:00:00Z", "a"), -ENOENT);
	check_error(ME, "there is no 'b@2001-01-01T00:00:00Z' in the trash\n");
	assert_int_equal(restore_as(ME, a_there, "-a"), -EINVAL);
	assert_int_equal(world.keeps, 0);
	/* with an end that lies ahead it keeps it, else it gets what new ones get */
	set_expires(a, 4070908800);
	assert_int_equal(restore_as(ME, a_there, "c"), 0);
	assert_int_equal(world.keeps, 1);
	assert_string_equal(a->info.name, "c");
	assert_int_equal(a->info.expires, 4070908800);
	assert_int_equal(discard_as(ME, "c"), 0);
	set_expires(a, 1);
	assert_int_equal(restore_as(ME, "c@2001-01-01T00:00:00Z", "c"), 0);
	assert_int_equal(a->info.expires, 0);
	assert_int_equal(discard_as(ME, "c"), 0);
	set_expires(a, 1);
	reconfigure(3600, 0, 1u << 31);
	assert_int_equal(restore_as(ME, "c@2001-01-01T00:00:00Z", "c"), 0);
	assert_true(is_from_now(a->info.expires, 3600));
	/* for good */
	assert_int_equal(discard_as(ME, "c"), 0);
	WORLD_SET(discard_rc, -EIO);
	assert_int_equal(purge_as(ME, "c@2001-01-01T00:00:00Z"), -EIO);
	WORLD_SET(discard_rc, 0);
	assert_int_equal(purge_as(ME, "c@2001-01-01T00:00:00Z"), 0);
	assert_int_equal(purge_as(ME, "c@2001-01-01T00:00:00Z"), -ENOENT);
}

static void await_trash(bool empty)
{
	bool is_empty;

	LOCK_SCOPE(&lock);
	do {
		is_empty = true;
		for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++)
			if (world.branches[i].info.trash_name[0])
				is_empty = false;
		if (is_empty != empty)
			(void)pthread_cond_wait(&changed, &lock);
	} while (is_empty != empty);
}

/* Whose time is over goes by itself, one after the other; without trash nothing does.
 */
static void test_purge_due(void **state)
{
	CLEAN(clean_free) char *log = NULL;

	(void)state;
	reconfigure(0, 0, 1u << 31);
	assert_int_equal(create_as(ME, "a"), 0);
	assert_int_equal(create_as(ME, "b"), 0);
	assert_int_equal(discard_as(ME, "a"), 0);
	let_expire("b", 1);
	await_trash(false);
	reconfigure(0, 0, 0);
	assert_int_equal(set_word(control_set_state, ME, "main", "stopped"), 0);
	await_trash(false);
	reconfigure(0, 0, 60); /* the world's trash is of another day */
	await_trash(true);
	control_stop();
	assert_int_equal(fd_read_file(world.dirfd, "audit.log", 1 << 20, &log, NULL),
			 0);
	assert_non_null(strstr(log,
			       "\"verb\":\"purge\",\"branch\":\"a@2001-01-01T00:00:"
			       "00Z\",\"parent\":null,\"value\":null,\"verdict\":"
			       "\"allowed\",\"reason\":\"its time in the trash was "
			       "over at 2001-01-01T00:01:00Z\""));
	assert_int_equal(control_start("/mnt"), 0);
}

/* Nobody was here for days, says the clock: then it is not believed at once. */
static void test_far_clock(void **state)
{
	struct branch *b;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	control_stop();
	find("main")->info.last_active = time(NULL) - 100000;
	b = find("a");
	b->info.created = b->info.last_active = time(NULL) - 100000;
	b->info.expires = time(NULL) - 1000;
	assert_int_equal(control_start("/mnt"), 0);
	/* its answer comes from the loop, behind the scan at the start */
	assert_int_equal(set_word(control_set_state, ME, "main", "stopped"), 0);
	assert_int_equal(world.in_use_asked, 0);
	assert_false(is_discarded(b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_expires),   WORLD_TEST(test_limits),
		WORLD_TEST(test_protected), WORLD_TEST(test_claims),
		WORLD_TEST(test_expire),    WORLD_TEST(test_spared),
		WORLD_TEST(test_not_known), WORLD_TEST(test_retry),
		WORLD_TEST(test_more_time), WORLD_TEST(test_far_clock),
		WORLD_TEST(test_trash),     WORLD_TEST(test_purge_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What gc finds, does, and leaves alone at the last moment. */
#include "controlfix.h"

#include "ctl/upkeep.h"
#include "store/check.h"

#define DAY 86400

static struct leftover left[2];
static unsigned nleft;
static int remove_rc;

int check_leftovers(struct registry *r, void (*fn)(void *ctx, const struct leftover *l),
		    void *ctx)
{
	(void)r;
	for (unsigned i = 0; i < nleft; i++)
		fn(ctx, &left[i]);
	return 0;
}

int check_remove(struct registry *r, const struct leftover *l)
{
	(void)r;
	assert_string_equal(l->path, left[0].path);
	return remove_rc;
}

int check_damage(struct registry *r,
		 void (*fn)(void *ctx, const char *path, const char *branches,
			    const char *why),
		 void *ctx)
{
	(void)r;
	fn(ctx, "layers/1/layer.ini", "a b", "gone");
	fn(ctx, "branches/x\ty.ini", "", "odd");
	return 0;
}

int branch_own_bytes(struct branch *b, uint64_t *ret_bytes)
{
	*ret_bytes = b->info.no * 1000;
	return 0;
}

static int ask_as(uid_t uid, const char *text)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	upkeep_ask(control, &who, NULL, text, finished, &r);
	return await(&r);
}

/* The answer to a question. */
static void check_answer(const char *question, const char *expected)
{
	CLEAN(clean_free) char *answer = NULL;

	ROW_EQUAL(question, ask_as(0, question), 0);
	answer = upkeep_answer(control);
	ROW_STRING(question, answer, expected);
}

/* The control looks for branches that expire, meanwhile. */
static struct branch *make_old(const char *name, time_t days)
{
	struct branch *b;

	LOCK_SCOPE(&lock);
	b = add(name, "main", ME);
	b->info.last_active = time(NULL) - days * DAY - 1;
	b->info.is_protected = strcmp(name, "safe") == 0;
	b->info.discarded = strcmp(name, "gone") == 0;
	return b;
}

/* "since" and a time are in the answer: cut them out. */
static void check_unused(const char *question, const char *expected)
{
	CLEAN(clean_free) char *answer = NULL;
	char *at;

	ROW_EQUAL(question, ask_as(ME, question), 0);
	answer = upkeep_answer(control);
	while ((at = strstr(answer, " since ")) != NULL)
		memmove(at, at + 27, strlen(at + 27) + 1);
	ROW_STRING(question, answer, expected);
}

static void test_questions(void **state)
{
	CLEAN(clean_free) char *answer = upkeep_answer(control);

	(void)state;
	nleft = 0;
	assert_non_null(strstr(answer, "write gc or doctor"));
	check_answer("gc", "end\n");
	check_answer("gc unused=3 apply", "end\n");
	assert_int_equal(ask_as(1234, "gc"), -EPERM);
	check_error(1234, "uid 1234 may not clean up here\n"
			  "hint: only root and the mount's owner may\n");
	assert_int_equal(ask_as(ME, "rm"), -EINVAL);
	check_error(ME, "'rm' is nothing to ask here\nhint: write gc or doctor, behind "
			"it apply to have it done, and behind gc unused=DAYS for "
			"branches that nobody used so long\n");
}

static void test_leftovers(void **state)
{
	(void)state;
	nleft = 2;
	left[0] = (struct leftover){LEFTOVER_LAYER, "layers/00000007", 4096, false};
	left[1] = (struct leftover){LEFTOVER_LAYER, "layers/00000003", 8192, true};
	remove_rc = 0;
	check_answer("gc",
		     "layer\tlayers/00000007\t4096\tplan\tno branch stands on it\n"
		     "layer\tlayers/00000003\t8192\tkept\ta record is damaged that "
		     "may need it: see doctor\nend\n");
	check_answer("gc apply",
		     "layer\tlayers/00000007\t4096\tdone\tno branch stands on it\n"
		     "layer\tlayers/00000003\t8192\tkept\ta record is damaged that may "
		     "need it: see doctor\nend\n");
	remove_rc = -EBUSY;
	check_answer("gc apply",
		     "layer\tlayers/00000007\t4096\tkept\tno branch stands on it\n"
		     "layer\tlayers/00000003\t8192\tkept\ta record is damaged that may "
		     "need it: see doctor\nend\n");
	remove_rc = -EIO;
	nleft = 1;
	check_answer("gc apply",
		     "layer\tlayers/00000007\t4096\tfailed\tno branch stands "
		     "on it\nend\n");
	nleft = 0;
}

static void test_unused(void **state)
{
	const struct branch *old;

	(void)state;
	old = make_old("old", 10);
	make_old("young", 2);
	make_old("safe", 10);
	make_old("gone", 10);
	check_unused("gc", "end\n");
	check_unused("gc unused=11", "end\n");
	check_unused("gc unused=10", "branch\told\t2000\tplan\tnobody used it\nend\n");
	assert_false(old->info.discarded);
	/* looked at once more, just before */
	world.in_use = true;
	check_unused("gc unused=10 apply",
		     "branch\told\t2000\tkept\tsomebody uses it now\nend\n");
	world.in_use = false;
	world.in_use_rc = -EAGAIN;
	check_unused("gc unused=10 apply",
		     "branch\told\t2000\tkept\tits server cannot be "
		     "asked now\nend\n");
	world.in_use_rc = 0;
	world.touch = true;
	check_unused("gc unused=10 apply",
		     "branch\told\t2000\tkept\tit was used again\nend\n");
	world.touch = false;
	make_old("older", 20);
	world.discard_rc = -EIO;
	check_unused("gc unused=20 apply",
		     "branch\tolder\t6000\tfailed\tnobody used it\nend\n");
	assert_int_equal(world.keeps, 1);
	world.discard_rc = 0;
	check_unused("gc unused=20 apply",
		     "branch\tolder\t6000\tdone\tnobody used it\nend\n");
	assert_non_null(find("old"));
	assert_non_null(find("young"));
	assert_null(find("older"));
	check_unused("gc unused=20 apply", "end\n");
}

static void test_trash(void **state)
{
	(void)state;
	reconfigure(0, 0, 1u << 31);
	assert_int_equal(create_as(ME, "a"), 0);
	assert_int_equal(discard_as(ME, "a"), 0);
	check_answer("gc apply", "end\n");
	reconfigure(0, 0, 0);
	check_answer("gc",
		     "trash\ta@2001-01-01T00:00:00Z\t2000\tplan\ttrash is not set any "
		     "more\nend\n");
	check_answer("gc apply",
		     "trash\ta@2001-01-01T00:00:00Z\t2000\tdone\ttrash is not "
		     "set any more\nend\n");
	check_answer("gc", "end\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_questions),
		WORLD_TEST(test_leftovers),
		WORLD_TEST(test_unused),
		WORLD_TEST(test_trash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

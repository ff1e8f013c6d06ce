/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a quota lets through, and what a thread is writing. */
#include "storefix.h"

#include "fs/quotaguard.h"
#include "store/quota.h"

#include <sys/syscall.h>

static void test_calls(void **state)
{
	static const struct {
		const char *what;
		long nr;
		unsigned long a[4];
		bool writes;
		struct write_call call;
	} rows[] = {
		{"pwrite64",
		 SYS_pwrite64,
		 {5, 0x7f00, 8192, 16384},
		 true,
		 {5, 8192, true, 16384}},
		{"write", SYS_write, {7, 0x7f00, 100, 0}, true, {7, 100, false, 0}},
		{"writev", SYS_writev, {7, 0x7f00, 3, 0}, true, {-1, 0, false, 0}},
		{"pwritev",
		 SYS_pwritev,
		 {7, 0x7f00, 3, 8192},
		 true,
		 {-1, 0, true, 8192}},
		{"sendfile", SYS_sendfile, {7, 8, 0, 1}, true, {-1, 0, false, 0}},
		{"lseek", SYS_lseek, {5, 0, 2, 0}, false, {0, 0, false, 0}},
		{"pread64", SYS_pread64, {5, 0, 2, 0}, false, {0, 0, false, 0}},
	};
	struct write_call call;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[256];

		(void)snprintf(text, sizeof(text),
			       "%ld 0x%lx 0x%lx 0x%lx 0x%lx 0x0 0x0 0x7ff 0x7f0\n",
			       rows[i].nr, rows[i].a[0], rows[i].a[1], rows[i].a[2],
			       rows[i].a[3]);
		ROW_EQUAL(rows[i].what, quotaguard_parse(text, &call), rows[i].writes);
		if (!rows[i].writes)
			continue;
		ROW_EQUAL(rows[i].what, call.fd, rows[i].call.fd);
		ROW_EQUAL(rows[i].what, call.len, rows[i].call.len);
		ROW_EQUAL(rows[i].what, call.at, rows[i].call.at);
		ROW_EQUAL(rows[i].what, call.off, rows[i].call.off);
	}
	assert_true(quotaguard_parse("running\n", &call) && call.len == 0);
	assert_true(quotaguard_parse("-1 0x1 0x2\n", &call) && call.len == 0);
	assert_true(quotaguard_parse("", &call) && call.len == 0);
}

#define MIB (UINT64_C(1) << 20)

static void test_ask(void **state)
{
	struct fixture *fx = *state;
	uint64_t limit, used;

	/* without a limit nothing is refused or counted */
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_GROW, UINT64_MAX), 0);
	assert_false(branch_quota_get(fx->main, &limit, &used));
	branch_quota_set(fx->main, 100 * MIB, 60 * MIB);
	assert_true(branch_quota_is_near(fx->main));
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_GROW, 41 * MIB), -EDQUOT);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_GROW, 40 * MIB), 0);
	assert_true(branch_quota_get(fx->main, &limit, &used));
	assert_int_equal(used, 100 * MIB);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_GROW, 1), -EDQUOT);
	/* each use a bit further */
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_COPY, 63 * MIB), 0);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_COPY, 2 * MIB), -EDQUOT);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_WAL, 60 * MIB), 0);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_WAL, 10 * MIB), -EDQUOT);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_SMALL, 20 * MIB), 0);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_SMALL, 2 * MIB), -EDQUOT);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_WRITTEN, 10 * MIB), 0);
	/* what comes is on disk instead of announced; a count takes its place */
	assert_int_equal(branch_quota_pending(fx->main), 193 * MIB);
	branch_quota_came(fx->main, 93 * MIB, true);
	assert_int_equal(branch_quota_pending(fx->main), 100 * MIB);
	branch_quota_came(fx->main, 500 * MIB, false);
	assert_int_equal(branch_quota_pending(fx->main), 0);
	branch_quota_set(fx->main, 100 * MIB, 10 * MIB);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_GROW, 90 * MIB), 0);
	branch_quota_set(fx->main, UINT64_MAX, 0);
	assert_int_equal(branch_quota_ask(fx->main, QUOTA_GROW, UINT64_MAX), 0);
}

static void write_mib(struct branch *b, const char *name, size_t mib)
{
	CLEAN(clean_free) char *bytes = malloc(mib * MIB);
	struct overlay *o;

	memset(bytes, 'x', mib * MIB);
	assert_int_equal(branch_data_get(b, &o), 0);
	assert_int_equal(overlay_write_file(o, name, bytes, mib * MIB, 0600), 0);
	assert_int_equal(overlay_sync(o), 0);
	overlay_put(o);
}

/* Whole MiB that a uid holds; -1: it has no branch. */
static long held(struct fixture *fx, uid_t uid)
{
	CLEAN(clean_free) struct held_by *v = NULL;
	size_t n;

	assert_int_equal(registry_held_by(fx->reg, &v, &n), 0);
	for (size_t i = 0; i < n; i++)
		if (v[i].uid == uid)
			return (long)(v[i].bytes / MIB);
	return -1;
}

static struct branch *make_for(struct fixture *fx, const char *name,
			       struct branch *parent, uid_t uid)
{
	struct branch *b = make(fx, name, parent);
	const struct branch_access a = {(mode_t)-1, uid, (gid_t)-1, false, 0, 0};

	assert_int_equal(branch_set_access(b, &a, NULL), 0);
	return b;
}

/* A layer is charged to the uid whose branches alone stand on it. */
static void test_held(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make_for(fx, "a", fx->main, 4001), *b, *c;

	write_mib(fx->main, "m", 3);
	assert_int_equal(held(fx, 4001), 0);
	assert_int_equal(held(fx, 4002), -1);
	write_mib(a, "f", 5);
	assert_int_equal(held(fx, 4001), 5);
	b = make_for(fx, "b", a, 4001); /* frees nothing */
	assert_int_equal(held(fx, 4001), 5);
	write_mib(b, "g", 2);
	assert_int_equal(held(fx, 4001), 7);
	c = make_for(fx, "c", a, 4002); /* the layer below is two uids' from here on */
	assert_int_equal(held(fx, 4001), 2);
	assert_int_equal(held(fx, 4002), 0);
	write_mib(c, "h", 1);
	assert_int_equal(held(fx, 4002), 1);
	assert_int_equal(registry_discard(fx->reg, c, NULL), 0);
	branch_put(c);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(held(fx, 4001), 7);
	assert_int_equal(held(fx, 4002), -1);
	/* what is in the trash still is there */
	assert_int_equal(registry_trash(fx->reg, b, NULL), 0);
	assert_int_equal(held(fx, 4001), 7);
	branch_put(a);
	branch_put(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test_setup_teardown(test_ask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

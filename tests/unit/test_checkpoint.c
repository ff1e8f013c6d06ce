/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints on disk: what they hold, how they outlive their branch, what is charged
 * to whom, and what damage costs.
 */
#include "storefix.h"

#include "store/check.h"
#include "store/checkpoint.h"
#include "store/registry_priv.h"

static const struct checkpoint_meta sample = {
	.branch_no = 12,
	.seq = 3,
	.name = "before-lunch",
	.branch = "twelve",
	.base = 40,
	.kind = CHECKPOINT_SAFETY,
	.taken = 1795375436,
	.prepared = true,
	.owner = 1001,
	.group = 100,
};

static void test_record(void **state)
{
	char *text = checkpoint_meta_encode(&sample);
	size_t len = strlen(text);
	struct checkpoint_meta m;
	struct branch_meta b;

	(void)state;
	assert_string_equal(text, "[checkpoint]\nbranch_no = 12\nseq = 3\n"
				  "name = before-lunch\nbranch = twelve\nbase = 40\n"
				  "kind = safety\ntaken = 1795375436\nprepared = yes\n"
				  "owner = 1001\ngroup = 100\nsum = 43fe3b1e\n");
	assert_int_equal(checkpoint_meta_decode(text, &m), 0);
	assert_int_equal(memcmp(&m, &sample, sizeof(m)), 0);
	assert_int_equal(branch_meta_decode(text, &b), -EBADMSG);
	for (size_t bit = 0; bit < len * 8; bit++) {
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
		ROW_EQUAL(text, checkpoint_meta_decode(text, &m), -EBADMSG);
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
	}
	for (size_t n = len; n-- > 0;) {
		text[n] = '\0';
		ROW_EQUAL(text, checkpoint_meta_decode(text, &m), -EBADMSG);
	}
	free(text);
}

/* Right sums over what nobody writes. */
static void test_bad_records(void **state)
{
	struct checkpoint_meta rows[6], m;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		rows[i] = sample;
	rows[0].branch_no = 0;
	rows[1].seq = 0;
	rows[2].seq = CHECKPOINT_SEQ_MAX + 1;
	rows[3].base = 0;
	rows[4].name[0] = '\0';
	rows[5].kind = CHECKPOINT_KINDS;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(clean_free) char *text = checkpoint_meta_encode(&rows[i]);

		ROW_EQUAL(text, checkpoint_meta_decode(text, &m), -EBADMSG);
	}
}

static int take_kind(struct fixture *fx, struct branch *b, const char *name,
		     enum checkpoint_kind kind, bool if_changed)
{
	const struct checkpoint_spec spec = {
		.name = name, .prefix = "auto", .kind = kind, .if_changed = if_changed};
	struct checkpoint_info info;

	return checkpoint_take(fx->reg, b, &spec, &info, NULL);
}

static int take(struct fixture *fx, struct branch *b, const char *name)
{
	return take_kind(fx, b, name, CHECKPOINT_NAMED, false);
}

static struct checkpoint_info find(struct fixture *fx, struct branch *b,
				   const char *name)
{
	struct checkpoint_info info;

	ROW_EQUAL(name, checkpoint_find(fx->reg, branch_no(b), name, &info), 0);
	return info;
}

static struct branch *make_from(struct fixture *fx, const char *name,
				struct branch *parent,
				const struct checkpoint_info *from)
{
	struct branch_spec spec = {.name = name,
				   .parent = parent,
				   .checkpoint_of = from->no,
				   .checkpoint_seq = from->seq,
				   .mode = 0700};
	struct err e = ERR_INIT;
	struct branch *b;

	if (registry_create(fx->reg, &spec, &b, &e) < 0)
		fail_msg("%s", err_text(&e));
	return b;
}

static int drop(struct fixture *fx, const struct checkpoint_info *info)
{
	return checkpoint_drop(fx->reg, info->no, info->seq, NULL);
}

static uint64_t held(struct fixture *fx, const struct checkpoint_info *info)
{
	uint64_t bytes;

	assert_int_equal(checkpoint_held_bytes(fx->reg, info->no, info->seq, &bytes),
			 0);
	return bytes;
}

static uint64_t own(struct branch *b)
{
	uint64_t bytes;

	assert_int_equal(branch_own_bytes(b, &bytes), 0);
	return bytes;
}

static void test_take(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *c;
	struct checkpoint_info info, *list;
	struct branch_info child;
	size_t n;

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c1"), 0);
	assert_int_equal(write_in(a, "base/1", "two"), 0);
	assert_int_equal(take(fx, a, "c2"), 0);
	assert_int_equal(write_in(a, "base/1", "three"), 0);
	assert_int_equal(take(fx, a, "c1"), -EEXIST);
	assert_int_equal(take(fx, a, "no/name"), -EINVAL);
	assert_int_equal(take(fx, a, ""), -EINVAL);
	info = find(fx, a, "c1");
	assert_int_equal(info.kind, CHECKPOINT_NAMED);
	assert_string_equal(info.branch, "a");
	assert_false(info.left);
	for (int round = 0; round < 2; round++) {
		a = branch_put(a);
		if (round)
			reopen(fx);
		a = registry_find(fx->reg, "a");
		assert_non_null(a);
		expect(a, "base/1", round ? "four" : "three");
		assert_int_equal(checkpoint_list(fx->reg, branch_no(a), &list, &n), 0);
		assert_int_equal(n, 2);
		assert_string_equal(list[0].name, "c1");
		assert_string_equal(list[1].name, "c2");
		c = make_from(fx, round ? "x1" : "x0", a, &list[0]);
		expect(c, "base/1", "one");
		expect(c, "postmaster.pid", NULL);
		branch_info(c, &child);
		assert_string_equal(child.parent, "a");
		assert_string_equal(child.parent_checkpoint, "c1");
		assert_int_equal(write_in(c, "base/1", "mine"), 0);
		branch_put(c);
		c = make_from(fx, round ? "y1" : "y0", a, &list[1]);
		expect(c, "base/1", "two");
		branch_put(c);
		free(list);
		assert_int_equal(write_in(a, "base/1", "four"), 0);
	}
	info = find(fx, a, "c1");
	assert_int_equal(drop(fx, &info), 0);
	assert_int_equal(drop(fx, &info), -ENOENT);
	assert_int_equal(checkpoint_find(fx->reg, info.no, "c1", &info), -ENOENT);
	branch_put(a);
	reopen(fx);
	a = registry_find(fx->reg, "a");
	assert_int_equal(checkpoint_find(fx->reg, branch_no(a), "c1", &info), -ENOENT);
	info = find(fx, a, "c2");
	branch_put(a);
	expect_branch(fx, "x1", "mine");
	expect_branch(fx, "y1", "two");
}

static void test_unchanged(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *c;
	unsigned layers;

	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, true), -EALREADY);
	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, true), 0);
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, true), -EALREADY);
	assert_int_equal(write_in(a, "base/1", "two"), 0);
	c = make(fx, "c", a); /* a freeze that is no checkpoint */
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, true), 0);
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, true), -EALREADY);
	layers = count_layers(fx);
	assert_int_equal(take(fx, a, "same"), 0);
	assert_int_equal(take(fx, a, "again"), 0);
	assert_int_equal(count_layers(fx), layers);
	branch_put(c);
	branch_put(a);
}

static void test_rename(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	struct checkpoint_info info, other, *list;
	size_t n;

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, false), 0);
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, false), 0);
	assert_int_equal(checkpoint_list(fx->reg, branch_no(a), &list, &n), 0);
	assert_int_equal(n, 2);
	assert_true(strncmp(list[0].name, "auto-20", 7) == 0);
	assert_string_not_equal(list[0].name, list[1].name);
	info = list[0];
	assert_int_equal(
		checkpoint_rename(fx->reg, info.no, info.seq, list[1].name, NULL),
		-EEXIST);
	assert_int_equal(checkpoint_rename(fx->reg, info.no, info.seq, "-x", NULL),
			 -EINVAL);
	assert_int_equal(checkpoint_rename(fx->reg, info.no, 99, "x", NULL), -ENOENT);
	assert_int_equal(checkpoint_rename(fx->reg, info.no, info.seq, "kept", NULL),
			 0);
	branch_put(a);
	reopen(fx);
	a = registry_find(fx->reg, "a");
	other = find(fx, a, "kept");
	assert_int_equal(other.seq, info.seq);
	assert_int_equal(other.kind, CHECKPOINT_NAMED);
	free(list);
	branch_put(a);
}

static void discard(struct fixture *fx, const char *name)
{
	struct branch *b = registry_find(fx->reg, name);

	assert_non_null(b);
	assert_int_equal(registry_discard(fx->reg, b, NULL), 0);
	branch_put(b);
	assert_int_equal(registry_reclaim(fx->reg), 0);
}

static void test_outlives(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *c;
	unsigned layers = count_layers(fx);
	struct checkpoint_info info, *list;
	size_t n;

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c"), 0);
	assert_int_equal(write_in(a, "base/1", "two"), 0);
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_AUTO, false), 0);
	assert_int_equal(registry_rename(fx->reg, a, "b", NULL), 0);
	branch_put(a);
	discard(fx, "b");
	for (int round = 0; round < 2; round++) {
		if (round)
			reopen(fx);
		assert_int_equal(checkpoint_list_left(fx->reg, &list, &n), 0);
		assert_int_equal(n, 1);
		assert_string_equal(list[0].name, "c");
		assert_string_equal(list[0].branch, "b");
		assert_true(list[0].left);
		assert_int_equal(count_layers(fx), layers + 1);
		free(list);
	}
	assert_int_equal(checkpoint_find_left(fx->reg, "a", "c", &info), -ENOENT);
	assert_int_equal(checkpoint_find_left(fx->reg, "b", "c", &info), 0);
	assert_true(held(fx, &info) > 0);
	c = make_from(fx, "child", NULL, &info);
	assert_true(branch_no(c) != info.no);
	expect(c, "base/1", "one");
	assert_int_equal(held(fx, &info), 0);
	assert_int_equal(own(c), 0);
	branch_put(c);
	/* another branch of the name, and a checkpoint of that name: the newest is
	 * found */
	c = make(fx, "b", fx->main);
	assert_true(branch_no(c) > info.no);
	assert_int_equal(write_in(c, "base/1", "other"), 0);
	assert_int_equal(take(fx, c, "c"), 0);
	branch_put(c);
	assert_int_equal(checkpoint_find_left(fx->reg, "b", "c", &info), 0);
	discard(fx, "b");
	assert_int_equal(checkpoint_list_left(fx->reg, &list, &n), 0);
	assert_int_equal(n, 1);
	assert_true(list[0].no != info.no);
	assert_int_equal(drop(fx, &list[0]), 0);
	free(list);
	assert_int_equal(checkpoint_list_left(fx->reg, &list, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(list[0].no, info.no);
	assert_int_equal(drop(fx, &list[0]), 0);
	free(list);
	expect_branch(fx, "child", "one");
	discard(fx, "child");
	assert_int_equal(count_layers(fx), layers);
}

static void test_trash(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	struct checkpoint_info info;
	struct branch_info bi;

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c"), 0);
	assert_int_equal(take_kind(fx, a, NULL, CHECKPOINT_SAFETY, false), 0);
	assert_int_equal(registry_trash(fx->reg, a, NULL), 0);
	branch_info(a, &bi);
	branch_put(a);
	reopen(fx);
	assert_int_equal(checkpoint_find_left(fx->reg, "a", "c", &info), 0);
	a = registry_find_trashed(fx->reg, bi.trash_name);
	assert_non_null(a);
	assert_int_equal(registry_restore(fx->reg, a, "back", 0, NULL), 0);
	assert_int_equal(checkpoint_find_left(fx->reg, "a", "c", &info), -ENOENT);
	info = find(fx, a, "c");
	assert_string_equal(info.branch, "back");
	assert_int_equal(registry_trash(fx->reg, a, NULL), 0);
	assert_int_equal(registry_purge(fx->reg, a, NULL), 0);
	branch_put(a);
	assert_int_equal(checkpoint_find_left(fx->reg, "back", "c", &info), 0);
	assert_int_equal(drop(fx, &info), 0);
}

static void fill(struct branch *b, const char *path, size_t kib)
{
	CLEAN(overlay_putp) struct overlay *o = NULL;
	CLEAN(clean_free) char *text = malloc(kib * 1024);

	memset(text, 'x', kib * 1024);
	assert_int_equal(branch_data_get(b, &o), 0);
	assert_int_equal(overlay_write_file(o, path, text, kib * 1024, 0600), 0);
	assert_int_equal(overlay_sync(o), 0);
}

static uint64_t blocks_of(struct branch *b, const char *path)
{
	struct node_attr a;

	assert_int_equal(overlay_walk(data_of(b), path, &a), 0);
	return a.blocks;
}

/* What is charged to whom: see the head of holdings.c. */
static void test_holdings(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *c;
	struct checkpoint_info c1, c2;
	uint64_t before, shared, now;

	fill(a, "big", 256);
	before = own(a);
	assert_true(before >= 256 * 1024);
	assert_true(blocks_of(a, "big") >= 512);
	assert_int_equal(registry_shared_bytes(fx->reg, &shared), 0);
	assert_int_equal(take(fx, a, "c1"), 0);
	fill(a, "more", 64);
	assert_int_equal(take(fx, a, "c2"), 0);
	c1 = find(fx, a, "c1");
	c2 = find(fx, a, "c2");
	assert_true(own(a) >= before + 64 * 1024);
	assert_int_equal(held(fx, &c1), 0);
	assert_int_equal(held(fx, &c2), 0);
	assert_true(blocks_of(a, "big") >= 512);
	assert_int_equal(registry_shared_bytes(fx->reg, &now), 0);
	assert_int_equal(now, shared);
	/* somebody else on it */
	c = make_from(fx, "c", a, &c1);
	assert_true(own(a) < before);
	assert_int_equal(own(c), 0);
	assert_int_equal(blocks_of(a, "big"), 0);
	assert_int_equal(blocks_of(c, "big"), 0);
	assert_true(blocks_of(a, "more") >= 128);
	assert_int_equal(registry_shared_bytes(fx->reg, &now), 0);
	assert_true(now >= shared + 256 * 1024);
	branch_put(c);
	discard(fx, "c");
	assert_true(own(a) >= before + 64 * 1024);
	assert_true(blocks_of(a, "big") >= 512);
	branch_put(a);
	reopen(fx);
	a = registry_find(fx->reg, "a");
	assert_true(own(a) >= before + 64 * 1024);
	assert_true(blocks_of(a, "big") >= 512);
	branch_put(a);
	discard(fx, "a");
	assert_true(held(fx, &c1) >= 256 * 1024);
	assert_true(held(fx, &c2) >= 64 * 1024);
	assert_true(held(fx, &c2) < 256 * 1024);
	assert_int_equal(drop(fx, &c1), 0);
	assert_true(held(fx, &c2) >= 320 * 1024);
}

static int roll(struct fixture *fx, struct branch *b, const char *to,
		struct branch *parent, struct checkpoint_info *ret_before)
{
	struct rollback_spec spec = {.parent = parent};
	struct overlay *old = NULL;
	struct err e = ERR_INIT;
	int rc;

	if (to)
		spec.seq = find(fx, b, to).seq;
	rc = registry_rollback(fx->reg, b, &spec, ret_before, &old, &e);
	assert_true(!old || overlay_is_gone(old));
	registry_forget_tree(fx->reg, b, old);
	err_fini(&e);
	return rc;
}

static unsigned switches;

static void on_switch(void *ctx, struct branch *b)
{
	assert_ptr_equal(ctx, &switches);
	assert_non_null(b);
	switches++;
}

/* The branch whose data has this number is b, or there is none. */
static void expect_data(struct fixture *fx, uint32_t data_no, const struct branch *b)
{
	struct branch *found = registry_find_data(fx->reg, data_no);

	assert_ptr_equal(found, b);
	branch_put(found);
}

/* What is open in the old tree, and what is written to it, is seen nowhere. */
static void test_rollback_open(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	CLEAN(overlay_putp) struct overlay *old = NULL;
	struct checkpoint_info before;
	struct cowfile *f;
	struct node_attr at;

	registry_on_rollback(fx->reg, on_switch, &switches);
	switches = 0;
	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c1"), 0);
	assert_int_equal(write_in(a, "base/1", "two"), 0);
	assert_int_equal(branch_data_get(a, &old), 0);
	assert_int_equal(overlay_walk(old, "base/1", &at), 0);
	assert_int_equal(overlay_open(old, at.fid, &f), 0);
	assert_int_equal(roll(fx, a, "c1", NULL, &before), 0);
	assert_int_equal(switches, 1);
	assert_true(overlay_is_gone(old));
	assert_true(cowfile_write(f, "FIVE!", 5, 0) < 0);
	overlay_close(old, f);
	assert_int_equal(overlay_write_file(old, "new", "x", 1, 0600), -ESTALE);
	expect(a, "new", NULL);
	expect(a, "base/1", "one");
	assert_int_equal(roll(fx, a, before.name, NULL, &before), 0);
	assert_int_equal(switches, 2);
	expect(a, "new", NULL);
	expect(a, "base/1", "two");
	branch_put(a);
}

static void test_rollback(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main), *c;
	struct checkpoint_info before, again;
	uint32_t no = branch_no(a), data_no;

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c1"), 0);
	assert_int_equal(write_in(a, "base/1", "two"), 0);
	assert_int_equal(write_in(a, "postmaster.pid", "77"), 0);
	c = make(fx, "c", a);
	assert_int_equal(write_in(a, "base/1", "three"), 0);
	assert_int_equal(branch_data_no(a), no);
	assert_int_equal(roll(fx, a, "c1", NULL, &before), 0);
	assert_true(strncmp(before.name, "before-rollback-20", 18) == 0);
	assert_int_equal(before.kind, CHECKPOINT_SAFETY);
	data_no = branch_data_no(a);
	assert_true(data_no != no);
	expect_data(fx, data_no, a);
	expect_data(fx, no, NULL);
	expect(a, "base/1", "one");
	expect(a, "postmaster.pid", NULL);
	expect(c, "base/1", "two");
	assert_int_equal(write_in(a, "base/1", "four"), 0);
	expect(c, "base/1", "two");
	assert_int_equal(roll(fx, a, before.name, NULL, &again), 0);
	assert_string_not_equal(again.name, before.name);
	expect(a, "base/1", "three");
	assert_int_equal(roll(fx, a, again.name, NULL, &again), 0);
	expect(a, "base/1", "four");
	data_no = branch_data_no(a);
	branch_put(a);
	branch_put(c);
	reopen(fx);
	a = registry_find(fx->reg, "a");
	assert_int_equal(branch_data_no(a), data_no);
	expect_data(fx, data_no, a);
	expect(a, "base/1", "four");
	expect_branch(fx, "c", "two");
	/* in the trash and back */
	assert_int_equal(registry_trash(fx->reg, a, NULL), 0);
	expect_data(fx, data_no, NULL);
	assert_int_equal(registry_restore(fx->reg, a, "a", 0, NULL), 0);
	expect_data(fx, data_no, a);
	c = make(fx, "d", a);
	assert_true(branch_no(c) > data_no);
	expect(c, "base/1", "four");
	branch_put(c);
	branch_put(a);
}

/* Whether its server was prepared goes with the state that is brought back. */
static void test_rollback_prepared(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	struct checkpoint_info before;
	struct branch_info info;

	assert_int_equal(take(fx, a, "unprepared"), 0);
	assert_int_equal(branch_set_flag(a, BRANCH_PREPARED, true, NULL), 0);
	assert_int_equal(branch_set_flag(a, BRANCH_STOPPED_BY_HAND, true, NULL), 0);
	assert_int_equal(branch_set_expires(a, 4000000000, NULL), 0);
	assert_int_equal(take(fx, a, "prepared"), 0);
	assert_int_equal(roll(fx, a, "unprepared", NULL, &before), 0);
	branch_info(a, &info);
	assert_false(info.prepared);
	assert_true(info.stopped_by_hand);
	assert_int_equal(info.expires, 4000000000);
	assert_int_equal(roll(fx, a, "prepared", NULL, &before), 0);
	branch_info(a, &info);
	assert_true(info.prepared);
	assert_int_equal(branch_set_flag(a, BRANCH_PROTECTED, true, NULL), 0);
	assert_int_equal(roll(fx, a, "prepared", NULL, &before), -EPERM);
	branch_put(a);
}

static void test_reset(void **state)
{
	struct fixture *fx = *state;
	struct branch *p = make(fx, "p", fx->main), *a;
	struct checkpoint_info info, before;
	struct branch_info bi;

	assert_int_equal(write_in(p, "base/1", "one"), 0);
	assert_int_equal(take(fx, p, "c"), 0);
	info = find(fx, p, "c");
	a = make_from(fx, "a", p, &info);
	assert_int_equal(write_in(a, "base/1", "mine"), 0);
	assert_int_equal(branch_set_flag(a, BRANCH_PREPARED, true, NULL), 0);
	assert_int_equal(write_in(p, "base/1", "two"), 0);
	assert_int_equal(branch_end_masking(a, "m", NULL), 0);
	assert_int_equal(roll(fx, a, NULL, p, &before), -EPERM);
	assert_int_equal(branch_end_masking(p, "m", NULL), 0);
	assert_int_equal(roll(fx, a, NULL, p, &before), 0);
	branch_info(a, &bi);
	assert_false(bi.masking);
	assert_string_equal(bi.masked, "m");
	assert_true(strncmp(before.name, "before-reset-20", 15) == 0);
	expect(a, "base/1", "two");
	branch_info(a, &bi);
	assert_false(bi.prepared);
	assert_string_equal(bi.parent, "p");
	assert_string_equal(bi.parent_checkpoint, "");
	assert_int_equal(write_in(p, "base/1", "three"), 0);
	assert_int_equal(write_in(a, "base/1", "again"), 0);
	expect(p, "base/1", "three");
	branch_put(a);
	branch_put(p);
	reopen(fx);
	expect_branch(fx, "a", "again");
	expect_branch(fx, "p", "three");
	a = registry_find(fx->reg, "a");
	assert_int_equal(roll(fx, a, before.name, NULL, &before), 0);
	expect(a, "base/1", "mine");
	p = registry_find(fx->reg, "p");
	assert_int_equal(registry_discard(fx->reg, p, NULL), 0);
	assert_int_equal(roll(fx, a, NULL, p, &before), -ENOENT);
	expect(a, "base/1", "mine");
	branch_put(p);
	branch_put(a);
}

/* What a rollback leaves behind is its checkpoint's, and comes back with that. */
static void test_rollback_holdings(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	struct checkpoint_info before, below;
	unsigned layers;

	fill(a, "one", 256);
	assert_int_equal(take(fx, a, "c1"), 0);
	layers = count_layers(fx);
	assert_int_equal(checkpoint_below(fx->reg, a, &below), 0);
	assert_string_equal(below.name, "c1");
	fill(a, "two", 128);
	assert_int_equal(roll(fx, a, "c1", NULL, &before), 0);
	assert_int_equal(registry_reclaim(fx->reg), 0); /* the top that was left */
	assert_true(held(fx, &before) >= 128 * 1024);
	assert_true(held(fx, &before) < 256 * 1024);
	assert_true(own(a) >= 256 * 1024 && own(a) < 384 * 1024);
	assert_true(blocks_of(a, "one") >= 512);
	assert_int_equal(checkpoint_below(fx->reg, a, &below), 0);
	assert_string_equal(below.name, "c1");
	assert_int_equal(drop(fx, &before), 0);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), layers);
	assert_true(own(a) >= 256 * 1024 && own(a) < 384 * 1024);
	fill(a, "three", 64);
	assert_int_equal(roll(fx, a, "c1", NULL, &before), 0);
	branch_put(a);
	/* it goes with its branch, and c1 stays */
	discard(fx, "a");
	assert_int_equal(count_layers(fx), layers);
	assert_int_equal(checkpoint_find_seq(fx->reg, before.no, before.seq, &below),
			 -ENOENT);
	assert_int_equal(checkpoint_find_left(fx->reg, "a", "c1", &below), 0);
	assert_true(held(fx, &below) >= 256 * 1024);
}

/* Two that claim the same number for their data: neither is served. */
static void test_data_twins(void **state)
{
	struct fixture *fx = *state;
	struct checkpoint_info before;
	struct branch *a = make(fx, "a", fx->main);
	struct branch_meta m;

	assert_int_equal(take(fx, a, "c"), 0);
	assert_int_equal(roll(fx, a, "c", NULL, &before), 0);
	branch_put(a);
	make_with(fx, "b", "main", NULL);
	get_meta(fx, "b", &m);
	m.data_no = before.no; /* it was a's, and is nobody's any more */
	put_meta(fx, "b", &m);
	reopen(fx);
	expect_branch(fx, "b", "table");
	get_meta(fx, "a", &m);
	m.data_no = before.no;
	put_meta(fx, "a", &m);
	reopen(fx);
	expect_branch(fx, "a", NULL);
	expect_branch(fx, "b", NULL);
	expect_branch(fx, "main", "table");
}

static void on_damage(void *ctx, const char *path, const char *branches,
		      const char *why)
{
	struct str *text = ctx;

	str_printf(text, "%s|%s|%s\n", path, branches, why);
}

/* A damaged one costs itself; nothing that it may need is removed. */
static void test_damage(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	CLEAN(str_fini) struct str text = STR_INIT;
	struct checkpoint_info c1, c2, info;
	CLEAN(clean_free) char *record = NULL;
	char name[TRASH_NAME_MAX];
	unsigned layers;

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c1"), 0);
	assert_int_equal(write_in(a, "base/1", "two"), 0);
	assert_int_equal(take(fx, a, "c2"), 0);
	c1 = find(fx, a, "c1");
	c2 = find(fx, a, "c2");
	branch_put(a);
	discard(fx, "a");
	layers = count_layers(fx);
	(void)snprintf(name, sizeof(name), "%u@%u", c1.no, c1.seq);
	record = read_record(fx, name);
	write_record(fx, name, "garbage\n");
	reopen(fx);
	assert_int_equal(checkpoint_find_seq(fx->reg, c1.no, c1.seq, &info), -ENOENT);
	assert_int_equal(checkpoint_find_seq(fx->reg, c2.no, c2.seq, &info), 0);
	assert_int_equal(check_damage(fx->reg, on_damage, &text), 0);
	if (!strstr(text.s, name))
		fail_msg("%s", text.s);
	assert_int_equal(drop(fx, &c2), 0);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), layers);
	write_record(fx, name, record);
	reopen(fx);
	assert_int_equal(checkpoint_find_seq(fx->reg, c1.no, c1.seq, &info), 0);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(count_layers(fx), layers - 1);
	/* another one's record under this name */
	(void)snprintf(name, sizeof(name), "%u@%u", c1.no, c1.seq + 7);
	write_record(fx, name, record);
	reopen(fx);
	assert_int_equal(checkpoint_find_seq(fx->reg, c1.no, c1.seq + 7, &info),
			 -ENOENT);
	assert_int_equal(checkpoint_find_seq(fx->reg, c1.no, c1.seq, &info), 0);
}

/* Its layer's record is gone: named, and nothing else is hurt. */
static void test_lost_layer(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);
	CLEAN(str_fini) struct str text = STR_INIT;
	struct checkpoint_info info;
	CLEAN(clean_free) char *record = NULL;
	struct checkpoint_meta m;
	char name[TRASH_NAME_MAX], path[64];

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c1"), 0);
	info = find(fx, a, "c1");
	branch_put(a);
	discard(fx, "a");
	(void)snprintf(name, sizeof(name), "%u@%u", info.no, info.seq);
	record = read_record(fx, name);
	assert_int_equal(checkpoint_meta_decode(record, &m), 0);
	(void)snprintf(path, sizeof(path), "layers/%08x/layer.ini", m.base);
	move_file(fx, path, "aside");
	reopen(fx);
	assert_int_equal(checkpoint_find_left(fx->reg, "a", "c1", &info), -ENOENT);
	assert_int_equal(check_damage(fx->reg, on_damage, &text), 0);
	if (!strstr(text.s, path) || !strstr(text.s, "a:c1"))
		fail_msg("%s", text.s);
	expect_branch(fx, "main", "table");
	move_file(fx, "aside", path);
	reopen(fx);
	assert_int_equal(checkpoint_find_left(fx->reg, "a", "c1", &info), 0);
}

static void never(void *ctx, const struct leftover *l)
{
	(void)ctx;
	fail_msg("%s is taken for a leftover", l->path);
}

/* gc finds nothing to remove in what only a checkpoint holds. */
static void test_no_leftovers(void **state)
{
	struct fixture *fx = *state;
	struct branch *a = make(fx, "a", fx->main);

	assert_int_equal(write_in(a, "base/1", "one"), 0);
	assert_int_equal(take(fx, a, "c1"), 0);
	branch_put(a);
	discard(fx, "a");
	assert_int_equal(check_leftovers(fx->reg, never, NULL), 0);
	reopen(fx);
	assert_int_equal(registry_reclaim(fx->reg), 0);
	assert_int_equal(check_leftovers(fx->reg, never, NULL), 0);
}

#define STORE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_bad_records),
		STORE_TEST(test_take),
		STORE_TEST(test_unchanged),
		STORE_TEST(test_rename),
		STORE_TEST(test_outlives),
		STORE_TEST(test_trash),
		STORE_TEST(test_holdings),
		STORE_TEST(test_rollback_open),
		STORE_TEST(test_rollback),
		STORE_TEST(test_rollback_prepared),
		STORE_TEST(test_reset),
		STORE_TEST(test_rollback_holdings),
		STORE_TEST(test_data_twins),
		STORE_TEST(test_damage),
		STORE_TEST(test_lost_layer),
		STORE_TEST(test_no_leftovers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

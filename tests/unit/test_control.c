/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests over a registry and a fleet that are arrays here, with the real loop
 * and pool.
 */
#include "unit.h"

#include "base/text.h"
#include "ctl/control.h"
#include "ctl/metrics.h"

#include <pthread.h>
#include <stdatomic.h>

#define ME 1000

struct branch {
	struct branch_info info;
	bool used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* The world, changed by requests under `lock`. */
static struct {
	struct branch branches[8];
	struct statvfs space;
	int sync_rc, want_rc, discard_rc;
	bool hold_want; /* the fleet does not answer yet */
	bool external;  /* somebody else's server is on all branches */
	struct {
		fleet_done done;
		void *ctx;
	} held;
	unsigned wants[3], reclaims, clears;
	int refs;
} world;

static struct loop *loop;
static struct control *control;

static struct branch *find_locked(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++) {
		struct branch *b = &world.branches[i];

		if (b->used && !b->info.discarded && strcmp(b->info.name, name) == 0)
			return b;
	}
	return NULL;
}

static struct branch *add(const char *name, const char *parent, uid_t owner)
{
	for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++) {
		struct branch *b = &world.branches[i];

		if (b->used)
			continue;
		*b = (struct branch){.used = true};
		(void)snprintf(b->info.name, sizeof(b->info.name), "%s", name);
		(void)snprintf(b->info.parent, sizeof(b->info.parent), "%s", parent);
		b->info.no = (uint32_t)i + 1;
		b->info.owner = owner;
		return b;
	}
	return NULL;
}

struct branch *branch_get(struct branch *b)
{
	LOCK_SCOPE(&lock);
	world.refs++;
	return b;
}

struct branch *branch_put(struct branch *b)
{
	LOCK_SCOPE(&lock);
	world.refs -= b != NULL;
	return NULL;
}

uint32_t branch_no(const struct branch *b)
{
	return b->info.no;
}

void branch_info(struct branch *b, struct branch_info *ret_info)
{
	LOCK_SCOPE(&lock);
	*ret_info = b->info;
}

struct branch *registry_find(struct registry *r, const char *name)
{
	struct branch *b;

	(void)r;
	LOCK_SCOPE(&lock);
	b = find_locked(name);
	world.refs += b != NULL;
	return b;
}

int registry_statvfs(struct registry *r, struct statvfs *ret_st)
{
	(void)r;
	*ret_st = world.space;
	return 0;
}

int registry_create(struct registry *r, const struct branch_spec *spec,
		    struct branch **ret_branch, struct err *e)
{
	struct branch *b;

	(void)r;
	LOCK_SCOPE(&lock);
	if (find_locked(spec->name))
		return err_set(e, -EEXIST, "registry says there is one");
	b = add(spec->name, spec->parent->info.name, spec->owner);
	assert_non_null(b);
	b->info.group = spec->group;
	b->info.mode = spec->mode;
	world.refs++;
	*ret_branch = b;
	return 0;
}

int registry_discard(struct registry *r, struct branch *b, struct err *e)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.discard_rc < 0)
		return err_set(e, world.discard_rc, "the disk is broken");
	b->info.discarded = true;
	return 0;
}

int registry_rename(struct registry *r, struct branch *b, const char *newname,
		    struct err *e)
{
	(void)r;
	(void)e;
	LOCK_SCOPE(&lock);
	(void)snprintf(b->info.name, sizeof(b->info.name), "%s", newname);
	return 0;
}

int registry_flush(struct registry *r)
{
	(void)r;
	return 0;
}

int registry_reclaim(struct registry *r)
{
	(void)r;
	LOCK_SCOPE(&lock);
	world.reclaims++;
	(void)pthread_cond_broadcast(&changed);
	return 0;
}

int branch_run_clear(struct branch *b)
{
	(void)b;
	LOCK_SCOPE(&lock);
	world.clears++;
	return 0;
}

int branch_set_flag(struct branch *b, enum branch_flag flag, bool on, struct err *e)
{
	(void)e;
	LOCK_SCOPE(&lock);
	if (flag == BRANCH_STOPPED_BY_HAND)
		b->info.stopped_by_hand = on;
	return 0;
}

int branch_set_access(struct branch *b, mode_t mode, uid_t owner, gid_t group,
		      struct err *e)
{
	(void)e;
	LOCK_SCOPE(&lock);
	b->info.mode = mode;
	if (owner != (uid_t)-1) {
		/* no client may wake a server of the old owner meanwhile */
		assert_true(owner == b->info.owner || b->info.stopped_by_hand);
		b->info.owner = owner;
	}
	if (group != (gid_t)-1)
		b->info.group = group;
	return 0;
}

int metrics_new(struct registry *r, struct fleet *f, const char *mountpoint,
		struct metrics **ret_metrics)
{
	(void)r;
	(void)f;
	(void)mountpoint;
	*ret_metrics = NULL;
	return 0;
}

struct metrics *metrics_free(struct metrics *m)
{
	return m;
}

int fleet_check_ours(struct fleet *f, struct branch *b, struct err *e)
{
	(void)f;
	(void)b;
	if (!world.external)
		return 0;
	(void)err_set(e, -EBUSY, "somebody is there");
	return err_hint(e, "ask them");
}

int fleet_sync_commit(struct fleet *f, struct branch *b, struct err *e)
{
	(void)f;
	(void)b;
	return world.sync_rc < 0 ? err_set(e, world.sync_rc, "no answer") : 0;
}

struct answer {
	fleet_done done;
	void *ctx;
};

static void answer(void *ctx)
{
	struct err e = ERR_INIT;
	struct answer *a = ctx;
	int rc = world.want_rc;

	if (rc < 0) {
		(void)err_set(&e, rc, "it is stuck");
		(void)err_hint(&e, "shake it");
	}
	a->done(a->ctx, rc, &e);
	err_fini(&e);
	free(a);
}

static void answer_soon(fleet_done done, void *ctx)
{
	struct answer *a = malloc(sizeof(*a));

	assert_non_null(a);
	*a = (struct answer){done, ctx};
	assert_int_equal(loop_post(loop, answer, a), 0);
}

void fleet_want(struct fleet *f, struct branch *b, enum pm_want want, fleet_done done,
		void *ctx)
{
	(void)f;
	(void)b;
	LOCK_SCOPE(&lock);
	world.wants[want]++;
	if (!world.hold_want) {
		answer_soon(done, ctx);
		return;
	}
	world.held.done = done;
	world.held.ctx = ctx;
	(void)pthread_cond_broadcast(&changed);
}

/* One request's end. */
struct result {
	bool done;
	int rc;
	char name[64]; /* of the branch that came with it */
};

static void finished(void *ctx, int rc, struct branch *b)
{
	struct result *r = ctx;
	struct branch_info info = {.name = ""};

	if (b)
		branch_info(b, &info);
	LOCK_SCOPE(&lock);
	assert_false(r->done);
	r->done = true;
	r->rc = rc;
	memcpy(r->name, info.name, sizeof(r->name));
	(void)pthread_cond_broadcast(&changed);
}

static int await(struct result *r)
{
	LOCK_SCOPE(&lock);
	while (!r->done)
		(void)pthread_cond_wait(&changed, &lock);
	return r->rc;
}

static int create_as(uid_t uid, const char *spec)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_create(control, &who, spec, 0755, finished, &r);
	return await(&r);
}

static int discard_as(uid_t uid, const char *name)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_discard(control, &who, name, finished, &r);
	return await(&r);
}

static void check_error(uid_t uid, const char *expected)
{
	char *text = control_error_text(control, uid), *time_line;

	assert_non_null(text);
	time_line = strstr(text, "time: ");
	if (time_line)
		*time_line = '\0';
	assert_string_equal(text, expected);
	free(text);
}

static void *run_loop(void *arg)
{
	(void)arg;
	assert_int_equal(loop_run(loop), 0);
	return NULL;
}

static struct pool *pool;
static struct config *cfg;
static pthread_t thread;

/* A control is made and freed while its loop does not run. */
static int control_start(const char *mountpoint)
{
	if (loop_new(&loop) < 0 || pool_new(4, &pool) < 0)
		return -1;
	if (control_new(loop, pool, NULL, NULL, cfg, mountpoint, ME, &control, NULL) <
	    0)
		return -1;
	return pthread_create(&thread, NULL, run_loop, NULL);
}

static void control_stop(void)
{
	loop_stop(loop);
	(void)pthread_join(thread, NULL);
	pool = pool_free(pool);
	control = control_free(control);
	loop = loop_free(loop);
}

static int world_make(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	world.space.f_frsize = 4096;
	world.space.f_bavail = 1 << 20;
	add("main", "", ME)->info.is_protected = true;
	return config_default(&cfg, NULL) < 0 ? -1 : control_start("/mnt");
}

static int world_remove(void **state)
{
	(void)state;
	control_stop();
	cfg = config_free(cfg);
	return world.refs == 0 ? 0 : -1;
}

static void test_create(void **state)
{
	struct caller who = {ME, 1001, 1};
	struct result r = {0};

	(void)state;
	control_create(control, &who, "a", 0755, finished, &r);
	assert_int_equal(await(&r), 0);
	assert_string_equal(r.name, "a");
	assert_string_equal(find_locked("a")->info.parent, "main");
	assert_int_equal(find_locked("a")->info.owner, ME);
	assert_int_equal(find_locked("a")->info.group, 1001);
	assert_int_equal(find_locked("a")->info.mode, 0700);
	assert_int_equal(create_as(0, "b@a"), 0);
	assert_string_equal(find_locked("b")->info.parent, "a");
	check_error(ME, "");
}

static void test_create_refused(void **state)
{
	static const char longest[] =
		"a23456789012345678901234567890123456789012345678901234567890123";
	static const struct {
		const char *spec;
		int rc;
		const char *error;
	} rows[] = {
		{"main", -EEXIST, "there is a branch named 'main' already\n"},
		{"x@nope", -ENOENT,
		 "there is no branch named 'nope' to branch from\n"
		 "hint: ls /mnt shows the branches\n"},
		{"x@", -EINVAL,
		 "'' is no name of a parent branch\n"
		 "hint: the form is mkdir NAME or mkdir NAME@PARENT\n"},
		{"x@a@b", -EINVAL,
		 "'a@b' is no name of a parent branch\n"
		 "hint: the form is mkdir NAME or mkdir NAME@PARENT\n"},
		{"x@main:c", -EINVAL,
		 "'c' asks for a checkpoint or a time, which are not built yet\n"
		 "hint: mkdir x@main branches from the present state\n"},
		{"-x", -EINVAL,
		 "'-x' is no name for a branch\n"
		 "hint: a name is a letter or digit, then letters, digits, '_', '-' or "
		 "'.', at most 63 bytes\n"},
		{"@main", -EINVAL,
		 "'' is no name for a branch\n"
		 "hint: a name is a letter or digit, then letters, digits, '_', '-' or "
		 "'.', at most 63 bytes\n"},
		{"README@main", -EEXIST, "README is a file of this tree\n"},
		{"a234567890123456789012345678901234567890123456789012345678901234",
		 -ENAMETOOLONG,
		 "the name "
		 "'a234567890123456789012345678901234567890123456789012345678901234' "
		 "is too long\nhint: a branch's name has at most 63 bytes\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ROW_EQUAL(rows[i].spec, create_as(ME, rows[i].spec), rows[i].rc);
		check_error(ME, rows[i].error);
	}
	assert_int_equal(create_as(1234, "x"), -EPERM);
	check_error(1234, "uid 1234 may not make branches here\n"
			  "hint: only root and the mount's owner may\n");
	world.sync_rc = -ETIMEDOUT;
	assert_int_equal(create_as(ME, "x"), -EBUSY);
	check_error(ME,
		    "the server of 'main' did not confirm its last commits: no answer\n"
		    "hint: try again, or look at /mnt/main/log\n");
	world.sync_rc = 0;
	world.space.f_bavail = 1024;
	assert_int_equal(create_as(ME, "x"), -ENOSPC);
	check_error(ME,
		    "the store has 4 MiB of free space, less than its reserve of 1024 "
		    "MiB\nhint: discard branches with rmdir, or lower reserve in "
		    "[branch] of the configuration\n");
	world.space.f_bavail = 1 << 20;
	assert_int_equal(create_as(ME, longest), 0);
}

/* The name is short, the path of its socket is not. */
static void test_socket_path(void **state)
{
	char deep[80], name[20] = "n2345678901234567", error[400];

	(void)state;
	memset(deep, 'd', sizeof(deep));
	deep[0] = '/';
	deep[76] = '\0'; /* 76 + "/" + name + "/.s.PGSQL.5432": 16 bytes are left */
	control_stop();
	assert_int_equal(control_start(deep), 0);
	assert_int_equal(create_as(ME, name), -ENAMETOOLONG);
	(void)snprintf(
		error, sizeof(error),
		"the socket of '%s' would have a path of 108 bytes, and the system "
		"allows 107\nhint: use a name that is shorter by 1, or mount at a "
		"shorter path\n",
		name);
	check_error(ME, error);
	name[16] = '\0';
	assert_int_equal(create_as(ME, name), 0);
}

static void test_discard(void **state)
{
	struct branch *b;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	b = find_locked("a");
	assert_int_equal(discard_as(ME, "main"), -EPERM);
	check_error(ME, "branch 'main' is protected\n"
			"hint: the base branch stays as long as the store\n");
	assert_int_equal(discard_as(ME, "nope"), -ENOENT);
	assert_int_equal(discard_as(1234, "a"), -EACCES);
	check_error(1234, "branch 'a' belongs to uid 1000, not to uid 1234\n"
			  "hint: ask its owner, or root\n");
	b->info.owner = 1234; /* by root's chown */
	assert_int_equal(discard_as(1234, "a"), -EPERM);
	assert_int_equal(world.wants[PM_WANT_GONE], 0);

	world.want_rc = -EIO;
	assert_int_equal(discard_as(ME, "a"), -EIO);
	check_error(ME,
		    "branch 'a' cannot be discarded: it is stuck\nhint: shake it\n");
	assert_false(b->info.discarded);
	world.want_rc = 0;
	world.discard_rc = -EIO;
	assert_int_equal(discard_as(ME, "a"), -EIO);
	check_error(ME, "the disk is broken\n");
	world.discard_rc = 0;
	/* a failure gives the claim back */
	assert_int_equal(discard_as(ME, "a"), 0);
	assert_true(b->info.discarded);
	{
		LOCK_SCOPE(&lock);
		while (world.reclaims < 2 || world.clears < 1) /* one is the start's */
			(void)pthread_cond_wait(&changed, &lock);
	}
	assert_int_equal(discard_as(ME, "a"), -ENOENT);
}

/* While one request changes a branch, others of it fail at once. */
static void test_claims(void **state)
{
	struct caller who = {ME, ME, 1};
	struct result first = {0}, second = {0};
	struct branch *b;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	b = find_locked("a");
	world.hold_want = true;
	control_discard(control, &who, "a", finished, &first);
	assert_int_equal(discard_as(ME, "a"), -EBUSY);
	check_error(ME, "branch 'a' is being changed by another request\n"
			"hint: try again when that one is done\n");
	control_rename(control, &who, "a", "b", finished, &second);
	assert_int_equal(await(&second), -EBUSY);
	second.done = false;
	control_set_state(control, &who, b, "running", finished, &second);
	assert_int_equal(await(&second), -EBUSY);
	/* branches of it may still be made, and others changed */
	assert_int_equal(create_as(ME, "c@a"), 0);
	world.hold_want = false;
	assert_int_equal(discard_as(ME, "c"), 0);
	answer_soon(world.held.done, world.held.ctx);
	assert_int_equal(await(&first), 0);
}

static void test_rename(void **state)
{
	static const struct {
		const char *from, *to;
		int rc;
	} rows[] = {
		{"main", "b", -EPERM},
		{"none", "b", -ENOENT},
		{"a", "b@main", -EINVAL},
		{"a", "README", -EEXIST},
		{"a", "b", 0},
		{"a", "c", -ENOENT},
	};
	struct caller who = {ME, ME, 1};

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct result r = {0};

		control_rename(control, &who, rows[i].from, rows[i].to, finished, &r);
		ROW_EQUAL(rows[i].to, await(&r), rows[i].rc);
	}
	assert_non_null(find_locked("b"));
}

static int set_state(struct branch *b, const char *word)
{
	struct caller who = {ME, ME, 1};
	struct result r = {0};

	control_set_state(control, &who, b, word, finished, &r);
	return await(&r);
}

static void test_state(void **state)
{
	struct branch *b = find_locked("main");
	struct caller who = {ME, ME, 1};
	struct result r = {0};

	(void)state;
	assert_int_equal(set_state(b, "stopped"), 0);
	assert_true(b->info.stopped_by_hand);
	assert_int_equal(world.wants[PM_WANT_STOPPED], 1);
	assert_int_equal(set_state(b, "running"), 0);
	assert_false(b->info.stopped_by_hand);
	assert_int_equal(world.wants[PM_WANT_RUNNING], 1);
	assert_int_equal(set_state(b, "asleep"), -EINVAL);
	check_error(
		ME,
		"'asleep' is no state to ask for\nhint: write running or stopped\n");
	world.want_rc = -ETIMEDOUT;
	assert_int_equal(set_state(b, "running"), -ETIMEDOUT);
	check_error(ME, "branch 'main' did not start: it is stuck\nhint: shake it\n");
	world.want_rc = 0;
	/* a start that takes its time can be stopped */
	world.hold_want = true;
	control_set_state(control, &who, b, "running", finished, &r);
	{
		LOCK_SCOPE(&lock);
		while (!world.held.done)
			(void)pthread_cond_wait(&changed, &lock);
		world.hold_want = false;
	}
	assert_int_equal(set_state(b, "stopped"), 0);
	answer_soon(world.held.done, world.held.ctx);
	assert_int_equal(await(&r), 0);
}

static int set_access(uid_t uid, mode_t mode, uid_t owner, gid_t group)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_set_access(control, &who, find_locked("main"), mode, owner, group,
			   finished, &r);
	return await(&r);
}

static void test_access(void **state)
{
	const struct branch_info *info = &find_locked("main")->info;
	const uid_t no_uid = (uid_t)-1;
	const gid_t no_gid = (gid_t)-1;

	(void)state;
	assert_int_equal(set_access(ME, 07750, no_uid, no_gid), 0);
	assert_int_equal(info->mode, 0750);
	assert_int_equal(set_access(ME, (mode_t)-1, ME, 77), 0);
	assert_int_equal(info->group, 77);
	assert_int_equal(info->mode, 0750);
	assert_int_equal(set_access(1234, 0777, no_uid, no_gid), -EACCES);
	assert_int_equal(set_access(ME, (mode_t)-1, 1234, no_gid), -EPERM);
	check_error(ME,
		    "uid 1000 may not give branches away here\nhint: only root may\n");
	assert_int_equal(world.wants[PM_WANT_STOPPED], 0);

	assert_int_equal(set_access(0, (mode_t)-1, 1234, no_gid), 0);
	assert_int_equal(info->owner, 1234);
	assert_int_equal(world.wants[PM_WANT_STOPPED], 1);
	assert_false(info->stopped_by_hand);
	world.want_rc = -EIO;
	assert_int_equal(set_access(0, (mode_t)-1, ME, no_gid), -EIO);
	assert_int_equal(info->owner, 1234);
	assert_false(info->stopped_by_hand);
}

/* Nothing is asked of the fleet, and no flag is changed on the way to a refusal. */
static void test_external(void **state)
{
	struct caller who = {ME, ME, 1};
	struct branch *b;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	b = find_locked("a");
	world.external = true;
	assert_int_equal(set_state(b, "stopped"), -EBUSY);
	check_error(ME, "branch 'a' is external: somebody is there\nhint: ask them\n");
	assert_int_equal(set_state(b, "running"), -EBUSY);
	assert_false(b->info.stopped_by_hand);
	assert_int_equal(discard_as(ME, "a"), -EBUSY);
	assert_int_equal(control_may_discard(control, &who, b), -EBUSY);
	assert_int_equal(set_access(0, (mode_t)-1, 1234, (gid_t)-1), -EBUSY);
	assert_int_equal(set_access(ME, 0750, (uid_t)-1, (gid_t)-1), 0);
	for (size_t i = 0; i < ARRAY_SIZE(world.wants); i++)
		assert_int_equal(world.wants[i], 0);
	assert_int_equal(create_as(ME, "b@a"), 0);
	world.external = false;
	assert_int_equal(discard_as(ME, "a"), 0);
}

#define WORLD_TEST(fn) cmocka_unit_test_setup_teardown(fn, world_make, world_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_create),      WORLD_TEST(test_create_refused),
		WORLD_TEST(test_socket_path), WORLD_TEST(test_discard),
		WORLD_TEST(test_claims),      WORLD_TEST(test_rename),
		WORLD_TEST(test_state),       WORLD_TEST(test_access),
		WORLD_TEST(test_external),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

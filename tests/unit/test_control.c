/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: what they ask for, how they are refused, and that they do not overlap. */
#include "controlfix.h"

#include <signal.h>
#include <sys/resource.h>

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
		 "hint: the form is mkdir NAME, mkdir NAME@PARENT or mkdir "
		 "NAME@PARENT:CHECKPOINT\n"},
		{"x@a@b", -EINVAL,
		 "'a@b' is no name of a parent branch\n"
		 "hint: the form is mkdir NAME, mkdir NAME@PARENT or mkdir "
		 "NAME@PARENT:CHECKPOINT\n"},
		{"x@main:c", -ENOENT,
		 "there is no checkpoint 'c' of a branch 'main' to branch from\n"
		 "hint: ls /mnt/main/checkpoints shows those of a branch, ls "
		 "/mnt/.checkpoints those of discarded ones\n"},
		{"x@main:-c", -EINVAL,
		 "'-c' is no name of a checkpoint\n"
		 "hint: the form is mkdir NAME, mkdir NAME@PARENT or mkdir "
		 "NAME@PARENT:CHECKPOINT\n"},
		{"x@main:2026-11-22T10:00:00Z", -EINVAL,
		 "'2026-11-22T10:00:00Z' asks for a time, which is not built yet\n"
		 "hint: mkdir NAME@main:CHECKPOINT branches from a checkpoint\n"},
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

static int take_as(uid_t uid, struct branch *b, const char *name)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_checkpoint(control, &who, b, name, finished, &r);
	return await(&r);
}

static int become_as(uid_t uid, struct branch *b, const char *to, bool reset)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	(reset ? control_reset : control_rollback)(control, &who, b, to, finished, &r);
	return await(&r);
}

static void test_checkpoint(void **state)
{
	struct branch *b = add_branch("a", "main", ME);

	(void)state;
	assert_int_equal(take_as(ME, b, "c"), 0);
	assert_int_equal(take_as(ME, b, "c"), -EEXIST);
	check_error(ME, "branch 'a' has a checkpoint named 'c' already\n");
	assert_int_equal(take_as(ME, b, "c:d"), -EINVAL);
	assert_int_equal(take_as(ME + 1, b, "d"), -EACCES);
	world.sync_rc = -EIO;
	assert_int_equal(take_as(ME, b, "d"), -EBUSY);
	world.sync_rc = 0;
	world.space.f_bavail = 1;
	assert_int_equal(take_as(ME, b, "d"), -ENOSPC);
	assert_string_equal(world.checkpoint.name, "c");
}

/* What each failure leaves: the server is let go, and runs again if it ran. */
static void test_rollback(void **state)
{
	struct branch *b = add_branch("a", "main", ME);

	(void)state;
	assert_int_equal(take_as(ME, b, "c"), 0);
	atomic_store(&world.state, PM_RUNNING);
	assert_int_equal(become_as(ME, b, "c", false), 0);
	assert_int_equal(world.wants[PM_WANT_HELD], 1);
	assert_int_equal(world.rollbacks, 1);
	assert_int_equal(world.rolled_to, world.checkpoint.seq);
	assert_int_equal(world.renewals, 1);
	assert_int_equal(world.runs, 1);
	atomic_store(&world.state, PM_STOPPED); /* asleep: it sleeps on */
	assert_int_equal(become_as(ME, b, "c", false), 0);
	assert_int_equal(world.runs, 1);
	/* refused before a session ends */
	assert_int_equal(become_as(ME, b, "nope", false), -ENOENT);
	check_error(ME, "branch 'a' has no checkpoint 'nope'\n"
			"hint: ls /mnt/a/checkpoints shows those that it has\n");
	assert_int_equal(become_as(ME, b, "x y", false), -EINVAL);
	assert_int_equal(become_as(ME + 1, b, "c", false), -EACCES);
	b->info.is_protected = true;
	assert_int_equal(become_as(ME, b, "c", false), -EPERM);
	b->info.is_protected = false;
	world.external = true;
	assert_int_equal(become_as(ME, b, "c", false), -EBUSY);
	world.external = false;
	assert_int_equal(world.wants[PM_WANT_HELD], 2);
	/* it cannot be stopped, or the disk is broken */
	atomic_store(&world.state, PM_RUNNING);
	world.want_rc = -EBUSY;
	assert_int_equal(become_as(ME, b, "c", false), -EBUSY);
	world.want_rc = 0;
	world.rollback_rc = -EIO;
	assert_int_equal(become_as(ME, b, "c", false), -EIO);
	check_error(ME, "the disk is broken\n");
	assert_int_equal(world.releases, 4);
	assert_int_equal(world.runs, 3);
	assert_int_equal(world.renewals, 2);
	/* the state is there, but it does not start */
	world.rollback_rc = 0;
	world.release_rc = -ETIMEDOUT;
	assert_int_equal(become_as(ME, b, "c", false), -EIO);
	check_error(ME, "branch 'a' has its new state, but did not start: it does not "
			"start\n");
	assert_false(world.helds);
}

static void test_reset(void **state)
{
	struct branch *b = add_branch("a", "main", ME);

	(void)state;
	assert_int_equal(become_as(ME, b, "parent", true), 0);
	assert_int_equal(world.rollbacks, 1);
	assert_int_equal(world.rolled_to, 0);
	assert_int_equal(become_as(ME, b, "main", true), -EINVAL);
	world.sync_rc = -EIO;
	assert_int_equal(become_as(ME, b, "parent", true), -EBUSY);
	world.sync_rc = 0;
	b->info.parent_gone = true;
	assert_int_equal(become_as(ME, b, "parent", true), -ENOENT);
	check_error(ME, "the parent of branch 'a', 'main', was discarded\n"
			"hint: ls /mnt/a/checkpoints shows what it can be rolled back "
			"to\n");
	assert_int_equal(world.wants[PM_WANT_HELD], 1);
	b->info.parent[0] = '\0';
	assert_int_equal(become_as(ME, b, "parent", true), -ENOENT);
	check_error(ME, "branch 'a' has no parent\n");
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

/* The last line of the audit log from "verb" on, without the duration. */
static void check_audit(const char *expected)
{
	CLEAN(clean_free) char *text = NULL;
	const char *from;
	char *end;

	assert_int_equal(fd_read_file(world.dirfd, "audit.log", 1 << 20, &text, NULL),
			 0);
	end = strrchr(text, ',');
	assert_non_null(end);
	assert_int_equal(strncmp(end, ",\"duration_ms\":", 15), 0);
	*end = '\0';
	from = strrchr(text, '\n');
	from = strstr(from ? from : text, "\"verb\"");
	assert_non_null(from);
	assert_string_equal(from, expected);
}

static void test_audit(void **state)
{
	struct caller who = {ME, 1001, getpid()};
	CLEAN(clean_free) char *text = NULL;
	struct result r = {0};

	(void)state;
	control_create(control, &who, "a", 0700, finished, &r);
	assert_int_equal(await(&r), 0);
	check_audit("\"verb\":\"create\",\"branch\":\"a\",\"parent\":\"main\","
		    "\"value\":null,\"verdict\":\"allowed\",\"reason\":null");
	assert_int_equal(fd_read_file(world.dirfd, "audit.log", 1 << 20, &text, NULL),
			 0);
	assert_non_null(strstr(text, "\"uid\":1000,\"gid\":1001,"));
	assert_non_null(strstr(text, "\"comm\":\"test_control\""));
	assert_int_equal(create_as(1234, "b@a"), -EPERM);
	check_audit("\"verb\":\"create\",\"branch\":\"b\",\"parent\":\"a\","
		    "\"value\":null,\"verdict\":\"denied\",\"reason\":"
		    "\"uid 1234 may not make branches here\"");
	assert_int_equal(create_as(ME, "-x@"), -EINVAL);
	check_audit("\"verb\":\"create\",\"branch\":\"-x@\",\"parent\":null,"
		    "\"value\":null,\"verdict\":\"failed\",\"reason\":"
		    "\"'' is no name of a parent branch\"");
	assert_int_equal(set_state(find_locked("a"), "stopped"), 0);
	check_audit("\"verb\":\"state\",\"branch\":\"a\",\"parent\":null,"
		    "\"value\":\"stopped\",\"verdict\":\"allowed\",\"reason\":null");
	assert_int_equal(set_access(0, 0750, ME, 77), 0);
	check_audit("\"verb\":\"access\",\"branch\":\"main\",\"parent\":null,"
		    "\"value\":\"mode 750 owner 1000 group 77\",\"verdict\":"
		    "\"allowed\",\"reason\":null");
	r.done = false;
	control_rename(control, &who, "a", "c", finished, &r);
	assert_int_equal(await(&r), 0);
	check_audit("\"verb\":\"rename\",\"branch\":\"a\",\"parent\":null,"
		    "\"value\":\"c\",\"verdict\":\"allowed\",\"reason\":null");
	assert_int_equal(discard_as(0, "c"), 0);
	check_audit("\"verb\":\"discard\",\"branch\":\"c\",\"parent\":null,"
		    "\"value\":null,\"verdict\":\"allowed\",\"reason\":null");
	assert_int_equal(discard_as(0, "gone"), -ENOENT);
	check_audit("\"verb\":\"discard\",\"branch\":\"gone\",\"parent\":null,"
		    "\"value\":null,\"verdict\":\"failed\",\"reason\":"
		    "\"there is no branch named 'gone'\"");
}

/* What cannot be recorded is not done; nor is it when the log is back. */
static void test_audit_full(void **state)
{
	struct caller who = {ME, ME, 1};
	struct branch *b = find_locked("main");
	struct result r = {0};
	struct rlimit old, none;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_int_equal(create_as(ME, "x"), -EFBIG);
	assert_int_equal(discard_as(ME, "a"), -EFBIG);
	assert_int_equal(set_state(b, "stopped"), -EFBIG);
	assert_int_equal(set_access(ME, 0750, (uid_t)-1, (gid_t)-1), -EFBIG);
	control_set_protected(control, &who, b, "0", finished, &r);
	assert_int_equal(await(&r), -EPERM);
	r.done = false;
	control_set_expires(control, &who, find_locked("a"), "2h", finished, &r);
	assert_int_equal(await(&r), -EFBIG);
	r.done = false;
	control_rename(control, &who, "a", "z", finished, &r);
	assert_int_equal(await(&r), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);

	assert_null(find_locked("x"));
	assert_non_null(find_locked("a"));
	assert_false(b->info.stopped_by_hand);
	assert_int_equal(b->info.mode, 0);
	assert_int_equal(find_locked("a")->info.expires, 0);
	for (size_t i = 0; i < ARRAY_SIZE(world.wants); i++)
		assert_int_equal(world.wants[i], 0);
	assert_int_equal(discard_as(ME, "a"), 0);
}

/* The log was moved; a reload makes a new one. */
static void test_audit_moved(void **state)
{
	CLEAN(clean_free) char *text = NULL, *old = NULL;

	(void)state;
	assert_int_equal(create_as(ME, "a"), 0);
	assert_int_equal(renameat(world.dirfd, "audit.log", world.dirfd, "audit.log.1"),
			 0);
	assert_int_equal(create_as(ME, "b"), 0);
	control_configure(control, cfg);
	assert_int_equal(create_as(ME, "c"), 0);
	assert_int_equal(fd_read_file(world.dirfd, "audit.log", 1 << 20, &text, NULL),
			 0);
	assert_int_equal(fd_read_file(world.dirfd, "audit.log.1", 1 << 20, &old, NULL),
			 0);
	assert_non_null(strstr(old, "\"branch\":\"a\""));
	assert_non_null(strstr(old, "\"branch\":\"b\""));
	assert_null(strstr(text, "\"branch\":\"b\""));
	assert_non_null(strstr(text, "\"branch\":\"c\""));
}

/* The rules of a policy, on the way of a request. */
static void test_policy(void **state)
{
	char text[] = "[branch]\nmax_ttl=1d\n"
		      "[policy a]\nmatch=uid:4001\ncreate=yes\n"
		      "default_parent=staging\nttl=2h\nmax_ttl=4h\n"
		      "[policy default]\nprotect=yes\n";
	struct caller who = {4001, 4001, 0};
	struct config *old = cfg, *fresh;
	struct result r = {0};
	time_t now;

	(void)state;
	assert_int_equal(config_parse("c", text, strlen(text), &fresh, NULL), 0);
	control_configure(control, fresh);
	config_free(old);
	cfg = fresh;
	assert_int_equal(create_as(4001, "x"), -ENOENT);
	check_error(4001, "there is no branch named 'staging' to branch from\n"
			  "hint: ls /mnt shows the branches\n");
	assert_int_equal(create_as(4001, "x@main"), -ENOENT);
	check_error(4001, "there is no branch named 'main' to branch from\n"
			  "hint: ls /mnt shows the branches\n");
	assert_int_equal(create_as(4001, "x@none"), -ENOENT);
	check_error(4001, "there is no branch named 'none' to branch from\n"
			  "hint: ls /mnt shows the branches\n");
	assert_int_equal(create_as(0, "staging@main"), 0);
	now = time(NULL);
	assert_int_equal(create_as(4001, "x"), 0);
	assert_string_equal(find_locked("x")->info.parent, "staging");
	assert_true(find_locked("x")->info.expires >= now + 7200 &&
		    find_locked("x")->info.expires <= now + 7260);
	control_set_expires(control, &who, find_locked("x"), "5h", finished, &r);
	assert_int_equal(await(&r), -EPERM);
	r.done = false;
	control_set_expires(control, &who, find_locked("x"), "3h", finished, &r);
	assert_int_equal(await(&r), 0);
	r.done = false;
	control_set_protected(control, &who, find_locked("x"), "1", finished, &r);
	assert_int_equal(await(&r), -EPERM);
	check_error(4001, "policy 'a' does not let uid 4001 protect branches\n"
			  "hint: ask whoever runs the mount\n");
	/* others' branches are not there */
	assert_int_equal(discard_as(4002, "x"), -ENOENT);
	check_error(4002, "there is no branch named 'x'\n");
	assert_int_equal(create_as(4002, "y@main"), -EPERM);
	check_error(4002, "policy 'default' does not let uid 4002 make branches\n"
			  "hint: ask whoever runs the mount\n");
	assert_int_equal(discard_as(4001, "x"), 0);
}

static void *storm(void *spec)
{
	return (void *)(intptr_t)create_as(4001, spec);
}

/* As many as the policy allows, and not one more from several threads at once. */
static void test_max_branches(void **state)
{
	char text[] = "[policy a]\nmatch=uid:4001\ncreate=yes\nmax_branches=3\n"
		      "role=app_rw\nserver_user=svc\n";
	static char specs[5][8] = {"s0", "s1", "s2", "s3", "s4"};
	struct config *old = cfg, *fresh;
	pthread_t threads[ARRAY_SIZE(specs)];
	static const char *const more[] = {"t0", "t1", "t2"};
	int made = 0;

	(void)state;
	assert_int_equal(config_parse("c", text, strlen(text), &fresh, NULL), 0);
	fresh->policies->v[0]->server_uid = 4999;
	control_configure(control, fresh);
	config_free(old);
	cfg = fresh;
	world.role = FLEET_ROLE_FIT;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm, specs[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		void *rc;

		assert_int_equal(pthread_join(threads[i], &rc), 0);
		made += (intptr_t)rc == 0;
		assert_true((intptr_t)rc == 0 || (intptr_t)rc == -EDQUOT);
	}
	assert_true(made >= 1 && made <= 3);
	while (made < 3)
		assert_int_equal(create_as(4001, more[made++]), 0);
	assert_int_equal(create_as(4001, "more"), -EDQUOT);
	check_error(4001, "uid 4001 has 3 branches, as many as policy 'a' allows\n"
			  "hint: discard one with rmdir\n");
	world.role = FLEET_ROLE_MISSING;
	assert_int_equal(create_as(4001, "more"), -EPERM);
}

/* A branch of what is not masked the same way is masked; one of it is so already. */
static void test_masking(void **state)
{
	char text[256], path[64];
	struct config *old = cfg, *fresh;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/mask.sql", world.dir);
	(void)snprintf(text, sizeof(text),
		       "[policy a]\nmatch=uid:4001\ncreate=yes\nsanitize=%s\n", path);
	assert_int_equal(fd_replace_file(AT_FDCWD, path, "SQL", 3, 0644, 0), 0);
	assert_int_equal(config_parse("c", text, strlen(text), &fresh, NULL), 0);
	control_configure(control, fresh);
	config_free(old);
	cfg = fresh;
	assert_int_equal(create_as(4001, "m"), 0);
	{
		LOCK_SCOPE(&lock);
		while (find_locked("m")->info.masking)
			(void)pthread_cond_wait(&changed, &lock);
		assert_int_equal(world.singles, 2); /* the list, and one database */
		assert_int_equal(world.wants[PM_WANT_HELD], 1);
	}
	assert_true(find_locked("m")->info.masked[0] != '\0');
	assert_int_equal(create_as(4001, "m2@m"), 0);
	assert_false(find_locked("m2")->info.masking);
	assert_string_equal(find_locked("m2")->info.masked,
			    find_locked("m")->info.masked);
	assert_int_equal(world.singles, 2);
	/* other SQL is other masking */
	assert_int_equal(fd_replace_file(AT_FDCWD, path, "SQL2", 4, 0644, 0), 0);
	world.single_rc = -EIO;
	assert_int_equal(create_as(4001, "m3@m"), 0);
	{
		LOCK_SCOPE(&lock);
		while (find_locked("m3"))
			(void)pthread_cond_wait(&changed, &lock);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(create_as(4001, "m4@m"), -ENOENT);
	assert_null(find_locked("m4"));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_create),       WORLD_TEST(test_create_refused),
		WORLD_TEST(test_socket_path),  WORLD_TEST(test_discard),
		WORLD_TEST(test_claims),       WORLD_TEST(test_rename),
		WORLD_TEST(test_state),        WORLD_TEST(test_access),
		WORLD_TEST(test_checkpoint),   WORLD_TEST(test_rollback),
		WORLD_TEST(test_reset),        WORLD_TEST(test_audit),
		WORLD_TEST(test_external),     WORLD_TEST(test_audit_full),
		WORLD_TEST(test_audit_moved),  WORLD_TEST(test_policy),
		WORLD_TEST(test_max_branches), WORLD_TEST(test_masking),
	};

	(void)signal(SIGXFSZ, SIG_IGN); /* a write over the limit is EFBIG */

	return cmocka_run_group_tests(tests, NULL, NULL);
}

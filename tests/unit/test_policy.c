/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Policies: how they are read, whom they are for, and what they decide. */
#include "unit.h"

#include "base/fd.h"
#include "base/text.h"
#include "ctl/config.h"
#include "ctl/policy_conf.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>

static int parse(const char *text, struct config **ret_c, char *msg, size_t size)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(clean_free) char *copy = strdup(text);
	int rc;

	assert_non_null(copy);
	rc = config_parse("c", copy, strlen(copy), ret_c, &e);
	(void)snprintf(msg, size, "%s", rc < 0 ? err_text(&e) : "");
	return rc;
}

static struct config *parsed(const char *text)
{
	struct config *c = NULL;
	char msg[512];

	if (parse(text, &c, msg, sizeof(msg)) < 0)
		fail_msg("%s", msg);
	return c;
}

static void test_good(void **state)
{
	struct config *c = parsed("[policy ci]\n"
				  "match = uid:1001 , user:ci,group:agents\n"
				  "create=yes\n"
				  "from=main,staging\n"
				  "default_parent=main-masked\n"
				  "max_branches=10 ; ten\n"
				  "max_bytes=5G\n"
				  "ttl=24h\n"
				  "max_ttl=7d\n"
				  "role=app_rw\n"
				  "create_role=yes\n"
				  "server_user=svc\n"
				  "sanitize=mask.sql\n"
				  "merge=yes\n"
				  "protect=yes\n"
				  "see=all\n"
				  "[branch]\n"
				  "ttl=1h\n"
				  "[policy default]\n"
				  "[policy last]\n"
				  "match=uid:0\n"
				  "server_user=owner\n"
				  "role=postgres\n"
				  "ttl=never\n");
	const struct policy *p;

	(void)state;
	assert_int_equal(c->policies->n, 3);
	assert_ptr_equal(c->policies->fallback, c->policies->v[1]);
	assert_int_equal(c->ttl_s, 3600);
	p = c->policies->v[0];
	assert_string_equal(p->name, "ci");
	assert_int_equal(p->n_match, 3);
	assert_int_equal(p->match[0].id, 1001);
	assert_null(p->match[0].name);
	assert_string_equal(p->match[1].name, "ci");
	assert_false(p->match[1].is_group);
	assert_string_equal(p->match[2].name, "agents");
	assert_true(p->match[2].is_group);
	assert_true(p->create && p->create_role && p->merge && p->protect &&
		    p->see_all);
	assert_string_equal(p->from[0], "main");
	assert_string_equal(p->from[1], "staging");
	assert_null(p->from[2]);
	assert_string_equal(p->default_parent, "main-masked");
	assert_int_equal(p->max_branches, 10);
	assert_int_equal(p->max_bytes, UINT64_C(5) << 30);
	assert_int_equal(p->ttl_s, 86400);
	assert_int_equal(p->max_ttl_s, 7 * 86400);
	assert_string_equal(p->role, "app_rw");
	assert_string_equal(p->server_user, "svc");
	assert_string_equal(p->sanitize, "mask.sql");
	p = c->policies->v[1]; /* what is not given is denied */
	assert_false(p->create || p->create_role || p->merge || p->protect ||
		     p->see_all);
	assert_null(p->from);
	assert_true(p->max_branches == POLICY_UNSET && p->ttl_s == POLICY_UNSET);
	p = c->policies->v[2];
	assert_null(p->server_user);
	assert_int_equal(p->ttl_s, 0);
	config_free(c);
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *msg;
	} rows[] = {
		{"[policy]\n", "c:1: '' is no name for a policy"},
		{"[policy a b]\n", "c:1: 'a b' is no name for a policy"},
		{"[policy ../x]\n", "c:1: '../x' is no name for a policy"},
		/* one more byte than inih keeps */
		{"[policy a23456789012345678901234567890123456789012]\n",
		 "c:1: 'a23456789012345678901234567890123456789012' is no name for a "
		 "policy"},
		{"[policy a]\nmatch=uid:1\n[policy b]\nmatch=uid:2\n[policy a]\n",
		 "c:5: policy 'a' is there twice, first in line 1"},
		{"[policy a]\nmatch=uid:1\nmatch=uid:2\n",
		 "c:3: match is set twice in policy 'a'"},
		{"[policy a]\nmatch=uid:1\ncreate=yes\ncreate=no\n",
		 "c:4: create is set twice in policy 'a'"},
		{"[policy a]\ncreate=yes\n", "c:1: policy 'a' is for nobody"},
		{"[policy default]\nmatch=uid:1\n",
		 "c:1: policy 'default' is for those whom no other matches: it has no "
		 "match"},
		{"[policy a]\nmatch=\n", "c:2: there is an empty place in the list ''"},
		{"[policy a]\nmatch=uid:1,,uid:2\n",
		 "c:2: there is an empty place in the list 'uid:1,,uid:2'"},
		{"[policy a]\nmatch=uid:1,\n",
		 "c:2: there is an empty place in the list 'uid:1,'"},
		{"[policy a]\nmatch=uid:-1\n", "c:2: 'uid:-1' matches nobody"},
		{"[policy a]\nmatch=uid:4294967295\n",
		 "c:2: 'uid:4294967295' matches nobody"},
		{"[policy a]\nmatch=uid:ci\n", "c:2: 'uid:ci' matches nobody"},
		{"[policy a]\nmatch=user:\n", "c:2: 'user:' matches nobody"},
		{"[policy a]\nmatch=everybody\n", "c:2: 'everybody' matches nobody"},
		{"[policy a]\nmatch=uid:1 ;user:ci\n", "c:2: there is a ';' in a list"},
		{"[policy a]\nmatch=uid:1\nfrom=main; staging\n",
		 "c:3: there is a ';' in a list"},
		{"[policy a]\nmatch=uid:1\nfrom=main,../etc\n",
		 "c:3: '../etc' is no name of a branch"},
		{"[policy a]\nmatch=uid:1\ncreate=maybe\n",
		 "c:3: bad value 'maybe' for create: it should be yes or no"},
		{"[policy a]\nmatch=uid:1\nsee=none\n",
		 "c:3: bad value 'none' for see: it should be own or all"},
		{"[policy a]\nmatch=uid:1\nmax_branches=-1\n",
		 "c:3: bad value '-1' for max_branches: it should be a number of "
		 "branches"},
		{"[policy a]\nmatch=uid:1\nmax_bytes=5 gig\n",
		 "c:3: bad value '5 gig' for max_bytes: it should be a size such as "
		 "500M or 5G"},
		{"[policy a]\nmatch=uid:1\nttl=soon\n",
		 "c:3: bad value 'soon' for ttl: it should be a time such as 30m, 24h "
		 "or 7d, or never"},
		{"[policy a]\nmatch=uid:1\nttl=8d\nmax_ttl=7d\n",
		 "c:1: policy 'a' gives branches a longer life than its max_ttl "
		 "allows"},
		{"[policy a]\nmatch=uid:1\nttl=never\nmax_ttl=7d\n",
		 "c:1: policy 'a' gives branches a longer life than its max_ttl "
		 "allows"},
		{"[policy a]\nmatch=uid:1\nrole=/x\nserver_user=svc\n",
		 "c:3: bad value '/x' for role: it should be the name of a role, at "
		 "most 63 bytes"},
		{"[policy a]\nmatch=uid:1\nrole=+x\nserver_user=svc\n",
		 "c:3: bad value '+x' for role: it should be the name of a role, at "
		 "most 63 bytes"},
		{"[policy a]\nmatch=uid:1\nrole=app_rw\n",
		 "c:3: policy 'a' gives the role 'app_rw', but with server_user=owner "
		 "the owner could read the files"},
		{"[policy a]\nmatch=uid:1\nrole=app_rw\nserver_user=owner\n",
		 "c:4: policy 'a' gives the role 'app_rw', but with server_user=owner "
		 "the owner could read the files"},
		{"[policy a]\nmatch=uid:1\nserver_user=svc\n",
		 "c:3: policy 'a' makes its users superusers of servers that run as "
		 "'svc', as those of other branches do"},
		/* whatever the superuser is called, and wherever that is said */
		{"[policy a]\nmatch=uid:1\nrole=boss\nserver_user=svc\n[server]\n"
		 "superuser=boss\n",
		 "c:4: policy 'a' makes its users superusers of servers that run as "
		 "'svc', as those of other branches do"},
		{"[policy a]\nmatch=uid:1\ncreate_role=yes\n",
		 "c:1: policy 'a' has create_role, but no role to create"},
		{"[policy a]\nmatch=uid:1\nidle_timeout=5m\n",
		 "c:3: there is no 'idle_timeout' in a policy"},
		{"[policy a]\nmatch=uid:1\n max_branches=1\n\tmax_branches=2\n",
		 "c:4: max_branches is set twice in policy 'a'"},
	};
	struct config *c = NULL;
	char msg[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ROW_EQUAL(rows[i].text, parse(rows[i].text, &c, msg, sizeof(msg)),
			  -EINVAL);
		ROW_STRING(rows[i].text, msg, rows[i].msg);
		assert_null(c);
	}
}

/* Names of users and files, as a daemon that starts looks them up. */
static void test_resolve(void **state)
{
	static const struct {
		const char *text, *msg;
	} rows[] = {
		{"[policy a]\nmatch=user:nobody-of-that-name\n",
		 "c:1: policy 'a' is for user 'nobody-of-that-name', which there is "
		 "not"},
		{"[policy a]\nmatch=uid:7,group:no-such-group\n",
		 "c:1: policy 'a' is for group 'no-such-group', which there is not"},
		{"[policy a]\nmatch=uid:7\nsanitize=gone.sql\n", NULL},
		{"[policy a]\nmatch=uid:7\nsanitize=open.sql\n", NULL},
	};
	const char *dir = *state;
	CLEAN(clean_free) char *path = text_format("%s/c", dir);
	CLEAN(clean_free) char *open_sql = text_format("%s/open.sql", dir);
	struct config *c = NULL;

	assert_int_equal(fd_replace_file(AT_FDCWD, open_sql, "", 0, 0666, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(err_fini) struct err e = ERR_INIT;

		assert_int_equal(fd_replace_file(AT_FDCWD, path, rows[i].text,
						 strlen(rows[i].text), 0600, 0),
				 0);
		assert_true(config_load(path, &c, &e) < 0);
		if (rows[i].msg)
			ROW_STRING(rows[i].text, err_text(&e) + strlen(dir) + 1,
				   rows[i].msg);
	}
	assert_int_equal(chmod(open_sql, 0644), 0);
	assert_int_equal(config_load(path, &c, NULL), 0);
	assert_string_equal(c->policies->v[0]->sanitize, open_sql);
	config_free(c);
}

static int dir_remove(void **state)
{
	int rc = fd_remove_tree(AT_FDCWD, *state);

	free(*state);
	return rc;
}

/* pid 0: the groups of a uid without a name are its gid alone. */
static const char *match_of(struct policy_set *s, uid_t uid, gid_t gid)
{
	const struct caller who = {uid, gid, 0};
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;

	rights_init(&rt, s, &who, 77);
	return rt.all ? "ALL" : rt.p ? rt.p->name : "NONE";
}

static void test_order(void **state)
{
	struct config *c = parsed("[policy first]\n"
				  "match=uid:4001,uid:4002\n"
				  "[policy grouped]\n"
				  "match=uid:4003,group:five\n"
				  "[policy second]\n"
				  "match=uid:4002,uid:4004\n");
	struct policy_set *s = c->policies;

	(void)state;
	s->v[1]->match[1].id = 5555; /* as if there were such a group */
	assert_string_equal(match_of(s, 4001, 1), "first");
	assert_string_equal(match_of(s, 4002, 5555), "first");
	assert_string_equal(match_of(s, 4003, 1), "grouped");
	assert_string_equal(match_of(s, 4004, 5555), "grouped");
	assert_string_equal(match_of(s, 4004, 1), "second");
	assert_string_equal(match_of(s, 4005, 1), "NONE");
	assert_string_equal(match_of(s, 0, 1), "ALL");
	assert_string_equal(match_of(s, 77, 1), "ALL");
	assert_string_equal(match_of(NULL, 4001, 1), "NONE");
	config_free(c);
	c = parsed("[policy default]\n[policy first]\nmatch=uid:4001\n");
	assert_string_equal(match_of(c->policies, 4001, 1), "first");
	assert_string_equal(match_of(c->policies, 4005, 1), "default");
	assert_string_equal(match_of(c->policies, 0, 1), "ALL");
	config_free(c);
}

#define OWNER 4001  /* of the branch; policy maker */
#define MEMBER 4002 /* policy maker, and of the branch's group */
#define OTHER 4003  /* policy maker */
#define LOOKER 4004 /* policy looker: see=all, create=no */
#define NOBODY 4005 /* no policy */
#define GROUP 5555

static const char rules[] = "[policy maker]\n"
			    "match=uid:4001,uid:4002,uid:4003\n"
			    "create=yes\n"
			    "from=staging\n"
			    "protect=yes\n"
			    "[policy looker]\n"
			    "match=uid:4004\n"
			    "see=all\n";

static int decide(struct policy_set *s, uid_t uid, enum policy_verb verb,
		  const struct branch_info *info)
{
	const struct caller who = {uid, uid == MEMBER ? GROUP : uid, 0};
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	int rc;

	rights_init(&rt, s, &who, 77);
	rc = policy_authorise(&rt, &who, verb, info, "main", &e);
	assert_true(rc == 0 || (e.msg && (e.hint || rc == -ENOENT)));
	return rc;
}

/* Every verb for everybody: what is one's own, what is not, and what policy keeps. */
static void test_verbs(void **state)
{
	static const uid_t uids[] = {0, 77, OWNER, MEMBER, OTHER, LOOKER, NOBODY};
	static const int want[POLICY_VERBS][ARRAY_SIZE(uids)] = {
		/* from a branch that is neither the default, nor listed, nor one's own
		 */
		[POLICY_CREATE] = {0, 0, 0, -EPERM, -ENOENT, -EPERM, -EPERM},
		[POLICY_DISCARD] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_RENAME] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_STATE] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_CHMOD] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_CHOWN] = {0, -EPERM, -EPERM, -EACCES, -EACCES, -EACCES,
				  -EACCES},
		[POLICY_EXPIRES] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_PROTECT] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_RESTORE] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_CHECKPOINT] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_ROLLBACK] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_RESET] = {0, 0, 0, -EACCES, -EACCES, -EACCES, -EACCES},
		[POLICY_MERGE] = {0, 0, -EPERM, -EACCES, -EACCES, -EACCES, -EACCES},
	};
	const struct branch_info info = {
		.name = "b", .owner = OWNER, .group = GROUP, .mode = 0750};
	struct config *c = parsed(rules);

	(void)state;
	for (int verb = 0; verb < POLICY_VERBS; verb++)
		for (size_t i = 0; i < ARRAY_SIZE(uids); i++) {
			char row[32];

			(void)snprintf(row, sizeof(row), "verb %d, uid %u", verb,
				       uids[i]);
			ROW_EQUAL(row,
				  decide(c->policies, uids[i], (enum policy_verb)verb,
					 &info),
				  want[verb][i]);
		}
	config_free(c);
}

static void test_parents(void **state)
{
	struct branch_info parent = {.name = "main", .owner = 0, .mode = 0700};
	struct config *c = parsed(rules);

	(void)state;
	assert_int_equal(decide(c->policies, OTHER, POLICY_CREATE, &parent), 0);
	memcpy(parent.name, "staging", sizeof("staging"));
	assert_int_equal(decide(c->policies, OTHER, POLICY_CREATE, &parent), 0);
	memcpy(parent.name, "secret", sizeof("secret"));
	assert_int_equal(decide(c->policies, OTHER, POLICY_CREATE, &parent), -ENOENT);
	parent.mode = 0711;
	assert_int_equal(decide(c->policies, OTHER, POLICY_CREATE, &parent), -EPERM);
	parent.owner = OTHER;
	assert_int_equal(decide(c->policies, OTHER, POLICY_CREATE, &parent), 0);
	config_free(c);
}

static bool sees(struct policy_set *s, uid_t uid, const struct branch_info *info)
{
	const struct caller who = {uid, uid == MEMBER ? GROUP : uid, 0};
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;

	rights_init(&rt, s, &who, 77);
	return policy_sees(&rt, &who, info, 4009);
}

static void test_sees(void **state)
{
	static const struct {
		mode_t mode;
		bool owner, member, other, looker, nobody;
	} rows[] = {
		{0700, true, false, false, true, false},
		{0750, true, true, false, true, false},
		{0740, true, false, false, true, false},
		{0755, true, true, true, true, true},
		{0705, true, false, true, true, true},
		{0000, true, false, false, true, false},
	};
	struct branch_info info = {.name = "b", .owner = OWNER, .group = GROUP};
	struct config *c = parsed(rules);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char row[16];

		info.mode = rows[i].mode;
		(void)snprintf(row, sizeof(row), "mode %o", info.mode);
		ROW_EQUAL(row, sees(c->policies, OWNER, &info), rows[i].owner);
		ROW_EQUAL(row, sees(c->policies, MEMBER, &info), rows[i].member);
		ROW_EQUAL(row, sees(c->policies, OTHER, &info), rows[i].other);
		ROW_EQUAL(row, sees(c->policies, LOOKER, &info), rows[i].looker);
		ROW_EQUAL(row, sees(c->policies, NOBODY, &info), rows[i].nobody);
		assert_true(sees(c->policies, 0, &info));
		assert_true(sees(c->policies, 77, &info));
		assert_true(sees(c->policies, 4009, &info)); /* its server */
		assert_true(sees(NULL, NOBODY, &info));      /* no policies at all */
	}
	config_free(c);
}

static void test_groups(void **state)
{
	static const struct {
		const char *status;
		uid_t uid;
		int n; /* -1: refused */
	} rows[] = {
		{"Name:\tx\nUid:\t5\t5\t5\t5\nGid:\t1\t1\t1\t1\nGroups:\t4 27 100 \n",
		 5, 3},
		{"Name:\tx\nUid:\t5\t5\t5\t5\nGroups:\t\nX:\t1\n", 5, 0},
		{"Name:\tx\nUid:\t5\t5\t5\t5\nGroups:\t1 2\n", 6, -1},
		/* fsuid decides */
		{"Name:\tx\nUid:\t5\t5\t5\t6\nGroups:\t1 2\n", 6, 2},
		{"Name:\tx\nUid:\t5\t5\nGroups:\t1\n", 5, -1},
		{"Name:\tx\nUid:\t5\t5\t5\t5\n", 5, -1},
		{"Name:\tx\nUid:\t5\t5\t5\t5\nGroups:\t4294967296\n", 5, -1},
		{"", 0, -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct groups g = GROUPS_INIT;
		int rc = caller_parse_groups(rows[i].status, rows[i].uid, &g);

		ROW_EQUAL(rows[i].status, rc == 0 ? (int)g.n : -1, rows[i].n);
		if (rows[i].n == 3)
			assert_true(groups_have(&g, 27) && !groups_have(&g, 5));
		groups_fini(&g);
	}
}

/* Those of this process are its own, not the database's. */
static void test_groups_now(void **state)
{
	const struct caller me = {geteuid(), getegid(), getpid()};
	gid_t extra[] = {4711, 4712};

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_false(caller_in_group(&me, 4711));
	assert_int_equal(setgroups(2, extra), 0);
	assert_true(caller_in_group(&me, 4711) && caller_in_group(&me, 4712));
	assert_true(caller_in_group(&me, getegid()));
	assert_int_equal(setgroups(0, NULL), 0);
	assert_false(caller_in_group(&me, 4711));
}

/* The man page has every key. */
static void test_man_page(void **state)
{
	const char *src = getenv("top_srcdir");
	char *path = text_format("%s/man/pgbranchfs-policy.5", src ? src : ".");
	const struct policy_key *k;
	char *page = NULL;

	(void)state;
	assert_non_null(path);
	assert_int_equal(fd_read_file(AT_FDCWD, path, 1 << 20, &page, NULL), 0);
	for (size_t i = 0; (k = policy_conf_key(i)); i++) {
		char *item = text_format(".It Ic %s No = ", k->name);

		if (!strstr(page, item))
			fail_msg("the man page has no line '%s'", item);
		free(item);
	}
	free(page);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test_setup_teardown(test_resolve, unit_dir_make,
						dir_remove),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_verbs),
		cmocka_unit_test(test_parents),
		cmocka_unit_test(test_sees),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_groups_now),
		cmocka_unit_test(test_man_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The texts of the mount, over a registry and a fleet that are written down here:
 * the real ones would be linked only for what they are asked.
 */
#include "unit.h"

#include "ctl/errors.h"
#include "ctl/metrics.h"
#include "ctl/status.h"
#include "ctl/tree.h"
#include "ctl/upkeep.h"

struct branch {
	struct branch_info info;
	struct pm_status pm;
	uint64_t bytes;
};

static struct branch branches[] = {
	{
		.info = {.no = 2,
			 .name = "a",
			 .parent = "main",
			 .parent_checkpoint = "c",
			 .checkpoints = 2,
			 .automatic = 1,
			 .created = 1795341600,
			 .expires = 1795428000,
			 .trashed = 1795345200,
			 .owner = 4242424,
			 .loaded = true,
			 .depth = 2},
		.pm = {.state = PM_FAILED,
		       .since = 1795341661,
		       .wakes = 3,
		       .reason = "said \"no\"\nand more"},
		.bytes = 8192,
	},
	{
		.info = {.no = 1,
			 .name = "main",
			 .created = 1795341600,
			 .last_active = 1795341601,
			 .depth = 1,
			 .is_protected = true,
			 .prepared = true},
		.pm = {.state = PM_RUNNING, .pid = 77, .since = 1795341602},
	},
	{
		.info = {.no = 4, .name = "z", .parent = "old", .parent_gone = true},
	},
};

/* The clock stands still, a minute behind the last activity of main. */
time_t time(time_t *ret_now)
{
	if (ret_now)
		*ret_now = 1795341661;
	return 1795341661;
}

static const char *mountpoint = "/mnt/p g";
static const char *superuser = "post/gres";

struct registry *control_registry(struct control *c)
{
	(void)c;
	return NULL;
}

struct fleet *control_fleet(struct control *c)
{
	(void)c;
	return NULL;
}

const char *control_mountpoint(const struct control *c)
{
	(void)c;
	return mountpoint;
}

const char *control_superuser(const struct control *c)
{
	(void)c;
	return superuser;
}

static const struct caller me = {1000, 1000, 1};

/* As if nothing were hidden, or b only. */
static const struct branch *hidden;

void control_rights(struct control *c, const struct caller *who,
		    struct rights *ret_rights)
{
	(void)c;
	(void)who;
	*ret_rights = (struct rights)RIGHTS_INIT;
}

bool control_sees_with(struct control *c, const struct rights *rt,
		       const struct caller *who, struct branch *b)
{
	(void)c;
	(void)rt;
	assert_ptr_equal(who, &me);
	return b != hidden;
}

struct metrics *control_metrics(struct control *c)
{
	(void)c;
	return NULL;
}

int metrics_render(struct metrics *m, bool (*sees)(void *ctx, struct branch *b),
		   void *ctx, struct str *out)
{
	(void)sees;
	(void)ctx;
	(void)m;
	str_add(out, "figures\n");
	return 0;
}

char *upkeep_answer(struct control *c)
{
	(void)c;
	return strdup("end\n");
}

time_t control_purge_time(struct control *c, time_t trashed)
{
	(void)c;
	return trashed + 86400;
}

char *control_default_parent(struct control *c)
{
	(void)c;
	return strdup("main");
}

char *control_error_text(struct control *c, uid_t uid)
{
	(void)c;
	return text_format("error of %u\n", uid);
}

const char *pm_state_name(enum pm_state s)
{
	static const char *const names[] = {"stopped", "starting", "running",
					    "stopping", "failed"};

	return names[s];
}

void fleet_status(struct fleet *f, struct branch *b, struct pm_status *ret_st)
{
	(void)f;
	*ret_st = b->pm;
}

void branch_info(struct branch *b, struct branch_info *ret_info)
{
	*ret_info = b->info;
}

int checkpoint_below(struct registry *r, struct branch *b,
		     struct checkpoint_info *ret_info)
{
	(void)r;
	if (b->info.checkpoints == 0)
		return -ENOENT;
	(void)snprintf(ret_info->name, sizeof(ret_info->name), "c2");
	return 0;
}

int branch_own_bytes(struct branch *b, uint64_t *ret_bytes)
{
	*ret_bytes = b->bytes;
	return 0;
}

int registry_list(struct registry *r, struct branch ***ret_list)
{
	struct branch **list = calloc(ARRAY_SIZE(branches) + 1, sizeof(*list));

	(void)r;
	for (size_t i = 0; list && i < ARRAY_SIZE(branches); i++)
		list[i] = &branches[i];
	*ret_list = list;
	return list ? 0 : -ENOMEM;
}

void branch_list_free(struct branch **list)
{
	free(list);
}

static void check(enum status_file which, struct branch *b, const char *expected)
{
	struct str out = STR_INIT;
	char *text;

	assert_int_equal(status_render(NULL, which, b, &me, &out), 0);
	text = str_steal(&out);
	assert_string_equal(text, expected);
	free(text);
}

static void test_status(void **state)
{
	(void)state;
	check(STATUS_TEXT, &branches[0],
	      "name a\nno 2\nstate failed\npid -\nsince 2026-11-22T10:01:01Z\n"
	      "parent main\nparent_checkpoint c\nparent_gone 0\nowner 4242424\n"
	      "created 2026-11-22T10:00:00Z\nlast_active -\nidle -\n"
	      "expires 2026-11-23T10:00:00Z\nloaded 1\ndepth 2\nbytes 8192\n"
	      "checkpoints 2\nautomatic_checkpoints 1\n"
	      "protected 0\nprepared 0\nstopped_by_hand 0\nwakes 3\n"
	      "reason said \"no\" and more\n");
	check(STATUS_JSON, &branches[0],
	      "{\n  \"name\": \"a\",\n  \"no\": 2,\n  \"state\": \"failed\",\n"
	      "  \"pid\": null,\n  \"since\": \"2026-11-22T10:01:01Z\",\n"
	      "  \"parent\": \"main\",\n  \"parent_checkpoint\": \"c\",\n"
	      "  \"parent_gone\": false,\n"
	      "  \"owner\": 4242424,\n  \"created\": \"2026-11-22T10:00:00Z\",\n"
	      "  \"last_active\": null,\n  \"idle\": null,\n"
	      "  \"expires\": \"2026-11-23T10:00:00Z\",\n  \"loaded\": true,\n"
	      "  \"depth\": 2,\n"
	      "  \"bytes\": 8192,\n  \"checkpoints\": 2,\n"
	      "  \"automatic_checkpoints\": 1,\n"
	      "  \"protected\": false,\n  \"prepared\": false,\n"
	      "  \"stopped_by_hand\": false,\n  \"wakes\": 3,\n"
	      "  \"reason\": \"said \\\"no\\\"\\nand more\"\n}\n");
	check(STATUS_JSON, &branches[1],
	      "{\n  \"name\": \"main\",\n  \"no\": 1,\n  \"state\": \"running\",\n"
	      "  \"pid\": 77,\n  \"since\": \"2026-11-22T10:00:02Z\",\n"
	      "  \"parent\": null,\n  \"parent_checkpoint\": null,\n"
	      "  \"parent_gone\": false,\n"
	      "  \"owner\": 0,\n  \"created\": \"2026-11-22T10:00:00Z\",\n"
	      "  \"last_active\": \"2026-11-22T10:00:01Z\",\n  \"idle\": 60,\n"
	      "  \"expires\": null,\n  \"loaded\": false,\n  \"depth\": 1,\n"
	      "  \"bytes\": 0,\n  \"checkpoints\": 0,\n"
	      "  \"automatic_checkpoints\": 0,\n  \"protected\": true,\n  "
	      "\"prepared\": true,\n"
	      "  \"stopped_by_hand\": false,\n  \"wakes\": 0,\n  \"reason\": "
	      "null\n}\n");
}

static void test_values(void **state)
{
	(void)state;
	check(STATUS_STATE, &branches[1], "running\n");
	check(STATUS_URL, &branches[0],
	      "postgresql://post%2Fgres@/postgres?host=/mnt/p%20g/a\n");
	check(STATUS_PARENT, &branches[0], "main:c\n");
	check(STATUS_PARENT, &branches[1], "");
	check(STATUS_PARENT, &branches[2], "old (gone)\n");
	check(STATUS_OWNER, &branches[0], "4242424\n");
	check(STATUS_OWNER, &branches[1], "0 root\n");
	check(STATUS_EXPIRES, &branches[0], "2026-11-23T10:00:00Z\n");
	check(STATUS_EXPIRES, &branches[1], "never\n");
	check(STATUS_ROLLBACK, &branches[0], "c2\n");
	check(STATUS_ROLLBACK, &branches[1], "");
	check(STATUS_RESET, &branches[0], "parent\n");
	check(STATUS_RESET, &branches[1], "");
	check(STATUS_RESET, &branches[2], "");
	check(STATUS_PROTECTED, &branches[0], "0\n");
	check(STATUS_PROTECTED, &branches[1], "1\n");
	check(STATUS_TRASHED, &branches[0],
	      "name a\nno 2\nparent main\nparent_gone 0\nowner 4242424\n"
	      "created 2026-11-22T10:00:00Z\nlast_active -\n"
	      "expires 2026-11-23T10:00:00Z\ndepth 2\n"
	      "discarded 2026-11-22T11:00:00Z\nremoved 2026-11-23T11:00:00Z\n"
	      "bytes 8192\n");
	check(STATUS_ERROR, NULL, "error of 1000\n");
	check(STATUS_UPKEEP, NULL, "end\n");
	check(STATUS_METRICS, NULL, "figures\n");
	check(STATUS_TREE, NULL,
	      "/mnt/p g\n"
	      "├── main  running  depth 1\n"
	      "│   └── a  failed  depth 2  checkpoints 3  (of main:c)\n"
	      "└── z  stopped  depth 0  (parent old gone)\n");
}

static void test_readme(void **state)
{
	struct str out = STR_INIT;
	size_t column = 0;

	(void)state;
	assert_int_equal(status_render(NULL, STATUS_README, NULL, &me, &out), 0);
	assert_non_null(strstr(out.s, "psql -h /mnt/p g/NAME -U post/gres"));
	assert_non_null(strstr(out.s, "branch of main as it is now"));
	for (const char *p = out.s; *p; p++) {
		column = *p == '\n' ? 0 : column + 1;
		assert_true(column <= 80);
	}
	str_fini(&out);
	assert_int_equal(status_render(NULL, STATUS_TEXT, NULL, &me, &out), -EINVAL);
}

struct tree_row {
	const char *name, *parent;
	bool gone;
};

static void check_tree(const struct tree_row *rows, size_t n, const char *expected)
{
	struct tree_branch list[16] = {0};
	struct str out = STR_INIT;

	for (size_t i = 0; i < n; i++) {
		list[i].state = "s";
		(void)snprintf(list[i].info.name, 64, "%s", rows[i].name);
		(void)snprintf(list[i].info.parent, 64, "%s", rows[i].parent);
		list[i].info.parent_gone = rows[i].gone;
	}
	assert_int_equal(tree_draw("/m", list, n, &out), 0);
	assert_string_equal(out.s, expected);
	str_fini(&out);
}

static void test_tree(void **state)
{
	static const struct tree_row deep[] = {
		{"a", "main", false}, {"b", "main", false}, {"c", "a", false},
		{"d", "c", false},    {"e", "b", false},    {"main", "", false},
		{"o", "x", true},     {"p", "o", false},
	};
	static const struct tree_row circle[] = {
		{"a", "b", false}, {"b", "a", false},     {"c", "b", false},
		{"d", "d", false}, {"e", "never", false},
	};

	(void)state;
	check_tree(NULL, 0, "/m\n");
	check_tree(deep, ARRAY_SIZE(deep),
		   "/m\n"
		   "├── main  s  depth 0\n"
		   "│   ├── a  s  depth 0\n"
		   "│   │   └── c  s  depth 0\n"
		   "│   │       └── d  s  depth 0\n"
		   "│   └── b  s  depth 0\n"
		   "│       └── e  s  depth 0\n"
		   "└── o  s  depth 0  (parent x gone)\n"
		   "    └── p  s  depth 0\n");
	check_tree(circle, ARRAY_SIZE(circle),
		   "/m\n"
		   "├── a  s  depth 0\n"
		   "│   └── b  s  depth 0\n"
		   "│       └── c  s  depth 0\n"
		   "├── d  s  depth 0\n"
		   "└── e  s  depth 0\n");
}

static void test_errors(void **state)
{
	struct err e = ERR_INIT;
	struct errors *t = NULL;
	char *text;

	(void)state;
	assert_int_equal(errors_new(&t), 0);
	text = errors_text(t, 5);
	assert_string_equal(text, "");
	free(text);
	(void)err_set(&e, -ENOENT, "no '%s'", "a\nhint: rm -rf");
	(void)err_hint(&e, "do this");
	errors_note(t, 5, &e, 1795341600);
	text = errors_text(t, 5);
	assert_string_equal(text, "no 'a?hint: rm -rf'\nhint: do this\n"
				  "time: 2026-11-22T10:00:00Z\n");
	free(text);
	err_fini(&e);
	/* the newest of a uid, and no other uid's */
	(void)err_set(&e, -EIO, "second");
	errors_note(t, 5, &e, 0);
	text = errors_text(t, 5);
	assert_string_equal(text, "second\ntime: 1970-01-01T00:00:00Z\n");
	free(text);
	text = errors_text(t, 6);
	assert_string_equal(text, "");
	free(text);
	/* full: the one that failed longest ago goes */
	for (uid_t uid = 100; uid < 100 + ERRORS_MAX - 1; uid++)
		errors_note(t, uid, &e, 0);
	errors_note(t, 5, &e, 0);
	errors_note(t, 99, &e, 0);
	text = errors_text(t, 100);
	assert_string_equal(text, "");
	free(text);
	text = errors_text(t, 5);
	assert_string_not_equal(text, "");
	free(text);
	err_fini(&e);
	assert_null(errors_free(t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status), cmocka_unit_test(test_values),
		cmocka_unit_test(test_readme), cmocka_unit_test(test_tree),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

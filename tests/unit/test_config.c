/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/err.h"
#include "base/fd.h"
#include "base/text.h"
#include "ctl/config.h"

#include <fcntl.h>

/* Loads text as the file "DIR/c"; the sentence goes to msg with DIR cut off. */
static int load(void **state, const char *text, size_t len, struct config **ret_c,
		char *msg, size_t msg_size)
{
	const char *dir = *state;
	CLEAN(err_fini) struct err e = ERR_INIT;
	char *path = text_format("%s/c", dir);
	int rc;

	assert_non_null(path);
	assert_int_equal(fd_replace_file(AT_FDCWD, path, text, len, 0600, 0), 0);
	rc = config_load(path, ret_c, &e);
	(void)snprintf(msg, msg_size, "%s",
		       rc < 0 ? err_text(&e) + strlen(dir) + 1 : "");
	free(path);
	return rc;
}

static int dir_remove(void **state)
{
	int rc = fd_remove_tree(AT_FDCWD, *state);

	free(*state);
	return rc;
}

static void test_defaults(void **state)
{
	struct config *c = NULL;

	(void)state;
	assert_int_equal(config_default(&c, NULL), 0);
	assert_string_equal(c->default_parent, "main");
	assert_string_equal(c->idle_connections, "ignore");
	assert_int_equal(c->idle_timeout_s, 300);
	assert_int_equal(c->reserve_bytes, 1073741824);
	assert_int_equal(c->squash_layers, 8);
	assert_int_equal(c->cold_after_s, 0);
	assert_int_equal(c->start_timeout_s, 60);
	assert_string_equal(c->bin_dir, "auto");
	assert_string_equal(c->run_as, "postgres");
	assert_string_equal(c->superuser, "postgres");
	assert_null(c->settings[0]);
	assert_null(config_free(c));
	assert_null(config_free(NULL));
}

static void test_good(void **state)
{
	static const char text[] =
		"\xef\xbb\xbf; a comment, and one of 300 bytes:\n"
		"#..............................................................."
		"................................................................"
		"................................................................"
		"................................................................\n"
		"[branch]\n"
		"  default_parent = base-1   ; indented, with a remark\n"
		"  idle_timeout: never\n"
		"idle_connections=keep\n"
		"ttl = 2d\n"
		"max_ttl = 7d\n"
		"\n"
		"[settings]\r\n"
		"shared_buffers=64MB\r\n"
		"[branch]\n"
		"reserve=0\n"
		"squash=never\n"
		"start_timeout=2m\n"
		"[server] # remark\n"
		"run_as=1000\n"
		"bin_dir=/opt/pg/bin\n"
		"superuser=the boss\n"
		"[settings]\n"
		"auto_explain.log_min_duration = 1s\n"
		"log_line_prefix = '%m [%p] '";
	struct config *c = NULL;
	char msg[256];

	assert_int_equal(load(state, text, strlen(text), &c, msg, sizeof(msg)), 0);
	assert_string_equal(c->default_parent, "base-1");
	assert_string_equal(c->idle_connections, "keep");
	assert_int_equal(c->idle_timeout_s, 0);
	assert_int_equal(c->ttl_s, 2 * 86400);
	assert_int_equal(c->max_ttl_s, 7 * 86400);
	assert_int_equal(c->reserve_bytes, 0);
	assert_int_equal(c->squash_layers, 0);
	assert_int_equal(c->start_timeout_s, 120);
	assert_string_equal(c->run_as, "1000");
	assert_string_equal(c->bin_dir, "/opt/pg/bin");
	assert_string_equal(c->superuser, "the boss");
	assert_string_equal(c->settings[0], "shared_buffers=64MB");
	assert_string_equal(c->settings[1], "auto_explain.log_min_duration=1s");
	assert_string_equal(c->settings[2], "log_line_prefix='%m [%p] '");
	assert_null(c->settings[3]);
	config_free(c);
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *msg;
	} rows[] = {
		{"x=1\n", "c:1: 'x' stands before the first [section]"},
		{"[brunch]\n", "c:1: there is no section [brunch]"},
		{"[branch\n", "c:1: the section's ] is missing"},
		{"[branch] x\n", "c:1: there is more behind the section's ]"},
		{"[branch]\n\nlife=1h\n",
		 "c:3: there is no setting 'life' in [branch]"},
		{"[branch]\nrun_as=me\n",
		 "c:2: there is no setting 'run_as' in [branch]"},
		{"[branch]\nreserve\n",
		 "c:2: neither a [section] nor a line of the form name = value"},
		{"[branch]\nreserve=1G\nreserve=1G\n", "c:3: reserve is set twice"},
		{"[branch]\nreserve=1X\n", "c:2: bad value '1X' for reserve: it should "
					   "be a size such as 500M or 1G"},
		{"[branch]\nreserve=99999999999999999999\n",
		 "c:2: bad value '99999999999999999999' for reserve: "
		 "it should be a size such as 500M or 1G"},
		{"[branch]\nidle_connections=Keep\n",
		 "c:2: bad value 'Keep' for idle_connections: it should be ignore or "
		 "keep"},
		{"[branch]\nidle_timeout=-1\n",
		 "c:2: bad value '-1' for idle_timeout: "
		 "it should be a time such as 30s, 5m or 2h, or never"},
		{"[branch]\nidle_timeout=18446744073709551615\n",
		 "c:2: bad value '18446744073709551615' for idle_timeout: "
		 "it should be a time such as 30s, 5m or 2h, or never"},
		{"[branch]\nsquash=1\n",
		 "c:2: bad value '1' for squash: "
		 "it should be a number of layers, at least 2, or never"},
		{"[branch]\nsquash=0\n",
		 "c:2: bad value '0' for squash: "
		 "it should be a number of layers, at least 2, or never"},
		{"[branch]\nstart_timeout=0\n",
		 "c:2: bad value '0' for start_timeout: "
		 "it should be a time of at least 1s, such as 60s"},
		{"[branch]\nstart_timeout=never\n",
		 "c:2: bad value 'never' for start_timeout: "
		 "it should be a time of at least 1s, such as 60s"},
		{"[branch]\ndefault_parent=../x\n",
		 "c:2: bad value '../x' for default_parent: "
		 "it should be the name of a branch"},
		{"[server]\nbin_dir=bin\n", "c:2: bad value 'bin' for bin_dir: it "
					    "should be auto or an absolute path"},
		{"[server]\nsuperuser=\n", "c:2: bad value '' for superuser: it should "
					   "be a name of 1 to 63 bytes"},
		{"[settings]\nPORT=1\n",
		 "c:2: port is decided by pgbranchfs for every branch"},
		{"[settings]\nfsync=off\n",
		 "c:2: fsync is decided by pgbranchfs for every branch"},
		{"[settings]\nrecovery_target_time=x\n",
		 "c:2: recovery_target_time is decided by pgbranchfs for every branch"},
		{"[settings]\narchive-mode=on\n",
		 "c:2: 'archive-mode' is no name of a Postgres setting"},
		{"[settings]\nwork_mem=1MB\nWork_Mem=2MB\n",
		 "c:3: Work_Mem is set twice in [settings]"},
		{"[policy ci]\n", "c:1: policy 'ci' is for nobody"},
		{"[policyx]\n", "c:1: there is no section [policyx]"},
		/* what the error is behind does not matter */
		{"[branch]\nreserve=x\n[nonsense]\n",
		 "c:2: bad value 'x' for reserve: it should be a size such as 500M or "
		 "1G"},
	};
	struct config *c = NULL;
	char msg[512];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int rc = load(state, rows[i].text, strlen(rows[i].text), &c, msg,
			      sizeof(msg));

		ROW_EQUAL(rows[i].text, rc, -EINVAL);
		ROW_STRING(rows[i].text, msg, rows[i].msg);
		assert_null(c);
	}
}

/* No line reaches inih that it would cut. */
static void test_long_lines(void **state)
{
	struct config *c = NULL;
	char text[512], msg[256];

	for (int len = 150; len < 260; len++) {
		int rc;

		(void)snprintf(text, sizeof(text), "[settings]\nx.a=%0*d\n", len - 4,
			       7);
		rc = load(state, text, strlen(text), &c, msg, sizeof(msg));
		if (len > 198) {
			assert_int_equal(rc, -EINVAL);
			assert_string_equal(msg,
					    "c:2: the line is longer than 198 bytes");
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(strlen(c->settings[0]), len);
		c = config_free(c);
	}
}

static void test_files(void **state)
{
	struct config *c = NULL;
	struct err e = ERR_INIT;
	char msg[256];

	assert_int_equal(config_load("/nonexistent/c", &c, &e), -ENOENT);
	assert_string_equal(err_text(&e), "cannot read '/nonexistent/c': "
					  "No such file or directory");
	err_fini(&e);
	assert_int_equal(load(state, "[branch]\n\0x", 11, &c, msg, sizeof(msg)),
			 -EINVAL);
	assert_int_equal(load(state, "", 0, &c, msg, sizeof(msg)), 0);
	config_free(c);
	assert_int_equal(config_load(NULL, &c, NULL), 0);
	config_free(c);
}

static void test_keep_fixed(void **state)
{
	static const char text[] = "[server]\nsuperuser=x\nrun_as=y\nbin_dir=/z\n";
	struct config *fresh = NULL, *running = NULL;
	char msg[256];

	assert_int_equal(config_default(&running, NULL), 0);
	assert_int_equal(load(state, text, strlen(text), &fresh, msg, sizeof(msg)), 0);
	assert_int_equal(config_keep_fixed(fresh, running), 0);
	assert_string_equal(fresh->superuser, "postgres");
	assert_string_equal(fresh->run_as, "postgres");
	assert_string_equal(fresh->bin_dir, "/z");
	config_free(fresh);
	config_free(running);
}

static void test_check(void **state)
{
	char longest[256];

	(void)state;
	memset(longest, 'x', sizeof(longest));
	longest[200] = '\0';
	assert_int_equal(config_check("server", "superuser", "me", NULL), 0);
	assert_int_equal(config_check("server", "superuser", "a ;b", NULL), -EINVAL);
	assert_int_equal(config_check("server", "superuser", "a\nb", NULL), -EINVAL);
	assert_int_equal(config_check("server", "superuser", " a", NULL), -EINVAL);
	assert_int_equal(config_check("server", "bin_dir", longest, NULL), -EINVAL);
	assert_int_equal(config_check("server", "nothing", "x", NULL), -EINVAL);
	assert_int_equal(config_check("settings", "port", "1", NULL), -EINVAL);
	assert_int_equal(config_check("settings", "work_mem", "1MB", NULL), 0);
}

/* The man page describes every setting, with its default. */
static void test_man_page(void **state)
{
	const char *src = getenv("top_srcdir");
	char *path = text_format("%s/man/pgbranchfs.1", src ? src : ".");
	const struct config_setting *s;
	char *page = NULL;

	(void)state;
	assert_non_null(path);
	assert_int_equal(fd_read_file(AT_FDCWD, path, 1 << 20, &page, NULL), 0);
	for (size_t i = 0; (s = config_setting(i)); i++) {
		char *item = text_format(".It Ic %s No = Ar %s", s->name, s->value);

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
		cmocka_unit_test(test_defaults),
		cmocka_unit_test_setup_teardown(test_good, unit_dir_make, dir_remove),
		cmocka_unit_test_setup_teardown(test_bad, unit_dir_make, dir_remove),
		cmocka_unit_test_setup_teardown(test_long_lines, unit_dir_make,
						dir_remove),
		cmocka_unit_test_setup_teardown(test_files, unit_dir_make, dir_remove),
		cmocka_unit_test_setup_teardown(test_keep_fixed, unit_dir_make,
						dir_remove),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_man_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

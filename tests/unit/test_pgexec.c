/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/err.h"
#include "pg/pgbin.h"
#include "pg/pgexec.h"
#include "pg/subscan.h"

#include <sys/stat.h>
#include <unistd.h>

/* Where the last "-c NAME=..." is; -1 if nowhere. */
static int last_setting(char **argv, const char *name)
{
	size_t n = strlen(name);
	int at = -1;

	for (int i = 1; argv[i]; i++)
		if (!strcmp(argv[i - 1], "-c") && !strncmp(argv[i], name, n) &&
		    argv[i][n] == '=')
			at = i;
	return at;
}

static struct pgexec_spec basic(int major)
{
	return (struct pgexec_spec){
		.bin_dir = "/opt/pg/bin",
		.major = major,
		.mountpoint = "/mnt/pg",
		.no = 7,
		.store_path = "/var/lib/store",
	};
}

static void test_argv_settings(void **state)
{
	static const struct {
		const char *row;
		int major;
		bool first_start, unprepared;
		uint64_t segment;
		bool pid_file;
		const char *name, *expect; /* NULL: must not be there */
	} rows[] = {
		{"archive", 15, 0, 0, 0, 0, "archive_mode", "archive_mode=off"},
		{"archive library", 15, 0, 0, 0, 0, "archive_library",
		 "archive_library="},
		{"no archive library", 14, 0, 0, 0, 0, "archive_library", NULL},
		{"standby", 15, 0, 0, 0, 0, "primary_conninfo", "primary_conninfo="},
		{"target", 18, 0, 0, 0, 0, "recovery_target_lsn",
		 "recovery_target_lsn="},
		{"trigger file", 15, 0, 0, 0, 0, "promote_trigger_file",
		 "promote_trigger_file="},
		{"no trigger file", 16, 0, 0, 0, 0, "promote_trigger_file", NULL},
		{"stats dir", 14, 0, 0, 0, 0, "stats_temp_directory",
		 "stats_temp_directory=pg_stat_tmp"},
		{"no stats dir", 15, 0, 0, 0, 0, "stats_temp_directory", NULL},
		{"slot sync", 17, 0, 0, 0, 0, "sync_replication_slots",
		 "sync_replication_slots=off"},
		{"no slot sync", 16, 0, 0, 0, 0, "sync_replication_slots", NULL},
		{"sync standbys", 15, 0, 0, 0, 0, "synchronous_standby_names",
		 "synchronous_standby_names="},
		{"cron", 15, 0, 0, 0, 0, "cron.launch_active_jobs",
		 "cron.launch_active_jobs=off"},
		{"first start", 15, 1, 0, 0, 0, "recovery_init_sync_method",
		 "recovery_init_sync_method=syncfs"},
		{"later start", 15, 0, 0, 0, 0, "recovery_init_sync_method",
		 "recovery_init_sync_method=fsync"},
		{"unprepared", 15, 0, 1, 0, 0, "max_logical_replication_workers",
		 "max_logical_replication_workers=0"},
		{"prepared", 15, 0, 0, 0, 0, "max_logical_replication_workers", NULL},
		{"unknown segments", 15, 0, 0, 0, 0, "min_wal_size",
		 "min_wal_size=32MB"},
		{"small segments", 15, 0, 0, 1 << 20, 0, "min_wal_size",
		 "min_wal_size=32MB"},
		{"large segments", 15, 0, 0, 64 << 20, 0, "min_wal_size",
		 "min_wal_size=128MB"},
		{"data", 15, 0, 0, 0, 0, "data_directory",
		 "data_directory=/mnt/pg/.run/7/data"},
		{"hba", 15, 0, 0, 0, 0, "hba_file",
		 "hba_file=/mnt/pg/.run/7/pg_hba.conf"},
		{"ident", 15, 0, 0, 0, 0, "ident_file",
		 "ident_file=/mnt/pg/.run/7/pg_ident.conf"},
		{"socket", 15, 0, 0, 0, 0, "unix_socket_directories",
		 "unix_socket_directories=../../.run/7"},
		{"no tcp", 15, 0, 0, 0, 0, "listen_addresses", "listen_addresses="},
		{"config", 15, 0, 0, 0, 0, "config_file",
		 "config_file=/mnt/pg/.run/7/data/postgresql.conf"},
		{"fsync", 15, 0, 0, 0, 0, "fsync", "fsync=on"},
		{"torn pages", 15, 0, 0, 0, 0, "full_page_writes",
		 "full_page_writes=on"},
		{"no second fsync", 15, 0, 0, 0, 0, "data_sync_retry",
		 "data_sync_retry=off"},
		{"no pid file", 15, 0, 0, 0, 0, "external_pid_file", NULL},
		{"own pid file", 15, 0, 0, 0, 1, "external_pid_file",
		 "external_pid_file=/mnt/pg/.run/7/external.pid"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(pgexec_free_list) char **argv = NULL;
		struct pgexec_spec s = basic(rows[i].major);
		int at;

		s.first_start = rows[i].first_start;
		s.unprepared = rows[i].unprepared;
		s.wal_segment_bytes = rows[i].segment;
		s.pid_file = rows[i].pid_file;
		ROW_EQUAL(rows[i].row, pgexec_argv(&s, &argv), 0);
		at = last_setting(argv, rows[i].name);
		if (rows[i].expect)
			ROW_STRING(rows[i].row, at < 0 ? "" : argv[at], rows[i].expect);
		else
			ROW_EQUAL(rows[i].row, at, -1);
	}
}

/* Of two for one setting the last wins: safety must be behind the user's. */
static void test_argv_order(void **state)
{
	static const char *const mine[] = {
		"shared_buffers=64MB", "archive_mode=on",   "port=1",
		"config_file=/etc/x",  "data_directory=/x", NULL};
	CLEAN(pgexec_free_list) char **argv = NULL;
	struct pgexec_spec s = basic(15);

	(void)state;
	s.settings = mine;
	s.config_file = "/mnt/pg/.run/7/postgresql.conf";
	assert_int_equal(pgexec_argv(&s, &argv), 0);
	assert_string_equal(argv[0], "/opt/pg/bin/postgres");
	assert_string_equal(argv[1], "-D");
	assert_string_equal(argv[2], "/mnt/pg/.run/7/data");
	assert_string_equal(argv[3], "-c");
	assert_string_equal(argv[4], "shared_buffers=64MB");
	assert_string_equal(argv[last_setting(argv, "archive_mode")],
			    "archive_mode=off");
	assert_string_equal(argv[last_setting(argv, "port")], "port=5432");
	assert_string_equal(argv[last_setting(argv, "config_file")],
			    "config_file=/mnt/pg/.run/7/postgresql.conf");
	assert_string_equal(argv[last_setting(argv, "data_directory")],
			    "data_directory=/mnt/pg/.run/7/data");
}

static void test_envp(void **state)
{
	CLEAN(pgexec_free_list) char **envp = NULL;
	struct pgexec_spec s = basic(15);
	bool marked = false;

	(void)state;
	assert_int_equal(pgexec_envp(&s, &envp), 0);
	for (char **p = envp; *p; p++) {
		marked = marked || !strcmp(*p, "PGBRANCHFS_STORE=/var/lib/store");
		assert_int_not_equal(strncmp(*p, "LC_ALL=", 7), 0);
		assert_int_not_equal(strncmp(*p, "PGDATA=", 7), 0);
	}
	assert_true(marked);
}

#define PIDFILE_HEAD "4711\n/d\n1700000000\n5432\n../../.run/7\n"

static void test_pidfile_owner(void **state)
{
	static const struct {
		const char *row, *text;
		bool ours;
	} rows[] = {
		{"empty", "", false},
		{"no directory", "4711\n", false},
		{"ours", "4711\n/m/.run/7/data\n1\n", true},
		{"cut off behind it", "4711\n/m/.run/7/data", true},
		{"of another branch", "4711\n/m/.run/17/data\n1\n", false},
		{"by its name", "4711\n/m/b/data\n1\n", false},
		{"in a container", "1\n/d\n1\n", false},
		{"further down", "4711\n/m/b/data\n/m/.run/7/data\n", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ROW_EQUAL(rows[i].row, pgexec_pidfile_is_ours(rows[i].text, 7),
			  rows[i].ours);
}

static void test_pidfile(void **state)
{
	static const struct {
		const char *row, *text;
		int rc, pid, key, id;
		bool ready, standby;
	} rows[] = {
		{"empty", "", -EINVAL, 0, 0, 0, false, false},
		{"words", "abc\n", -EINVAL, 0, 0, 0, false, false},
		{"zero", "0\n", -EINVAL, 0, 0, 0, false, false},
		{"too large", "99999999999\n", -EINVAL, 0, 0, 0, false, false},
		{"torn number", "12x\n", -EINVAL, 0, 0, 0, false, false},
		{"pid only", "4711", 0, 4711, 0, 0, false, false},
		{"single user", "-4711\n/d\n", 0, 4711, 0, 0, false, false},
		{"no socket yet", "4711\n/d\n1\n5432\n", 0, 4711, 0, 0, false, false},
		{"segment", PIDFILE_HEAD "\n  1234567     98304\nstarting\n", 0, 4711,
		 1234567, 98304, false, false},
		{"ready", PIDFILE_HEAD "\n  1234567     98304\nready   \n", 0, 4711,
		 1234567, 98304, true, false},
		{"standby", PIDFILE_HEAD "\n  1234567     98304\nstandby \n", 0, 4711,
		 1234567, 98304, true, true},
		{"stopping", PIDFILE_HEAD "\n  1234567     98304\nstopping\n", 0, 4711,
		 1234567, 98304, false, false},
		{"bad segment", PIDFILE_HEAD "\nx y\nready   \n", 0, 4711, 0, 0, true,
		 false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct pgexec_pidfile pf = {0};

		ROW_EQUAL(rows[i].row, pgexec_parse_pidfile(rows[i].text, &pf),
			  rows[i].rc);
		ROW_EQUAL(rows[i].row, pf.pid, rows[i].pid);
		ROW_EQUAL(rows[i].row, pf.shm_key, rows[i].key);
		ROW_EQUAL(rows[i].row, pf.shm_id, rows[i].id);
		ROW_EQUAL(rows[i].row, pf.ready, rows[i].ready);
		ROW_EQUAL(rows[i].row, pf.standby, rows[i].standby);
	}
}

static void test_versions(void **state)
{
	static const struct {
		const char *text;
		int version, banner;
	} rows[] = {
		{"15\n", 15, -EINVAL},
		{"18", 18, -EINVAL},
		{"9.6\n", 9, -EINVAL},
		{"", -EINVAL, -EINVAL},
		{"x15", -EINVAL, -EINVAL},
		{"15x", -EINVAL, -EINVAL},
		{"-3", -EINVAL, -EINVAL},
		{"99999", -EINVAL, -EINVAL},
		{"postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", -EINVAL, 15},
		{"postgres (PostgreSQL) 19devel\n", -EINVAL, 19},
		{"postgres (PostgreSQL) \n", -EINVAL, -EINVAL},
		{"postgres (EnterpriseDB) 15\n", -EINVAL, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ROW_EQUAL(rows[i].text, pgexec_parse_version(rows[i].text),
			  rows[i].version);
		ROW_EQUAL(rows[i].text, pgexec_parse_banner(rows[i].text),
			  rows[i].banner);
	}
}

static void test_log_reason(void **state)
{
	static const struct {
		const char *log, *reason;
	} rows[] = {
		{"", NULL},
		{"\n\n", NULL},
		{"helper: no such file\n", "helper: no such file"},
		{"x LOG:  a\nx FATAL:  lock file exists\nx HINT:  b\n",
		 "lock file exists"},
		{"x FATAL:  one\nx PANIC:  two\nx LOG:  shut down\n", "two"},
		{"x LOG:  bad a\nx FATAL:  file \"f\" contains errors\n",
		 "bad a (file \"f\" contains errors)"},
		{"x LOG:  a\nx LOG:  no newline", "x LOG:  no newline"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(clean_free) char *reason = pgexec_log_reason(rows[i].log);

		ROW_EQUAL(rows[i].log, !reason, !rows[i].reason);
		if (reason)
			ROW_STRING(rows[i].log, reason, rows[i].reason);
	}
}

static void test_mapped_file(void **state)
{
	static const uint32_t map[] = {0x592717, 2, 1262, 1262, 6100, 16390};
	static const struct {
		const char *row;
		uint32_t map[6];
		size_t len;
		uint32_t file;
	} rows[] = {
		{"empty", {0}, 0, 0},
		{"other magic", {0x592718, 1, 6100, 5}, 16, 0},
		{"not listed", {0x592717, 1, 1262, 5}, 16, 0},
		{"more than there is", {0x592717, 2, 6100, 5}, 16, 0},
		{"huge number", {0x592717, UINT32_MAX, 6100, 5}, 16, 0},
		{"listed", {0x592717, 1, 6100, 5}, 16, 5},
	};

	(void)state;
	assert_int_equal(subscan_mapped_file(map, sizeof(map), 6100), 16390);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ROW_EQUAL(rows[i].row,
			  subscan_mapped_file(rows[i].map, rows[i].len, 6100),
			  rows[i].file);
}

static void test_control_clean(void **state)
{
	static const struct {
		const char *row;
		uint32_t control[5]; /* identifier, version, catalog, state */
		size_t len;
		bool clean;
	} rows[] = {
		{"empty", {0}, 0, false},
		{"torn", {1, 1, 1300, 1, 1}, 16, false},
		{"other byte order", {1, 1, 0x14050000, 1, 1}, 20, false},
		{"no version", {1, 1, 0, 1, 1}, 20, false},
		{"in production", {1, 1, 1300, 1, 6}, 20, false},
		{"shut down in recovery", {1, 1, 1300, 1, 2}, 20, false},
		{"shut down", {1, 1, 1800, 1, 1}, 20, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ROW_EQUAL(rows[i].row,
			  subscan_control_clean(rows[i].control, rows[i].len),
			  rows[i].clean);
}

/* A directory with a program that calls itself postgres of that version. */
static void fake_bin(const char *dir, const char *banner)
{
	CLEAN(clean_free) char *path = NULL;
	FILE *f;

	assert_true(asprintf(&path, "%s/postgres", dir) > 0);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fprintf(f, "#!/bin/sh\necho '%s'\n", banner) > 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0755), 0);
}

static void remove_fake(const char *dir)
{
	CLEAN(clean_free) char *path = NULL;

	assert_true(asprintf(&path, "%s/postgres", dir) > 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_bin_dir(void **state)
{
	const char *dir = *state;
	CLEAN(clean_free) char *found = NULL, *again = NULL;
	CLEAN(err_fini) struct err e = ERR_INIT;

	assert_int_equal(pgbin_find(dir, 15, &found, &e), -ENOENT);
	fake_bin(dir, "postgres (PostgreSQL) 16.3");
	assert_int_equal(pgbin_version(dir), 16);
	assert_int_equal(pgbin_find(dir, 15, &found, &e), -ENOENT);
	assert_non_null(strstr(err_text(&e), "holds version 16"));
	assert_int_equal(pgbin_find(dir, 16, &found, &e), 0);
	assert_string_equal(found, dir);
	assert_int_equal(pgbin_find(dir, 0, &again, &e), 0);
	remove_fake(dir);
}

static void test_bin_path(void **state)
{
	const char *dir = *state;
	CLEAN(clean_free) char *found = NULL, *none = NULL;
	CLEAN(clean_free) char *path = strdup(getenv("PATH"));
	CLEAN(err_fini) struct err e = ERR_INIT;

	fake_bin(dir, "postgres (PostgreSQL) 77.1");
	assert_int_equal(setenv("PATH", dir, 1), 0);
	assert_int_equal(pgbin_find("auto", 77, &found, &e), 0);
	assert_string_equal(found, dir);
	assert_int_equal(pgbin_find(NULL, 78, &none, &e), -ENOENT);
	assert_non_null(strstr(err_text(&e), "77"));
	assert_non_null(e.hint);
	assert_int_equal(setenv("PATH", path, 1), 0);
	remove_fake(dir);
}

static int dir_free(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_argv_settings),
		cmocka_unit_test(test_argv_order),
		cmocka_unit_test(test_envp),
		cmocka_unit_test(test_pidfile),
		cmocka_unit_test(test_pidfile_owner),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_log_reason),
		cmocka_unit_test(test_mapped_file),
		cmocka_unit_test(test_control_clean),
		cmocka_unit_test_setup_teardown(test_bin_dir, unit_dir_make, dir_free),
		cmocka_unit_test_setup_teardown(test_bin_path, unit_dir_make, dir_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

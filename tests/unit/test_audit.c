/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of audit.log: what they hold, and that each is whole. */
#include "unit.h"

#include "base/fd.h"
#include "ctl/audit.h"
#include "ctl/audit_line.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void test_format(void **state)
{
	static const struct timespec now = {1795341600, 1999};
	static const struct {
		struct audit_event ev;
		const char *line;
	} rows[] = {
		{{.uid = 1000,
		  .gid = 100,
		  .pid = 77,
		  .comm = "mkdir",
		  .verb = "create",
		  .branch = "b1",
		  .parent = "main",
		  .duration_us = 1234567},
		 "{\"time\":\"2026-11-22T10:00:00.000001Z\",\"uid\":1000,\"gid\":100,"
		 "\"pid\":77,\"comm\":\"mkdir\",\"verb\":\"create\",\"branch\":\"b1\","
		 "\"parent\":\"main\",\"value\":null,\"verdict\":\"allowed\","
		 "\"reason\":null,\"duration_ms\":1234.567}\n"},
		{{.comm = "a\"\n\\\x01\xff",
		  .verb = "rename",
		  .branch = "\n{}",
		  .value = "x\ty",
		  .verdict = AUDIT_DENIED,
		  .reason = "no \"way\"",
		  .duration_us = 5},
		 "{\"time\":\"2026-11-22T10:00:00.000001Z\",\"uid\":0,\"gid\":0,"
		 "\"pid\":0,\"comm\":\"a\\\"\\n\\\\\\u0001\xef\xbf\xbd\",\"verb\":"
		 "\"rename\",\"branch\":\"\\n{}\",\"parent\":null,\"value\":\"x\\ty\","
		 "\"verdict\":\"denied\",\"reason\":\"no \\\"way\\\"\","
		 "\"duration_ms\":0.005}\n"},
		{{.uid = UINT32_MAX, .verb = "x", .verdict = AUDIT_FAILED},
		 "{\"time\":\"2026-11-22T10:00:00.000001Z\",\"uid\":4294967295,"
		 "\"gid\":0,\"pid\":0,\"comm\":null,\"verb\":\"x\",\"branch\":null,"
		 "\"parent\":null,\"value\":null,\"verdict\":\"failed\","
		 "\"reason\":null,\"duration_ms\":0.000}\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct str out = STR_INIT;

		audit_format(&rows[i].ev, &now, &out);
		ROW_STRING(rows[i].ev.verb, out.s, rows[i].line);
		str_fini(&out);
	}
}

/* What is written can be read back, whatever clients called themselves. */
static void test_read_back(void **state)
{
	static const struct timespec now = {1795341600, 1999};
	const struct audit_event ev = {.uid = 7,
				       .comm = "a\"\n\\\x01",
				       .verb = "rename",
				       .branch = "{\"uid\":0}",
				       .reason = "\xe2\x82\xac"};
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
		{"{\"a\":1}", 0},
		{"{\"a\":1,\"b\":null}", 0},
		{" { \"a\" : -1.5e3 } ", 0},
		{"", -EBADMSG},
		{"{}", -EBADMSG},
		{"{\"a\":1", -EBADMSG},
		{"{\"a\":\"1}", -EBADMSG},
		{"{\"a\":1}x", -EBADMSG},
		{"{\"a\":{}}", -EBADMSG},
		{"{\"a\":\"\\u12\"}", -EBADMSG},
		{"{\"a\":\"\\x\"}", -EBADMSG},
	};
	struct str out = STR_INIT;
	struct audit_line l;

	(void)state;
	audit_format(&ev, &now, &out);
	out.s[out.len - 1] = '\0';
	assert_int_equal(audit_line_parse(out.s, &l), 0);
	assert_string_equal(audit_line_get(&l, "uid"), "7");
	assert_string_equal(audit_line_get(&l, "comm"), ev.comm);
	assert_string_equal(audit_line_get(&l, "branch"), ev.branch);
	assert_string_equal(audit_line_get(&l, "reason"), ev.reason);
	assert_string_equal(audit_line_get(&l, "duration_ms"), "0.000");
	assert_null(audit_line_get(&l, "parent"));
	assert_null(audit_line_get(&l, "nothing"));
	str_fini(&out);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(clean_free) char *copy = strdup(rows[i].text);

		ROW_EQUAL(rows[i].text, audit_line_parse(copy, &l), rows[i].rc);
	}
}

static struct audit *open_in(const char *dir)
{
	CLEAN(clean_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct audit *a;

	assert_int_equal(audit_open(fd, dir, &a), 0);
	return a;
}

static char *read_log(const char *dir)
{
	CLEAN(clean_free) char *path = text_format("%s/" AUDIT_FILE, dir);
	char *text;

	assert_int_equal(fd_read_file(AT_FDCWD, path, 1 << 24, &text, NULL), 0);
	return text;
}

/* Every line begins and ends as one; how many. */
static size_t count_lines(const char *dir)
{
	CLEAN(clean_free) char *text = read_log(dir);
	char *cursor = text, *line;
	size_t n = 0;

	while ((line = text_next_line(&cursor)) != NULL) {
		assert_int_equal(strncmp(line, "{\"time\":\"", 9), 0);
		assert_null(strstr(line + 1, "{\"time\""));
		assert_string_equal(line + strlen(line) - 1, "}");
		n++;
	}
	return n;
}

static const struct audit_event some = {.verb = "x", .branch = "b", .reason = "why"};

#define WRITERS 4
#define LINES 500

static void *write_lines(void *a)
{
	for (int i = 0; i < LINES; i++)
		assert_int_equal(audit_write(a, &some), 0);
	return NULL;
}

static void test_lines(void **state)
{
	const char *dir = *state;
	CLEAN(clean_free) char *path = text_format("%s/" AUDIT_FILE, dir);
	struct audit *a = open_in(dir);
	pthread_t threads[WRITERS];
	struct stat st;

	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, a), 0);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	audit_close(a);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	a = open_in(dir); /* appends */
	assert_int_equal(audit_write(a, &some), 0);
	audit_close(a);
	assert_int_equal(count_lines(dir), WRITERS * LINES + 1);
}

/* A full disk cuts a line; the next one is whole again, also after a restart. */
static void test_torn(void **state)
{
	const char *dir = *state;
	CLEAN(clean_free) char *path = text_format("%s/" AUDIT_FILE, dir);
	CLEAN(clean_free) char *text = NULL;
	struct audit *a = open_in(dir);
	struct rlimit old, cut;
	size_t len;

	assert_int_equal(audit_write(a, &some), 0);
	text = read_log(dir);
	len = strlen(text);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	cut = old;
	cut.rlim_cur = len + 20;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &cut), 0);
	assert_int_equal(audit_write(a, &some), -ENOSPC);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(audit_write(a, &some), 0);
	clean_free(&text);
	text = read_log(dir);
	assert_int_equal(text[len + 20], '\n');
	assert_int_equal(strncmp(text + len + 21, "{\"time\"", 7), 0);
	assert_null(strstr(text, "\n\n"));
	audit_close(a);

	assert_int_equal(truncate(path, (off_t)len + 10), 0);
	a = open_in(dir);
	assert_int_equal(audit_write(a, &some), 0);
	audit_close(a);
	clean_free(&text);
	text = read_log(dir);
	assert_int_equal(strncmp(text + len + 10, "\n{\"time\"", 8), 0);
}

/* On a full disk the last room is kept for those who make space. */
static void test_full(void **state)
{
	struct audit_event frees = some;
	unsigned freed = 0;
	struct audit *a;
	int rc;

	frees.makes_space = true;
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", *state, "tmpfs", 0, "size=1280k") < 0)
		skip(); /* not root */
	a = open_in(*state);
	do
		rc = audit_write(a, &some);
	while (rc == 0);
	assert_int_equal(rc, -ENOSPC);
	while (freed < 1000 && audit_write(a, &frees) == 0)
		freed++;
	assert_int_equal(freed, 1000);
	assert_int_equal(audit_write(a, &some), -ENOSPC);
	audit_close(a);
	assert_true(count_lines(*state) > 2000);
	assert_int_equal(umount(*state), 0);
}

static void test_refused(void **state)
{
	const char *dir = *state;
	CLEAN(clean_free) char *path = text_format("%s/" AUDIT_FILE, dir);
	CLEAN(clean_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct audit *a;

	assert_int_equal(symlink("elsewhere", path), 0);
	assert_int_equal(audit_open(fd, dir, &a), -ELOOP);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(audit_open(fd, dir, &a), -EISDIR);
	assert_int_equal(rmdir(path), 0);
}

static int remove_dir(void **state)
{
	int rc = fd_remove_tree(AT_FDCWD, *state);

	free(*state);
	return rc;
}

#define DIR_TEST(fn) cmocka_unit_test_setup_teardown(fn, unit_dir_make, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format), cmocka_unit_test(test_read_back),
		DIR_TEST(test_lines),          DIR_TEST(test_torn),
		DIR_TEST(test_full),           DIR_TEST(test_refused),
	};

	(void)signal(SIGXFSZ,
		     SIG_IGN); /* a write over the limit is short, then EFBIG */
	return cmocka_run_group_tests(tests, NULL, NULL);
}

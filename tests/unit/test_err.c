/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/err.h"
#include "base/log.h"

#include <fcntl.h>
#include <sys/mman.h>

static void test_set_and_wrap(void **state)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(err_set(&e, -ENOENT, "no branch named '%s'", "b1"), -ENOENT);
	assert_int_equal(e.code, -ENOENT);
	assert_string_equal(err_text(&e), "no branch named 'b1'");
	assert_null(e.hint);
	assert_int_equal(err_hint(&e, "see %s", "ls"), -ENOENT);
	assert_string_equal(e.hint, "see ls");
	assert_int_equal(err_wrap(&e, -EIO, "mkdir %d", 7), -ENOENT);
	assert_string_equal(err_text(&e), "mkdir 7: no branch named 'b1'");
	assert_string_equal(e.hint, "see ls");
	/* the old sentence may be quoted in the new one, the old hint goes */
	assert_int_equal(err_set(&e, -EPERM, "again: %s", err_text(&e)), -EPERM);
	assert_string_equal(err_text(&e), "again: mkdir 7: no branch named 'b1'");
	assert_null(e.hint);
}

static void test_wrap_of_nothing(void **state)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(err_wrap(&e, -ENOSPC, "write %s", "x"), -ENOSPC);
	assert_int_equal(e.code, -ENOSPC);
	assert_string_equal(err_text(&e), "write x: No space left on device");
}

static void test_text_without_sentence(void **state)
{
	static const struct {
		const char *row;
		int code;
		const char *text;
	} rows[] = {
		{"errno", -ENOENT, "No such file or directory"},
		{"none", 0, "Success"},
		{"beyond errno", -99999, "unknown error"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = {rows[i].code, NULL, NULL};

		ROW_STRING(rows[i].row, err_text(&e), rows[i].text);
	}
	assert_string_equal(err_text(NULL), "unknown error");
}

static void test_null_err(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_set(NULL, -EPERM, "x"), -EPERM);
	assert_int_equal(err_hint(NULL, "x"), -EPERM);
	err_move(NULL, NULL);
	err_fini(NULL);
}

static void test_move(void **state)
{
	CLEAN(err_fini) struct err a = ERR_INIT;
	CLEAN(err_fini) struct err b = ERR_INIT;

	(void)state;
	(void)err_set(&a, -EIO, "a");
	(void)err_set(&b, -EPERM, "b");
	(void)err_hint(&b, "hint");
	err_move(&a, &b);
	assert_int_equal(a.code, -EPERM);
	assert_string_equal(a.msg, "b");
	assert_string_equal(a.hint, "hint");
	assert_int_equal(b.code, 0);
	assert_null(b.msg);
	err_move(&a, &a);
	assert_string_equal(a.msg, "b");
	err_move(NULL, &a);
	assert_null(a.msg);
}

static void test_fini_keeps_errno(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	(void)err_set(&e, -EIO, "x");
	errno = EXDEV;
	err_fini(&e);
	assert_int_equal(errno, EXDEV);
}

/* Runs a log call with stderr caught. */
static void log_line(enum log_level max, enum log_level lvl, const char *msg, char *buf,
		     size_t size)
{
	int saved = dup(STDERR_FILENO);
	int fd = memfd_create("log", MFD_CLOEXEC);
	ssize_t n;

	assert_true(saved >= 0 && fd >= 0);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	log_open("t", false, max);
	errno = EXDEV;
	log_write(lvl, "branch b1: %s", msg);
	assert_int_equal(errno, EXDEV);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	n = pread(fd, buf, size - 1, 0);
	assert_true(n >= 0);
	buf[n] = '\0';
	close(saved);
	close(fd);
}

static void test_log(void **state)
{
	static const struct {
		const char *row;
		enum log_level max, lvl;
		const char *msg, *line;
	} rows[] = {
		{"info", LOG_LVL_INFO, LOG_LVL_INFO, "x", "t: branch b1: x\n"},
		{"warning", LOG_LVL_INFO, LOG_LVL_WARN, "x",
		 "t: warning: branch b1: x\n"},
		{"error", LOG_LVL_ERROR, LOG_LVL_ERROR, "x",
		 "t: error: branch b1: x\n"},
		{"debug", LOG_LVL_DEBUG, LOG_LVL_DEBUG, "x",
		 "t: debug: branch b1: x\n"},
		{"below the level", LOG_LVL_WARN, LOG_LVL_INFO, "x", ""},
		{"control characters", LOG_LVL_INFO, LOG_LVL_INFO,
		 "a\nt: error: \tb\x1b[1m\x7f\r",
		 "t: branch b1: a\\nt: error: \\tb\\x1b[1m\\x7f\\x0d\n"},
		{"utf-8", LOG_LVL_INFO, LOG_LVL_INFO, "\xc3\xa4",
		 "t: branch b1: \xc3\xa4\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char buf[256];

		log_line(rows[i].max, rows[i].lvl, rows[i].msg, buf, sizeof(buf));
		ROW_STRING(rows[i].row, buf, rows[i].line);
	}
	/* syslog has no observable effect here but must not crash or change errno */
	log_open("t", true, LOG_LVL_INFO);
	errno = EXDEV;
	log_info("one line of the unit test");
	assert_int_equal(errno, EXDEV);
	log_open("t", false, LOG_LVL_INFO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_wrap),
		cmocka_unit_test(test_wrap_of_nothing),
		cmocka_unit_test(test_text_without_sentence),
		cmocka_unit_test(test_null_err),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_fini_keeps_errno),
		cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a system call that looks a socket's name up is for. */
#include "unit.h"

#include "fs/intent.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void check(long nr, unsigned long second, unsigned long third, bool connects)
{
	char text[256], row[32];

	(void)snprintf(row, sizeof(row), "call %ld", nr);
	(void)snprintf(text, sizeof(text),
		       "%ld 0xffffff9c 0x%lx 0x%lx 0x0 0x0 0x0 0x7ffd 0x7f00\n", nr,
		       second, third);
	ROW_EQUAL(row, intent_parse(text), connects);
}

static void test_calls(void **state)
{
	(void)state;
	check(SYS_connect, 1, 110, true);
	check(SYS_statx, 1, 0, false);
	check(SYS_faccessat, 1, 0, false);
	check(SYS_unlinkat, 1, 0, false);
	check(SYS_bind, 1, 0, false);
	check(SYS_openat, 1, O_RDWR, false);
	check(SYS_openat, 1, O_PATH | O_CLOEXEC, true);
	check(SYS_io_uring_enter, 1, 1, true);
	check(SYS_openat2, 1, 1, true);
	check(362, 1, 1, true); /* connect of a 32-bit process */
	check(102, 1, 1, true); /* and its socketcall */
	check(-1, 0, 0, true);
	assert_true(intent_parse("running\n"));
	assert_true(intent_parse(""));
	assert_true(intent_parse("42"));
}

static void test_self(void **state)
{
	(void)state;
	assert_false(intent_is_connect((pid_t)syscall(SYS_gettid)));
	assert_true(intent_is_connect(0));
	assert_true(intent_is_connect(-1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_self),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

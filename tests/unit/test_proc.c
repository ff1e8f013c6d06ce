/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/text.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SOON_MS 20000
#define NOBODY 65534

static char *sh_argv[4];

/* Valid until the next call. */
static char *const *sh(const char *script)
{
	sh_argv[0] = (char *)"/bin/sh";
	sh_argv[1] = (char *)"-c";
	sh_argv[2] = (char *)script;
	return sh_argv;
}

static void test_run(void **state)
{
	static const struct {
		const char *script;
		int rc;
		const char *out;
	} rows[] = {
		{"true", 0, ""},
		{"exit 7", 7, ""},
		{"echo out; echo err >&2", 0, "out\nerr\n"},
		{"kill -TERM $$", 128 + SIGTERM, ""},
		{"cat", 0, ""}, /* stdin is /dev/null */
		{"echo $LC_ALL $HOME", 0, "C.UTF-8\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct proc_spec spec = PROC_SPEC_INIT;
		CLEAN(clean_free) char *out = NULL;

		spec.argv = sh(rows[i].script);
		ROW_EQUAL(rows[i].script, proc_run(&spec, SOON_MS, &out), rows[i].rc);
		ROW_STRING(rows[i].script, out, rows[i].out);
		ROW_EQUAL(rows[i].script, proc_run(&spec, -1, NULL), rows[i].rc);
	}
}

static void test_run_limits_output(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;

	(void)state;
	spec.argv = sh("head -c 1000000 /dev/zero | tr '\\0' x");
	assert_int_equal(proc_run(&spec, SOON_MS, &out), 0);
	assert_int_equal(strlen(out), 65536);
}

/* A grandchild that keeps the pipe open does not keep us. */
static void test_run_leaves_grandchild(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;
	uint64_t pid = 0;

	(void)state;
	spec.argv = sh("sleep 600 & echo $!");
	assert_int_equal(proc_run(&spec, SOON_MS, &out), 0);
	out[strcspn(out, "\n")] = '\0';
	assert_int_equal(text_parse_u64(out, 10, INT32_MAX, &pid), 0);
	assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
}

static void test_run_timeout(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;
	CLEAN(clean_fd) int alive = -1;
	struct pollfd pfd = {.events = POLLIN};
	int fds[2];
	char c;

	(void)state;
	spec.argv = sh("exec sleep 600");
	assert_int_equal(proc_run(&spec, 50, &out), -ETIMEDOUT);
	assert_null(out);
	assert_int_equal(proc_run(&spec, 0, NULL), -ETIMEDOUT);
	/* the pipe ends when the last process of the group is gone */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	alive = fds[0];
	spec.argv = sh("sleep 600 & wait");
	spec.stdin_fd = fds[1];
	spec.new_group = true;
	assert_int_equal(proc_run(&spec, 200, &out), -ETIMEDOUT);
	close(fds[1]);
	pfd.fd = alive;
	assert_int_equal(poll(&pfd, 1, SOON_MS), 1);
	assert_int_equal(read(alive, &c, 1), 0);
}

static void test_cannot_run(void **state)
{
	char *const none[] = {(char *)"/none/such", NULL};
	char *const dir[] = {(char *)"/tmp", NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc p = {0, -1};
	CLEAN(clean_free) char *out = NULL;
	int status;

	(void)state;
	spec.argv = none;
	assert_int_equal(proc_run(&spec, SOON_MS, &out), -ENOENT);
	spec.argv = dir;
	assert_int_equal(proc_run(&spec, SOON_MS, &out), -EACCES);
	assert_int_equal(proc_spawn(&spec, &p), -EACCES);
	spec.argv = sh("true");
	spec.stdout_fd = 9999;
	assert_int_equal(proc_spawn(&spec, &p), -EBADF);
	spec.stdout_fd = -1;
	spec.uid = NOBODY; /* without a gid */
	assert_int_equal(proc_spawn(&spec, &p), -EINVAL);
	assert_int_equal(p.pid, 0);
	assert_int_equal(proc_wait(&p, 0, &status), -ECHILD);
	assert_int_equal(proc_reap(&p, &status), -ECHILD);
	assert_int_equal(proc_kill(&p, SIGTERM), -ESRCH);
}

static void test_spawn_and_kill(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc p;
	int status = 0;

	(void)state;
	spec.argv = sh("exec sleep 600");
	assert_int_equal(proc_spawn(&spec, &p), 0);
	assert_true(fcntl(p.pidfd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(proc_reap(&p, &status), -EAGAIN);
	assert_int_equal(proc_wait(&p, 10, &status), -ETIMEDOUT);
	assert_int_equal(proc_kill(&p, SIGTERM), 0);
	assert_int_equal(proc_wait(&p, SOON_MS, &status), 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	assert_int_equal(p.pid, 0);
	assert_int_equal(p.pidfd, -1);
}

/* Somebody else took the status: the struct is empty, not stuck. */
static void test_reap_stolen(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc p;
	int status = 0;

	(void)state;
	spec.argv = sh("true");
	assert_int_equal(proc_spawn(&spec, &p), 0);
	assert_int_equal(waitpid(p.pid, NULL, 0), p.pid);
	assert_int_equal(proc_kill(&p, SIGTERM), -ESRCH);
	assert_int_equal(proc_reap(&p, &status), -ECHILD);
	assert_int_equal(p.pid, 0);
}

/* Descriptors that are each other's targets arrive at the right places. */
static void test_redirection(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc p;
	int in[2], out[2], err[2], saved[3], status = 0;
	char buf[8];

	(void)state;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	assert_int_equal(fd_write_full(in[1], "in\n", 3), 0);
	for (int i = 0; i < 3; i++)
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
	dup2(out[1], 0);
	dup2(err[1], 1);
	dup2(in[0], 2);
	spec.argv = sh("read x; echo $x; echo err >&2");
	spec.stdin_fd = 2;
	spec.stdout_fd = 0;
	spec.stderr_fd = 1;
	status = proc_spawn(&spec, &p);
	for (int i = 0; i < 3; i++)
		dup2(saved[i], i);
	assert_int_equal(status, 0);
	assert_int_equal(proc_wait(&p, SOON_MS, &status), 0);
	assert_int_equal(status, 0);
	assert_int_equal(read(out[0], buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "in\n", 3);
	assert_int_equal(read(err[0], buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "err\n", 4);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
		close(err[i]);
	}
	for (int i = 0; i < 3; i++)
		close(saved[i]);
}

/* The daemon blocks and ignores signals; its children start without that. */
static void test_signals_are_reset(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	sigset_t block, before;
	CLEAN(clean_free) char *out = NULL;

	(void)state;
	sigfillset(&block);
	sigprocmask(SIG_BLOCK, &block, &before);
	signal(SIGPIPE, SIG_IGN);
	/* the last 28; glibc ignores its own two, 32 and 33, while it spawns */
	spec.argv = sh("sed -nE 's/^Sig(Blk|Ign).*(.{7})$/\\2/p' /proc/self/status");
	assert_int_equal(proc_run(&spec, SOON_MS, &out), 0);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	assert_string_equal(out, "0000000\n0000000\n");
}

static void test_cwd_and_env(void **state)
{
	char *const env[] = {(char *)"A=b=c", (char *)"PATH=/usr/bin:/bin", NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;

	(void)state;
	spec.argv = sh("pwd; echo \"$A\"; echo $#");
	spec.envp = env;
	spec.cwd = "/usr";
	assert_int_equal(proc_run(&spec, SOON_MS, &out), 0);
	assert_string_equal(out, "/usr\nb=c\n0\n");
}

static void test_helper_fails(void **state)
{
	char *const none[] = {(char *)"/none/such", NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;
	CLEAN(clean_free) char *out2 = NULL;

	(void)state;
	spec.argv = sh("true");
	spec.cwd = "/none";
	assert_int_equal(proc_run(&spec, SOON_MS, &out), PROC_EXIT_HELPER);
	assert_string_equal(out, "pgbranchfs: cannot change to the directory /none: "
				 "No such file or directory\n");
	spec.cwd = "/";
	spec.argv = none;
	assert_int_equal(proc_run(&spec, SOON_MS, &out2), PROC_EXIT_HELPER);
	assert_string_equal(out2, "pgbranchfs: cannot run /none/such: "
				  "No such file or directory\n");
}

static void test_helper_arguments(void **state)
{
	static const char *const rows[][4] = {
		{NULL},
		{"uid=1", "--", "/bin/true", NULL},
		{"uid=x", "gid=1", "--", "/bin/true"},
		{"cwd=/", NULL},
		{"cwd=/", "--", NULL},
		{"other=1", "--", "/bin/true", NULL},
		{"uid=4294967295", "gid=4294967295", "--", "/bin/true"},
	};
	char *plain[] = {(char *)"x", (char *)"mount", NULL};

	(void)state;
	assert_int_equal(proc_exec_main(1, plain), -1);
	assert_int_equal(proc_exec_main(2, plain), -1);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *argv[8] = {(char *)"/proc/self/exe", (char *)"--exec-helper"};
		struct proc_spec spec = PROC_SPEC_INIT;
		CLEAN(clean_free) char *out = NULL;

		for (size_t j = 0; j < 4 && rows[i][j]; j++)
			argv[2 + j] = (char *)rows[i][j];
		spec.argv = argv;
		assert_int_equal(proc_run(&spec, SOON_MS, &out), PROC_EXIT_HELPER);
		assert_string_equal(out, "pgbranchfs: cannot use these arguments of "
					 "--exec-helper: Invalid argument\n");
	}
}

static void test_uid(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;
	const gid_t more[] = {4, 5};

	(void)state;
	if (geteuid() != 0) {
		/* what one is already is allowed to everybody, nothing else is */
		spec.argv = sh("true");
		spec.uid = geteuid();
		spec.gid = getegid();
		assert_int_equal(proc_run(&spec, SOON_MS, NULL), 0);
		spec.uid = 0;
		assert_int_equal(proc_run(&spec, SOON_MS, NULL), PROC_EXIT_HELPER);
		return;
	}
	assert_int_equal(setgroups(ARRAY_SIZE(more), more), 0);
	spec.argv = sh("id -u; id -g; id -G; grep CapEff /proc/self/status");
	spec.uid = NOBODY;
	spec.gid = NOBODY;
	spec.cwd = "/";
	assert_int_equal(proc_run(&spec, SOON_MS, &out), 0);
	assert_string_equal(out, "65534\n65534\n65534\nCapEff:\t0000000000000000\n");
}

/* A daemon (forked here) that dies takes its child along, also over a uid change. */
static void test_death_signal(void **state)
{
	CLEAN(clean_fd) int alive = -1;
	struct pollfd pfd = {.events = POLLIN};
	int fds[2], ready[2], status = 0;
	pid_t daemon_pid;
	char c;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	daemon_pid = fork();
	if (daemon_pid == 0) {
		struct proc_spec spec = PROC_SPEC_INIT;
		struct proc p;

		spec.argv = sh("echo; exec sleep 600");
		spec.stdout_fd = ready[1];
		spec.stdin_fd = fds[1];
		spec.death_signal = SIGKILL;
		if (geteuid() == 0)
			spec.uid = spec.gid = NOBODY;
		if (proc_spawn(&spec, &p) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	close(ready[1]);
	alive = fds[0];
	/* the program runs, so the signal is set */
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	assert_int_equal(kill(daemon_pid, SIGKILL), 0);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	assert_true(WIFSIGNALED(status));
	pfd.fd = alive;
	assert_int_equal(poll(&pfd, 1, SOON_MS), 1);
	assert_int_equal(read(alive, &c, 1), 0);
}

/* The helper does not run the program when the parent is another already. */
static void test_parent_died_before(void **state)
{
	char *const argv[] = {(char *)"/proc/self/exe",
			      (char *)"--exec-helper",
			      (char *)"death_signal=9",
			      (char *)"parent=1",
			      (char *)"--",
			      (char *)"/bin/true",
			      NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;

	(void)state;
	spec.argv = argv;
	assert_int_equal(proc_run(&spec, SOON_MS, &out), PROC_EXIT_HELPER);
	assert_string_equal(out, "pgbranchfs: cannot go on without the daemon: "
				 "No such process\n");
}

#ifdef ENABLE_FAULT_POINTS
/* Runs this program with a fault chosen; it passes the point "a.b" thrice. */
static void test_fault_points(void **state)
{
	static const struct {
		const char *env;
		int rc;
		const char *out;
	} rows[] = {
		{"PGBRANCHFS_FAULT=a.b", 128 + SIGKILL, "1"},
		{"PGBRANCHFS_FAULT=a.b:1", 128 + SIGKILL, "1"},
		{"PGBRANCHFS_FAULT=a.b:3", 128 + SIGKILL, "123"},
		{"PGBRANCHFS_FAULT=a.b:4", 0, "123"},
		{"PGBRANCHFS_FAULT=a", 0, "123"},
		{"PGBRANCHFS_FAULT=", 0, "123"},
		{"NONE=1", 0, "123"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *const argv[] = {(char *)"/proc/self/exe", (char *)"--faults",
				      NULL};
		char *const env[] = {(char *)rows[i].env, NULL};
		struct proc_spec spec = PROC_SPEC_INIT;
		CLEAN(clean_free) char *out = NULL;

		spec.argv = argv;
		spec.envp = env;
		ROW_EQUAL(rows[i].env, proc_run(&spec, SOON_MS, &out), rows[i].rc);
		ROW_STRING(rows[i].env, out, rows[i].out);
	}
}
#endif

static int pass_faults(void)
{
	for (int i = 1; i <= 3; i++) {
		char c = (char)('0' + i);

		if (fd_write_full(STDOUT_FILENO, &c, 1) < 0)
			return 1;
		FAULT_POINT("other");
		FAULT_POINT("a.b");
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_run_limits_output),
		cmocka_unit_test(test_run_leaves_grandchild),
		cmocka_unit_test(test_run_timeout),
		cmocka_unit_test(test_cannot_run),
		cmocka_unit_test(test_spawn_and_kill),
		cmocka_unit_test(test_reap_stolen),
		cmocka_unit_test(test_redirection),
		cmocka_unit_test(test_signals_are_reset),
		cmocka_unit_test(test_cwd_and_env),
		cmocka_unit_test(test_helper_fails),
		cmocka_unit_test(test_helper_arguments),
		cmocka_unit_test(test_uid),
		cmocka_unit_test(test_death_signal),
		cmocka_unit_test(test_parent_died_before),
#ifdef ENABLE_FAULT_POINTS
		cmocka_unit_test(test_fault_points),
#endif
	};

	if (argc == 2 && strcmp(argv[1], "--faults") == 0)
		return pass_faults();
	(void)proc_exec_main(argc, argv); /* returns when this is not a call of it */
	return cmocka_run_group_tests(tests, NULL, NULL);
}

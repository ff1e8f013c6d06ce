/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/fd.h"
#include "base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int dirfd_of(void **state)
{
	int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int dir_remove(void **state)
{
	int rc = fd_remove_tree(AT_FDCWD, *state);

	free(*state);
	return rc;
}

static unsigned count_entries(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned n = 0;
	DIR *d = fdopendir(fd);

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

/* A fifo must not make anybody wait: nobody writes to it. */
static void test_read_regular(void **state)
{
	static const struct {
		const char *name;
		int rc;
	} rows[] = {
		{"file", 0},          {"dir", -EISDIR},   {"link", -ELOOP},
		{"fifo", -EBADMSG},   {"socket", -ENXIO}, {"none", -ENOENT},
		{"file/x", -ENOTDIR},
	};
	CLEAN(clean_fd) int fd = dirfd_of(state);

	assert_int_equal(fd_replace_file(fd, "file", "text", 4, 0600, 0), 0);
	assert_int_equal(mkdirat(fd, "dir", 0700), 0);
	assert_int_equal(symlinkat("file", fd, "link"), 0);
	assert_int_equal(mkfifoat(fd, "fifo", 0600), 0);
	assert_int_equal(mknodat(fd, "socket", S_IFSOCK | 0600, 0), 0);
	(void)alarm(10); /* instead of hanging */
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(clean_free) char *text = NULL;
		size_t len;

		ROW_EQUAL(rows[i].name,
			  fd_read_regular(fd, rows[i].name, 100, &text, &len),
			  rows[i].rc);
		if (rows[i].rc == 0)
			ROW_STRING(rows[i].name, text, "text");
	}
	assert_int_equal(fd_open_regular(fd, "fifo", O_RDWR), -EBADMSG);
	(void)alarm(0);
}

static void test_full_io(void **state)
{
	CLEAN(clean_fd) int fd = memfd_create("io", MFD_CLOEXEC);
	char buf[16] = "";

	(void)state;
	assert_int_equal(fd_write_full(fd, "hello", 5), 0);
	assert_int_equal(fd_pwrite_full(fd, "J", 1, 0), 0);
	assert_int_equal(fd_pread_full(fd, buf, sizeof(buf), 0), 5);
	assert_string_equal(buf, "Jello");
	assert_int_equal(fd_pread_full(fd, buf, sizeof(buf), 100), 0);
	/* outside what off_t can say */
	assert_int_equal(fd_pread_full(fd, buf, 1, UINT64_MAX), -EINVAL);
	assert_int_equal(fd_pwrite_full(fd, buf, 1, UINT64_MAX), -EFBIG);
	assert_int_equal(fd_pwrite_full(fd, buf, 1, INT64_MAX), -EFBIG);
	/* failures of the system */
	assert_int_equal(fd_pread_full(-1, buf, 1, 0), -EBADF);
	assert_int_equal(fd_pwrite_full(-1, buf, 1, 0), -EBADF);
	assert_int_equal(fd_write_full(-1, buf, 1), -EBADF);
}

static void test_read_file(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);
	CLEAN(clean_free) char *big = malloc(20000);
	CLEAN(clean_free) char *buf = NULL;
	CLEAN(clean_free) char *status = NULL;
	size_t len = 0;

	assert_non_null(big);
	memset(big, 'x', 20000);
	assert_int_equal(fd_replace_file(dirfd, "big", big, 20000, 0644, 0), 0);
	assert_int_equal(fd_read_file(dirfd, "big", 19999, &buf, &len), -EFBIG);
	assert_null(buf);
	assert_int_equal(fd_read_file(dirfd, "big", 20000, &buf, &len), 0);
	assert_int_equal(len, 20000);
	assert_int_equal(buf[20000], 0);
	assert_memory_equal(buf, big, 20000);
	assert_int_equal(fd_read_file(dirfd, "none", 100, &buf, NULL), -ENOENT);
	assert_int_equal(fd_read_file(AT_FDCWD, *state, 100, &buf, NULL), -EISDIR);
	/* a file that says its size is 0 */
	assert_int_equal(
		fd_read_file(AT_FDCWD, "/proc/self/status", 65536, &status, NULL), 0);
	assert_non_null(strstr(status, "Pid:"));
}

static void test_replace_file(void **state)
{
	static const struct {
		const char *path, *content;
		mode_t mode;
		int sync_dir;
	} rows[] = {
		{"f", "one", 0600, 1},     {"f", "two2", 0644, 0},
		{"f", "", 0666, 1},        {"sub/f", "one", 0600, 1},
		{"sub/f", "two", 0640, 0},
	};
	CLEAN(clean_fd) int dirfd = dirfd_of(state);
	mode_t mask = umask(077);

	assert_int_equal(fd_mkdir(dirfd, "sub", 0755), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEAN(clean_free) char *buf = NULL;
		struct stat st;

		assert_int_equal(fd_replace_file(dirfd, rows[i].path, rows[i].content,
						 strlen(rows[i].content), rows[i].mode,
						 rows[i].sync_dir),
				 0);
		assert_int_equal(fd_read_file(dirfd, rows[i].path, 100, &buf, NULL), 0);
		assert_string_equal(buf, rows[i].content);
		assert_int_equal(fstatat(dirfd, rows[i].path, &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, rows[i].mode);
	}
	umask(mask);
	assert_int_equal(count_entries(dirfd, "."), 2);
	assert_int_equal(count_entries(dirfd, "sub"), 1);
}

static void test_replace_file_failures(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);
	CLEAN(clean_free) char *temp = text_format(".tmp-%d-%d", (int)getpid(), 99);
	char longest[256];
	struct stat st;

	assert_int_equal(fd_mkdir(dirfd, "d", 0755), 0);
	/* the temp file is gone after a failed rename */
	assert_int_equal(fd_replace_file(dirfd, "d", "x", 1, 0644, 1), -EISDIR);
	assert_int_equal(count_entries(dirfd, "."), 1);
	assert_int_equal(fd_replace_file(dirfd, "none/f", "x", 1, 0644, 1), -ENOENT);
	/* the longest name is possible */
	memset(longest, 'n', 255);
	longest[255] = '\0';
	assert_int_equal(fd_replace_file(dirfd, longest, "x", 1, 0644, 1), 0);
	/* files that have a temp file's name are not overwritten */
	for (int i = 0; i < 64; i++) {
		CLEAN(clean_free)
		char *name = text_format(".tmp-%d-%d", (int)getpid(), i);

		assert_int_equal(mkdirat(dirfd, name, 0700), 0);
	}
	assert_int_equal(fd_replace_file(dirfd, "f", "x", 1, 0644, 1), 0);
	assert_int_equal(fstatat(dirfd, "f", &st, 0), 0);
	assert_int_equal(count_entries(dirfd, "."), 64 + 3);
	assert_true(fd_is_temp(temp));
	assert_false(fd_is_temp("tmp-1"));
	assert_false(fd_is_temp("main.ini"));
}

static void test_sync_dir(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);

	assert_int_equal(fd_sync_dir(dirfd, NULL), 0);
	assert_int_equal(fd_sync_dir(dirfd, "."), 0);
	assert_int_equal(fd_sync_dir(dirfd, "none"), -ENOENT);
	assert_int_equal(fd_replace_file(dirfd, "f", "x", 1, 0644, 0), 0);
	assert_int_equal(fd_sync_dir(dirfd, "f"), -ENOTDIR);
}

static void test_mkdir(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);

	assert_int_equal(fd_mkdir(dirfd, "d", 0755), 0);
	assert_int_equal(fd_mkdir(dirfd, "d", 0755), 0);
	assert_int_equal(fd_mkdir(dirfd, "d/e/f", 0755), -ENOENT);
	assert_int_equal(fd_replace_file(dirfd, "f", "x", 1, 0644, 0), 0);
	assert_int_equal(fd_mkdir(dirfd, "f", 0755), -ENOTDIR);
	assert_int_equal(symlinkat("none", dirfd, "dangling"), 0);
	assert_int_equal(fd_mkdir(dirfd, "dangling", 0755), -ENOENT);
}

static void test_copy_range(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);
	CLEAN(clean_fd)
	int disk = openat(dirfd, "c", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CLEAN(clean_fd) int mem = memfd_create("a", MFD_CLOEXEC);
	CLEAN(clean_fd) int same = memfd_create("b", MFD_CLOEXEC);
	CLEAN(clean_fd) int append = openat(dirfd, "c", O_RDONLY | O_CLOEXEC);
	const size_t size = 300000;
	CLEAN(clean_free) unsigned char *want = malloc(size);
	CLEAN(clean_free) unsigned char *got = malloc(size);
	/* same file system, another one (copied by hand) */
	const int targets[] = {same, disk};

	assert_true(want && got && disk >= 0 && mem >= 0 && same >= 0);
	for (size_t i = 0; i < size; i++)
		want[i] = (unsigned char)(i * 7 + i / 256);
	assert_int_equal(fd_pwrite_full(mem, want, size, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		assert_int_equal(fd_copy_range(mem, 5, targets[i], 8192, size - 5), 0);
		assert_int_equal(fd_pread_full(targets[i], got, size, 8192), size - 5);
		assert_memory_equal(got, want + 5, size - 5);
		assert_int_equal(fd_copy_range(mem, 0, targets[i], 0, 0), 0);
		/* the source ends first */
		assert_int_equal(fd_copy_range(mem, 0, targets[i], 0, size + 1),
				 -ENODATA);
		assert_int_equal(fd_copy_range(mem, UINT64_MAX, targets[i], 0, 1),
				 -EFBIG);
		assert_int_equal(fd_copy_range(mem, 0, targets[i], INT64_MAX, 1),
				 -EFBIG);
	}
	assert_int_equal(fd_copy_range(mem, 0, append, 0, 1), -EBADF);
	assert_int_equal(fd_copy_range(-1, 0, disk, 0, 1), -EBADF);
}

static void test_remove_tree(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);
	struct stat st;

	assert_int_equal(fd_remove_tree(dirfd, "none"), 0);
	assert_int_equal(fd_replace_file(dirfd, "f", "x", 1, 0644, 0), 0);
	assert_int_equal(fd_remove_tree(dirfd, "f"), 0);
	assert_int_equal(fd_mkdir(dirfd, "keep", 0755), 0);
	assert_int_equal(fd_replace_file(dirfd, "keep/f", "x", 1, 0644, 0), 0);
	assert_int_equal(fd_mkdir(dirfd, "t", 0755), 0);
	assert_int_equal(fd_mkdir(dirfd, "t/a", 0755), 0);
	assert_int_equal(fd_mkdir(dirfd, "t/a/b", 0755), 0);
	assert_int_equal(fd_mkdir(dirfd, "t/empty", 0), 0);
	assert_int_equal(fd_replace_file(dirfd, "t/a/f", "x", 1, 0, 0), 0);
	/* links are removed, not followed */
	assert_int_equal(symlinkat("../../keep", dirfd, "t/a/link"), 0);
	assert_int_equal(symlinkat("keep", dirfd, "link"), 0);
	for (int i = 0; i < 500; i++) {
		CLEAN(clean_free) char *name = text_format("t/a/b/%d", i);

		assert_int_equal(mkdirat(dirfd, name, 0755), 0);
	}
	assert_int_equal(fchmodat(dirfd, "t/a/b", 0, 0), 0);
	assert_int_equal(fd_remove_tree(dirfd, "t"), 0);
	assert_int_equal(fstatat(dirfd, "t", &st, 0), -1);
	assert_int_equal(fd_remove_tree(dirfd, "link"), 0);
	assert_int_equal(fstatat(dirfd, "keep/f", &st, 0), 0);
	assert_int_equal(fd_remove_tree(dirfd, "keep/f/x"), -ENOTDIR);
}

/* Deeper than there are descriptors, with the name of a moved directory taken. */
static void test_remove_deep_tree(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);
	int fd = dup(dirfd);

	assert_int_equal(mkdirat(dirfd, "t", 0755), 0);
	assert_int_equal(mkdirat(dirfd, "t/.deep-0", 0755), 0);
	assert_int_equal(fd_replace_file(dirfd, "t/.deep-1", "x", 1, 0644, 0), 0);
	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(fd_mkdir(fd, i ? "d" : "t", 0755), 0);
		next = openat(fd, i ? "d" : "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		assert_int_equal(fd_replace_file(next, "f", "x", 1, 0644, 0), 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(fd_remove_tree(dirfd, "t"), 0);
	assert_int_equal(count_entries(dirfd, "."), 0);
}

/* As an ordinary user: own unreadable directories go, those of others stay. */
static int remove_as_nobody(int dirfd)
{
	if (geteuid() == 0 &&
	    (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0))
		return 1;
	if (mkdirat(dirfd, "mine", 0755) < 0 || mkdirat(dirfd, "mine/a", 0755) < 0 ||
	    mkdirat(dirfd, "mine/a/b", 0755) < 0 ||
	    fchmodat(dirfd, "mine/a", 0, 0) < 0 || fchmodat(dirfd, "mine", 0, 0) < 0)
		return 2;
	if (fd_remove_tree(dirfd, "mine") != 0)
		return 3;
	if (faccessat(dirfd, "mine", F_OK, 0) == 0)
		return 4;
	if (fd_remove_tree(AT_FDCWD, "/proc/self/task") == 0)
		return 5;
	return 0;
}

static void test_remove_tree_as_user(void **state)
{
	CLEAN(clean_fd) int dirfd = dirfd_of(state);
	int status = 0;
	pid_t pid;

	assert_int_equal(fchmod(dirfd, 0777), 0);
	pid = fork();
	if (pid == 0)
		exit(remove_as_nobody(dirfd));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, unit_dir_make, dir_remove)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_io),
		IN_DIR(test_read_file),
		IN_DIR(test_read_regular),
		IN_DIR(test_replace_file),
		IN_DIR(test_replace_file_failures),
		IN_DIR(test_sync_dir),
		IN_DIR(test_mkdir),
		IN_DIR(test_copy_range),
		IN_DIR(test_remove_tree),
		IN_DIR(test_remove_deep_tree),
		IN_DIR(test_remove_tree_as_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

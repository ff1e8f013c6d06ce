/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bytes.c - reading, writing, truncating, copying. */
#include "suite.h"

#include <sys/uio.h>

static void read_write(void)
{
	int fd = open("low/f0", O_RDWR);
	struct iovec v[3] = {{(char[3]){"abc"}, 3}, {NULL, 0}, {(char[2]){"de"}, 2}};
	char buf[16] = "";

	CHECK(pread(fd, buf, 10, LOW_BYTES) == 0 && pread(fd, buf, 1, 1 << 30) == 0);
	CHECK(pread(fd, buf, 10, LOW_BYTES - 4) == 4);
	CHECK(pread(fd, buf, 0, 0) == 0 && pwrite(fd, buf, 0, 1 << 20) == 0);
	CHECK(size_of("low/f0") == LOW_BYTES);
	FAILS(pread(fd, buf, 1, -1), EINVAL);
	FAILS(pwrite(fd, buf, 1, -1), EINVAL);
	FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	CHECK(lseek(fd, -4, SEEK_END) == LOW_BYTES - 4);
	CHECK(lseek(fd, 10, SEEK_CUR) == LOW_BYTES + 6);
	CHECK(writev(fd, v, 3) == 5 && size_of("low/f0") == LOW_BYTES + 11);
	CHECK(is_byte(fd, LOW_BYTES, LOW_BYTES + 6, 0));
	CHECK(pread(fd, buf, 9, LOW_BYTES + 6) == 5 && strcmp(buf, "abcde") == 0);
	CHECK(pwrite(fd, "Z", 1, 8191) == 1 && pwrite(fd, "Y", 1, 8192) == 1);
	CHECK(is_pattern(fd, 0, 8191) && is_pattern(fd, 8193, LOW_BYTES));
	CHECK(close(fd) == 0);
}

static void append(void)
{
	int a = open("a", O_WRONLY | O_CREAT | O_APPEND, 0600);
	int b = open("a", O_WRONLY | O_APPEND), r = open("a", O_RDONLY);
	char buf[8] = "";

	CHECK(write(a, "ab", 2) == 2 && write(b, "cd", 2) == 2 &&
	      write(a, "ef", 2) == 2);
	CHECK(pread(r, buf, 7, 0) == 6 && strcmp(buf, "abcdef") == 0);
	CHECK(lseek(a, 0, SEEK_CUR) == 6);
	CHECK(ftruncate(a, 3) == 0 && write(a, "X", 1) == 1);
	CHECK(pread(r, buf, 7, 0) == 4 && buf[3] == 'X');
	CHECK(close(a) == 0 && close(b) == 0 && close(r) == 0);
	a = open("low/f0", O_RDWR | O_APPEND);
	CHECK(write(a, "tail", 4) == 4 && size_of("low/f0") == LOW_BYTES + 4);
	CHECK(is_pattern(a, 0, LOW_BYTES));
	CHECK(pread(a, buf, 4, LOW_BYTES) == 4 && memcmp(buf, "tail", 4) == 0);
	CHECK(close(a) == 0);
}

static void dsync(void)
{
	static const int flags[] = {O_DSYNC, O_SYNC, O_DSYNC | O_APPEND};
	long long size = LOW_BYTES;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		int fd = open("low/f0", O_RDWR | flags[i]);

		size += flags[i] & O_APPEND ? 4 : 0;
		CHECK(fd >= 0 && pwrite(fd, "sync", 4, 8190) == 4);
		CHECK(is_pattern(fd, 0, 8190) && is_pattern(fd, 8194, LOW_BYTES));
		CHECK(close(fd) == 0 && size_of("low/f0") == size);
	}
}

static void direct(void)
{
	void *buf = NULL;
	int fd = open("low/f0", O_RDWR | O_DIRECT);

	if (fd < 0 && errno == EINVAL) {
		leave_out("no O_DIRECT here");
		return;
	}
	CHECK(fd >= 0 && posix_memalign(&buf, 8192, 16384) == 0);
	if (fd < 0 || !buf)
		return;
	memset(buf, 'D', 8192);
	CHECK(pwrite(fd, buf, 8192, 8192) == 8192);
	CHECK(pread(fd, buf, 16384, 0) == 16384);
	CHECK(((uint8_t *)buf)[8191] == pattern(8191));
	CHECK(((uint8_t *)buf)[8192] == 'D' && ((uint8_t *)buf)[16383] == 'D');
	/* the end is no multiple of anything */
	CHECK(pread(fd, buf, 16384, 32768) == LOW_BYTES - 32768);
	memset(buf, 'E', 8192);
	CHECK(pwrite(fd, buf, 8192, 40960) == 8192 && size_of("low/f0") == 49152);
	CHECK(close(fd) == 0);
	free(buf);
	fd = open("low/f0", O_RDWR); /* cached reads see it as well */
	CHECK(is_pattern(fd, 0, 8192) && is_byte(fd, 8192, 16384, 'D') &&
	      is_pattern(fd, 16384, LOW_BYTES) && is_byte(fd, LOW_BYTES, 40960, 0) &&
	      is_byte(fd, 40960, 49152, 'E'));
	CHECK(close(fd) == 0);
}

/* To the largest number that there is: refused, unless the caller says that files may
 * be as long on the file system below. */
static void truncate_too_far(const char *path)
{
	long long was = size_of(path);
	int fd = open(path, O_RDWR);

	if (getenv("SUITE_LONG_FILES")) {
		CHECK(truncate(path, INT64_MAX) == 0 && size_of(path) == INT64_MAX);
		CHECK(ftruncate(fd, was) == 0);
	} else {
		FAILS_AS(truncate(path, INT64_MAX), EFBIG, EINVAL);
		FAILS_AS(ftruncate(fd, INT64_MAX), EFBIG, EINVAL);
	}
	CHECK(size_of(path) == was && close(fd) == 0);
}

static void truncate_file(void)
{
	int fd = open("low/f0", O_RDWR);

	CHECK(ftruncate(fd, 10000) == 0 && size_of("low/f0") == 10000);
	CHECK(ftruncate(fd, 30000) == 0 && size_of("low/f0") == 30000);
	CHECK(is_pattern(fd, 0, 10000) && is_byte(fd, 10000, 30000, 0));
	CHECK(ftruncate(fd, 30000) == 0 && ftruncate(fd, 0) == 0);
	CHECK(ftruncate(fd, LOW_BYTES) == 0 && is_byte(fd, 0, LOW_BYTES, 0));
	FAILS(ftruncate(fd, -1), EINVAL);
	CHECK(lseek(fd, 0, SEEK_CUR) == 0 && close(fd) == 0);
	truncate_too_far("low/f0");
	CHECK(truncate("low/f1", 5) == 0 && size_of("low/f1") == 5);
	CHECK(truncate("low/sym", 7) == 0 && size_of("low/f0") == 7);
	FAILS(truncate("low/f1", -1), EINVAL);
	truncate_too_far("low/f1");
	FAILS(truncate("low/d", 0), EISDIR);
	FAILS(truncate("no", 0), ENOENT);
	FAILS(truncate("low/fifo", 0), EINVAL);
}

/* What was cut off does not come back, in whatever layer it was. */
static void truncate_again(void)
{
	static const int cuts[] = {39999, 32768, 24577, 16383, 8192, 1, 0};

	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		int fd = open("low/f0", O_RDWR);
		uint64_t cut = (uint64_t)cuts[i];

		CHECK(ftruncate(fd, cuts[i]) == 0);
		CHECK(pwrite(fd, "!", 1, LOW_BYTES) == 1 && fsync(fd) == 0);
		CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
		CHECK(is_pattern(fd, 0, cut) && is_byte(fd, cut, LOW_BYTES, 0));
		CHECK(close(fd) == 0);
	}
}

static void sync_calls(void)
{
	int fd = open("low/f0", O_RDWR), dir = open(".", O_RDONLY | O_DIRECTORY);
	int ro = open("low/f0", O_RDONLY);

	CHECK(fsync(fd) == 0 && fdatasync(fd) == 0);
	CHECK(pwrite(fd, "F", 1, 0) == 1 && fsync(ro) == 0 && fdatasync(ro) == 0);
	CHECK(touch("synced") == 0 && fsync(dir) == 0 && fdatasync(dir) == 0);
	CHECK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) == 0);
	CHECK(syncfs(fd) == 0);
	CHECK(close(fd) == 0 && close(ro) == 0 && close(dir) == 0);
	dir = open("low/d/sub", O_RDONLY | O_DIRECTORY);
	CHECK(fsync(dir) == 0 && close(dir) == 0);
}

static void copy_all(int in, int out, off_t from, off_t to, size_t len)
{
	while (len > 0) {
		ssize_t n = copy_file_range(in, &from, out, &to, len, 0);

		CHECK(n > 0);
		if (n <= 0)
			return;
		len -= (size_t)n;
	}
}

static void copy_ranges(void)
{
	int in = open("low/f0", O_RDONLY), out = open("copy", O_RDWR | O_CREAT, 0600);
	int same = open("low/f1", O_RDWR);
	off_t from = LOW_BYTES, to = 0;

	copy_all(in, out, 0, 0, LOW_BYTES);
	CHECK(is_pattern(out, 0, LOW_BYTES) && size_of("copy") == LOW_BYTES);
	CHECK(copy_file_range(in, &from, out, &to, 1, 0) == 0);
	/* within one file */
	copy_all(same, same, 0, LOW_BYTES, 20000);
	CHECK(size_of("low/f1") == LOW_BYTES + 20000 && is_pattern(same, 0, LOW_BYTES));
	from = 0;
	to = 10;
	FAILS(copy_file_range(same, &from, same, &to, 100, 0), EINVAL);
	FAILS(copy_file_range(out, NULL, in, NULL, 1, 0), EBADF);
	FAILS(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
	CHECK(close(in) == 0 && close(out) == 0 && close(same) == 0);
	in = open("copy", O_RDWR | O_APPEND);
	FAILS(copy_file_range(in, NULL, in, NULL, 1, 0), EBADF);
	CHECK(close(in) == 0);
}

/* Offsets at the far end. */
static void far_offsets(void)
{
	const off_t far = (off_t)1 << 42;
	int fd = open("far", O_RDWR | O_CREAT, 0600);

	CHECK(pwrite(fd, "end", 3, far) == 3 && size_of("far") == far + 3);
	CHECK(fsync(fd) == 0 && is_byte(fd, (uint64_t)far - 9000, (uint64_t)far, 0));
	CHECK(ftruncate(fd, 10) == 0 && is_byte(fd, 0, 10, 0) && close(fd) == 0);
}

const struct posix_case byte_cases[] = {
	{"read-write", read_write},
	{"append", append},
	{"dsync", dsync},
	{"direct", direct},
	{"truncate", truncate_file},
	{"truncate-again", truncate_again},
	{"sync-calls", sync_calls},
	{"copy-ranges", copy_ranges},
	{"far-offsets", far_offsets},
	{NULL, NULL},
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* alloc.c - fallocate, holes, what files occupy. */
#include "suite.h"

#include <sys/statvfs.h>

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static void allocate(void)
{
	int fd = open("low/f0", O_RDWR);

	CHECK(fallocate(fd, 0, 0, LOW_BYTES) == 0 && is_pattern(fd, 0, LOW_BYTES));
	CHECK(fallocate(fd, 0, LOW_BYTES, 10000) == 0);
	CHECK(size_of("low/f0") == LOW_BYTES + 10000);
	CHECK(is_byte(fd, LOW_BYTES, LOW_BYTES + 10000, 0));
	CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000) == 0);
	CHECK(size_of("low/f0") == LOW_BYTES + 10000);
	CHECK(posix_fallocate(fd, 60000, 1000) == 0 && size_of("low/f0") == 61000);
	CHECK(posix_fallocate(fd, 0, 100) == 0 && size_of("low/f0") == 61000);
	CHECK(close(fd) == 0);
}

static void punch(void)
{
	int fd = open("low/f0", O_RDWR);

	CHECK(fallocate(fd, PUNCH, 5000, 10000) == 0);
	CHECK(is_pattern(fd, 0, 5000) && is_byte(fd, 5000, 15000, 0) &&
	      is_pattern(fd, 15000, LOW_BYTES));
	/* over the end, and behind it */
	CHECK(fallocate(fd, PUNCH, 39000, 100000) == 0);
	CHECK(fallocate(fd, PUNCH, 100000, 1) == 0 && size_of("low/f0") == LOW_BYTES);
	CHECK(is_pattern(fd, 15000, 39000) && is_byte(fd, 39000, LOW_BYTES, 0));
	/* what was written and not yet handed on */
	CHECK(pwrite(fd, "dirty", 5, 20000) == 5 &&
	      fallocate(fd, PUNCH, 20000, 5) == 0);
	CHECK(is_byte(fd, 20000, 20005, 0) && is_pattern(fd, 20005, 39000));
	FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 1), EOPNOTSUPP);
	CHECK(close(fd) == 0);
}

static void zero_range(void)
{
	int fd = open("low/f0", O_RDWR);

	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 20000, 100) < 0) {
		CHECK(errno == EOPNOTSUPP && !on_branch());
		leave_out("no ZERO_RANGE here");
		CHECK(close(fd) == 0);
		return;
	}
	CHECK(is_pattern(fd, 0, 20000) && is_byte(fd, 20000, 20100, 0) &&
	      is_pattern(fd, 20100, LOW_BYTES));
	CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 39000, 3000) == 0 &&
	      size_of("low/f0") == 42000);
	CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 41000, 3000) ==
		      0 &&
	      size_of("low/f0") == 42000);
	CHECK(is_pattern(fd, 20100, 39000) && is_byte(fd, 39000, 42000, 0));
	CHECK(close(fd) == 0);
}

static void allocate_errors(void)
{
	int fd = open("low/f0", O_RDWR), ro = open("low/f0", O_RDONLY);
	int dir = open("low/d", O_RDONLY | O_DIRECTORY);

	FAILS(fallocate(fd, 0, -1, 10), EINVAL);
	FAILS(fallocate(fd, 0, 0, 0), EINVAL);
	FAILS(fallocate(fd, 0, 0, -1), EINVAL);
	FAILS(fallocate(fd, 0, INT64_MAX, 10), EFBIG);
	FAILS(fallocate(fd, 0x8000, 0, 10), EOPNOTSUPP);
	FAILS(fallocate(ro, 0, 0, 10), EBADF);
	FAILS(fallocate(dir, 0, 0, 10), EBADF);
	if (on_branch()) {
		leave_out("FUSE passes on no collapse and insert");
		FAILS(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 8192), EOPNOTSUPP);
		FAILS(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, 8192), EOPNOTSUPP);
	}
	CHECK(is_pattern(fd, 0, LOW_BYTES) && size_of("low/f0") == LOW_BYTES);
	CHECK(close(fd) == 0 && close(ro) == 0 && close(dir) == 0);
}

static void sparse(void)
{
	int fd = open("sparse", O_RDWR | O_CREAT, 0600);
	const off_t far = (off_t)1 << 32;

	CHECK(pwrite(fd, "end", 3, far) == 3 && fsync(fd) == 0);
	CHECK(size_of("sparse") == far + 3);
	CHECK(is_byte(fd, (uint64_t)far - 20000, (uint64_t)far, 0));
	CHECK(lstat_of("sparse").st_blocks < 1000);
	CHECK(close(fd) == 0);
	fd = open("low/f0", O_RDWR);
	CHECK(pwrite(fd, "end", 3, 1 << 20) == 3);
	CHECK(is_pattern(fd, 0, LOW_BYTES) && is_byte(fd, LOW_BYTES, 1 << 20, 0));
	CHECK(close(fd) == 0);
}

/* Data is found; what is called a hole reads as zeros; the end is a hole. */
static void seek_data(void)
{
	int fd = open("holes", O_RDWR | O_CREAT, 0600);
	off_t data, hole;

	CHECK(lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO);
	CHECK(pwrite(fd, "data", 4, 1 << 20) == 4);
	data = lseek(fd, 0, SEEK_DATA);
	CHECK(data >= 0 && data <= 1 << 20); /* not handed on yet, and yet data */
	data = lseek(fd, 1 << 20, SEEK_DATA);
	CHECK(data == 1 << 20);
	hole = lseek(fd, 1 << 20, SEEK_HOLE);
	CHECK(hole == (1 << 20) + 4);
	hole = lseek(fd, 0, SEEK_HOLE);
	CHECK(hole == 0 || hole == (1 << 20) + 4);
	FAILS(lseek(fd, (1 << 20) + 4, SEEK_DATA), ENXIO);
	FAILS(lseek(fd, (1 << 20) + 4, SEEK_HOLE), ENXIO);
	FAILS_AS(lseek(fd, -1, SEEK_DATA), ENXIO, EINVAL);
	CHECK(close(fd) == 0);
	fd = open("low/f0", O_RDONLY);
	CHECK(lseek(fd, 100, SEEK_DATA) == 100);
	CHECK(lseek(fd, 100, SEEK_HOLE) == LOW_BYTES && close(fd) == 0);
}

static void occupied(void)
{
	char buf[65536];
	int fd = open("blocks", O_RDWR | O_CREAT, 0600);

	memset(buf, 'b', sizeof(buf));
	CHECK(lstat_of("blocks").st_blocks == 0);
	CHECK(write(fd, buf, sizeof(buf)) == (ssize_t)sizeof(buf) && fsync(fd) == 0);
	CHECK(close(fd) == 0);
	/* how old the number may be is up to the kernel's cache: a new name asks */
	CHECK(link("blocks", "again") == 0);
	CHECK(lstat_of("again").st_blocks >= 128 && lstat_of("again").st_blocks < 256);
	CHECK(lstat_of("again").st_blksize > 0);
}

static void file_system(void)
{
	struct statvfs st;

	CHECK(statvfs("low/f0", &st) == 0 && st.f_namemax == NAME_MAX);
	CHECK(st.f_blocks > 0 && st.f_bfree <= st.f_blocks &&
	      st.f_bavail <= st.f_bfree && st.f_frsize > 0 && st.f_files > 0);
	CHECK(pathconf(".", _PC_NAME_MAX) == NAME_MAX);
	FAILS(statvfs("no", &st), ENOENT);
}

const struct posix_case alloc_cases[] = {
	{"allocate", allocate},
	{"punch", punch},
	{"zero-range", zero_range},
	{"allocate-errors", allocate_errors},
	{"sparse", sparse},
	{"seek-data", seek_data},
	{"occupied", occupied},
	{"file-system", file_system},
	{NULL, NULL},
};

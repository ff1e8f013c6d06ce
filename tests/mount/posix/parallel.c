/* SPDX-License-Identifier: GPL-2.0-or-later */
/* parallel.c - several processes at the same files and directories. */
#include "suite.h"

#include <linux/aio_abi.h>
#include <sys/syscall.h>

#define PROCS 4
#define ROUNDS 160
#define DIRECT_BYTES 655360
#define DIRECT_ROUNDS 200

static int proc_no; /* of a child */

static void run_all(void (*fn)(void *arg))
{
	pid_t pids[PROCS];

	for (int i = 0; i < PROCS; i++) {
		proc_no = i;
		pids[i] = start_child(fn, NULL);
	}
	for (int i = 0; i < PROCS; i++)
		CHECK(child_done(pids[i]));
}

/* No line of one is cut by another's. */
static void append_lines(void *arg)
{
	int fd = open("log", O_WRONLY | O_APPEND);
	char line[100];

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		int n = snprintf(line, sizeof(line), "%d %d %.*s\n", proc_no, i, i % 60,
				 "............................................"
				 "................");

		CHECK(write(fd, line, (size_t)n) == n);
	}
	CHECK(close(fd) == 0);
}

static void parallel_append(void)
{
	int next[PROCS] = {0}, total = 0, who, i;
	char line[200];
	FILE *f;

	CHECK(touch("log") == 0);
	run_all(append_lines);
	f = fopen("log", "r");
	while (f && fgets(line, sizeof(line), f)) {
		CHECK(sscanf(line, "%d %d", &who, &i) == 2 && who >= 0 && who < PROCS);
		if (who < 0 || who >= PROCS)
			break;
		CHECK(i == next[who] && line[strlen(line) - 1] == '\n');
		next[who] = i + 1;
		total++;
	}
	CHECK(total == PROCS * ROUNDS && f && fclose(f) == 0);
}

/* Each has its blocks of a file below, reads them back, and syncs now and then. */
static void write_blocks(void *arg)
{
	int fd = open("low/big", O_RDWR);
	uint8_t buf[3000], back[3000];

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		off_t at = (off_t)(i * PROCS + proc_no) * (off_t)sizeof(buf);

		memset(buf, proc_no + i + 1, sizeof(buf));
		CHECK(pwrite(fd, buf, sizeof(buf), at) == (ssize_t)sizeof(buf));
		if (i % 50 == 49)
			CHECK(fdatasync(fd) == 0);
		CHECK(pread(fd, back, sizeof(back), at) == (ssize_t)sizeof(back));
		CHECK(memcmp(buf, back, sizeof(buf)) == 0);
	}
	CHECK(close(fd) == 0);
}

static void parallel_writes(void)
{
	int fd;

	CHECK(rename("low/f0", "low/big") == 0);
	run_all(write_blocks);
	fd = open("low/big", O_RDONLY);
	for (int i = 0; i < ROUNDS * PROCS; i++)
		CHECK(is_byte(fd, (uint64_t)i * 3000, (uint64_t)(i + 1) * 3000,
			      (uint8_t)(i % PROCS + i / PROCS + 1)));
	CHECK(close(fd) == 0);
}

/* Exactly one makes a file that all want to make. */
static void make_exclusive(void *arg)
{
	char name[32];

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		int fd;

		(void)snprintf(name, sizeof(name), "x%d", i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
		if (fd < 0) {
			CHECK(errno == EEXIST);
			continue;
		}
		CHECK(close(fd) == 0);
		(void)snprintf(name, sizeof(name), "won%d", i);
		CHECK(mkdir(name, 0700) == 0);
	}
}

static void parallel_exclusive(void)
{
	char name[32];

	run_all(make_exclusive);
	for (int i = 0; i < ROUNDS; i++) {
		(void)snprintf(name, sizeof(name), "x%d", i);
		CHECK(unlink(name) == 0);
		(void)snprintf(name, sizeof(name), "won%d", i);
		CHECK(rmdir(name) == 0);
	}
}

/* A name that is replaced again and again is never missing and never half. */
static void replace_or_read(void *arg)
{
	char name[32], buf[64];

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		int fd;

		if (proc_no % 2 == 0) {
			(void)snprintf(name, sizeof(name), "tmp%d", proc_no);
			fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
			memset(buf, 'a' + i % 26, sizeof(buf));
			CHECK(write(fd, buf, sizeof(buf)) == (ssize_t)sizeof(buf) &&
			      close(fd) == 0 && rename(name, "low/f0") == 0);
			continue;
		}
		fd = open("low/f0", O_RDONLY);
		CHECK(fd >= 0 && read(fd, buf, sizeof(buf)) == (ssize_t)sizeof(buf));
		CHECK(buf[0] == buf[63] || (uint8_t)buf[0] == pattern(0));
		CHECK(close(fd) == 0);
	}
}

static void parallel_rename(void)
{
	run_all(replace_or_read);
	CHECK(size_of("low/f0") == 64 && links_of("low/f0") == 1);
}

/* Lists while others make and remove: what stays is seen once in each pass. */
static void list_or_change(void *arg)
{
	char name[32];

	(void)arg;
	for (int i = 0; i < ROUNDS / 4; i++) {
		struct dirent *e;
		int stay = 0;
		DIR *d;

		if (proc_no) {
			for (int k = 0; k < 20; k++) {
				(void)snprintf(name, sizeof(name), "dir/go-%d-%d",
					       proc_no, k);
				CHECK((i % 2 ? unlink(name) : touch(name)) == 0);
			}
			continue;
		}
		d = opendir("dir");
		while (d && (e = readdir(d)))
			stay += strncmp(e->d_name, "stay", 4) == 0;
		CHECK(stay == 500 && d && closedir(d) == 0);
	}
}

static void parallel_list(void)
{
	char name[32];

	CHECK(mkdir("dir", 0700) == 0);
	for (int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof(name), "dir/stay%d", i);
		CHECK(touch(name) == 0);
	}
	run_all(list_or_change);
}

/* Names that move between directories both ways: no lock is taken in two orders. */
static void move_around(void *arg)
{
	char from[40], to[40];

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		bool back = (i + proc_no) % 2;

		(void)snprintf(from, sizeof(from), "low/%s/m%d", back ? "d" : "empty",
			       proc_no);
		(void)snprintf(to, sizeof(to), "low/%s/m%d", back ? "empty" : "d",
			       proc_no);
		if (i == 0)
			CHECK(touch(from) == 0);
		CHECK(rename(from, to) == 0 && !exists(from));
		/* a hard link comes and goes, of a file that all have */
		(void)snprintf(from, sizeof(from), "l%d", proc_no);
		CHECK(link("low/h1", from) == 0 && unlink(from) == 0);
	}
}

static void parallel_moves(void)
{
	run_all(move_around);
	CHECK(links_of("low/h1") == 2);
}

/* Reads the file over and over, so that its pages are in the cache. */
static void read_along(void *arg)
{
	static char buf[DIRECT_BYTES];

	(void)arg;
	while (exists("reading")) {
		int fd = open("direct", O_RDONLY);

		CHECK(fd >= 0 && read(fd, buf, sizeof(buf)) >= 0 && close(fd) == 0);
	}
}

static bool all_are(const char *buf, size_t len, char c)
{
	return buf[0] == c && memcmp(buf, buf + 1, len - 1) == 0;
}

/* One asynchronous write past the cache, and its end; true if it wrote all. */
static bool write_direct(aio_context_t ctx, int fd, char *buf)
{
	struct iocb cb = {.aio_fildes = (uint32_t)fd,
			  .aio_lio_opcode = IOCB_CMD_PWRITE,
			  .aio_buf = (uintptr_t)buf,
			  .aio_nbytes = DIRECT_BYTES};
	struct iocb *cbs = &cb;
	struct io_event ev = {0};

	return syscall(SYS_io_submit, ctx, 1L, &cbs) == 1 &&
	       syscall(SYS_io_getevents, ctx, 1L, 1L, &ev, NULL) == 1 &&
	       ev.res == DIRECT_BYTES;
}

/* What was written past the cache is what a read through the cache gets after it. */
static void parallel_direct(void)
{
	int fd = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0600);
	char *buf = aligned_alloc(4096, DIRECT_BYTES);
	static char got[DIRECT_BYTES];
	aio_context_t ctx = 0;
	int through = open("direct", O_RDONLY);
	pid_t pids[PROCS];

	if (fd < 0 || syscall(SYS_io_setup, 4L, &ctx) < 0) {
		leave_out("no O_DIRECT or no asynchronous I/O here");
		return;
	}
	CHECK(buf && through >= 0 && touch("reading") == 0);
	for (int i = 0; i < PROCS; i++)
		pids[i] = start_child(read_along, NULL);
	for (int i = 0; buf && i < DIRECT_ROUNDS; i++) {
		char c = (char)('a' + i % 26);

		memset(buf, c, DIRECT_BYTES);
		CHECK(write_direct(ctx, fd, buf));
		CHECK(pread(through, got, DIRECT_BYTES, 0) == DIRECT_BYTES &&
		      all_are(got, DIRECT_BYTES, c));
	}
	CHECK(unlink("reading") == 0);
	for (int i = 0; i < PROCS; i++)
		CHECK(child_done(pids[i]));
	(void)syscall(SYS_io_destroy, ctx);
	/* its times depend on who closed it when */
	CHECK(close(fd) == 0 && close(through) == 0 && unlink("direct") == 0);
	free(buf);
}

const struct posix_case parallel_cases[] = {
	{"parallel-append", parallel_append},
	{"parallel-writes", parallel_writes},
	{"parallel-exclusive", parallel_exclusive},
	{"parallel-rename", parallel_rename},
	{"parallel-list", parallel_list},
	{"parallel-moves", parallel_moves},
	{"parallel-direct", parallel_direct},
	{NULL, NULL},
};

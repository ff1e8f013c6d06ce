/* SPDX-License-Identifier: GPL-2.0-or-later */
/* maps.c - mmap, shared and private. */
#include "suite.h"

#include <setjmp.h>
#include <signal.h>

static sigjmp_buf on_bus;

static void bus_error(int sig)
{
	(void)sig;
	siglongjmp(on_bus, 1);
}

/* Does reading the byte give SIGBUS? */
static bool is_bus_error(const volatile uint8_t *p)
{
	struct sigaction sa, old;
	bool bus = true;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = bus_error;
	(void)sigaction(SIGBUS, &sa, &old);
	if (sigsetjmp(on_bus, 1) == 0) {
		(void)*p;
		bus = false;
	}
	(void)sigaction(SIGBUS, &old, NULL);
	return bus;
}

static uint8_t *map(int fd, size_t len, int kind)
{
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, kind, fd, 0);

	CHECK(p != MAP_FAILED);
	return p == MAP_FAILED ? NULL : p;
}

static void map_shared(void)
{
	int fd = open("low/f0", O_RDWR), other = open("low/f0", O_RDONLY);
	uint8_t *a = map(fd, LOW_BYTES, MAP_SHARED),
		*b = map(fd, LOW_BYTES, MAP_SHARED);

	if (!a || !b)
		return;
	CHECK(a[100] == pattern(100));
	a[100] = 'S';
	CHECK(b[100] == 'S' && is_byte(other, 100, 101, 'S'));
	CHECK(pwrite(fd, "W", 1, 20000) == 1 && a[20000] == 'W');
	CHECK(msync(a, LOW_BYTES, MS_SYNC) == 0 && msync(a, LOW_BYTES, MS_ASYNC) == 0);
	CHECK(is_pattern(other, 101, 20000));
	a[LOW_BYTES - 1] = 'E';
	CHECK(munmap(a, LOW_BYTES) == 0 && close(fd) == 0);
	b[LOW_BYTES - 2] = 'F'; /* a mapping outlives the descriptor */
	CHECK(munmap(b, LOW_BYTES) == 0);
	CHECK(is_byte(other, LOW_BYTES - 1, LOW_BYTES, 'E'));
	CHECK(is_byte(other, LOW_BYTES - 2, LOW_BYTES - 1, 'F') && close(other) == 0);
}

static void map_private(void)
{
	int fd = open("low/f0", O_RDWR);
	uint8_t *p = map(fd, LOW_BYTES, MAP_PRIVATE);

	if (!p)
		return;
	p[200] = 'P';
	CHECK(is_pattern(fd, 0, LOW_BYTES) && p[201] == pattern(201));
	CHECK(munmap(p, LOW_BYTES) == 0 && close(fd) == 0);
	fd = open("low/f0", O_RDONLY); /* private and writable: reading is enough */
	p = map(fd, LOW_BYTES, MAP_PRIVATE);
	CHECK(p && munmap(p, LOW_BYTES) == 0);
	FAILS(mmap(NULL, 1, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0,
	      EACCES);
	CHECK(close(fd) == 0);
	fd = open("low/f0", O_WRONLY);
	FAILS(mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0,
	      EACCES);
	CHECK(close(fd) == 0);
	fd = open("low/d", O_RDONLY);
	FAILS(mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0,
	      ENODEV);
	CHECK(close(fd) == 0);
}

static void map_ends(void)
{
	int fd = open("low/f0", O_RDWR);
	uint8_t *p = map(fd, 65536, MAP_SHARED);

	if (!p)
		return;
	/* the rest of the last page is zero and goes nowhere */
	CHECK(p[LOW_BYTES] == 0 && p[40959] == 0);
	p[LOW_BYTES] = 'x';
	CHECK(msync(p, 40960, MS_SYNC) == 0 && size_of("low/f0") == LOW_BYTES);
	CHECK(is_bus_error(p + 40960) && is_bus_error(p + 65535));
	/* cut, and grown again */
	CHECK(ftruncate(fd, 5000) == 0);
	CHECK(p[4999] == pattern(4999) && p[5000] == 0 && is_bus_error(p + 8192));
	CHECK(ftruncate(fd, 65536) == 0 && p[5000] == 0 && p[65535] == 0);
	p[65535] = 'y';
	CHECK(munmap(p, 65536) == 0);
	CHECK(is_byte(fd, 65535, 65536, 'y') && is_byte(fd, 5000, 65535, 0));
	CHECK(close(fd) == 0);
}

static void map_unlinked(void)
{
	int fd = open("low/f0", O_RDWR);
	uint8_t *p = map(fd, LOW_BYTES, MAP_SHARED);

	CHECK(unlink("low/f0") == 0 && close(fd) == 0);
	if (!p)
		return;
	p[9000] = 'u';
	CHECK(msync(p, LOW_BYTES, MS_SYNC) == 0);
	CHECK(madvise(p, 40960, MADV_DONTNEED) == 0);
	CHECK(p[9000] == 'u' && p[9001] == pattern(9001));
	CHECK(munmap(p, LOW_BYTES) == 0);
}

static void map_hole(void)
{
	int fd = open("hole", O_RDWR | O_CREAT, 0600);
	uint8_t *p;

	CHECK(ftruncate(fd, 1 << 20) == 0);
	p = map(fd, 1 << 20, MAP_SHARED);
	if (!p)
		return;
	for (size_t i = 0; i < 1 << 20; i += 70000) {
		CHECK(p[i] == 0);
		p[i] = 'h';
	}
	CHECK(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
	CHECK(is_byte(fd, 70000, 70001, 'h') && is_byte(fd, 70001, 140000, 0));
	CHECK(munmap(p, 1 << 20) == 0 && close(fd) == 0);
}

const struct posix_case map_cases[] = {
	{"map-shared", map_shared}, {"map-private", map_private},
	{"map-ends", map_ends},     {"map-unlinked", map_unlinked},
	{"map-hole", map_hole},     {NULL, NULL},
};

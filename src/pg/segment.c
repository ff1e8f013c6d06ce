/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * segment.c - what Postgres does with the memory of a server that was killed, when it
 * starts there again.  That may never be, and the machine has 4096 segments, and
 * /dev/shm is its memory.
 *
 * The layouts are those of Postgres 14 and later; what does not begin as they do is
 * left alone.  What is read may have been written by whoever has the server's uid, so
 * only files of that uid are removed.
 */
#include "pg/segment.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/stat.h>

#define FILES "/dev/shm"
#define SHARED_MAGIC 679834894
#define CONTROL_MAGIC 0x9a503d32u
#define CONTROL_ITEMS_MAX 100000
#define HIDDEN_PATIENCE_MS 1000
#define HIDDEN_PAUSE_MS 5

/* How the segment begins. */
struct shared {
	int32_t magic;
	int32_t maker;
	uint64_t size;
	uint64_t free;
	uint32_t control; /* the number of a file that lists the others; 0: none */
};

/* How that file begins... */
struct control {
	uint32_t magic;
	uint32_t n;
	uint32_t max;
	uint32_t padding;
};

/* ...and what follows. */
struct control_item {
	uint32_t number; /* odd: it is no file */
	uint32_t users;  /* 0: it is gone */
	uint64_t first_page, pages;
	uint64_t handle;
	uint64_t pinned;
};

static int stat_segment(uint32_t key, int id, struct shmid_ds *ret)
{
	if (shmctl(id, IPC_STAT, ret) < 0)
		return -errno;
	return (uint32_t)ret->shm_perm.__key == key ? 0 : -ENOENT;
}

bool segment_made_by(pid_t pid, uint32_t key, int id)
{
	struct shmid_ds ds;

	return stat_segment(key, id, &ds) == 0 && ds.shm_cpid == pid;
}

bool segment_is_attached(uint32_t key, int id)
{
	struct shmid_ds ds;
	int rc = stat_segment(key, id, &ds);

	return rc == 0 ? ds.shm_nattch > 0 : rc == -EACCES;
}

/* --- the files --- */

static void file_name(uint32_t number, char buf[static 24])
{
	(void)snprintf(buf, 24, "PostgreSQL.%u", number); /* fits */
}

static void remove_file(int dir, uint32_t number, uid_t uid)
{
	char name[24];
	struct stat st;

	file_name(number, name);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid == uid &&
	    S_ISREG(st.st_mode))
		(void)unlinkat(dir, name, 0); /* nobody else will, nor is told */
}

/* The file that lists the others; -1: there is none that can be read. */
static int open_control(int dir, uint32_t number, uid_t uid, struct control *ret)
{
	CLEAN(clean_fd) int fd = -1;
	char name[24];
	struct stat st;

	file_name(number, name);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != uid || !S_ISREG(st.st_mode) ||
	    fd_pread_full(fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret) ||
	    ret->magic != CONTROL_MAGIC || ret->n > CONTROL_ITEMS_MAX)
		return -1;
	return steal_fd(&fd);
}

static void remove_files(uint32_t number, uid_t uid)
{
	CLEAN(clean_fd) int dir = open(FILES, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEAN(clean_fd) int fd = -1;
	struct control c;
	struct control_item item;

	if (dir >= 0)
		fd = open_control(dir, number, uid, &c);
	if (fd < 0)
		return;
	for (uint32_t i = 0; i < c.n; i++) {
		uint64_t at = sizeof(c) + i * sizeof(item);

		if (fd_pread_full(fd, &item, sizeof(item), at) != (ssize_t)sizeof(item))
			break;
		if (item.users > 0 && item.number % 2 == 0)
			remove_file(dir, item.number, uid);
	}
	remove_file(dir, number, uid);
}

/* --- the segment --- */

/* The number of the file that lists the others, or 0. */
static uint32_t control_of(int id, size_t size)
{
	const struct shared *s;
	uint32_t number;

	if (size < sizeof(*s))
		return 0;
	s = shmat(id, NULL, SHM_RDONLY);
	if ((intptr_t)s == -1)
		return 0;
	number = s->magic == SHARED_MAGIC ? s->control : 0;
	(void)shmdt(s);
	return number;
}

void segment_remove(uint32_t key, int id)
{
	int64_t deadline_ms = loop_now_ms() + HIDDEN_PATIENCE_MS;
	struct shmid_ds ds;
	uint32_t control;

	/* one that ends has no memory map to be found by some time before it lets go */
	while (key && segment_is_attached(key, id) && loop_now_ms() < deadline_ms)
		(void)poll(NULL, 0, HIDDEN_PAUSE_MS);
	if (!key || stat_segment(key, id, &ds) < 0 || ds.shm_nattch > 0)
		return;
	control = control_of(id, ds.shm_segsz);
	if (control)
		remove_files(control, ds.shm_perm.cuid);
	(void)shmctl(id, IPC_RMID, NULL); /* what cannot be removed stays */
}

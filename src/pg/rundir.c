/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rundir.c - reference counted O_PATH handles on the run directories.
 */
#include "pg/rundir.h"

#include "base/text.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

struct rundirs {
	char *path;           /* MNT/.run */
	pthread_mutex_t lock; /* not held while anything is opened */
	int fd;               /* lock: lock; -1: no handles */
	unsigned handles;     /* lock: lock */
};

struct rundir {
	struct rundirs *dirs;
	atomic_uint refs;
	struct branch *branch; /* referenced */
	struct overlay *run;   /* referenced */
	int fd;
	/* -1, NULL: not pinned; set once, before the handle is shared */
	int data_fd;
	struct overlay *data; /* referenced */
};

int rundirs_new(const char *mountpoint, struct rundirs **ret_dirs)
{
	struct rundirs *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->path = text_format("%s/.run", mountpoint);
	if (!d->path) {
		free(d);
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&d->lock, NULL); /* cannot fail with NULL */
	d->fd = -1;
	*ret_dirs = d;
	return 0;
}

struct rundirs *rundirs_free(struct rundirs *d)
{
	if (!d)
		return NULL;
	(void)pthread_mutex_destroy(&d->lock);
	free(d->path);
	free(d);
	return NULL;
}

/* Counts one handle more, and opens MNT/.run for the first.  There is one opener. */
static int dirs_get(struct rundirs *d, int *ret_fd)
{
	int fd;

	{
		LOCK_SCOPE(&d->lock);
		d->handles++;
		fd = d->fd;
	}
	if (fd < 0) {
		fd = open(d->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		LOCK_SCOPE(&d->lock);
		d->fd = fd;
	}
	*ret_fd = fd;
	return 0;
}

static void dirs_put(struct rundirs *d)
{
	CLEAN(clean_fd) int fd = -1;

	LOCK_SCOPE(&d->lock);
	if (--d->handles == 0)
		fd = steal_fd(&d->fd);
}

int rundir_open(struct rundirs *d, struct branch *b, struct rundir **ret_rd)
{
	struct rundir *rd;
	char name[16];
	int rc, top = -1;

	rd = calloc(1, sizeof(*rd));
	if (!rd)
		return -ENOMEM;
	rd->dirs = d;
	atomic_init(&rd->refs, 1);
	rd->branch = branch_get(b);
	rd->fd = rd->data_fd = -1;
	(void)snprintf(name, sizeof(name), "%u", branch_no(b)); /* fits */
	rc = dirs_get(d, &top);
	if (rc == 0)
		rc = branch_run_get(b, &rd->run);
	if (rc == 0) {
		rd->fd = openat(top, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		rc = rd->fd < 0 ? -errno : 0;
	}
	if (rc < 0)
		(void)rundir_put(rd);
	else
		*ret_rd = rd;
	return rc;
}

int rundir_pin_data(struct rundir *rd)
{
	int rc = rd->data ? 0 : branch_data_get(rd->branch, &rd->data);

	if (rc < 0)
		return rc;
	if (rd->data_fd < 0)
		rd->data_fd = openat(rd->fd, "data", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return rd->data_fd < 0 ? -errno : 0;
}

struct rundir *rundir_get(struct rundir *rd)
{
	(void)atomic_fetch_add(&rd->refs, 1);
	return rd;
}

struct rundir *rundir_put(struct rundir *rd)
{
	if (!rd || atomic_fetch_sub(&rd->refs, 1) > 1)
		return NULL;
	clean_fd(&rd->data_fd);
	clean_fd(&rd->fd);
	dirs_put(rd->dirs);
	(void)overlay_put(rd->data);
	(void)overlay_put(rd->run);
	(void)branch_put(rd->branch);
	free(rd);
	return NULL;
}

int rundir_fd(const struct rundir *rd)
{
	return rd->fd;
}

struct overlay *rundir_run(const struct rundir *rd)
{
	return rd->run;
}

struct overlay *rundir_data(const struct rundir *rd)
{
	return rd->data;
}

int rundir_check_peer(const struct rundir *rd, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct stat st;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    fstat(rd->fd, &st) < 0)
		return -errno;
	return peer.uid == st.st_uid ? 0 : -EPERM;
}

socklen_t rundir_address(const struct rundir *rd, const char *name,
			 struct sockaddr_un *ret_addr)
{
	*ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(ret_addr->sun_path, sizeof(ret_addr->sun_path),
		       "/proc/self/fd/%d/%s", rd->fd, name); /* short names only */
	return sizeof(*ret_addr);
}

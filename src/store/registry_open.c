/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_open.c - opening and closing a store: its format, its lock, what is left
 * to write at the end.
 */
#include "store/checkpoint_priv.h"
#include "store/registry_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/statfs.h>

#define FORMAT_LINE "pgbranchfs store 1\n"
#define MAX_FDS 8192

static int check_format(struct registry *r, struct err *e)
{
	CLEAN(clean_free) char *text = NULL;
	size_t len = 0;
	int rc = fd_read_regular(r->store.fd, "format", 64, &text, &len);

	if (rc == -ENOENT) {
		err_set(e, -EINVAL, "%s is not a store, or its making was not finished",
			r->path);
		return err_hint(e, "make one with: pgbranchfs init %s", r->path);
	}
	if (rc < 0)
		return err_set(e, rc, "cannot read %s/format: %s", r->path,
			       strerror(-rc));
	if (len != strlen(FORMAT_LINE) || strcmp(text, FORMAT_LINE) != 0)
		return err_set(e, -EINVAL,
			       "%s/format: a format that this version does not know",
			       r->path);
	return 0;
}

static int take_lock(struct registry *r, struct err *e)
{
	CLEAN(clean_free) char *holder = NULL;
	char pid[24];
	int n;

	r->lock_fd =
		openat(r->store.fd, "lock",
		       O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (r->lock_fd < 0)
		return err_set(e, -errno, "cannot open %s/lock: %s", r->path,
			       strerror(errno));
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (fd_read_regular(r->store.fd, "lock", 32, &holder, NULL) == 0)
			holder[strcspn(holder, "\n")] = '\0';
		err_set(e, -EBUSY, "store %s is mounted already (process %s)", r->path,
			holder && *holder ? holder : "unknown");
		return err_hint(e, "one daemon serves a store; unmount it there first");
	}
	/* over the old one, which needs no space; the lock holds without it too */
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (fd_pwrite_full(r->lock_fd, pid, (size_t)n, 0) < 0 ||
	    ftruncate(r->lock_fd, n) < 0)
		log_warn("%s/lock: cannot write the process id: %m; going on", r->path);
	return 0;
}

/* Half of what the process may have: servers' sockets and logs need some too. */
static unsigned fd_budget(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur / 2 > MAX_FDS)
		return MAX_FDS;
	return (unsigned)(lim.rlim_cur / 2);
}

/* File systems with one journal for all of their metadata. */
static bool keeps_order(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 &&
	       (st.f_type == EXT4_SUPER_MAGIC || st.f_type == XFS_SUPER_MAGIC);
}

static int open_store(struct registry *r, struct err *e)
{
	int rc = fdcache_new(fd_budget(), &r->store.fds);

	if (rc < 0)
		return err_set(e, rc, "out of memory");
	r->store.fd = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->store.fd < 0)
		return err_set(e, -errno, "cannot open store %s: %s", r->path,
			       strerror(errno));
	r->store.keeps_order = keeps_order(r->store.fd);
	rc = check_format(r, e);
	if (rc == 0)
		rc = take_lock(r, e);
	/* what a killed daemon left in the page cache becomes durable before
	 * anybody builds on it */
	if (rc == 0 && syncfs(r->store.fd) < 0)
		rc = err_set(e, -errno, "cannot sync store %s: %s", r->path,
			     strerror(errno));
	return rc < 0 ? rc : registry_read(r, e);
}

int registry_open(const char *path, struct registry **ret_reg, struct err *e)
{
	struct registry *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->store.fd = -1;
	r->lock_fd = -1;
	r->next_no = 1;
	r->next_layer = 1;
	store_init(&r->store);
	(void)pthread_mutex_init(&r->change, NULL);
	(void)pthread_mutex_init(&r->stats, NULL);
	(void)pthread_rwlock_init(&r->table, NULL);
	r->path = realpath(path, NULL);
	rc = r->path ? open_store(r, e)
		     : err_set(e, -errno, "cannot open store %s: %s", path,
			       strerror(errno));
	if (rc < 0) {
		registry_close(r);
		return rc;
	}
	*ret_reg = r;
	return 0;
}

/* Writes what is only in memory: last activity, and names that followed a rename. */
static void save_rest(struct registry *r, struct branch *b)
{
	struct branch_meta m = b->meta;

	m.last_active = atomic_load(&b->last_active);
	if ((b->unsaved || m.last_active != b->meta.last_active) &&
	    registry_save(r, branch_record_name(b), &m) < 0)
		log_warn("branch %s: cannot save its record; going on",
			 branch_record_name(b));
}

static void close_table(struct registry *r, struct branch **by_no,
			struct branch **by_name)
{
	struct branch *b, *next;

	HASH_ITER(hh_no, *by_no, b, next)
	{
		HASH_DELETE(hh_no, *by_no, b);
		HASH_DELETE(hh_name, *by_name, b);
		save_rest(r, b);
		branch_put(b);
	}
}

struct registry *registry_close(struct registry *r)
{
	if (!r)
		return NULL;
	registry_squash_end(r);
	registry_chill_end(r);
	if (registry_flush(r) < 0)
		log_error(
			"%s: not all changes could be written; those that were fsynced "
			"are safe",
			r->path);
	for (struct branch *b = r->by_no; b; b = b->hh_no.next)
		data_number_drop_locked(r, b);
	close_table(r, &r->by_no, &r->by_name);
	close_table(r, &r->trash_by_no, &r->trash_by_name);
	while (r->ndead > 0)
		layer_put(r->dead[--r->ndead]);
	while (r->nsealed > 0)
		layer_put(r->sealed[--r->nsealed]);
	checkpoints_free(r);
	free(r->sealed);
	free(r->dead);
	free(r->orphans);
	damage_free(r);
	if (r->store.fd >= 0)
		(void)syncfs(r->store.fd); /* what was not fsynced owes nobody */
	fdcache_free(r->store.fds);
	store_fini(&r->store);
	clean_fd(&r->lock_fd);
	clean_fd(&r->store.fd);
	(void)pthread_mutex_destroy(&r->change);
	(void)pthread_mutex_destroy(&r->stats);
	(void)pthread_rwlock_destroy(&r->table);
	free(r->path);
	free(r);
	return NULL;
}

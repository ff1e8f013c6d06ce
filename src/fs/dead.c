/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A dead object cannot be looked up again, so the first FORGET for it is the last word:
 * no counting of lookups is needed.  Node ids are never given out twice.
 */
#include "fs/dead.h"

#include <string.h>
#ifndef HASH_NONFATAL_OOM
#define HASH_NONFATAL_OOM 1
#endif
#include <uthash.h>

struct dead {
	UT_hash_handle hh; /* by ino */
	uint64_t ino;
	struct dead_mark m;
};

static struct {
	pthread_mutex_t lock;
	struct dead *table;  /* lock: lock */
	atomic_size_t count; /* read without it: mostly there is none */
} dead = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct dead *find_locked(fuse_ino_t ino)
{
	struct dead *d = NULL;
	uint64_t key = ino;

	HASH_FIND(hh, dead.table, &key, sizeof(key), d);
	return d;
}

static void mark_fini(struct dead_mark *m)
{
	if (m->f)
		overlay_close(m->n.o, m->f);
	m->f = NULL;
	node_put(&m->n);
}

void dead_mark(struct fs *fs, const struct node *dir, const char *name,
	       struct dead_mark *ret_mark)
{
	struct dead_mark m = {.ino = 0};
	struct node_attr a;

	memset(ret_mark, 0, sizeof(*ret_mark));
	if (overlay_lookup(dir->o, dir->fid, name, &a) < 0 ||
	    (!S_ISDIR(a.mode) && a.nlink > 1))
		return;
	if (node_make(dir->b, dir->kind, a.fid, &m.n) < 0)
		return;
	if (S_ISREG(a.mode) && overlay_open(m.n.o, a.fid, &m.f) < 0) {
		node_put(&m.n);
		return;
	}
	node_fill_stat(fs, &m.n, &a, &m.st);
	m.st.st_nlink = 0;
	m.ino = node_ino(&m.n);
	/* the kernel may know a server's socket for long, by its name in the branch's
	 * directory: no reason to keep the branch in memory */
	if (!m.f)
		node_put(&m.n);
	*ret_mark = m;
}

void dead_settle(struct dead_mark *m, int rc)
{
	struct dead *d = m->ino && rc == 0 ? calloc(1, sizeof(*d)) : NULL;

	if (d) {
		d->ino = m->ino;
		d->m = *m;
		(void)clock_gettime(CLOCK_REALTIME, &d->m.st.st_ctim);
		LOCK_SCOPE(&dead.lock);
		HASH_ADD(hh, dead.table, ino, sizeof(d->ino), d);
		if (d->hh.tbl) {
			atomic_fetch_add(&dead.count, 1);
			return;
		}
		free(d);
	}
	/* without memory the holder gets ESTALE, nothing worse */
	if (m->ino)
		mark_fini(m);
}

bool dead_stat(fuse_ino_t ino, struct stat *ret_st)
{
	const struct dead *d;

	if (atomic_load(&dead.count) == 0)
		return false;
	LOCK_SCOPE(&dead.lock);
	d = find_locked(ino);
	if (!d || d->m.f)
		return false;
	*ret_st = d->m.st;
	return true;
}

/* One time of an object, as the kernel wants it set. */
static void set_time(struct timespec *t, const struct timespec *to, bool set, bool now)
{
	if (now)
		(void)clock_gettime(CLOCK_REALTIME, t);
	else if (set)
		*t = *to;
}

bool dead_setattr(fuse_ino_t ino, const struct stat *attr, int to_set,
		  struct stat *ret_st)
{
	struct dead *d;
	struct stat *st;

	if (atomic_load(&dead.count) == 0)
		return false;
	LOCK_SCOPE(&dead.lock);
	d = find_locked(ino);
	if (!d || d->m.f)
		return false;
	st = &d->m.st;
	if (to_set & FUSE_SET_ATTR_MODE)
		st->st_mode = (st->st_mode & S_IFMT) | (attr->st_mode & 07777);
	set_time(&st->st_atim, &attr->st_atim, to_set & FUSE_SET_ATTR_ATIME,
		 to_set & FUSE_SET_ATTR_ATIME_NOW);
	set_time(&st->st_mtim, &attr->st_mtim, to_set & FUSE_SET_ATTR_MTIME,
		 to_set & FUSE_SET_ATTR_MTIME_NOW);
	(void)clock_gettime(CLOCK_REALTIME, &st->st_ctim);
	*ret_st = *st;
	return true;
}

static struct dead *take(fuse_ino_t ino)
{
	struct dead *d;

	LOCK_SCOPE(&dead.lock);
	d = ino ? find_locked(ino) : dead.table;
	if (d) {
		HASH_DEL(dead.table, d);
		atomic_fetch_sub(&dead.count, 1);
	}
	return d;
}

static void dead_free(struct dead *d)
{
	mark_fini(&d->m);
	free(d);
}

void dead_forget(fuse_ino_t ino)
{
	struct dead *d = NULL;

	if (atomic_load(&dead.count) > 0)
		d = take(ino);
	if (d)
		dead_free(d);
}

void dead_free_all(void)
{
	struct dead *d;

	while ((d = take(0)))
		dead_free(d);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes.  An open file is a heap handle (fi->fh): the kernel sends RELEASE late,
 * so a number that could be given out again would not do.  The handle keeps the
 * branch and the file, also when both were removed meanwhile.
 *
 * The mount is in writeback mode: the kernel appends by itself and sends a WRITE
 * through any handle of the file that was open for writing.
 */
#include "fs/ctlfs.h"
#include "store/cowfile.h"

#include <fcntl.h>
#include <string.h>

struct handle {
	struct handle *prev, *next; /* lock: open_handles' */
	struct node n;
	struct cowfile *f;     /* of a stored file */
	struct ctl_handle ctl; /* of a virtual one */
};

/*
 * All handles: when the mount ends under somebody who has files open, no RELEASE
 * follows, and the handles keep their branches.
 */
static struct {
	pthread_mutex_t lock;
	struct handle *first; /* lock: lock */
	unsigned count;       /* lock: lock */
} open_handles = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A worker's buffer for reads: as large as the largest request so far. */
static _Thread_local struct {
	char *mem;
	size_t size;
} read_buf;

void fs_file_end_thread(void)
{
	free(read_buf.mem);
	read_buf.mem = NULL;
	read_buf.size = 0;
}

static char *read_buf_get(size_t size)
{
	if (size > read_buf.size) {
		fs_file_end_thread();
		read_buf.mem = malloc(size);
		if (read_buf.mem)
			read_buf.size = size;
	}
	return read_buf.mem;
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static void handle_free(struct handle *h)
{
	{
		LOCK_SCOPE(&open_handles.lock);
		if (h->prev)
			h->prev->next = h->next;
		else
			open_handles.first = h->next;
		if (h->next)
			h->next->prev = h->prev;
		open_handles.count--;
	}
	if (h->f)
		overlay_close(h->n.o, h->f);
	ctl_close(&h->ctl);
	node_put(&h->n);
	free(h);
}

/* Takes n's references over. */
static struct handle *handle_new(struct node *n)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->n = node_take(n);
	h->ctl.log_fd = -1;
	LOCK_SCOPE(&open_handles.lock);
	h->next = open_handles.first;
	if (h->next)
		h->next->prev = h;
	open_handles.first = h;
	open_handles.count++;
	return h;
}

unsigned fs_file_handles(void)
{
	LOCK_SCOPE(&open_handles.lock);
	return open_handles.count;
}

void fs_file_close_all(void)
{
	while (open_handles.first)
		handle_free(open_handles.first);
}

static int handle_open(fuse_req_t req, struct handle *h, struct fuse_file_info *fi)
{
	int rc;

	if (!node_is_stored(&h->n)) {
		fi->direct_io = 1;
		return ctl_open(req, &h->n, fi->flags, &h->ctl);
	}
	if ((fi->flags & O_ACCMODE) != O_RDONLY)
		node_touch(fs_of(req), &h->n);
	rc = overlay_open(h->n.o, h->n.fid, &h->f);
	if (rc == 0 && fi->flags & O_TRUNC)
		rc = cowfile_truncate(h->f, 0);
	/* the daemon writes some of the run files, so their pages are not kept; the
	 * WAL is written once and fsynced: one round trip less without them */
	if (h->n.kind == NODE_RUN || (rc == 0 && cowfile_is_wal(h->f)))
		fi->direct_io = 1;
	else
		fi->keep_cache = 1;
	return rc;
}

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	struct handle *h = NULL;
	int rc = node_get(fs_of(req), ino, &n);

	if (rc == 0) {
		h = handle_new(&n);
		rc = h ? handle_open(req, h, fi) : -ENOMEM;
	}
	if (rc == 0) {
		fi->fh = (uintptr_t)h;
		if (fuse_reply_open(req, fi) == 0)
			return; /* RELEASE frees it */
	} else {
		fs_reply_err(req, "open", h ? &h->n : NULL, rc);
	}
	if (h)
		handle_free(h);
}

/* Makes dir/name, or finds it if that is good enough; *ret_attr is its. */
static int make_file(fuse_req_t req, const struct node *dir, const char *name,
		     mode_t mode, int flags, struct node_attr *ret_attr)
{
	int rc = overlay_mknod(dir->o, dir->fid, name, S_IFREG | (mode & 07777),
			       ret_attr);

	if (rc == 0 && node_is_lock(dir, name))
		fleet_lock_made(fs_of(req)->fleet, dir->b, fuse_req_ctx(req)->pid);
	if (rc == -EEXIST && !(flags & O_EXCL))
		rc = overlay_lookup(dir->o, dir->fid, name, ret_attr);
	return rc;
}

static int create_open(fuse_req_t req, struct node *dir, const char *name, mode_t mode,
		       struct fuse_file_info *fi, struct fuse_entry_param *ret_e,
		       struct handle **ret_h)
{
	struct fs *fs = fs_of(req);
	struct node_attr a;
	struct handle *h;
	struct stat st;
	int rc;

	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	if (!node_is_stored(dir))
		return ctl_refuse_making(req, dir);
	if (ctl_is_reserved(dir, name))
		return -EEXIST;
	rc = make_file(req, dir, name, mode, fi->flags, &a);
	if (rc < 0)
		return rc;
	dir->fid = a.fid; /* from here on it is the file */
	h = handle_new(dir);
	if (!h)
		return -ENOMEM;
	rc = handle_open(req, h, fi);
	/* again: O_TRUNC may have changed it */
	if (rc == 0)
		rc = node_stat(fs, &h->n, fuse_req_ctx(req)->uid, &st);
	if (rc < 0) {
		handle_free(h);
		return rc;
	}
	fs_fill_entry(&h->n, &st, ret_e);
	*ret_h = h;
	return 0;
}

void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	struct fuse_entry_param e;
	struct handle *h = NULL;
	int rc = node_get(fs_of(req), parent, &dir);

	if (rc == 0)
		rc = create_open(req, &dir, name, mode, fi, &e, &h);
	if (rc < 0) {
		fs_reply_err(req, "create", NULL, rc);
		return;
	}
	fi->fh = (uintptr_t)h;
	if (fuse_reply_create(req, &e, fi) < 0)
		handle_free(h); /* the opener is gone, no RELEASE follows */
}

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	     struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	char *buf = read_buf_get(size);
	ssize_t n;

	(void)ino;
	if (!buf) {
		fs_reply_err(req, "read", &h->n, -ENOMEM);
		return;
	}
	if (!h->f) {
		ctl_read(req, &h->n, &h->ctl, buf, size, (uint64_t)off);
		return;
	}
	n = cowfile_read(h->f, buf, size, (uint64_t)off);
	if (n < 0)
		fs_reply_err(req, "read", &h->n, (int)n);
	else
		(void)fuse_reply_buf(req, buf, (size_t)n);
}

void fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int rc;

	(void)ino;
	if (!h->f) {
		ctl_write(req, &h->n, buf, size);
		return;
	}
	rc = cowfile_write(h->f, buf, size, (uint64_t)off);
	if (fi->writepage)
		cowfile_wrote_late(h->f);
	/* the kernel follows a direct write with no fsync of its own */
	if (rc == 0 && fi->flags & O_DSYNC && cowfile_is_wal(h->f))
		rc = cowfile_sync(h->f, 1);
	if (rc < 0)
		fs_reply_err(req, "write", &h->n, rc);
	else
		(void)fuse_reply_write(req, size);
}

/*
 * Nothing of a run directory outlives the mount.  Nor does the lock file of a server of
 * ours: it is fsynced six times in a start, and the next start removes it unread.
 */
static bool outlives_mount(fuse_req_t req, const struct handle *h)
{
	return h->n.kind == NODE_DATA &&
	       !(cowfile_is_watched(h->f) &&
		 fleet_is_server(fs_of(req)->fleet, h->n.b, fuse_req_ctx(req)->pid));
}

void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int rc = outlives_mount(req, h) ? cowfile_sync(h->f, datasync) : 0;

	(void)ino;
	fs_reply_err(req, "fsync", &h->n, rc);
}

void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int rc = -EOPNOTSUPP;

	(void)ino;
	if (off < 0 || len <= 0)
		rc = -EINVAL;
	else if (h->f)
		rc = cowfile_fallocate(h->f, mode, (uint64_t)off, (uint64_t)len);
	if (rc == 0)
		cowfile_wrote_late(h->f); /* the kernel has the time of it, too */
	/* ENOSYS would switch fallocate off for the whole mount */
	fs_reply_err(req, "fallocate", &h->n, rc == -ENOSYS ? -EOPNOTSUPP : rc);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	handle_free(handle_of(fi));
	(void)fuse_reply_err(req, 0);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes.
 *
 * The mount is in writeback mode: the kernel appends by itself and sends a WRITE
 * through any handle of the file that was open for writing.
 */
#include "fs/handle.h"
#include "fs/quotaguard.h"
#include "store/cowfile.h"

#include <fcntl.h>
#include <string.h>

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

/* Opens n, whose number is ino, and says how the kernel is to treat it. */
static int open_node(fuse_req_t req, fuse_ino_t ino, struct node *n,
		     struct fuse_file_info *fi, struct handle **ret_h)
{
	struct handle *h = NULL;
	int rc;

	if (node_is_stored(n) && (fi->flags & O_ACCMODE) != O_RDONLY)
		node_touch(fs_of(req), n);
	rc = handle_open(req, ino, n, fi, &h);
	if (rc < 0)
		return rc;
	if (h->f && fi->flags & O_TRUNC)
		rc = cowfile_truncate(h->f, 0);
	if (rc < 0) {
		handle_release(ino, fi);
		(void)handle_put(h);
		return rc;
	}
	/* the daemon writes some of the run files, so their pages are not kept; the
	 * WAL is written once and fsynced: one round trip less without them */
	if (h->n.kind != NODE_DATA || cowfile_is_wal(h->f))
		fi->direct_io = 1;
	else
		fi->keep_cache = 1;
	*ret_h = h;
	return 0;
}

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	CLEAN(handle_clean) struct handle *h = NULL;
	int rc = node_get(fs_of(req), ino, &n);

	if (rc == 0)
		rc = open_node(req, ino, &n, fi, &h);
	if (rc < 0)
		fs_reply_err(req, "open", n.b ? &n : NULL, rc);
	else if (fuse_reply_open(req, fi) < 0)
		handle_release(ino, fi); /* the opener is gone, no RELEASE follows */
}

static bool is_masking(const struct node *n)
{
	struct branch_info info;

	branch_info(n->b, &info);
	return info.masking;
}

/* Makes dir/name, or finds it if that is good enough; *ret_attr is its. */
static int make_file(fuse_req_t req, const struct node *dir, const char *name,
		     mode_t mode, int flags, struct node_attr *ret_attr)
{
	int rc = overlay_mknod(dir->o, dir->fid, name, S_IFREG | (mode & 07777),
			       ret_attr);

	/* that of a server which masks is nobody's */
	if (rc == 0 && node_is_lock(dir, name) && !is_masking(dir))
		fleet_lock_made(fs_of(req)->fleet, dir->b, fuse_req_ctx(req)->pid);
	if (rc == -EEXIST && !(flags & O_EXCL))
		rc = overlay_lookup(dir->o, dir->fid, name, ret_attr);
	return rc;
}

static int create_open(fuse_req_t req, struct node *dir, const char *name, mode_t mode,
		       struct fuse_file_info *fi, struct fuse_entry_param *ret_e,
		       struct handle **ret_h)
{
	const struct caller who = fs_caller(req);
	CLEAN(handle_clean) struct handle *h = NULL;
	struct fs *fs = fs_of(req);
	struct node_attr a;
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
	rc = open_node(req, node_ino(dir), dir, fi, &h);
	if (rc < 0)
		return rc;
	/* again: O_TRUNC may have changed it */
	rc = node_stat(fs, &h->n, &who, &st);
	if (rc < 0) {
		handle_release(h->ino, fi);
		return rc;
	}
	fs_fill_entry(fs, &h->n, &st, ret_e);
	*ret_h = steal(h);
	return 0;
}

void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	CLEAN(handle_clean) struct handle *h = NULL;
	struct fuse_entry_param e;
	int rc = node_get(fs_of(req), parent, &dir);

	if (rc == 0)
		rc = create_open(req, &dir, name, mode, fi, &e, &h);
	if (rc < 0)
		fs_reply_err(req, "create", NULL, rc);
	else if (fuse_reply_create(req, &e, fi) < 0)
		handle_release(h->ino, fi); /* the opener is gone, no RELEASE follows */
}

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	     struct fuse_file_info *fi)
{
	CLEAN(handle_clean) struct handle *h = NULL;
	char *buf = read_buf_get(size);
	int rc = buf ? handle_get(req, ino, fi, &h) : -ENOMEM;
	ssize_t n;

	if (rc < 0) {
		fs_reply_err(req, "read", NULL, rc);
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
	CLEAN(handle_clean) struct handle *h = NULL;
	int rc = handle_get(req, ino, fi, &h);

	if (rc < 0) {
		fs_reply_err(req, "write", NULL, rc);
		return;
	}
	if (!h->f) {
		ctl_write(req, &h->n, buf, size);
		return;
	}
	rc = quotaguard_write(h, fi->writepage, size, (uint64_t)off);
	if (rc == 0)
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
	CLEAN(handle_clean) struct handle *h = NULL;
	int rc = handle_get(req, ino, fi, &h);

	if (rc == 0 && outlives_mount(req, h))
		rc = cowfile_sync(h->f, datasync);
	fs_reply_err(req, "fsync", h ? &h->n : NULL, rc);
}

void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	CLEAN(handle_clean) struct handle *h = NULL;
	int rc = off < 0 || len <= 0 ? -EINVAL : handle_get(req, ino, fi, &h);

	if (rc == 0 && h->f)
		rc = quotaguard_fallocate(h, mode, (uint64_t)off, (uint64_t)len);
	if (rc == 0)
		rc = h->f ? cowfile_fallocate(h->f, mode, (uint64_t)off, (uint64_t)len)
			  : -EOPNOTSUPP;
	if (rc == 0)
		cowfile_wrote_late(h->f); /* the kernel has the time of it, too */
	/* ENOSYS would switch fallocate off for the whole mount */
	fs_reply_err(req, "fallocate", h ? &h->n : NULL,
		     rc == -ENOSYS ? -EOPNOTSUPP : rc);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	handle_release(ino, fi);
	(void)fuse_reply_err(req, 0);
}

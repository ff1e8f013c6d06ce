/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names below data/ and .run/NO: straight to the branch's overlay.  Names in
 * virtual directories are passed to ctlfs_dir.c.  The kernel has checked
 * permissions and types, and holds its lock on the directories involved.
 */
#include "fs/ctlfs.h"
#include "fs/dead.h"
#include "fs/handle.h"

#include <linux/fs.h>
#include <string.h>

#define NAME_BYTES_MAX 255 /* as statfs says */

static int check_name(const char *name)
{
	return strlen(name) > NAME_BYTES_MAX ? -ENAMETOOLONG : 0;
}

/* A name that is not there: the kernel may remember that too, in data. */
static void reply_absent(fuse_req_t req, const struct node *dir)
{
	struct fuse_entry_param e;

	memset(&e, 0, sizeof(e));
	e.entry_timeout = node_absent_timeout(dir);
	if (e.entry_timeout > 0)
		(void)fuse_reply_entry(req, &e);
	else
		(void)fuse_reply_err(req, ENOENT);
}

/* Answers with an object of dir's overlay, or with what went wrong. */
static void reply_object(fuse_req_t req, const char *op, const struct node *dir, int rc,
			 const struct node_attr *a)
{
	struct fuse_entry_param e;
	struct node n = *dir; /* borrows dir's references */
	struct stat st;

	if (rc < 0) {
		fs_reply_err(req, op, dir, rc);
		return;
	}
	n.fid = a->fid;
	node_fill_stat(fs_of(req), &n, a, &st);
	fs_fill_entry(fs_of(req), &n, &st, &e);
	(void)fuse_reply_entry(req, &e);
}

void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	struct node_attr a;
	int rc = check_name(name);

	if (rc == 0)
		rc = node_get(fs_of(req), parent, &dir);
	if (rc < 0) {
		fs_reply_err(req, "lookup", NULL, rc);
		return;
	}
	if (!node_is_stored(&dir) || ctl_is_reserved(&dir, name)) {
		ctl_lookup(req, &dir, name);
		return;
	}
	/* the server's own name of it, which its owner may use, too */
	if (dir.kind == NODE_RUN && !strcmp(name, CTL_SOCKET_NAME))
		rc = ctl_connect(req, dir.b);
	if (rc == 0)
		rc = overlay_lookup(dir.o, dir.fid, name, &a);
	if (rc == -ENOENT)
		reply_absent(req, &dir);
	else
		reply_object(req, "lookup", &dir, rc, &a);
}

/* The directory in which something is to be made, if things can be. */
static int dir_to_make_in(fuse_req_t req, fuse_ino_t parent, const char *name,
			  struct node *ret_dir)
{
	int rc = check_name(name);

	if (rc == 0)
		rc = node_get(fs_of(req), parent, ret_dir);
	if (rc < 0)
		return rc;
	if (!node_is_stored(ret_dir))
		return ctl_refuse_making(req, ret_dir);
	node_touch(fs_of(req), ret_dir);
	return ctl_is_reserved(ret_dir, name) ? -EEXIST : 0;
}

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	      dev_t rdev)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	struct node_attr a;
	int rc = dir_to_make_in(req, parent, name, &dir);

	(void)rdev;
	if (rc == 0 && (S_ISCHR(mode) || S_ISBLK(mode)))
		rc = -EPERM;
	if (rc == 0)
		rc = overlay_mknod(dir.o, dir.fid, name, mode, &a);
	reply_object(req, "mknod", &dir, rc, &a);
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	struct node_attr a;
	int rc = check_name(name);

	if (rc == 0)
		rc = node_get(fs_of(req), parent, &dir);
	if (rc == 0 && !node_is_stored(&dir)) {
		ctl_mkdir(req, &dir, name);
		return;
	}
	if (rc == 0 && ctl_is_reserved(&dir, name))
		rc = -EEXIST;
	if (rc == 0)
		node_touch(fs_of(req), &dir);
	if (rc == 0)
		rc = overlay_mknod(dir.o, dir.fid, name, S_IFDIR | (mode & 07777), &a);
	reply_object(req, "mkdir", &dir, rc, &a);
}

/* A link there is a tablespace: every branch would write into the same one. */
static bool is_tablespace_dir(const struct node *dir)
{
	struct node_attr a;

	return overlay_walk(dir->o, "pg_tblspc", &a) == 0 && a.fid == dir->fid;
}

void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	struct node_attr a;
	int rc = dir_to_make_in(req, parent, name, &dir);

	if (rc == 0 && is_tablespace_dir(&dir))
		rc = -EPERM;
	if (rc == 0)
		rc = overlay_symlink(dir.o, dir.fid, name, target, &a);
	reply_object(req, "symlink", &dir, rc, &a);
}

static bool same_tree(const struct node *a, const struct node *b)
{
	return a->kind == b->kind && a->no == b->no && a->o == b->o;
}

void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	CLEAN(node_put) struct node dir = NODE_INIT, n = NODE_INIT;
	struct node_attr a;
	int rc = dir_to_make_in(req, newparent, newname, &dir);

	if (rc == 0)
		rc = node_get(fs_of(req), ino, &n);
	if (rc == 0 && !node_is_stored(&n))
		rc = -EPERM;
	if (rc == 0 && !same_tree(&n, &dir))
		rc = -EXDEV;
	if (rc == 0)
		rc = overlay_link(dir.o, n.fid, dir.fid, newname, &a);
	reply_object(req, "link", &dir, rc, &a);
}

/* A lock file that another process holds stays where it is. */
static int lock_may_go(fuse_req_t req, const struct node *dir, const char *name)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct fs *fs = fs_of(req);
	int rc;

	if (!node_is_lock(dir, name))
		return 0;
	rc = fleet_lock_may_go(fs->fleet, dir->b, fuse_req_ctx(req)->pid, &e);
	if (rc < 0)
		control_note_error(fs->control, fuse_req_ctx(req)->uid, &e);
	return rc;
}

static void lock_went(fuse_req_t req, const struct node *dir, const char *name)
{
	if (node_is_lock(dir, name))
		fleet_lock_gone(fs_of(req)->fleet, dir->b);
}

void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	int rc = node_get(fs_of(req), parent, &dir);
	struct dead_mark mark;

	if (rc == 0 && (!node_is_stored(&dir) || ctl_is_reserved(&dir, name))) {
		ctl_unlink(req, &dir, name);
		return;
	}
	if (rc == 0 && dir.kind == NODE_DATA)
		rc = ctl_may_remove(req, &dir);
	if (rc == 0)
		rc = lock_may_go(req, &dir, name);
	if (rc == 0) {
		node_touch(fs_of(req), &dir);
		dead_mark(fs_of(req), &dir, name, &mark);
		rc = overlay_unlink(dir.o, dir.fid, name);
		dead_settle(&mark, rc);
		if (rc == 0)
			lock_went(req, &dir, name);
	}
	fs_reply_err(req, "unlink", &dir, rc);
}

void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	int rc = node_get(fs_of(req), parent, &dir);
	struct dead_mark mark;

	if (rc == 0 && !node_is_stored(&dir)) {
		ctl_rmdir(req, &dir, name);
		return;
	}
	if (rc == 0 && dir.kind == NODE_DATA)
		rc = ctl_may_remove(req, &dir);
	if (rc > 0)
		branch_renew_data(dir.b); /* the kernel takes it for gone */
	if (rc == 0) {
		node_touch(fs_of(req), &dir);
		dead_mark(fs_of(req), &dir, name, &mark);
		rc = overlay_rmdir(dir.o, dir.fid, name);
		dead_settle(&mark, rc);
	}
	fs_reply_err(req, "rmdir", &dir, rc);
}

static int rename_stored(fuse_req_t req, const struct node *dir, const char *name,
			 const struct node *newdir, const char *newname, unsigned flags)
{
	struct dead_mark mark;
	int rc;

	if (!node_is_stored(dir) || !node_is_stored(newdir))
		return fs_refuse(req, -EPERM,
				 "nothing can be moved out of data or into it");
	if (!same_tree(dir, newdir))
		return -EXDEV;
	if (ctl_is_reserved(dir, name) || ctl_is_reserved(newdir, newname))
		return -EPERM;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	rc = lock_may_go(req, dir, name);
	if (rc == 0)
		rc = lock_may_go(req, newdir, newname);
	if (rc < 0)
		return rc;
	node_touch(fs_of(req), dir);
	dead_mark(fs_of(req), newdir, newname, &mark);
	rc = overlay_rename(dir->o, dir->fid, name, newdir->fid, newname, flags);
	dead_settle(&mark, rc);
	if (rc == 0) {
		lock_went(req, dir, name);
		lock_went(req, newdir, newname);
	}
	return rc;
}

void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	       fuse_ino_t newparent, const char *newname, unsigned flags)
{
	CLEAN(node_put) struct node dir = NODE_INIT, newdir = NODE_INIT;
	int rc = check_name(newname);

	if (rc == 0)
		rc = node_get(fs_of(req), parent, &dir);
	if (rc == 0)
		rc = node_get(fs_of(req), newparent, &newdir);
	if (rc == 0 && !node_is_stored(&dir) && !node_is_stored(&newdir)) {
		ctl_rename(req, &dir, name, &newdir, newname, flags);
		return;
	}
	if (rc == 0)
		rc = rename_stored(req, &dir, name, &newdir, newname, flags);
	fs_reply_err(req, "rename", &dir, rc);
}

/* Node ids carry all there is to know; only what has no name any more is kept. */
void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)nlookup;
	handle_forget(ino);
	dead_forget(ino);
	fuse_reply_none(req);
}

void fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	CLEAN(clean_free) char *target = NULL;
	int rc = node_get(fs_of(req), ino, &n);

	if (rc == 0 && n.kind == NODE_DATA_LINK) {
		target = ctl_data_link(&n);
		rc = target ? 0 : -ENOMEM;
	} else if (rc == 0) {
		rc = node_is_stored(&n) ? overlay_readlink(n.o, n.fid, &target)
					: -EINVAL;
	}
	if (rc < 0)
		fs_reply_err(req, "readlink", &n, rc);
	else
		(void)fuse_reply_readlink(req, target);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attributes.  Permissions are the kernel's job (default_permissions); what is
 * left here is who may own what: data always belongs to the uid that the
 * branch's server runs under, a branch directory to its owner.
 */
#include "fs/ctlfs.h"
#include "fs/dead.h"
#include "fs/forget.h"
#include "fs/quotaguard.h"
#include "store/quota.h"

#include <string.h>

#define TO_SET_TIMES                                                                   \
	(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME |         \
	 FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME)
#define TO_SET_ACCESS (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)

void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	int rc = node_get(fs_of(req), ino, &n);
	struct stat st;

	if (rc == 0)
		rc = quotaguard_getattr(req, ino, &n, fi);
	if (rc == 0 && dead_stat(ino, &st)) {
		(void)fuse_reply_attr(req, &st, node_attr_timeout(&n, &st));
		return;
	}
	if (rc < 0)
		fs_reply_err(req, "getattr", NULL, rc);
	else
		fs_reply_attr(req, "getattr", &n);
}

/*
 * The kernel writes times of a file when it likes, also after the file's last close
 * and after its branch's end.  That nobody is left to see them is no error: it would
 * reach whoever calls syncfs next.
 */
static int setattr_stale(fuse_ino_t ino, const struct stat *attr, int to_set,
			 struct stat *ret_st)
{
	if (to_set & ~TO_SET_TIMES)
		return -ESTALE;
	*ret_st = (struct stat){.st_ino = ino,
				.st_mode = S_IFREG | 0600,
				.st_atim = attr->st_atim,
				.st_mtim = attr->st_mtim,
				.st_ctim = attr->st_mtim};
	return 0;
}

/*
 * data and run: everything that the kernel has checked already, but for owners.
 * The kernel sends times before every fsync, so they are answered with what the
 * store said about setting them, and not asked for again.
 */
static int setattr_stored(struct fs *fs, const struct node *n, const struct stat *attr,
			  int to_set, struct stat *ret_st)
{
	struct node_attr in, out;
	int rc;
	uid_t uid;
	gid_t gid;
	int what = 0;

	memset(&in, 0, sizeof(in));
	fleet_server_ids(fs->fleet, n->b, &uid, &gid);
	if ((to_set & FUSE_SET_ATTR_UID && attr->st_uid != uid) ||
	    (to_set & FUSE_SET_ATTR_GID && attr->st_gid != gid))
		return -EPERM;
	if (dead_setattr(node_ino(n), attr, to_set, ret_st))
		return 0;
	if (to_set & FUSE_SET_ATTR_MODE) {
		if (n->kind == NODE_RUN && n->fid == OVERLAY_ROOT)
			return -EPERM;
		what |= SET_MODE;
		in.mode = attr->st_mode & 07777;
	}
	if (to_set & FUSE_SET_ATTR_SIZE) {
		if (attr->st_size < 0)
			return -EINVAL;
		what |= SET_SIZE;
		in.size_bytes = (uint64_t)attr->st_size;
		quotaguard_truncated(n, in.size_bytes);
	}
	if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
		what |= SET_MTIME_NOW;
	} else if (to_set & FUSE_SET_ATTR_MTIME) {
		what |= SET_MTIME;
		in.mtime = attr->st_mtim;
	}
	if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
		what |= SET_ATIME_NOW;
	} else if (to_set & FUSE_SET_ATTR_ATIME) {
		what |= SET_ATIME;
		in.atime = attr->st_atim;
	}
	rc = what ? overlay_setattr(n->o, n->fid, what, &in, &out)
		  : overlay_getattr(n->o, n->fid, &out);
	if (rc == 0)
		node_fill_stat(fs, n, &out, ret_st);
	return rc;
}

/* `echo stopped > state` truncates first, the other writable ones likewise; times are
 * nobody's business. */
static int setattr_file(fuse_req_t req, const struct node *n, int to_set)
{
	if (to_set & TO_SET_ACCESS)
		return fs_refuse(req, -EPERM,
				 "the rights of this file are those of its directory");
	if (to_set & FUSE_SET_ATTR_SIZE) {
		if (!ctl_is_writable(n))
			return fs_refuse(req, -EPERM, "the file can only be read");
		node_bump_version();
	}
	return 0;
}

void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	struct fs *fs = fs_of(req);
	struct stat st;
	int rc = node_get(fs, ino, &n);

	(void)fi;
	if (rc == 0 && n.kind == NODE_BRANCH) {
		ctl_setattr_branch(req, &n, attr, to_set);
		return;
	}
	if (rc == 0) {
		if (node_is_stored(&n))
			rc = setattr_stored(fs, &n, attr, to_set, &st);
		else if (n.kind == NODE_ROOT_FILE || n.kind == NODE_BRANCH_FILE ||
			 n.kind == NODE_TRASHED_FILE)
			rc = setattr_file(req, &n, to_set);
		else if (to_set & ~TO_SET_TIMES)
			rc = fs_refuse(req, -EPERM, "this cannot be changed");
	}
	if (rc == -ESTALE && setattr_stale(ino, attr, to_set, &st) == 0)
		(void)fuse_reply_attr(req, &st, 0);
	else if (rc < 0)
		fs_reply_err(req, "setattr", &n, rc);
	else if (node_is_stored(&n))
		(void)fuse_reply_attr(req, &st, node_attr_timeout(&n, &st));
	else
		fs_reply_attr(req, "setattr", &n);
}

static void access_set(void *ctx, int rc, struct branch *b)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	struct wait *w = ctx;
	uid_t uid;
	gid_t gid;

	(void)b;
	if (rc >= 0) {
		fleet_server_ids(w->fs->fleet, w->b, &uid, &gid);
		if (uid != w->old_uid || gid != w->old_gid)
			forget_owners(w->fs, w->b);
		rc = node_make(w->b, NODE_BRANCH, FID_BRANCH, &n);
	}
	if (rc < 0)
		wait_reply_err(w, "setattr", rc);
	else
		fs_reply_attr(w->req, "setattr", &n);
	wait_free(w);
}

/*
 * The search bit for others that stat showed of such a branch comes back with
 * `chmod g+x`; without the read bit it is not taken for what is wanted.
 */
static mode_t mode_to_set(struct fs *fs, struct branch *b, mode_t mode)
{
	struct branch_info info;

	branch_info(b, &info);
	mode &= 07777;
	if (!(mode & S_IROTH) && node_has_service_uid(fs, b, &info))
		mode &= ~(mode_t)S_IXOTH;
	return mode;
}

void ctl_setattr_branch(fuse_req_t req, const struct node *n, const struct stat *attr,
			int to_set)
{
	struct wait *w;

	if (to_set & FUSE_SET_ATTR_MTIME && !(to_set & FUSE_SET_ATTR_MTIME_NOW)) {
		fs_reply_err(req, "setattr", n,
			     fs_refuse(req, -EPERM,
				       "a branch's time is that of its last activity"));
		return;
	}
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		branch_touch(n->b);
	if (!(to_set & TO_SET_ACCESS)) {
		fs_reply_attr(req, "setattr", n);
		return;
	}
	w = wait_new(req, n->b, NULL, NULL);
	if (!w)
		return;
	fleet_server_ids(w->fs->fleet, w->b, &w->old_uid, &w->old_gid);
	control_set_access(
		w->fs->control, &w->who, w->b,
		to_set & FUSE_SET_ATTR_MODE ? mode_to_set(w->fs, w->b, attr->st_mode)
					    : (mode_t)-1,
		to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
		to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1, access_set, w);
}

/* A branch with a quota shows that, as far as the store has so much. */
static void show_quota(struct branch *b, struct statvfs *st)
{
	uint64_t limit, used, left;

	if (!branch_quota_get(b, &limit, &used) || st->f_frsize == 0)
		return;
	left = used < limit ? (limit - used) / st->f_frsize : 0;
	st->f_blocks = limit / st->f_frsize;
	if (left < st->f_bavail)
		st->f_bavail = left;
	/* what is free and what is used add up to the size */
	st->f_bfree = st->f_bavail;
	if (used < limit && st->f_bfree < left)
		st->f_blocks = used / st->f_frsize + st->f_bfree;
}

void fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	struct statvfs st;
	int rc = registry_statvfs(fs_of(req)->reg, &st);

	if (rc == 0 && node_get(fs_of(req), ino, &n) == 0 && n.b)
		show_quota(n.b, &st);
	if (rc < 0) {
		fs_reply_err(req, "statfs", NULL, rc);
		return;
	}
	st.f_namemax = 255;
	(void)fuse_reply_statfs(req, &st);
}

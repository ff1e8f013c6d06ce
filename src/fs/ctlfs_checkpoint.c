/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NAME/checkpoints and .checkpoints: an empty directory for each checkpoint, which has
 * its time and what it holds on disk.
 *
 * .checkpoints has those whose branch was discarded, as NAME:CHECKPOINT.  Like .trash
 * it is found by its name and not listed.
 */
#include "fs/ctlfs.h"

#include <linux/fs.h>
#include <string.h>

/* Only reading: nothing can be made in it, or changed. */
#define CHECKPOINT_MODE 0555

static uint64_t fid_of(const struct node *dir, uint32_t seq)
{
	return (uint64_t)seq << 8 |
	       (dir->kind == NODE_CHECKPOINTS ? FID_CHECKPOINT : FID_LEFT);
}

/* The checkpoint that a name in one of the two directories stands for. */
static int find(fuse_req_t req, const struct node *dir, const char *name,
		struct checkpoint_info *ret_info)
{
	const char *colon = strchr(name, ':');
	CLEAN(clean_free) char *branch = NULL;
	struct caller who = fs_caller(req);
	int rc;

	if (dir->kind == NODE_CHECKPOINTS)
		return checkpoint_find(fs_of(req)->reg, dir->no, name, ret_info);
	if (!colon)
		return -ENOENT;
	branch = strndup(name, (size_t)(colon - name));
	if (!branch)
		return -ENOMEM;
	rc = checkpoint_find_left(fs_of(req)->reg, branch, colon + 1, ret_info);
	if (rc == 0 && !control_sees_left(fs_of(req)->control, &who, ret_info))
		rc = -ENOENT;
	return rc;
}

struct node ckpt_node(const struct node *dir, const struct checkpoint_info *info)
{
	return (struct node){dir->kind == NODE_CHECKPOINTS ? NODE_CHECKPOINT
							   : NODE_LEFT,
			     fid_of(dir, info->seq), info->no, dir->b, NULL};
}

int ckpt_stat(struct fs *fs, const struct node *n, struct stat *ret_st)
{
	struct checkpoint_info info;
	uint64_t bytes;
	int rc = checkpoint_find_seq(fs->reg, n->no, (uint32_t)(n->fid >> 8), &info);

	if (rc == 0 && info.left != (n->kind == NODE_LEFT))
		rc = -ENOENT;
	if (rc == 0)
		rc = checkpoint_held_bytes(fs->reg, info.no, info.seq, &bytes);
	if (rc < 0)
		return rc == -ENOENT ? -ESTALE : rc;
	ret_st->st_mode = S_IFDIR | (info.mode & CHECKPOINT_MODE);
	ret_st->st_uid = info.owner;
	ret_st->st_gid = info.group;
	ret_st->st_mtime = info.taken;
	ret_st->st_atim = ret_st->st_ctim = ret_st->st_mtim;
	ret_st->st_size = (off_t)bytes;
	ret_st->st_blocks = (blkcnt_t)(bytes / 512);
	return 0;
}

void ckpt_lookup(fuse_req_t req, const struct node *dir, const char *name)
{
	struct checkpoint_info info;
	struct node n;
	int rc = find(req, dir, name, &info);

	if (rc == -ENOENT) {
		ctl_reply_noent(req);
	} else if (rc < 0) {
		fs_reply_err(req, "lookup", dir, rc);
	} else {
		n = ckpt_node(dir, &info);
		fs_reply_node(req, "lookup", &n);
	}
}

static void taken(void *ctx, int rc, struct branch *b)
{
	struct wait *w = ctx;
	CLEAN(node_put) struct node dir = NODE_INIT;
	struct checkpoint_info info;
	struct fuse_entry_param e;
	struct stat st;
	struct node n;

	(void)b;
	if (rc >= 0)
		rc = node_make(w->b, NODE_CHECKPOINTS, FID_CHECKPOINTS, &dir);
	if (rc >= 0)
		rc = checkpoint_find(w->fs->reg, dir.no, w->name, &info);
	if (rc >= 0) {
		n = ckpt_node(&dir, &info);
		rc = node_stat(w->fs, &n, &w->who, &st);
	}
	if (rc < 0) {
		wait_reply_err(w, "mkdir", rc);
	} else {
		fs_fill_entry(w->fs, &n, &st, &e);
		(void)fuse_reply_entry(w->req, &e);
	}
	wait_free(w);
}

void ckpt_mkdir(fuse_req_t req, const struct node *dir, const char *name)
{
	struct wait *w = wait_new(req, dir->b, name, NULL);

	if (w)
		control_checkpoint(w->fs->control, &w->who, w->b, w->name, taken, w);
}

/* A process that takes the whole branch away takes no checkpoint: they live on. */
void ckpt_rmdir(fuse_req_t req, const struct node *dir, const char *name)
{
	struct checkpoint_info info;
	struct wait *w;
	int rc = dir->kind == NODE_CHECKPOINTS ? ctl_may_remove(req, dir) : 0;

	if (rc == 0)
		rc = find(req, dir, name, &info);
	if (rc != 0) {
		fs_reply_err(req, "rmdir", dir, rc < 0 ? rc : 0);
		return;
	}
	w = wait_new(req, NULL, NULL, NULL);
	if (w)
		control_drop_checkpoint(w->fs->control, &w->who, &info, ctl_change_done,
					w);
}

/* What the new name is within its directory: behind NAME: it is the checkpoint's. */
static const char *new_name(const struct node *dir, const struct checkpoint_info *info,
			    const char *newname)
{
	size_t len = strlen(info->branch);

	if (dir->kind == NODE_CHECKPOINTS)
		return newname;
	return strncmp(newname, info->branch, len) == 0 && newname[len] == ':'
		       ? newname + len + 1
		       : NULL;
}

void ckpt_rename(fuse_req_t req, const struct node *dir, const char *name,
		 const struct node *newdir, const char *newname, unsigned flags)
{
	struct checkpoint_info info;
	const char *to = NULL;
	struct wait *w;
	int rc = 0;

	if (newdir->kind != dir->kind || newdir->no != dir->no)
		rc = fs_refuse(req, -EPERM, "a checkpoint stays with its branch");
	else if (flags & ~(unsigned)RENAME_NOREPLACE)
		rc = fs_refuse(req, -EINVAL, "checkpoints cannot be exchanged");
	if (rc == 0)
		rc = find(req, dir, name, &info);
	if (rc == 0 && !(to = new_name(dir, &info, newname)))
		rc = fs_refuse(req, -EPERM,
			       "here a checkpoint's name begins with %s:", info.branch);
	if (rc < 0) {
		fs_reply_err(req, "rename", dir, rc);
		return;
	}
	w = wait_new(req, NULL, to, NULL);
	if (w)
		control_rename_checkpoint(w->fs->control, &w->who, &info, w->name,
					  ctl_change_done, w);
}

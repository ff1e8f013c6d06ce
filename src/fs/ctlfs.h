/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctlfs.h - the virtual part of the tree: the root, .run, .trash, checkpoints, the
 * branch directories and the files in them that say or ask something.
 *
 * Content is made when a file is opened and stays that of the handle; sizes are
 * made the same way.  Requests that change a branch go to control and are
 * answered when it has done them.
 */
#ifndef FS_CTLFS_H
#define FS_CTLFS_H

#include "ctl/status.h"
#include "fs/fs.h"
#include "fs/inode.h"

#define CTL_SOCKET_NAME ".s.PGSQL.5432"
#define CTL_DATA_NAME "data"
#define CTL_RUN_NAME ".run"
#define CTL_TRASH_NAME ".trash"
#define CTL_CHECKPOINTS_NAME "checkpoints"
#define CTL_LEFT_NAME ".checkpoints"

/* A virtual file.  Three tables: of the root, a branch, a branch in the trash. */
struct ctl_file {
	uint64_t fid;
	const char *name;
	mode_t mode;
	enum status_file what; /* unless it is the log */
};

/* Row i in the order of readdir, or NULL behind the last one. */
const struct ctl_file *ctl_file_at(enum node_kind kind, size_t i);
const struct ctl_file *ctl_file_named(enum node_kind kind, const char *name);

/* Is it a virtual file that takes writes? */
bool ctl_is_writable(const struct node *n);
/* stat of every node that no overlay serves. */
int ctl_stat(struct fs *fs, const struct node *n, const struct caller *who,
	     struct stat *ret_st) MUST_CHECK;
/* Where .run/NO/data points: a heap string, NULL when out of memory. */
char *ctl_data_link(const struct node *n);

/* An open virtual file. */
struct ctl_handle {
	char *text; /* owned; NULL for the log */
	size_t len;
	int log_fd; /* owned; -1: none */
};

int ctl_open(fuse_req_t req, const struct node *n, int flags,
	     struct ctl_handle *ret_h) MUST_CHECK;
void ctl_close(struct ctl_handle *h);
void ctl_read(fuse_req_t req, const struct node *n, const struct ctl_handle *h,
	      char *buf, size_t size, uint64_t off_bytes);
/* Answers, now or later. */
void ctl_write(fuse_req_t req, const struct node *n, const char *buf, size_t size);
/*
 * The kernel keeps a regular file's size to itself once it knows it (writeback
 * mode); this makes it see that a log has grown.
 */
void ctl_show_growth(struct fs *fs, const struct node *n, const struct stat *st);

/* ctlfs_dir.c: names in virtual directories.  Each answers, now or later. */
void ctl_lookup(fuse_req_t req, const struct node *dir, const char *name);
void ctl_mkdir(fuse_req_t req, const struct node *dir, const char *name);
void ctl_unlink(fuse_req_t req, const struct node *dir, const char *name);
void ctl_rmdir(fuse_req_t req, const struct node *dir, const char *name);
void ctl_rename(fuse_req_t req, const struct node *dir, const char *name,
		const struct node *newdir, const char *newname, unsigned flags);
/* Answers a lookup with a node of branch b (NULL: of the root level). */
void ctl_reply_made(fuse_req_t req, struct branch *b, enum node_kind kind,
		    uint64_t fid);
/* b (may be NULL), or NULL, with the reference gone, if the caller does not see it. */
struct branch *ctl_seen(fuse_req_t req, struct branch *b);
/* A look-up of a socket of b: if it is for a connect, may that be? */
int ctl_connect(fuse_req_t req, struct branch *b) MUST_CHECK;
/* Answers a request to which there is no such name. */
void ctl_reply_noent(fuse_req_t req);
/* control_done of a struct wait: the answer is only how it went. */
void ctl_change_done(void *ctx, int rc, struct branch *b);

/* ctlfs_trash.c: the same for .trash and what is in it. */
void trash_lookup(fuse_req_t req, const struct node *dir, const char *name);
void trash_unlink(fuse_req_t req, const struct node *dir, const char *name);
void trash_rmdir(fuse_req_t req, const struct node *dir, const char *name);
/* Into the root: brings a branch back. */
void trash_rename(fuse_req_t req, const char *name, const char *newname);

/* ctlfs_checkpoint.c: the same for checkpoints of branches, and of discarded ones. */
int ckpt_stat(struct fs *fs, const struct node *n, struct stat *ret_st) MUST_CHECK;
void ckpt_lookup(fuse_req_t req, const struct node *dir, const char *name);
void ckpt_mkdir(fuse_req_t req, const struct node *dir, const char *name);
void ckpt_rmdir(fuse_req_t req, const struct node *dir, const char *name);
void ckpt_rename(fuse_req_t req, const struct node *dir, const char *name,
		 const struct node *newdir, const char *newname, unsigned flags);
/* The node of one in the directory dir, whose reference on the branch it borrows. */
struct node ckpt_node(const struct node *dir, const struct checkpoint_info *info);
/* The answer to what cannot be made in a virtual directory: noted -EPERM. */
int ctl_refuse_making(fuse_req_t req, const struct node *dir);
/* Is name one that a run directory shows besides its objects? */
bool ctl_is_reserved(const struct node *dir, const char *name);
/*
 * May the caller remove something of the branch's data?  Noted -EPERM, 0, or 1: it is
 * taking the whole branch away, and is to find nothing in data; what it removes there
 * all the same stays for the branch's own end.
 */
int ctl_may_remove(fuse_req_t req, const struct node *dir) MUST_CHECK;
/* chmod, chown and touch of a branch directory; answers. */
void ctl_setattr_branch(fuse_req_t req, const struct node *n, const struct stat *attr,
			int to_set);

#endif

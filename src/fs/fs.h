/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs.h - what the files of this folder share: the mount's state, answers, and the
 * operations behind libfuse's table.
 *
 * Every operation answers its request exactly once, at once or through a struct
 * wait.  A worker never waits for a server, the loop or this mount: it would be
 * missing when they ask it something.
 */
#ifndef FS_FS_H
#define FS_FS_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif

#include "ctl/control.h"
#include "fs/reqstat.h"

#include <fuse_lowlevel.h>
#include <stdatomic.h>

struct node;

/* One mount.  Set before the workers start, then constant but for the atomics and what
 * says its lock. */
struct fs {
	struct control *control;
	struct registry *reg;
	struct fleet *fleet;
	struct fuse_session *se;
	uid_t uid; /* who owns the root and the files in it */
	gid_t gid;
	time_t mounted;
	atomic_bool inited; /* the kernel's INIT was answered */
	atomic_uint waits;  /* requests whose answer is still to come */

	pthread_mutex_t notify; /* held over each message to the kernel (forget.h) */
	bool ended;             /* lock: notify */
	bool no_prune;          /* lock: notify; the kernel is too old */
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Who asks. */
struct caller fs_caller(fuse_req_t req);
/* Keeps a sentence for the caller's .error; returns code. */
int fs_refuse(fuse_req_t req, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Answers with an error; op and n (may be NULL) are for the log when it is EIO. */
void fs_reply_err(fuse_req_t req, const char *op, const struct node *n, int rc);
/* Answers with a name that stands for n. */
void fs_reply_node(fuse_req_t req, const char *op, const struct node *n);
/* The same from attributes in hand. */
void fs_fill_entry(struct fs *fs, const struct node *n, const struct stat *st,
		   struct fuse_entry_param *ret_e);
void fs_reply_attr(fuse_req_t req, const char *op, const struct node *n);

/*
 * A request that is answered later, from whatever thread has the answer.  The
 * strings are copies: a request's own end when its handler returns.
 */
struct wait {
	fuse_req_t req;
	struct fs *fs;
	struct caller who;
	struct branch *b; /* referenced, or NULL */
	char *name, *name2;
	struct reqstat stat;
	size_t size;   /* of what was written */
	uid_t old_uid; /* whose data it was before a chown */
	gid_t old_gid;
};

/* NULL when out of memory (then the request was answered). */
struct wait *wait_new(fuse_req_t req, struct branch *b, const char *name,
		      const char *name2);
/* fs_reply_err for it. */
void wait_reply_err(struct wait *w, const char *op, int rc);
/* After the answer. */
void wait_free(struct wait *w);

/* fs_dir.c, fs_readdir.c */
void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	      dev_t rdev);
void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	       fuse_ino_t newparent, const char *newname, unsigned flags);
void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		const char *name);
void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fs_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi);
void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		 struct fuse_file_info *fi);

/* fs_file.c */
void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	     struct fuse_file_info *fi);
void fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi);
void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* Frees what the calling worker kept for its reads. */
void fs_file_end_thread(void);

/* fs_attr.c */
void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi);
void fs_statfs(fuse_req_t req, fuse_ino_t ino);

#endif

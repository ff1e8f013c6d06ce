/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inode.h - node ids: what a number from the kernel stands for, and back.
 *
 * Node ids carry all there is to know, so there is no inode table, a FORGET means
 * nothing (but for objects that lost their name, see dead.c) and a new daemon
 * understands the numbers of the old one.  A struct
 * node is what a request works on: it holds a reference on its branch, and on the
 * overlay that it is in, until node_put.  No locks here.
 */
#ifndef FS_INODE_H
#define FS_INODE_H

#include "fs/fs.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum node_kind {
	NODE_ROOT,         /* the mount's root: one directory a branch */
	NODE_ROOT_FILE,    /* README and its like */
	NODE_RUN_TOP,      /* .run */
	NODE_BRANCH,       /* NAME */
	NODE_BRANCH_FILE,  /* NAME/status and its like */
	NODE_DATA_LINK,    /* .run/NO/data */
	NODE_DATA,         /* NAME/data and all below */
	NODE_RUN,          /* .run/NO and all below */
	NODE_TRASH_TOP,    /* .trash */
	NODE_TRASHED,      /* .trash/NAME@TIME */
	NODE_TRASHED_FILE, /* .trash/NAME@TIME/status */
	NODE_CHECKPOINTS,  /* NAME/checkpoints */
	NODE_CHECKPOINT,   /* NAME/checkpoints/CHECKPOINT */
	NODE_LEFT_TOP,     /* .checkpoints */
	NODE_LEFT,         /* .checkpoints/NAME:CHECKPOINT, without a branch */
};

/* The virtual objects' fids.  ROOT_ ones go with branch number 0. */
enum {
	FID_ROOT_README = 2,
	FID_ROOT_ERROR,
	FID_ROOT_TREE,
	FID_ROOT_METRICS,
	FID_ROOT_UPKEEP,
	FID_ROOT_RUN,
	FID_ROOT_TRASH,
	FID_ROOT_LEFT,

	FID_BRANCH = 1,
	FID_STATUS,
	FID_STATUS_JSON,
	FID_STATE,
	FID_URL,
	FID_PARENT,
	FID_OWNER,
	FID_EXPIRES,
	FID_PROTECTED,
	FID_ROLLBACK,
	FID_RESET,
	FID_LOG,
	FID_DATA_LINK,
	FID_SOCKET, /* in listings only */
	FID_TRASHED,
	FID_TRASHED_STATUS,
	FID_CHECKPOINTS,
	FID_CHECKPOINT, /* with its number above the low eight bits */
	FID_LEFT,       /* likewise */
};

struct node {
	enum node_kind kind;
	uint64_t fid;      /* as the overlay or the enum above knows it */
	uint32_t no;       /* branch number, 0 for the root level */
	struct branch *b;  /* referenced; NULL for the root level */
	struct overlay *o; /* NODE_DATA and NODE_RUN: referenced */
};

#define NODE_INIT                                                                      \
	{                                                                              \
		NODE_ROOT, 0, 0, NULL, NULL                                            \
	}

/* Resolves a node id.  -ESTALE when it stands for nothing (any more). */
int node_get(struct fs *fs, fuse_ino_t ino, struct node *ret_node) MUST_CHECK;
/* A node of branch b, on which it takes a reference. */
int node_make(struct branch *b, enum node_kind kind, uint64_t fid,
	      struct node *ret_node) MUST_CHECK;
/* Gives branch and overlay back; a cleaner. */
void node_put(struct node *n);
/* What n was, with its references; n is a NODE_INIT from then on. */
struct node node_take(struct node *n);

/* Is it served from an overlay? */
static inline bool node_is_stored(const struct node *n)
{
	return n->kind == NODE_DATA || n->kind == NODE_RUN;
}

/* Is it a directory of checkpoints? */
static inline bool node_has_checkpoints(const struct node *n)
{
	return n->kind == NODE_CHECKPOINTS || n->kind == NODE_LEFT_TOP;
}

/* Is it about a branch in the trash? */
static inline bool node_is_trash(const struct node *n)
{
	return n->kind == NODE_TRASHED || n->kind == NODE_TRASHED_FILE;
}

/* Is dir/name the lock file of a data directory? */
bool node_is_lock(const struct node *dir, const char *name);
/* The number that stat shows: unique in the mount, the same after a remount. */
uint64_t node_ino(const struct node *n);
/*
 * The number that the kernel knows it by: node_ino, but for a virtual file also
 * a version, see inode.c.  st: its present attributes.
 */
fuse_ino_t node_id(const struct node *n, const struct stat *st);
/* Writing to a virtual file leaves the kernel with a size of its own: move on. */
void node_bump_version(void);

/*
 * The server of a root-owned branch runs under a service uid.  It must pass through
 * NAME, which is root's: NAME shows the search bit for others then, and what this
 * would open is closed one step further, by this mask of permissions on the
 * socket and the virtual files.  0777 where server and owner are one.
 */
mode_t node_access_mask(struct fs *fs, struct branch *b,
			const struct branch_info *info);
/* Is it so with this branch? */
bool node_has_service_uid(struct fs *fs, struct branch *b,
			  const struct branch_info *info);

/*
 * Something of the branch's data is about to be changed: that is activity, unless its
 * own server does it, which is asked what it does.
 */
void node_touch(struct fs *fs, const struct node *n);

/* stat's answer for an object of an overlay. */
void node_fill_stat(struct fs *fs, const struct node *n, const struct node_attr *a,
		    struct stat *ret_st);
/* stat's answer for any node; who: whose texts are meant, nothing else depends on it.
 */
int node_stat(struct fs *fs, const struct node *n, const struct caller *who,
	      struct stat *ret_st) MUST_CHECK;
/* How long the kernel may keep that a name stands for n, and attributes of n. */
double node_entry_timeout(struct fs *fs, const struct node *n);
double node_attr_timeout(const struct node *n, const struct stat *st);
/* How long it may keep that a name is not in directory dir. */
double node_absent_timeout(const struct node *dir);

#endif

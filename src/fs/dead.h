/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dead.h - objects that lost their last name while somebody may hold them: a working
 * directory, an open fifo, a file between the lookup of its name and its opening.
 *
 * The kernel says when nobody does any more: it forgets the node.  Until then the bytes
 * of a regular file stay; of all others only the attributes are kept, as the
 * store drops them at once.  Thread-safe.
 */
#ifndef FS_DEAD_H
#define FS_DEAD_H

#include "base/cleanup.h"
#include "fs/inode.h"

struct cowfile;

/* What stands at dir/name and goes with that name; ino 0: nothing that matters. */
struct dead_mark {
	fuse_ino_t ino;
	struct stat st;
	struct cowfile *f; /* of a regular file: open */
	struct node n;     /* referenced while f is open */
};

/* Before a removal: takes note of what it will leave without a name. */
void dead_mark(struct fs *fs, const struct node *dir, const char *name,
	       struct dead_mark *ret_mark);
/* After it, whatever rc it had.  Takes the mark over. */
void dead_settle(struct dead_mark *m, int rc);

/* False if the store can say it, or nobody can. */
bool dead_stat(fuse_ino_t ino, struct stat *ret_st) MUST_CHECK;
/* Changes mode and times as FUSE_SET_ATTR_ bits say; false as above. */
bool dead_setattr(fuse_ino_t ino, const struct stat *attr, int to_set,
		  struct stat *ret_st) MUST_CHECK;

/* The kernel does not know the node any more. */
void dead_forget(fuse_ino_t ino);
void dead_free_all(void);

#endif

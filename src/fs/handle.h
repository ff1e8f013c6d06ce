/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * handle.h - open files, found by the number of the node that is open.
 *
 * A handle is what this daemon has at hand for a node: it spares opening the file for
 * each request, and keeps branch and bytes of a file that was removed meanwhile.  It is
 * not needed to understand a request: for one whose open this daemon has not seen, as
 * it took the mount over, it makes one from the node's number.  fi->fh says only whose
 * open it was and, of a virtual file, which content goes with it.
 *
 * Thread-safe; no lock is held over anything that may wait.
 */
#ifndef FS_HANDLE_H
#define FS_HANDLE_H

#include "fs/ctlfs.h"

struct cowfile;

struct handle {
	struct node n;         /* with its references */
	struct cowfile *f;     /* of a stored file */
	struct ctl_handle ctl; /* of a virtual one */
	/* private, lock: of its row */
	struct handle *next;
	fuse_ino_t ino;
	uint64_t content; /* fi->fh of a virtual file; 0: stored */
	unsigned opens, users;
	bool adopted; /* made for an open that this daemon has not seen */
};

/*
 * Counts an open of node n, whose number is ino, sets fi->fh, and takes n's references
 * over.  The handle is in use until handle_put.
 */
int handle_open(fuse_req_t req, fuse_ino_t ino, struct node *n,
		struct fuse_file_info *fi, struct handle **ret_h) MUST_CHECK;
/* The handle for a request with fi, until handle_put.  -ESTALE: its node is gone. */
int handle_get(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
	       struct handle **ret_h) MUST_CHECK;
struct handle *handle_put(struct handle *h); /* NULL is fine; returns NULL */
/* The open that fi stands for has ended. */
void handle_release(fuse_ino_t ino, const struct fuse_file_info *fi);
/* The kernel does not know the node any more, so nobody has it open. */
void handle_forget(fuse_ino_t ino);
/* Closes what is still open, when the last worker has ended. */
void handle_close_all(void);
/* How many opens there are. */
unsigned handle_count(void);

static inline void handle_clean(struct handle **h)
{
	(void)handle_put(*h);
}

#endif

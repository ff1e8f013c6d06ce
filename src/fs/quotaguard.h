/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quotaguard.h - what is asked of a branch's quota before something in it grows.
 */
#ifndef FS_QUOTAGUARD_H
#define FS_QUOTAGUARD_H

#include "fs/handle.h"

/* Before bytes are written; late: they are from the kernel's cache, whose writer was
 * told that they are written. */
int quotaguard_write(const struct handle *h, bool late, size_t len,
		     uint64_t off_bytes) MUST_CHECK;
int quotaguard_fallocate(const struct handle *h, int mode, uint64_t off_bytes,
			 uint64_t len) MUST_CHECK;
/*
 * The kernel asks for attributes of an open file before it takes a write into its
 * cache: may that be written?
 */
int quotaguard_getattr(fuse_req_t req, fuse_ino_t ino, const struct node *n,
		       const struct fuse_file_info *fi) MUST_CHECK;

/* The file has another size now. */
void quotaguard_truncated(const struct node *n, uint64_t size_bytes);

/* What a thread is writing, from the text of /proc/TID/syscall; pure. */
struct write_call {
	int fd;       /* -1: not told */
	uint64_t len; /* 0: not told */
	bool at;      /* at off; otherwise where the descriptor stands */
	uint64_t off;
};
/* false: it does not write. */
bool quotaguard_parse(const char *text, struct write_call *ret_call);

#endif

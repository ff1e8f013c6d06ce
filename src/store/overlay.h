/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * overlay.h - the directory tree of one branch: names and attributes over a chain
 * of layers, of which only the top is written.
 *
 * Objects are addressed by fid, a number that a file, directory, symlink,
 * fifo or socket keeps for life, whatever its name, in this branch and in those
 * made from it.  Copy-up never changes it.  OVERLAY_ROOT is the top directory.
 *
 * An overlay is reference counted: branch_data_get and branch_run_get hand one out,
 * overlay_put gives it back.
 *
 * All functions are thread-safe and return 0 or -errno.  Names are single
 * components without '/', checked by the caller for "." and "..".  No function
 * keeps a lock over an fsync.  Ownership of objects is not stored here: the
 * caller presents one uid and gid for the whole tree.
 */
#ifndef STORE_OVERLAY_H
#define STORE_OVERLAY_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct overlay;
struct cowfile;

#define OVERLAY_ROOT UINT64_C(256) /* smaller numbers are free for the caller's use */
#define OVERLAY_WAL_DIR "pg_wal"   /* of the root; its files are cowfile_is_wal */
#define OVERLAY_FID_BITS 36        /* every fid is below 2^36 */

struct node_attr {
	uint64_t fid;
	mode_t mode; /* type and permission bits */
	uint32_t nlink;
	uint64_t size_bytes;
	uint64_t blocks; /* 512-byte blocks that only this branch holds */
	struct timespec atime, mtime, ctime;
};

enum {
	SET_MODE = 1,
	SET_SIZE = 2,
	SET_MTIME = 4,
	SET_MTIME_NOW = 8,
	SET_ATIME = 16,
	SET_ATIME_NOW = 32,
};
#define SET_TIMES (SET_MTIME | SET_MTIME_NOW | SET_ATIME | SET_ATIME_NOW)

struct overlay *overlay_get(struct overlay *o);
struct overlay *overlay_put(struct overlay *o); /* NULL is fine; returns NULL */
/* CLEAN(overlay_putp): gives a local reference back. */
static inline void overlay_putp(struct overlay **o)
{
	*o = overlay_put(*o);
}

int overlay_lookup(struct overlay *o, uint64_t dir, const char *name,
		   struct node_attr *ret_attr) MUST_CHECK;
int overlay_getattr(struct overlay *o, uint64_t fid,
		    struct node_attr *ret_attr) MUST_CHECK;
/* what: SET_ bits; in->mode, size_bytes, mtime and atime are used as it says.  Reading
 * a file leaves its atime alone. */
int overlay_setattr(struct overlay *o, uint64_t fid, int what,
		    const struct node_attr *in, struct node_attr *ret_attr) MUST_CHECK;

/* Makes a regular file, directory, fifo or socket by mode's type; -EEXIST. */
int overlay_mknod(struct overlay *o, uint64_t dir, const char *name, mode_t mode,
		  struct node_attr *ret_attr) MUST_CHECK;
int overlay_symlink(struct overlay *o, uint64_t dir, const char *name,
		    const char *target, struct node_attr *ret_attr) MUST_CHECK;
/* *ret_target is a heap string. */
int overlay_readlink(struct overlay *o, uint64_t fid, char **ret_target) MUST_CHECK;
int overlay_link(struct overlay *o, uint64_t fid, uint64_t dir, const char *name,
		 struct node_attr *ret_attr) MUST_CHECK;
int overlay_unlink(struct overlay *o, uint64_t dir, const char *name) MUST_CHECK;
int overlay_rmdir(struct overlay *o, uint64_t dir, const char *name) MUST_CHECK;
/* flags: 0, RENAME_NOREPLACE; RENAME_EXCHANGE gives -EINVAL. */
int overlay_rename(struct overlay *o, uint64_t dir, const char *name, uint64_t newdir,
		   const char *newname, unsigned flags) MUST_CHECK;

/*
 * Calls fn for each entry whose cookie is greater than `after` (0: from the
 * start), in the order of cookies, without "." and "..".  Cookies stay valid
 * while entries come and go, and are below 2^63.  fn returns false to stop.
 */
int overlay_readdir(struct overlay *o, uint64_t dir, uint64_t after,
		    bool (*fn)(void *ctx, const char *name, uint64_t fid, mode_t type,
			       uint64_t cookie),
		    void *ctx) MUST_CHECK;
/* fsync of a directory: its entries, and what they name, survive a power cut. */
int overlay_fsyncdir(struct overlay *o, uint64_t dir) MUST_CHECK;

/*
 * Opens a regular file; -EISDIR, -EINVAL for other types.  The reference keeps
 * the bytes of an unlinked file.  overlay_close gives it back; NULL is fine.
 */
int overlay_open(struct overlay *o, uint64_t fid, struct cowfile **ret_file) MUST_CHECK;
void overlay_close(struct overlay *o, struct cowfile *f);

/*
 * Makes durable what was written and not fsynced, as a file system does by itself
 * after a while: a file's map exists in memory only until then.
 */
int overlay_sync(struct overlay *o) MUST_CHECK;

/* Walks a path of components from the root; for the daemon's own use. */
int overlay_walk(struct overlay *o, const char *path,
		 struct node_attr *ret_attr) MUST_CHECK;
/* Reads a whole small file by path; heap buffer, NUL behind it; -EFBIG over max. */
int overlay_read_file(struct overlay *o, const char *path, size_t max_bytes,
		      char **ret_buf, size_t *ret_len) MUST_CHECK;
/* Writes a whole small file by path, replacing it; its directory must exist. */
int overlay_write_file(struct overlay *o, const char *path, const void *buf, size_t len,
		       mode_t mode) MUST_CHECK;

/*
 * Calls fn after every write to the file named `name` in the root directory, on
 * the writer's thread, with no lock held.  One watch for the overlay's life:
 * files opened before it are not watched, a second call changes nothing.
 */
void overlay_watch(struct overlay *o, const char *name, void (*fn)(void *ctx),
		   void *ctx);

/* The number that node ids of its objects have. */
uint32_t overlay_no(const struct overlay *o);
/* Was the branch rolled back, so that it stands for nothing any more? */
bool overlay_is_gone(const struct overlay *o);
/* How many layers the branch stands on, its own top included. */
unsigned overlay_depth(const struct overlay *o);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fd.h - whole reads and writes, and the one durable way to replace a file.
 *
 * Everything returns 0 or a count, or -errno.  Every descriptor made here is
 * O_CLOEXEC.  Knows no formats.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads up to len bytes at off until EOF; returns the count read. */
ssize_t fd_pread_full(int fd, void *buf, size_t len, uint64_t off_bytes) MUST_CHECK;
/* Writes all len bytes at off; 0 or -errno. */
int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off_bytes) MUST_CHECK;
/* Writes all len bytes at the file position; 0 or -errno. */
int fd_write_full(int fd, const void *buf, size_t len) MUST_CHECK;
/*
 * Reads a whole file into a heap buffer with a NUL behind it.  -EFBIG over
 * max_bytes.  *ret_len may be NULL.
 */
int fd_read_file(int dirfd, const char *path, size_t max_bytes, char **ret_buf,
		 size_t *ret_len) MUST_CHECK;
/*
 * The same for a file that must be one of ours: -EISDIR for a directory, -ELOOP for a
 * symlink, -EBADMSG for anything else that is no regular file.  Never waits, as
 * reading a fifo would.
 */
int fd_read_regular(int dirfd, const char *path, size_t max_bytes, char **ret_buf,
		    size_t *ret_len) MUST_CHECK;
/* Opens one like that (O_CLOEXEC and O_NONBLOCK are added); the descriptor. */
int fd_open_regular(int dirfd, const char *path, int flags) MUST_CHECK;
/*
 * Replaces dirfd/path by buf, atomically: temp file beside it, write, fsync,
 * rename; with sync_dir also fsync of the directory.  When it returns 0 with
 * sync_dir, the new content survives a power cut; on failure the old stays
 * (when only the fsync of the directory failed, either may be found later).
 * mode is exact, whatever the umask.
 */
int fd_replace_file(int dirfd, const char *path, const void *buf, size_t len,
		    mode_t mode, int sync_dir) MUST_CHECK;
/*
 * Is name (a last component) one that fd_replace_file uses for its temp files?
 * One that outlives the process was left by a crash and may be removed.
 */
bool fd_is_temp(const char *name);
/* fsync of the directory dirfd/path ("." or NULL for dirfd itself). */
int fd_sync_dir(int dirfd, const char *path) MUST_CHECK;
/* Makes `to` share all bytes of `from`, where the file system can do that. */
int fd_clone(int from, int to) MUST_CHECK;
/* Copies len bytes between files (copy_file_range, else read and write).
 * -ENODATA: from ended first. */
int fd_copy_range(int from, uint64_t from_off, int to, uint64_t to_off,
		  uint64_t len) MUST_CHECK;
/* mkdirat() for which an existing directory is success (-ENOTDIR: it is
 * something else). */
int fd_mkdir(int dirfd, const char *path, mode_t mode) MUST_CHECK;
/* Removes dirfd/path and all below it; a missing path is success. */
int fd_remove_tree(int dirfd, const char *path) MUST_CHECK;

#endif

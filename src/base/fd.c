/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replacing a file: the temp file is made with O_EXCL under a name of its own, so
 * it can neither be too long for the directory nor overwrite a file of that name;
 * what a crash leaves behind is recognised by fd_is_temp().
 *
 * Removing a tree: its depth was chosen by clients, so neither the stack nor the
 * number of open descriptors may depend on it.  A directory below REMOVE_DEPTH is
 * moved up to the root of the tree and removed from there in the next round.
 */
#include "base/fd.h"

#include "base/fault.h"
#include "base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define TEMP_PREFIX ".tmp-"
#define REMOVE_DEPTH 16
#define COPY_BUF_BYTES (128 * 1024)

static bool off_fits(uint64_t off_bytes, uint64_t len)
{
	uint64_t end;

	return !__builtin_add_overflow(off_bytes, len, &end) && end <= INT64_MAX;
}

ssize_t fd_pread_full(int fd, void *buf, size_t len, uint64_t off_bytes)
{
	size_t done = 0;

	if (len > SSIZE_MAX || !off_fits(off_bytes, len))
		return -EINVAL;
	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done,
				  (off_t)(off_bytes + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off_bytes)
{
	size_t done = 0;

	if (!off_fits(off_bytes, len))
		return -EFBIG;
	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done,
				   (off_t)(off_bytes + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int fd_write_full(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* Reads to the end; files of proc and of FUSE may say size 0, so the buffer grows. */
static int read_all(int fd, size_t max_bytes, char **ret_buf, size_t *ret_len)
{
	CLEAN(clean_free) char *buf = NULL;
	size_t len = 0, cap = 4096;

	for (;;) {
		char *bigger = realloc(buf, cap + 1);
		ssize_t n;

		if (!bigger)
			return -ENOMEM;
		buf = bigger;
		do {
			n = read(fd, buf + len, cap - len);
		} while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > max_bytes)
			return -EFBIG;
		if (len == cap) {
			if (cap > SIZE_MAX / 4)
				return -EFBIG;
			cap *= 2;
		}
	}
	buf[len] = '\0';
	*ret_buf = steal(buf);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int fd_read_file(int dirfd, const char *path, size_t max_bytes, char **ret_buf,
		 size_t *ret_len)
{
	CLEAN(clean_fd) int fd = -1;

	if (FAULT_FAILS("fd.read-file", path))
		return -errno;
	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : read_all(fd, max_bytes, ret_buf, ret_len);
}

int fd_open_regular(int dirfd, const char *path, int flags)
{
	/* without O_NONBLOCK the open of a fifo waits for its other end */
	CLEAN(clean_fd)
	int fd = openat(dirfd, path,
			flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EBADMSG;
	return steal_fd(&fd);
}

int fd_read_regular(int dirfd, const char *path, size_t max_bytes, char **ret_buf,
		    size_t *ret_len)
{
	CLEAN(clean_fd) int fd = -1;

	if (FAULT_FAILS("fd.read-file", path))
		return -errno;
	fd = fd_open_regular(dirfd, path, O_RDONLY);
	return fd < 0 ? fd : read_all(fd, max_bytes, ret_buf, ret_len);
}

bool fd_is_temp(const char *name)
{
	return strncmp(name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0;
}

/* A new file beside path; *ret_name is relative to dirfd. */
static int temp_open(int dirfd, const char *path, char **ret_name)
{
	static atomic_uint counter;
	const char *slash = strrchr(path, '/');
	int dir_len = slash ? (int)(slash - path + 1) : 0;

	for (;;) {
		CLEAN(clean_free) char *name = NULL;
		int fd;

		name = text_format("%.*s" TEMP_PREFIX "%d-%u", dir_len, path,
				   (int)getpid(), atomic_fetch_add(&counter, 1));
		if (!name)
			return -ENOMEM;
		fd = FAULT_FAILS("fd.replace.open", path)
			     ? -1
			     : openat(dirfd, name,
				      O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0) {
			*ret_name = steal(name);
			return fd;
		}
		if (errno != EEXIST)
			return -errno;
	}
}

static int temp_fill(int fd, const char *path, const void *buf, size_t len, mode_t mode)
{
	int rc = FAULT_FAILS("fd.replace.write", path) ? -errno
						       : fd_write_full(fd, buf, len);

	if (rc < 0)
		return rc;
	if (fchmod(fd, mode) < 0 || FAULT_FAILS("fd.replace.fsync", path) ||
	    fsync(fd) < 0)
		return -errno;
	return 0;
}

int fd_replace_file(int dirfd, const char *path, const void *buf, size_t len,
		    mode_t mode, int sync_dir)
{
	CLEAN(clean_free) char *temp = NULL;
	CLEAN(clean_free) char *dir = NULL;
	const char *slash = strrchr(path, '/');
	int fd, rc;

	if (slash && sync_dir) {
		dir = strndup(path, (size_t)(slash - path + 1));
		if (!dir)
			return -ENOMEM;
	}
	fd = temp_open(dirfd, path, &temp);
	if (fd < 0)
		return fd;
	rc = temp_fill(fd, path, buf, len, mode);
	/* some file systems report a failed write only here */
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0) {
		FAULT_POINT("fd.replace.written");
		if (FAULT_FAILS("fd.replace.rename", path) ||
		    renameat(dirfd, temp, dirfd, path) < 0)
			rc = -errno;
	}
	if (rc < 0) {
		(void)unlinkat(dirfd, temp, 0); /* the first error counts */
		return rc;
	}
	FAULT_POINT("fd.replace.renamed");
	return sync_dir ? fd_sync_dir(dirfd, dir) : 0;
}

int fd_sync_dir(int dirfd, const char *path)
{
	CLEAN(clean_fd) int fd = -1;

	fd = openat(dirfd, path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || FAULT_FAILS("fd.sync-dir", path) || fsync(fd) < 0)
		return -errno;
	return 0;
}

static int copy_by_hand(int from, uint64_t from_off, int to, uint64_t to_off,
			uint64_t len)
{
	CLEAN(clean_free) char *buf = malloc(COPY_BUF_BYTES);

	if (!buf)
		return -ENOMEM;
	while (len > 0) {
		size_t want = len < COPY_BUF_BYTES ? (size_t)len : COPY_BUF_BYTES;
		ssize_t n = fd_pread_full(from, buf, want, from_off);
		int rc;

		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ENODATA;
		rc = fd_pwrite_full(to, buf, (size_t)n, to_off);
		if (rc < 0)
			return rc;
		from_off += (uint64_t)n;
		to_off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int fd_clone(int from, int to)
{
	return ioctl(to, FICLONE, from) < 0 ? -errno : 0;
}

int fd_copy_range(int from, uint64_t from_off, int to, uint64_t to_off, uint64_t len)
{
	if (!off_fits(from_off, len) || !off_fits(to_off, len))
		return -EFBIG;
	while (len > 0) {
		off_t in = (off_t)from_off, out = (off_t)to_off;
		size_t want = len < (1U << 30) ? (size_t)len : (1U << 30);
		ssize_t n = copy_file_range(from, &in, to, &out, want, 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* 0 is the end of file, or a file system that cannot tell */
		if (n == 0 ||
		    (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS ||
			       errno == EOPNOTSUPP || errno == EPERM)))
			return copy_by_hand(from, from_off, to, to_off, len);
		if (n < 0)
			return -errno;
		from_off += (uint64_t)n;
		to_off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int fd_mkdir(int dirfd, const char *path, mode_t mode)
{
	struct stat st;

	if (!FAULT_FAILS("fd.mkdir", path) && mkdirat(dirfd, path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (fstatat(dirfd, path, &st, 0) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

struct removal {
	int rootfd;
	unsigned moved; /* directories moved up so far */
	bool again;     /* some were moved in this round */
};

static void clean_dir(DIR **d)
{
	int saved = errno;

	if (*d)
		(void)closedir(*d); /* only read */
	errno = saved;
}

static int open_for_removal(int dirfd, const char *name)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);

	/* a directory of ours that its client made unreadable */
	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
		fd = openat(dirfd, name, flags);
	return fd < 0 ? -errno : fd;
}

static int move_up(struct removal *r, int dirfd, const char *name)
{
	for (;;) {
		char to[32];

		(void)snprintf(to, sizeof(to), ".deep-%u", r->moved++); /* it fits */
		if (renameat2(dirfd, name, r->rootfd, to, RENAME_NOREPLACE) == 0) {
			r->again = true;
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
}

static int remove_entry(struct removal *r, int dirfd, const char *name, unsigned depth);

/* Removes what is in the directory fd, which it closes. */
static int remove_content(struct removal *r, int fd, unsigned depth)
{
	CLEAN(clean_dir) DIR *d = NULL;
	struct dirent *de;
	int rc;

	d = fdopendir(fd);
	if (!d) {
		rc = -errno;
		(void)close(fd); /* only read */
		return rc;
	}
	while (errno = 0, (de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		rc = remove_entry(r, fd, de->d_name, depth);
		if (rc < 0)
			return rc;
	}
	return -errno;
}

static int remove_dir(struct removal *r, int dirfd, const char *name, unsigned depth)
{
	int fd, rc;

	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES)
		return -errno;
	if (depth >= REMOVE_DEPTH)
		return move_up(r, dirfd, name);
	fd = open_for_removal(dirfd, name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	rc = remove_content(r, fd, depth + 1);
	if (rc < 0)
		return rc;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int remove_entry(struct removal *r, int dirfd, const char *name, unsigned depth)
{
	struct stat st;
	int saved;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	/* EISDIR on Linux, EPERM elsewhere and on immutable files */
	saved = errno;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return -saved;
	return remove_dir(r, dirfd, name, depth);
}

int fd_remove_tree(int dirfd, const char *path)
{
	CLEAN(clean_fd) int rootfd = -1;
	struct removal r = {0};

	if (unlinkat(dirfd, path, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	rootfd = open_for_removal(dirfd, path);
	if (rootfd < 0)
		return rootfd == -ENOENT ? 0 : rootfd;
	r.rootfd = rootfd;
	do {
		int fd, rc;

		r.again = false;
		fd = openat(rootfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		rc = remove_content(&r, fd, 1);
		if (rc < 0)
			return rc;
	} while (r.again);
	if (unlinkat(dirfd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

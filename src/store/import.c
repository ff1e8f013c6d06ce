/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * import.c - the first layer of a store, from a finished data directory.
 *
 * Goes through the layer module like any other writer, so there is one place that
 * knows how a layer looks on disk.  The store's "format" file comes last: a
 * store without it is not one, so a crash on the way leaves nothing half usable.
 * With --move a crash may leave files in both places; none is ever lost.
 */
#include "store/import.h"

#include "base/fd.h"
#include "base/text.h"
#include "store/branch_meta.h"
#include "store/layer.h"
#include "store/overlay.h"
#include "store/registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FIRST_LAYER 1
#define MAIN_TOP 2
#define MAIN_NO 1

struct import {
	struct store store;
	struct layer *layer;
	uint64_t next_fid;
	bool move;
	uint64_t done_bytes, total_bytes;
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	struct err *e;
};

static void close_dir(DIR **d)
{
	if (*d)
		(void)closedir(*d); /* read only */
}

static const struct dirent *next_entry(DIR *d)
{
	const struct dirent *ent;

	do
		ent = readdir(d);
	while (ent &&
	       (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0));
	return ent;
}

static int open_dir(int dirfd_, const char *name, DIR **ret_dir)
{
	int fd = openat(dirfd_, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	*ret_dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (*ret_dir)
		return 0;
	clean_fd(&fd);
	return -errno;
}

int store_create(const char *path, int *ret_storefd, struct err *e)
{
	static const char *const dirs[] = {"branches", "layers", "run"};
	CLEAN(clean_fd) int fd = -1;
	CLEAN(close_dir) DIR *d = NULL;
	int rc = 0;

	if (mkdir(path, 0711) < 0 && errno != EEXIST)
		return err_set(e, -errno, "cannot make %s: %s", path, strerror(errno));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || open_dir(fd, ".", &d) < 0)
		return err_set(e, -errno, "cannot open %s: %s", path, strerror(errno));
	if (next_entry(d)) {
		err_set(e, -EEXIST, "%s is not empty", path);
		return err_hint(e, "name a directory that does not exist yet");
	}
	if (fchmod(fd, 0711) < 0)
		rc = -errno;
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(dirs); i++)
		rc = fd_mkdir(fd, dirs[i], 0700);
	if (rc < 0)
		return err_set(e, rc, "cannot make the store %s: %s", path,
			       strerror(-rc));
	*ret_storefd = steal_fd(&fd);
	return 0;
}

/* How many bytes there are to take in; errors show up later. */
static uint64_t count_bytes(int dirfd_, const char *name)
{
	CLEAN(close_dir) DIR *d = NULL;
	const struct dirent *ent;
	uint64_t sum = 0;

	if (open_dir(dirfd_, name, &d) < 0)
		return 0;
	while ((ent = next_entry(d)) != NULL) {
		struct stat st;

		if (fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
		else if (S_ISDIR(st.st_mode))
			sum += count_bytes(dirfd(d), ent->d_name);
	}
	return sum;
}

static int import_error(struct import *im, int rc, const char *name)
{
	return err_set(im->e, rc, "cannot take in '%s': %s", name, strerror(-rc));
}

static int copy_file(struct import *im, int dirfd_, const char *name, uint64_t fid,
		     const struct stat *st)
{
	CLEAN(clean_fd) int from = -1;
	struct bfile *f;
	int to, rc;

	from = openat(dirfd_, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (from < 0)
		return -errno;
	rc = layer_make_file(im->layer, fid, BFILE_FULL, st->st_mode & 07777, 0, &f);
	if (rc < 0)
		return rc;
	to = bfile_pin(f);
	if (to < 0) {
		bfile_put(f);
		return to;
	}
	if (fd_clone(from, to) < 0)
		rc = fd_copy_range(from, 0, to, 0, (uint64_t)st->st_size);
	if (rc == 0) {
		const struct timespec times[2] = {{0, UTIME_OMIT}, st->st_mtim};

		(void)futimens(to, times); /* nice to have */
		rc = fdatasync(to) < 0 ? -errno : 0;
	}
	bfile_unpin(f);
	bfile_put(f);
	return rc;
}

/* Renames the file into the layer where that is possible. */
static int take_file(struct import *im, int dirfd_, const char *name, uint64_t fid,
		     const struct stat *st)
{
	char path[BFILE_PATH_MAX];
	int rc;

	if (!im->move)
		return copy_file(im, dirfd_, name, fid, st);
	rc = layer_make_part(im->layer, PART_FULL);
	if (rc < 0)
		return rc;
	layer_part_path(im->layer, PART_FULL, fid, path);
	if (renameat(dirfd_, name, im->store.fd, path) == 0) {
		if ((st->st_mode & 0600) == 0600)
			return 0;
		return fchmodat(im->store.fd, path, (st->st_mode & 07777) | 0600, 0) < 0
			       ? -errno
			       : 0;
	}
	if (errno != EXDEV)
		return -errno;
	rc = copy_file(im, dirfd_, name, fid, st);
	if (rc == 0 && unlinkat(dirfd_, name, 0) < 0)
		rc = -errno;
	return rc;
}

static int take_symlink(struct import *im, int dirfd_, const char *name, uint64_t fid)
{
	char target[4097];
	ssize_t n = readlinkat(dirfd_, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return layer_make_symlink(im->layer, fid, target);
}

static int take_dir(struct import *im, int dirfd_, const char *name, uint64_t fid,
		    mode_t mode);

/* One entry of a source directory becomes (dir, name) -> a new number. */
static int take_entry(struct import *im, int dirfd_, const char *name, uint64_t dir)
{
	enum entry_kind kind = ENTRY_FILE;
	uint64_t fid = im->next_fid++;
	struct stat st;
	mode_t carried = 0600;
	int rc;

	if (fstatat(dirfd_, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return import_error(im, -errno, name);
	if (S_ISDIR(st.st_mode)) {
		kind = ENTRY_DIR;
		carried = 0700;
		rc = take_dir(im, dirfd_, name, fid, st.st_mode);
		if (rc < 0)
			return rc; /* it has said why */
	} else if (S_ISLNK(st.st_mode)) {
		kind = ENTRY_SYMLINK;
		rc = take_symlink(im, dirfd_, name, fid);
	} else if (S_ISREG(st.st_mode)) {
		rc = take_file(im, dirfd_, name, fid, &st);
		im->done_bytes += (uint64_t)st.st_size;
		if (im->progress)
			im->progress(im->ctx, im->done_bytes, im->total_bytes);
	} else {
		return 0; /* a socket or fifo is of no use to a copy */
	}
	if (rc == 0 && kind != ENTRY_SYMLINK && (st.st_mode & carried) != carried) {
		struct attrs a = {
			.has_mode = true, .mode = st.st_mode & 07777, .nlink = 1};

		rc = layer_set_attrs(im->layer, fid, &a);
	}
	if (rc == 0)
		rc = layer_set_entry(im->layer, dir, name, kind, fid);
	if (rc == 0 && im->move && !S_ISREG(st.st_mode) &&
	    unlinkat(dirfd_, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
		rc = -errno;
	return rc < 0 ? import_error(im, rc, name) : 0;
}

static int take_dir(struct import *im, int dirfd_, const char *name, uint64_t fid,
		    mode_t mode)
{
	CLEAN(close_dir) DIR *d = NULL;
	const struct dirent *ent;
	int rc = open_dir(dirfd_, name, &d);

	if (rc == 0)
		rc = layer_make_dirnames(im->layer, fid, mode, NULL);
	if (rc < 0)
		return import_error(im, rc, name);
	/* slots belong to the original; pg_basebackup leaves them there as well */
	if (rc == 0 && !im->move && strcmp(name, "pg_replslot") == 0)
		return 0;
	while (rc == 0 && (ent = next_entry(d)) != NULL)
		rc = take_entry(im, dirfd(d), ent->d_name, fid);
	return rc;
}

static int write_records(struct import *im, uid_t owner, gid_t group)
{
	struct branch_meta m = {
		.name = MAIN_BRANCH,
		.no = MAIN_NO,
		.top = MAIN_TOP,
		.base = FIRST_LAYER,
		.created = time(NULL),
		.last_active = time(NULL),
		.owner = owner,
		.group = group,
		.mode = 0700,
		.is_protected = true,
		/* the original of a copy may run on, and keep its subscriptions */
		.prepared = im->move,
	};
	CLEAN(clean_free) char *text = branch_meta_encode(&m);
	int rc;

	if (!text)
		return -ENOMEM;
	rc = fd_replace_file(im->store.fd, "branches/" MAIN_BRANCH ".ini", text,
			     strlen(text), 0600, 1);
	if (rc == 0 && syncfs(im->store.fd) < 0)
		rc = -errno;
	if (rc == 0)
		rc = fd_replace_file(im->store.fd, "format", "pgbranchfs store 1\n",
				     strlen("pgbranchfs store 1\n"), 0644, 1);
	return rc;
}

int store_import(int storefd, const char *src, bool move, uid_t owner, gid_t group,
		 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		 struct err *e)
{
	struct import im = {.store = {.fd = storefd},
			    .next_fid = OVERLAY_ROOT + 1,
			    .move = move,
			    .progress = progress,
			    .ctx = ctx,
			    .e = e};
	struct stat st;
	int rc;

	if (stat(src, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "%s is not a directory", src);
	rc = fdcache_new(64, &im.store.fds);
	store_init(&im.store);
	if (rc == 0) {
		im.layer = layer_new(&im.store, FIRST_LAYER, NULL, false);
		rc = im.layer ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		err_set(e, rc, "out of memory");
	} else {
		if (progress)
			im.total_bytes = count_bytes(AT_FDCWD, src);
		rc = take_dir(&im, AT_FDCWD, src, OVERLAY_ROOT, st.st_mode);
		if (rc == 0) {
			rc = layer_prepare_seal(im.layer);
			if (rc == 0)
				rc = write_records(&im, owner, group);
			if (rc < 0)
				err_set(e, rc, "cannot finish the store: %s",
					strerror(-rc));
		}
	}
	layer_put(im.layer);
	fdcache_free(im.store.fds);
	store_fini(&im.store);
	return rc;
}

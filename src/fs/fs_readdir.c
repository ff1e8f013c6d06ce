/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listing of directories.  An entry's offset is where to go on behind it: 1 and 2
 * for "." and "..", then the fixed entries of virtual directories, then the
 * branches by number, or in an overlay its cookies.  None of them moves when
 * others come and go, so `find -exec rmdir` misses nothing.
 *
 * With attributes (readdirplus) only what costs nothing gets them: virtual files
 * would have to be rendered, and the socket would make its listener.  In data the
 * kernel asks with attributes for the beginning of a directory, whoever reads it,
 * and for the rest if somebody looks at the entries, too.  Servers read directories
 * at each start and never look: the beginning is answered without, which is four
 * times faster and fills no caches.
 */
#include "fs/ctlfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OFF_DOT 1
#define OFF_DOTDOT 2
#define OFF_FIXED 3   /* + row, or + an overlay's cookie (which is 1 or more) */
#define OFF_BRANCH 64 /* + branch number, or + what counts checkpoints */

struct listing {
	fuse_req_t req;
	struct caller who;
	struct rights rights; /* of a listing of branches */
	struct fs *fs;
	const struct node *dir;
	bool plus, empty;
	uint64_t after; /* offset of the last entry that the kernel has */
	char *buf;
	size_t size, used;
};

/* Adds an entry; false when the buffer is full.  n: give its attributes too. */
static bool emit(struct listing *l, const char *name, uint64_t ino, mode_t type,
		 const struct node *n, uint64_t off)
{
	struct fuse_entry_param e;
	struct stat st;
	size_t left = l->size - l->used, took;

	if (off <= l->after)
		return true;
	memset(&e, 0, sizeof(e));
	if (l->plus && n && node_stat(l->fs, n, &l->who, &st) == 0)
		fs_fill_entry(l->fs, n, &st, &e);
	e.attr.st_ino = ino;
	e.attr.st_mode = (e.attr.st_mode & 07777) | (type & S_IFMT);
	if (l->plus)
		took = fuse_add_direntry_plus(l->req, l->buf + l->used, left, name, &e,
					      (off_t)off);
	else
		took = fuse_add_direntry(l->req, l->buf + l->used, left, name, &e.attr,
					 (off_t)off);
	if (took > left)
		return false;
	l->used += took;
	return true;
}

static bool emit_dots(struct listing *l)
{
	uint64_t ino = node_ino(l->dir);

	return emit(l, ".", ino, S_IFDIR, NULL, OFF_DOT) &&
	       emit(l, "..", ino, S_IFDIR, NULL, OFF_DOTDOT);
}

/* The virtual files of a directory; *ret_off: the offset behind them. */
static bool emit_files(struct listing *l, uint64_t *ret_off)
{
	struct node n = *l->dir;
	const struct ctl_file *f;
	size_t i;

	n.kind = l->dir->kind == NODE_TRASHED ? NODE_TRASHED_FILE
		 : n.no                       ? NODE_BRANCH_FILE
					      : NODE_ROOT_FILE;
	for (i = 0; (f = ctl_file_at(l->dir->kind, i)); i++) {
		n.fid = f->fid;
		if (f->fid == FID_ROOT_UPKEEP && n.no == 0)
			continue; /* for pgbranchfs gc and doctor */
		if (!emit(l, f->name, node_ino(&n), S_IFREG, NULL, OFF_FIXED + i))
			return false;
	}
	*ret_off = OFF_FIXED + i;
	return true;
}

/* Where to go on behind a checkpoint: its number in the branch, or in all of them. */
static uint64_t checkpoint_off(const struct node *dir,
			       const struct checkpoint_info *info)
{
	uint64_t no = dir->kind == NODE_LEFT_TOP ? info->no : 0;

	return OFF_BRANCH + (no << 29 | info->seq);
}

static int by_checkpoint(const void *pa, const void *pb)
{
	const struct checkpoint_info *a = pa, *b = pb;

	if (a->no != b->no)
		return a->no < b->no ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static int list_checkpoints(struct listing *l)
{
	CLEAN(clean_free) struct checkpoint_info *v = NULL;
	bool left = l->dir->kind == NODE_LEFT_TOP;
	struct caller who = fs_caller(l->req);
	size_t n = 0;
	int rc = left ? checkpoint_list_left(l->fs->reg, &v, &n)
		      : checkpoint_list(l->fs->reg, l->dir->no, &v, &n);

	if (rc == 0 && n > 1)
		qsort(v, n, sizeof(*v), by_checkpoint);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		CLEAN(clean_free)
		char *name = left ? text_format("%s:%s", v[i].branch, v[i].name)
				  : strdup(v[i].name);
		struct node node = ckpt_node(l->dir, &v[i]);

		if (left && !control_sees_left(l->fs->control, &who, &v[i]))
			continue;
		if (!name)
			rc = -ENOMEM;
		else if (!emit(l, name, node_ino(&node), S_IFDIR, NULL,
			       checkpoint_off(l->dir, &v[i])))
			break;
	}
	return rc;
}

/* data comes last: what rm -rf meets first is a virtual file, see rmguard.h. */
static int list_branch(struct listing *l)
{
	/* a number to show: the socket's own is not known without asking for it */
	struct node sock = {NODE_BRANCH, FID_SOCKET, l->dir->no, NULL, NULL};
	struct node checkpoints = {NODE_CHECKPOINTS, FID_CHECKPOINTS, l->dir->no, NULL,
				   NULL};
	CLEAN(node_put) struct node data = NODE_INIT;
	struct branch_info info;
	uint64_t off;
	int rc;

	branch_info(l->dir->b, &info);
	if (info.discarded || !emit_files(l, &off))
		return 0;
	if (!emit(l, CTL_SOCKET_NAME, node_ino(&sock), S_IFSOCK, NULL, off))
		return 0;
	if (!emit(l, CTL_CHECKPOINTS_NAME, node_ino(&checkpoints), S_IFDIR, NULL,
		  off + 1))
		return 0;
	rc = node_make(l->dir->b, NODE_DATA, OVERLAY_ROOT, &data);
	if (rc == 0)
		(void)emit(l, CTL_DATA_NAME, node_ino(&data), S_IFDIR, &data, off + 2);
	return rc;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = branch_no(*(struct branch *const *)a);
	uint32_t y = branch_no(*(struct branch *const *)b);

	return (x > y) - (x < y);
}

/* A row for each branch: by name in the root and .trash, by number in .run. */
static bool emit_branch(struct listing *l, struct branch *b)
{
	struct node n = {NODE_BRANCH, FID_BRANCH, branch_no(b), b, NULL};
	uint64_t off = OFF_BRANCH + n.no;
	struct branch_info info;
	char number[16];

	if (off <= l->after ||
	    !control_sees_with(l->fs->control, &l->rights, &l->who, b))
		return true;
	if (l->dir->kind == NODE_RUN_TOP) {
		n.kind = NODE_RUN;
		n.fid = OVERLAY_ROOT;
		(void)snprintf(number, sizeof(number), "%u", (unsigned)n.no);
		return emit(l, number, node_ino(&n), S_IFDIR, NULL, off);
	}
	branch_info(b, &info);
	if (l->dir->kind == NODE_TRASH_TOP) {
		n.kind = NODE_TRASHED;
		n.fid = FID_TRASHED;
		/* without a name: brought back meanwhile */
		return info.trash_name[0] == '\0' ||
		       emit(l, info.trash_name, node_ino(&n), S_IFDIR, &n, off);
	}
	return emit(l, info.name, node_ino(&n), S_IFDIR, &n, off);
}

static int list_branches(struct listing *l)
{
	struct branch **list = NULL;
	size_t count = 0, i;
	uint64_t off;
	int rc;

	if (!emit_files(l, &off))
		return 0;
	rc = l->dir->kind == NODE_TRASH_TOP ? registry_list_trash(l->fs->reg, &list)
					    : registry_list(l->fs->reg, &list);
	if (rc < 0)
		return rc;
	while (list[count])
		count++;
	qsort(list, count, sizeof(list[0]), by_number);
	control_rights(l->fs->control, &l->who, &l->rights);
	for (i = 0; i < count; i++)
		if (!emit_branch(l, list[i]))
			break;
	rights_fini(&l->rights);
	branch_list_free(list);
	return 0;
}

/*
 * Entries of an overlay are collected first: attributes cannot be asked for while
 * it walks its directory.
 */
struct found {
	char *name; /* owned */
	uint64_t fid, cookie;
	mode_t type;
};

struct batch {
	struct found *rows;
	size_t count, cap;
	size_t room; /* bytes of answer that are still free */
	bool failed;
};

static bool collect(void *ctx, const char *name, uint64_t fid, mode_t type,
		    uint64_t cookie)
{
	struct batch *b = ctx;
	/* the smallest that an entry can take, so that what is left out is little */
	size_t bytes = fuse_add_direntry(NULL, NULL, 0, name, NULL, 0);

	if (bytes > b->room)
		return false;
	if (b->count == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 64;
		struct found *more = realloc(b->rows, cap * sizeof(*more));

		if (!more) {
			b->failed = true;
			return false;
		}
		b->rows = more;
		b->cap = cap;
	}
	b->rows[b->count] = (struct found){strdup(name), fid, cookie, type};
	b->failed = !b->rows[b->count].name;
	if (b->failed)
		return false;
	b->count++;
	b->room -= bytes;
	return true;
}

static void batch_fini(struct batch *b)
{
	while (b->count)
		free(b->rows[--b->count].name);
	clean_free(&b->rows);
}

static int list_overlay(struct listing *l)
{
	CLEAN(batch_fini) struct batch found = {NULL, 0, 0, l->size - l->used, false};
	struct node link = {NODE_DATA_LINK, FID_DATA_LINK, l->dir->no, NULL, NULL};
	struct node n = *l->dir;
	uint64_t after = l->after > OFF_FIXED ? l->after - OFF_FIXED : 0;
	size_t i;
	int rc;

	if (ctl_is_reserved(l->dir, CTL_DATA_NAME) &&
	    !emit(l, CTL_DATA_NAME, node_ino(&link), S_IFLNK, NULL, OFF_FIXED))
		return 0;
	rc = overlay_readdir(n.o, n.fid, after, collect, &found);
	if (rc == 0 && found.failed)
		rc = -ENOMEM;
	for (i = 0; rc == 0 && i < found.count; i++) {
		const struct found *f = &found.rows[i];

		n.fid = f->fid;
		if (!emit(l, f->name, node_ino(&n), f->type, after ? &n : NULL,
			  OFF_FIXED + f->cookie))
			break;
	}
	return rc;
}

/* fi->fh of a directory that is shown as empty, see rmguard.h. */
#define SHOW_EMPTY 1

static int list_dir(struct listing *l)
{
	uint64_t off;

	if (!emit_dots(l) || l->empty)
		return 0;
	switch (l->dir->kind) {
	case NODE_ROOT:
	case NODE_RUN_TOP:
	case NODE_TRASH_TOP:
		return list_branches(l);
	case NODE_TRASHED:
		(void)emit_files(l, &off);
		return 0;
	case NODE_CHECKPOINTS:
	case NODE_LEFT_TOP:
		return list_checkpoints(l);
	case NODE_CHECKPOINT:
	case NODE_LEFT:
		return 0;
	case NODE_BRANCH:
		return list_branch(l);
	case NODE_DATA:
	case NODE_RUN:
		return list_overlay(l);
	default:
		return -ENOTDIR;
	}
}

static void answer_listing(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   const struct fuse_file_info *fi, bool plus)
{
	CLEAN(node_put) struct node dir = NODE_INIT;
	CLEAN(clean_free) char *buf = malloc(size);
	struct fs *fs = fs_of(req);
	struct listing l = {.req = req,
			    .who = fs_caller(req),
			    .fs = fs,
			    .dir = &dir,
			    .plus = plus,
			    .empty = fi->fh == SHOW_EMPTY,
			    .after = (uint64_t)off,
			    .buf = buf,
			    .size = size};
	int rc = buf ? node_get(fs, ino, &dir) : -ENOMEM;

	if (rc == 0)
		rc = list_dir(&l);
	if (rc < 0)
		fs_reply_err(req, "readdir", &dir, rc);
	else
		(void)fuse_reply_buf(req, buf, l.used);
}

void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi)
{
	answer_listing(req, ino, size, off, fi, false);
}

void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	answer_listing(req, ino, size, off, fi, true);
}

static void data_left(void *ctx, int rc, const struct err *e)
{
	struct fuse_file_info fi = {.fh = SHOW_EMPTY};
	struct wait *w = ctx;

	(void)rc; /* it goes with the branch then, or keeps that */
	(void)e;
	(void)fuse_reply_open(w->req, &fi);
	wait_free(w);
}

/*
 * A process that takes the branch away comes to its data.  It finds nothing there, and
 * the server is halted first: it works in this directory, which the kernel will take
 * for dead, also if the branch is not removed in the end.  At the removal it is too
 * late to wait for it: the kernel holds locks then that the server needs.
 */
static void open_as_empty(fuse_req_t req, const struct node *n)
{
	struct wait *w = wait_new(req, n->b, NULL, NULL);

	if (w)
		fleet_want(w->fs->fleet, w->b, PM_WANT_HALTED, data_left, w);
}

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	int rc = node_get(fs_of(req), ino, &n);

	if (rc < 0) {
		fs_reply_err(req, "opendir", NULL, rc);
		return;
	}
	if (n.kind == NODE_DATA && ctl_may_remove(req, &n) > 0) {
		open_as_empty(req, &n);
		return;
	}
	if (n.kind == NODE_CHECKPOINTS && ctl_may_remove(req, &n) > 0)
		fi->fh = SHOW_EMPTY; /* they outlive the branch */
	if (n.kind == NODE_DATA) {
		fi->cache_readdir = 1;
		fi->keep_cache = 1;
	}
	(void)fuse_reply_open(req, fi);
}

void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		 struct fuse_file_info *fi)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	int rc = node_get(fs_of(req), ino, &n);

	(void)datasync;
	(void)fi;
	/* branches are durable when they appear; a run directory never is */
	if (rc == 0 && n.kind == NODE_DATA)
		rc = overlay_fsyncdir(n.o, n.fid);
	fs_reply_err(req, "fsync of a directory", &n, rc);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel keeps of a branch that sleeps is more than the daemon does: 1 KiB for
 * each name and inode that was looked at, and pages of files that the store's own
 * file system has cached a second time.  It would give them back when memory is short,
 * but to whom they are charged is the cgroup of the server that is gone.
 *
 * FUSE_NOTIFY_PRUNE (kernel 6.18) drops names and inodes that nobody uses, and nothing
 * else: a working directory, a mount on top, a bound socket stay.  Children come before
 * their directories, which they keep in use.  Invalidating entries instead would take
 * the names of what is in use, too.  An older kernel is told to drop the pages.
 */
#include "fs/forget.h"

#include "base/log.h"
#include "ctl/sanitize.h"
#include "fs/ctlfs.h"
#include "fs/inode.h"

#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>

/* As the kernel's header has it from 7.45 on. */
#define NOTIFY_PRUNE 9
struct notify_prune {
	uint32_t count;
	uint32_t padding;
	uint64_t spare;
};

/* Node ids in one message. */
#define BATCH 512

/* Objects of a tree, directories before what is in them. */
struct object {
	uint64_t fid;
	mode_t type;
};

struct object_list {
	struct object *v; /* owned */
	size_t n, cap;
};

static void object_list_fini(struct object_list *l)
{
	free(l->v);
}

static bool add_object(void *ctx, const char *name, uint64_t fid, mode_t type,
		       uint64_t cookie)
{
	struct object_list *l = ctx;

	(void)name;
	(void)cookie;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		struct object *more = realloc(l->v, cap * sizeof(*more));

		if (!more)
			return false;
		l->v = more;
		l->cap = cap;
	}
	l->v[l->n++] = (struct object){fid, type};
	return true;
}

/* What cannot be listed stays known to the kernel: no harm is in that. */
static void list_tree(struct overlay *o, struct object_list *l)
{
	(void)add_object(l, "", OVERLAY_ROOT, S_IFDIR, 0);
	for (size_t i = 0; i < l->n; i++)
		if (S_ISDIR(l->v[i].type))
			(void)!overlay_readdir(o, l->v[i].fid, 0, add_object, l);
}

/* -EINVAL: the kernel does not know the message. */
static int prune(struct fs *fs, uint64_t *ids, size_t n)
{
	struct notify_prune msg = {.count = (uint32_t)n};
	struct fuse_out_header head = {.error = NOTIFY_PRUNE};
	struct iovec iov[] = {
		{&head, sizeof(head)},
		{&msg, sizeof(msg)},
		{ids, n * sizeof(*ids)},
	};

	for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
		head.len += (uint32_t)iov[i].iov_len;
	return writev(fuse_session_fd(fs->se), iov, ARRAY_SIZE(iov)) < 0 ? -errno : 0;
}

static void drop_pages(struct fs *fs, const struct object *v, const uint64_t *ids,
		       size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (S_ISREG(v[i].type))
			(void)fuse_lowlevel_notify_inval_inode(fs->se, ids[i], 0, 0);
}

/* Tells the kernel about up to BATCH objects, the last first. */
static void forget_batch(struct fs *fs, struct node *n, const struct object *v,
			 size_t count)
{
	uint64_t ids[BATCH];
	int rc = -EINVAL;

	for (size_t i = 0; i < count; i++) {
		n->fid = v[count - 1 - i].fid;
		ids[i] = node_ino(n);
	}
	LOCK_SCOPE(&fs->notify);
	if (fs->ended)
		return;
	if (!fs->no_prune)
		rc = prune(fs, ids, count);
	if (rc != -EINVAL)
		return;
	fs->no_prune = true;
	drop_pages(fs, v, ids, count);
}

/* The registry's call. */
static void forget_tree(void *ctx, struct branch *b, struct overlay *o, bool run)
{
	CLEAN(object_list_fini) struct object_list l = {NULL, 0, 0};
	struct node n = {run ? NODE_RUN : NODE_DATA, 0, branch_no(b), b, o};

	list_tree(o, &l);
	for (size_t end = l.n; end > 0;) {
		size_t count = end < BATCH ? end : BATCH;

		end -= count;
		forget_batch(ctx, &n, l.v + end, count);
	}
}

/*
 * A branch has another data directory.  Its name is taken from the kernel, which waits
 * for those who look it up: from then on it leads to the new one.
 */
static void forget_data(void *ctx, struct branch *b)
{
	const struct node dir = {NODE_BRANCH, FID_BRANCH, branch_no(b), b, NULL};
	struct fs *fs = ctx;

	LOCK_SCOPE(&fs->notify);
	/* -ENOENT: the kernel does not know it */
	if (!fs->ended)
		(void)fuse_lowlevel_notify_inval_entry(
			fs->se, node_ino(&dir), CTL_DATA_NAME, strlen(CTL_DATA_NAME));
}

/* The files of a branch that was masked are its owner's from now on. */
static void forget_masked(void *ctx, struct branch *b)
{
	forget_owners(ctx, b);
}

void forget_start(struct fs *fs)
{
	sanitize_on_end(control_sanitize(fs->control), forget_masked, fs);
	registry_on_unload(fs->reg, forget_tree, fs);
	registry_on_rollback(fs->reg, forget_data, fs);
}

void forget_stop(struct fs *fs)
{
	if (fs->reg) {
		registry_on_unload(fs->reg, NULL, NULL);
		registry_on_rollback(fs->reg, NULL, NULL);
	}
	LOCK_SCOPE(&fs->notify);
	fs->ended = true;
}

static void forget_attr(struct fs *fs, const struct node *n)
{
	LOCK_SCOPE(&fs->notify);
	/* a negative offset: attributes only; -ENOENT: the kernel does not know it */
	if (!fs->ended)
		(void)fuse_lowlevel_notify_inval_inode(fs->se, node_ino(n), -1, 0);
}

void forget_owners(struct fs *fs, struct branch *b)
{
	CLEAN(object_list_fini) struct object_list l = {NULL, 0, 0};
	CLEAN(node_put) struct node n = NODE_INIT, run = NODE_INIT;

	if (node_make(b, NODE_RUN, OVERLAY_ROOT, &run) < 0)
		return;
	forget_attr(fs, &run);
	if (node_make(b, NODE_DATA, OVERLAY_ROOT, &n) < 0)
		return;
	list_tree(n.o, &l);
	for (size_t i = 0; i < l.n; i++) {
		n.fid = l.v[i].fid;
		forget_attr(fs, &n);
	}
}

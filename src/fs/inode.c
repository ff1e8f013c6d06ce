/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layout of a node id, from the high end:
 *
 *     0 | fid (37 bits)                    | branch number (26)   objects, directories
 *     0 | fid (37 bits)                    | data number (26)     objects in data
 *     1 | version (29) | virtual fid (8)   | branch number (26)   virtual files
 *     1 | number (29)  | virtual fid (8)   | branch number (26)   checkpoints
 *
 * fid: below 256 virtual, then objects of the data overlay; with bit 36 objects of
 * the run overlay.  The kernel's FUSE_ROOT_ID (1) is the root, it cannot be
 * anything else because fid 0 does not exist.
 *
 * The number of a branch's data is the branch's own until a rollback gives it another
 * one: then nothing that the kernel has of the old tree leads into the new one.
 *
 * The version: in writeback mode the kernel takes a regular file's size from us
 * once, when it first meets the node, and never again.  Virtual files change
 * behind its back, so their number changes with their size; names are looked
 * up each time and lead to a node with the right size.  Only the kernel sees
 * this number: st_ino stays the same.
 */
#include "fs/inode.h"

#include "fs/ctlfs.h"
#include "store/quota.h"

#include <string.h>

#define BRANCH_NO_MASK ((UINT64_C(1) << BRANCH_NO_BITS) - 1)
#define FID_RUN_BIT (UINT64_C(1) << OVERLAY_FID_BITS)
#define ID_VERSIONED (UINT64_C(1) << 63)
#define VERSION_SHIFT (BRANCH_NO_BITS + 8)
#define VERSION_MASK ((UINT64_C(1) << (63 - VERSION_SHIFT)) - 1)

/*
 * All that changes data comes through the kernel, what the daemon itself removes
 * there too (pg/startplan.c), so the kernel may keep it.
 */
#define TIMEOUT_DATA_S 86400.0
/*
 * But for the blocks of a file: the kernel asks for them again only after a close,
 * and servers keep their files open.  This is how old what du says may be; it costs
 * one request in that time for each file in use.
 */
#define TIMEOUT_BLOCKS_S 5.0
/*
 * Branches are made and renamed by requests that the kernel sees, and by the CLI.
 * A run directory and the link in it are walked some twenty times by a server that
 * starts; the link's text, which a rename changes, is not kept.
 */
#define TIMEOUT_BRANCH_S 1.0

static atomic_uint version_bump;

void node_bump_version(void)
{
	atomic_fetch_add(&version_bump, 1);
}

void node_put(struct node *n)
{
	n->o = overlay_put(n->o);
	n->b = branch_put(n->b);
}

struct node node_take(struct node *n)
{
	struct node was = *n;

	*n = (struct node)NODE_INIT;
	return was;
}

/* Finishes a node whose kind, fid, no and branch are set. */
static int node_bind(struct node *n)
{
	if (n->kind == NODE_DATA)
		return branch_data_get(n->b, &n->o);
	if (n->kind == NODE_RUN)
		return branch_run_get(n->b, &n->o);
	return 0;
}

int node_make(struct branch *b, enum node_kind kind, uint64_t fid,
	      struct node *ret_node)
{
	CLEAN(node_put) struct node n = {kind, fid, branch_no(b), branch_get(b), NULL};
	int rc = node_bind(&n);

	if (rc < 0)
		return rc;
	*ret_node = node_take(&n);
	return 0;
}

static int root_kind(uint64_t fid, enum node_kind *ret_kind)
{
	switch (fid) {
	case FID_ROOT_README:
	case FID_ROOT_ERROR:
	case FID_ROOT_TREE:
	case FID_ROOT_METRICS:
	case FID_ROOT_UPKEEP:
		*ret_kind = NODE_ROOT_FILE;
		return 0;
	case FID_ROOT_RUN:
		*ret_kind = NODE_RUN_TOP;
		return 0;
	case FID_ROOT_TRASH:
		*ret_kind = NODE_TRASH_TOP;
		return 0;
	case FID_ROOT_LEFT:
		*ret_kind = NODE_LEFT_TOP;
		return 0;
	default:
		return -ESTALE;
	}
}

static int branch_kind(uint64_t fid, enum node_kind *ret_kind)
{
	if (fid & FID_RUN_BIT)
		*ret_kind = NODE_RUN;
	else if (fid >= OVERLAY_ROOT)
		*ret_kind = NODE_DATA;
	else if (fid == FID_BRANCH)
		*ret_kind = NODE_BRANCH;
	else if (fid == FID_DATA_LINK)
		*ret_kind = NODE_DATA_LINK;
	else if (fid >= FID_STATUS && fid <= FID_LOG)
		*ret_kind = NODE_BRANCH_FILE;
	else if (fid == FID_TRASHED)
		*ret_kind = NODE_TRASHED;
	else if (fid == FID_TRASHED_STATUS)
		*ret_kind = NODE_TRASHED_FILE;
	else if (fid == FID_CHECKPOINTS)
		*ret_kind = NODE_CHECKPOINTS;
	else
		return -ESTALE;
	return 0;
}

/* What a number with ID_VERSIONED stands for: a checkpoint's number is no version. */
static int versioned_kind(struct node *n)
{
	uint64_t fid = n->fid & 0xff;

	if (n->no && (fid == FID_CHECKPOINT || fid == FID_LEFT)) {
		n->kind = fid == FID_LEFT ? NODE_LEFT : NODE_CHECKPOINT;
		return 0;
	}
	n->fid = fid;
	return n->no ? branch_kind(fid, &n->kind) : root_kind(fid, &n->kind);
}

/* The branch, where there must be one. */
static int get_branch(struct fs *fs, struct node *n)
{
	if (n->no == 0 || n->kind == NODE_LEFT)
		return 0;
	if (n->kind == NODE_DATA)
		n->b = registry_find_data(fs->reg, n->no);
	else if (node_is_trash(n))
		n->b = registry_find_trashed_no(fs->reg, n->no);
	else
		n->b = registry_find_no(fs->reg, n->no);
	return n->b ? 0 : -ESTALE;
}

int node_get(struct fs *fs, fuse_ino_t ino, struct node *ret_node)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	int rc;

	if (ino == FUSE_ROOT_ID) {
		*ret_node = n;
		return 0;
	}
	n.no = (uint32_t)(ino & BRANCH_NO_MASK);
	n.fid = (ino & ~ID_VERSIONED) >> BRANCH_NO_BITS;
	if (ino & ID_VERSIONED)
		rc = versioned_kind(&n);
	else
		rc = n.no ? branch_kind(n.fid, &n.kind) : root_kind(n.fid, &n.kind);
	if (n.kind == NODE_RUN)
		n.fid &= ~FID_RUN_BIT;
	if (rc == 0)
		rc = get_branch(fs, &n);
	if (rc == 0)
		rc = node_bind(&n);
	if (rc < 0)
		return rc;
	if (n.kind == NODE_DATA) {
		if (overlay_no(n.o) != n.no) /* rolled back just now */
			return -ESTALE;
		n.no = branch_no(n.b);
	}
	*ret_node = node_take(&n);
	return 0;
}

bool node_is_lock(const struct node *dir, const char *name)
{
	return dir->kind == NODE_DATA && dir->fid == OVERLAY_ROOT &&
	       strcmp(name, FLEET_LOCK_FILE) == 0;
}

uint64_t node_ino(const struct node *n)
{
	if (n->kind == NODE_ROOT)
		return FUSE_ROOT_ID;
	if (n->kind == NODE_CHECKPOINT || n->kind == NODE_LEFT)
		return ID_VERSIONED | n->fid << BRANCH_NO_BITS | n->no;
	if (n->kind == NODE_DATA)
		return n->fid << BRANCH_NO_BITS | overlay_no(n->o);
	return (n->fid | (n->kind == NODE_RUN ? FID_RUN_BIT : 0)) << BRANCH_NO_BITS |
	       n->no;
}

static bool node_is_versioned(const struct node *n)
{
	/* a log only grows, and is followed while it does: ctl_show_growth */
	return n->kind == NODE_ROOT_FILE || n->kind == NODE_TRASHED_FILE ||
	       (n->kind == NODE_BRANCH_FILE && n->fid != FID_LOG);
}

fuse_ino_t node_id(const struct node *n, const struct stat *st)
{
	uint64_t version;

	if (!node_is_versioned(n))
		return node_ino(n);
	version = (uint64_t)st->st_size * UINT64_C(0x9e3779b97f4a7c15) >> 40;
	if (ctl_is_writable(n))
		version += atomic_load(&version_bump);
	return ID_VERSIONED | (version & VERSION_MASK) << VERSION_SHIFT | node_ino(n);
}

void node_touch(struct fs *fs, const struct node *n)
{
	struct pm_status st;

	if (n->kind != NODE_DATA)
		return;
	fleet_status(fs->fleet, n->b, &st);
	if (st.pid == 0)
		branch_touch(n->b);
}

bool node_has_service_uid(struct fs *fs, struct branch *b,
			  const struct branch_info *info)
{
	uid_t uid;
	gid_t gid;

	fleet_server_ids(fs->fleet, b, &uid, &gid);
	return uid != info->owner;
}

mode_t node_access_mask(struct fs *fs, struct branch *b, const struct branch_info *info)
{
	mode_t mask = 0700;

	if (!node_has_service_uid(fs, b, info))
		return 0777;
	if (info->mode & S_IXGRP)
		mask |= 0070;
	if (info->mode & S_IXOTH)
		mask |= 0007;
	return mask;
}

/*
 * Who may pass through NAME may connect, see node_access_mask.  A server changes the
 * mode of its socket before anybody is led there, and must own it for that; from then
 * on it is the branch owner's, who is somebody else.
 */
static void guard_socket(struct fs *fs, const struct node *n, struct stat *st)
{
	struct branch_info info;

	branch_info(n->b, &info);
	if (!node_has_service_uid(fs, n->b, &info))
		return;
	st->st_mode &= S_IFMT | node_access_mask(fs, n->b, &info);
	st->st_gid = info.group;
	if (fleet_is_public(fs->fleet, n->b, n->fid))
		st->st_uid = info.owner;
}

void node_fill_stat(struct fs *fs, const struct node *n, const struct node_attr *a,
		    struct stat *ret_st)
{
	struct stat st;

	memset(&st, 0, sizeof(st));
	st.st_ino = node_ino(n);
	st.st_mode = a->mode;
	st.st_nlink = a->nlink;
	st.st_size = (off_t)a->size_bytes;
	st.st_blocks = (blkcnt_t)a->blocks;
	st.st_mtim = a->mtime;
	st.st_ctim = a->ctime;
	st.st_atim = a->atime; /* what was set: the mount is noatime */
	fleet_server_ids(fs->fleet, n->b, &st.st_uid, &st.st_gid);
	if (n->kind == NODE_RUN && n->fid == OVERLAY_ROOT)
		st.st_mode = S_IFDIR | 0700;
	if (n->kind == NODE_RUN && S_ISSOCK(st.st_mode))
		guard_socket(fs, n, &st);
	*ret_st = st;
}

int node_stat(struct fs *fs, const struct node *n, const struct caller *who,
	      struct stat *ret_st)
{
	struct node_attr a;
	int rc;

	if (!node_is_stored(n))
		return ctl_stat(fs, n, who, ret_st);
	rc = overlay_getattr(n->o, n->fid, &a);
	if (rc < 0)
		return rc;
	node_fill_stat(fs, n, &a, ret_st);
	return 0;
}

/* In run directories the daemon makes and removes files behind the kernel's back. */
static double run_timeout(const struct node *n)
{
	return n->fid == OVERLAY_ROOT ? TIMEOUT_BRANCH_S : 0;
}

/*
 * The kernel has one cache of names for everybody.  A name that some do not see must be
 * looked up each time, so that the daemon is asked by each of them.
 */
static bool is_hidden_name(struct fs *fs, const struct node *n)
{
	return (n->kind == NODE_BRANCH ||
		(n->kind == NODE_RUN && n->fid == OVERLAY_ROOT)) &&
	       control_hides(fs->control);
}

double node_entry_timeout(struct fs *fs, const struct node *n)
{
	if (is_hidden_name(fs, n))
		return 0;
	switch (n->kind) {
	case NODE_DATA:
	case NODE_RUN_TOP:
	case NODE_TRASH_TOP:
	case NODE_LEFT_TOP:
		return TIMEOUT_DATA_S;
	case NODE_BRANCH:
	case NODE_CHECKPOINTS:
	case NODE_DATA_LINK:
		return TIMEOUT_BRANCH_S;
	case NODE_RUN:
		return run_timeout(n);
	default:
		return 0;
	}
}

double node_absent_timeout(const struct node *dir)
{
	/* run directories are changed by the daemon, virtual ones by other requests */
	return dir->kind == NODE_DATA ? TIMEOUT_DATA_S : 0;
}

double node_attr_timeout(const struct node *n, const struct stat *st)
{
	switch (n->kind) {
	case NODE_DATA:
		if (!S_ISREG(st->st_mode))
			return TIMEOUT_DATA_S;
		/* each write is asked about: quotaguard.h */
		return branch_quota_is_near(n->b) ? 0 : TIMEOUT_BLOCKS_S;
	case NODE_ROOT:
	case NODE_RUN_TOP:
	case NODE_TRASH_TOP:
	case NODE_LEFT_TOP:
		return TIMEOUT_DATA_S;
	case NODE_BRANCH:
	case NODE_DATA_LINK:
		return TIMEOUT_BRANCH_S;
	case NODE_RUN:
		return run_timeout(n);
	default:
		return 0;
	}
}

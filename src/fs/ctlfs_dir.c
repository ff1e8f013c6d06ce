/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names in virtual directories, and what a change of them asks for: mkdir makes
 * a branch, rmdir discards it, rename renames it.
 *
 * `rm -rf NAME` must work although nobody can unlink a virtual file: unlinking
 * one that goes with a branch is granted and does nothing, if the caller may take
 * the branch away at all; the final rmdir of NAME then does, at once and with all data.
 * So a rm that is interrupted took nothing away.  See rmguard.h.
 */
#include "fs/ctlfs.h"

#include "fs/intent.h"
#include "fs/rmguard.h"

#include <linux/fs.h>
#include <string.h>

/* Branches are private until their owner opens them with chmod. */
#define NEW_BRANCH_MODE 0700

void ctl_reply_noent(fuse_req_t req)
{
	/* not as a negative entry: others make branches behind the kernel's back */
	reqstat_error(ENOENT);
	(void)fuse_reply_err(req, ENOENT);
}

void ctl_reply_made(fuse_req_t req, struct branch *b, enum node_kind kind, uint64_t fid)
{
	CLEAN(node_put) struct node n = {kind, fid, 0, NULL, NULL};
	int rc = b ? node_make(b, kind, fid, &n) : 0;

	if (rc < 0)
		fs_reply_err(req, "lookup", NULL, rc);
	else
		fs_reply_node(req, "lookup", &n);
}

struct branch *ctl_seen(fuse_req_t req, struct branch *b)
{
	const struct caller who = fs_caller(req);

	if (b && !control_sees(fs_of(req)->control, &who, b))
		return branch_put(b);
	return b;
}

static void lookup_root(fuse_req_t req, const char *name)
{
	const struct ctl_file *f = ctl_file_named(NODE_ROOT, name);
	struct branch *b;

	if (f) {
		ctl_reply_made(req, NULL, NODE_ROOT_FILE, f->fid);
		return;
	}
	if (!strcmp(name, CTL_RUN_NAME)) {
		ctl_reply_made(req, NULL, NODE_RUN_TOP, FID_ROOT_RUN);
		return;
	}
	if (!strcmp(name, CTL_TRASH_NAME)) {
		ctl_reply_made(req, NULL, NODE_TRASH_TOP, FID_ROOT_TRASH);
		return;
	}
	if (!strcmp(name, CTL_LEFT_NAME)) {
		ctl_reply_made(req, NULL, NODE_LEFT_TOP, FID_ROOT_LEFT);
		return;
	}
	b = ctl_seen(req, registry_find(fs_of(req)->reg, name));
	if (b)
		ctl_reply_made(req, b, NODE_BRANCH, FID_BRANCH);
	else
		ctl_reply_noent(req);
	branch_put(b);
}

static void lookup_run_top(fuse_req_t req, const char *name)
{
	struct branch *b = NULL;
	struct branch_info info;
	uint64_t no;

	if (name[0] != '0' &&
	    text_parse_u64(name, 10, (UINT64_C(1) << BRANCH_NO_BITS) - 1, &no) == 0 &&
	    no)
		b = registry_find_no(fs_of(req)->reg, (uint32_t)no);
	if (b) {
		branch_info(b, &info);
		if (info.discarded)
			b = branch_put(b);
	}
	b = ctl_seen(req, b);
	if (b)
		ctl_reply_made(req, b, NODE_RUN, OVERLAY_ROOT);
	else
		ctl_reply_noent(req);
	branch_put(b);
}

static void socket_found(void *ctx, int rc, uint64_t fid)
{
	struct wait *w = ctx;

	if (rc < 0)
		wait_reply_err(w, "lookup of the socket", rc);
	else
		ctl_reply_made(w->req, w->b, NODE_RUN, fid);
	wait_free(w);
}

int ctl_connect(fuse_req_t req, struct branch *b)
{
	const struct caller who = fs_caller(req);

	return intent_is_connect(who.pid)
		       ? control_connect(fs_of(req)->control, &who, b)
		       : 0;
}

static void lookup_socket(fuse_req_t req, const struct node *dir)
{
	int rc = ctl_connect(req, dir->b);
	struct wait *w;

	if (rc < 0) {
		fs_reply_err(req, "lookup of the socket", dir, rc);
		return;
	}
	w = wait_new(req, dir->b, NULL, NULL);
	if (w)
		fleet_socket(w->fs->fleet, w->b, socket_found, w);
}

static void lookup_branch(fuse_req_t req, const struct node *dir, const char *name)
{
	const struct ctl_file *f = ctl_file_named(NODE_BRANCH, name);
	struct branch_info info;

	branch_info(dir->b, &info);
	if (info.discarded) {
		ctl_reply_noent(req);
	} else if (f) {
		ctl_reply_made(req, dir->b, NODE_BRANCH_FILE, f->fid);
	} else if (!strcmp(name, CTL_DATA_NAME)) {
		ctl_reply_made(req, dir->b, NODE_DATA, OVERLAY_ROOT);
	} else if (!strcmp(name, CTL_CHECKPOINTS_NAME)) {
		ctl_reply_made(req, dir->b, NODE_CHECKPOINTS, FID_CHECKPOINTS);
	} else if (!strcmp(name, CTL_SOCKET_NAME)) {
		lookup_socket(req, dir);
	} else {
		ctl_reply_noent(req);
	}
}

void ctl_lookup(fuse_req_t req, const struct node *dir, const char *name)
{
	if (dir->kind == NODE_ROOT)
		lookup_root(req, name);
	else if (dir->kind == NODE_RUN_TOP)
		lookup_run_top(req, name);
	else if (dir->kind == NODE_BRANCH)
		lookup_branch(req, dir, name);
	else if (dir->kind == NODE_TRASH_TOP || dir->kind == NODE_TRASHED)
		trash_lookup(req, dir, name);
	else if (node_has_checkpoints(dir))
		ckpt_lookup(req, dir, name);
	else if (dir->kind == NODE_CHECKPOINT || dir->kind == NODE_LEFT)
		ctl_reply_noent(req);
	else if (dir->kind == NODE_RUN) /* its reserved name */
		ctl_reply_made(req, dir->b, NODE_DATA_LINK, FID_DATA_LINK);
	else
		fs_reply_err(req, "lookup", dir, -ENOTDIR);
}

bool ctl_is_reserved(const struct node *dir, const char *name)
{
	return dir->kind == NODE_RUN && dir->fid == OVERLAY_ROOT &&
	       !strcmp(name, CTL_DATA_NAME);
}

int ctl_refuse_making(fuse_req_t req, const struct node *dir)
{
	if (dir->kind == NODE_ROOT)
		return fs_refuse(req, -EPERM,
				 "only branches can be made here, with mkdir");
	if (dir->kind == NODE_CHECKPOINTS)
		return fs_refuse(req, -EPERM,
				 "only checkpoints can be made here, with mkdir");
	if (dir->kind == NODE_CHECKPOINT || dir->kind == NODE_LEFT)
		return fs_refuse(req, -EPERM,
				 "mkdir NEW@NAME:CHECKPOINT shows what a checkpoint "
				 "holds; nothing is seen of it here");
	if (dir->kind == NODE_BRANCH)
		return fs_refuse(
			req, -EPERM,
			"nothing can be made beside a branch's data directory");
	return fs_refuse(req, -EPERM, "nothing can be made or moved here");
}

static void branch_made(void *ctx, int rc, struct branch *b)
{
	struct wait *w = ctx;
	CLEAN(node_put) struct node n = NODE_INIT;
	struct fuse_entry_param e;
	struct stat st;

	if (rc >= 0)
		rc = node_make(b, NODE_BRANCH, FID_BRANCH, &n);
	if (rc >= 0)
		rc = node_stat(w->fs, &n, &w->who, &st);
	if (rc < 0) {
		wait_reply_err(w, "mkdir", rc);
	} else {
		fs_fill_entry(w->fs, &n, &st, &e);
		/* what appears for NAME@PARENT is NAME: the kernel must ask again */
		if (strchr(w->name, '@'))
			e.entry_timeout = 0;
		(void)fuse_reply_entry(w->req, &e);
	}
	wait_free(w);
}

static bool is_fixed_dir(const char *name)
{
	return !strcmp(name, CTL_RUN_NAME) || !strcmp(name, CTL_TRASH_NAME) ||
	       !strcmp(name, CTL_LEFT_NAME);
}

/* Would the name that mkdir asks for hide a file of the root? */
static bool is_root_file(const char *spec)
{
	size_t len = strcspn(spec, "@"), i;
	const struct ctl_file *f;

	for (i = 0; (f = ctl_file_at(NODE_ROOT, i)); i++)
		if (strlen(f->name) == len && !memcmp(f->name, spec, len))
			return true;
	return false;
}

void ctl_mkdir(fuse_req_t req, const struct node *dir, const char *name)
{
	struct wait *w;

	if (dir->kind == NODE_CHECKPOINTS) {
		ckpt_mkdir(req, dir, name);
		return;
	}
	if (dir->kind != NODE_ROOT) {
		fs_reply_err(req, "mkdir", dir, ctl_refuse_making(req, dir));
		return;
	}
	if (is_root_file(name)) {
		fs_reply_err(req, "mkdir", dir,
			     fs_refuse(req, -EEXIST, "the name is taken by a file"));
		return;
	}
	w = wait_new(req, NULL, name, NULL);
	if (w)
		control_create(w->fs->control, &w->who, w->name, NEW_BRANCH_MODE,
			       branch_made, w);
}

void ctl_change_done(void *ctx, int rc, struct branch *b)
{
	struct wait *w = ctx;

	(void)b;
	wait_reply_err(w, "change of a branch", rc);
	wait_free(w);
}

/* The first step of rm -rf: see the head of this file. */
void ctl_unlink(fuse_req_t req, const struct node *dir, const char *name)
{
	pid_t pid = fuse_req_ctx(req)->pid;
	struct caller who = fs_caller(req);
	int rc;

	if (dir->kind == NODE_TRASHED) {
		trash_unlink(req, dir, name);
		return;
	}
	if (dir->kind != NODE_BRANCH) {
		fs_reply_err(req, "unlink", dir,
			     fs_refuse(req, -EPERM, "%s cannot be removed", name));
		return;
	}
	rc = control_may_discard(fs_of(req)->control, &who, dir->b);
	rmguard_set(dir->no, pid, rc < 0 ? RM_REFUSED : RM_REMOVING);
	fs_reply_err(req, "unlink", dir, rc);
}

int ctl_may_remove(fuse_req_t req, const struct node *dir)
{
	switch (rmguard_get(dir->no, fuse_req_ctx(req)->pid)) {
	case RM_REFUSED:
		return -EPERM; /* .error keeps what the first step was told */
	case RM_REMOVING:
		return 1;
	default:
		return 0;
	}
}

static bool any_entry(void *ctx, const char *name, uint64_t fid, mode_t type,
		      uint64_t cookie)
{
	bool *found = ctx;

	(void)name;
	(void)fid;
	(void)type;
	(void)cookie;
	*found = true;
	return false;
}

/* NAME/data goes with NAME: the rmdir of it is granted where nothing is seen in it. */
static int rmdir_data(fuse_req_t req, const struct node *dir)
{
	CLEAN(overlay_putp) struct overlay *o = NULL;
	bool found = false;
	int rc = ctl_may_remove(req, dir);

	if (rc > 0)
		branch_renew_data(dir->b); /* the kernel takes it for gone */
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = branch_data_get(dir->b, &o);
	if (rc == 0)
		rc = overlay_readdir(o, OVERLAY_ROOT, 0, any_entry, &found);
	if (rc == 0 && found)
		rc = -ENOTEMPTY;
	return rc;
}

/* The same with NAME/checkpoints, but never by itself. */
static int rmdir_checkpoints(fuse_req_t req, const struct node *dir)
{
	int rc = ctl_may_remove(req, dir);

	if (rc == 0)
		return fs_refuse(req, -EPERM, "%s goes with its branch",
				 CTL_CHECKPOINTS_NAME);
	if (rc > 0)
		branch_renew_data(dir->b);
	return rc < 0 ? rc : 0;
}

void ctl_rmdir(fuse_req_t req, const struct node *dir, const char *name)
{
	struct wait *w;

	if (dir->kind == NODE_BRANCH && !strcmp(name, CTL_DATA_NAME)) {
		fs_reply_err(req, "rmdir", dir, rmdir_data(req, dir));
		return;
	}
	if (dir->kind == NODE_BRANCH && !strcmp(name, CTL_CHECKPOINTS_NAME)) {
		fs_reply_err(req, "rmdir", dir, rmdir_checkpoints(req, dir));
		return;
	}
	if (node_has_checkpoints(dir)) {
		ckpt_rmdir(req, dir, name);
		return;
	}
	if (dir->kind == NODE_TRASH_TOP) {
		trash_rmdir(req, dir, name);
		return;
	}
	if (dir->kind != NODE_ROOT || is_fixed_dir(name)) {
		fs_reply_err(req, "rmdir", dir,
			     fs_refuse(req, -EPERM, "%s cannot be removed", name));
		return;
	}
	w = wait_new(req, NULL, name, NULL);
	if (w)
		control_discard(w->fs->control, &w->who, w->name, ctl_change_done, w);
}

/* What may be renamed to what; 0, or what is noted. */
static int check_rename(fuse_req_t req, const struct node *dir, const char *name,
			const struct node *newdir, const char *newname, unsigned flags)
{
	if (newdir->kind == NODE_TRASH_TOP)
		return fs_refuse(req, -EPERM,
				 "rmdir puts a branch into the trash, if trash is set");
	if ((dir->kind != NODE_ROOT && dir->kind != NODE_TRASH_TOP) ||
	    newdir->kind != NODE_ROOT || ctl_file_named(dir->kind, name) ||
	    (dir->kind == NODE_ROOT && is_fixed_dir(name)))
		return fs_refuse(req, -EPERM,
				 "only branches can be renamed, within the root");
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return fs_refuse(req, -EINVAL, "branches cannot be exchanged");
	if (is_root_file(newname) || is_fixed_dir(newname))
		return fs_refuse(req, -EEXIST, "the name is taken by a file");
	return 0;
}

void ctl_rename(fuse_req_t req, const struct node *dir, const char *name,
		const struct node *newdir, const char *newname, unsigned flags)
{
	struct wait *w;
	int rc;

	if (node_has_checkpoints(dir)) {
		ckpt_rename(req, dir, name, newdir, newname, flags);
		return;
	}
	rc = check_rename(req, dir, name, newdir, newname, flags);

	if (rc < 0) {
		fs_reply_err(req, "rename", dir, rc);
		return;
	}
	if (dir->kind == NODE_TRASH_TOP) {
		trash_rename(req, name, newname);
		return;
	}
	w = wait_new(req, NULL, name, newname);
	if (w)
		control_rename(w->fs->control, &w->who, w->name, w->name2,
			       ctl_change_done, w);
}

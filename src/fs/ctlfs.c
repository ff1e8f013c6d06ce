/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What virtual files hold.  They are opened with direct I/O, so that readers get
 * what was rendered at open, whatever size the kernel believes.  Nothing here
 * asks or starts a server.
 */
#include "fs/ctlfs.h"

#include "base/fd.h"
#include "ctl/input.h"
#include "ctl/upkeep.h"

#include <fcntl.h>
#include <string.h>

static const struct ctl_file root_files[] = {
	{FID_ROOT_README, "README", 0444, STATUS_README},
	{FID_ROOT_ERROR, ".error", 0444, STATUS_ERROR},
	{FID_ROOT_TREE, ".tree", 0444, STATUS_TREE},
	{FID_ROOT_METRICS, ".metrics", 0444, STATUS_METRICS},
	{FID_ROOT_UPKEEP, ".upkeep", 0600, STATUS_UPKEEP},
};

static const struct ctl_file branch_files[] = {
	{FID_STATUS, "status", 0444, STATUS_TEXT},
	{FID_STATUS_JSON, "status.json", 0444, STATUS_JSON},
	{FID_STATE, "state", 0644, STATUS_STATE},
	{FID_URL, "url", 0444, STATUS_URL},
	{FID_PARENT, "parent", 0444, STATUS_PARENT},
	{FID_OWNER, "owner", 0444, STATUS_OWNER},
	{FID_EXPIRES, "expires", 0644, STATUS_EXPIRES},
	{FID_PROTECTED, "protected", 0644, STATUS_PROTECTED},
	{FID_ROLLBACK, "rollback", 0644, STATUS_ROLLBACK},
	{FID_RESET, "reset", 0644, STATUS_RESET},
	{FID_LOG, "log", 0444, STATUS_TEXT},
};

static const struct ctl_file trashed_files[] = {
	{FID_TRASHED_STATUS, "status", 0444, STATUS_TRASHED},
};

/* A write to one of these is one request; word: what was written. */
static const struct ctl_action {
	uint64_t fid;
	void (*ask)(struct control *c, const struct caller *who, struct branch *b,
		    const char *word, control_done done, void *ctx);
	const char *takes;
} branch_actions[] = {
	{FID_STATE, control_set_state, "one word: running or stopped"},
	{FID_EXPIRES, control_set_expires,
	 "a time such as 2h or 2026-11-22T10:00:00Z, or never"},
	{FID_PROTECTED, control_set_protected, "1 or 0"},
	{FID_ROLLBACK, control_rollback, "the name of one of its checkpoints"},
	{FID_RESET, control_reset, "one word: parent"},
};
static const struct ctl_action upkeep_action = {FID_ROOT_UPKEEP, upkeep_ask,
						"gc or doctor, with apply behind it"};

static const struct ctl_action *action_of(const struct node *n)
{
	if (n->kind == NODE_ROOT_FILE && n->fid == FID_ROOT_UPKEEP)
		return &upkeep_action;
	for (size_t i = 0; i < ARRAY_SIZE(branch_actions); i++)
		if (n->kind == NODE_BRANCH_FILE && n->fid == branch_actions[i].fid)
			return &branch_actions[i];
	return NULL;
}

const struct ctl_file *ctl_file_at(enum node_kind kind, size_t i)
{
	if (kind == NODE_ROOT)
		return i < ARRAY_SIZE(root_files) ? &root_files[i] : NULL;
	if (kind == NODE_BRANCH)
		return i < ARRAY_SIZE(branch_files) ? &branch_files[i] : NULL;
	if (kind == NODE_TRASHED)
		return i < ARRAY_SIZE(trashed_files) ? &trashed_files[i] : NULL;
	return NULL;
}

const struct ctl_file *ctl_file_named(enum node_kind kind, const char *name)
{
	const struct ctl_file *f;
	size_t i;

	for (i = 0; (f = ctl_file_at(kind, i)); i++)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

/* The row of a virtual file; node_get made sure of it. */
static const struct ctl_file *file_of(const struct node *n)
{
	if (n->kind == NODE_TRASHED_FILE)
		return &trashed_files[n->fid - FID_TRASHED_STATUS];
	return n->no ? &branch_files[n->fid - FID_STATUS]
		     : &root_files[n->fid - FID_ROOT_README];
}

static bool is_log(const struct node *n)
{
	return n->kind == NODE_BRANCH_FILE && n->fid == FID_LOG;
}

static int render(struct fs *fs, const struct node *n, const struct caller *who,
		  struct str *out)
{
	int rc = status_render(fs->control, file_of(n)->what, n->b, who, out);

	if (rc < 0)
		return rc;
	return out->failed ? -ENOMEM : 0;
}

static int stat_content(struct fs *fs, const struct node *n, const struct caller *who,
			struct stat *st)
{
	CLEAN(str_fini) struct str text = STR_INIT;
	int rc;

	if (is_log(n)) {
		CLEAN(clean_fd) int fd = branch_log_open(n->b, O_RDONLY);
		struct stat log;

		if (fd == -ENOENT)
			return 0; /* no server ran yet: empty */
		if (fd < 0)
			return fd;
		if (fstat(fd, &log) < 0)
			return -errno;
		st->st_size = log.st_size;
		st->st_mtim = st->st_ctim = st->st_atim = log.st_mtim;
		return 0;
	}
	rc = render(fs, n, who, &text);
	if (rc == 0)
		st->st_size = (off_t)text.len;
	return rc;
}

/* What all virtual objects of a branch have of it; a file's mode goes by its rights. */
static void stat_of_branch(struct fs *fs, const struct node *n, struct stat *st)
{
	struct branch_info info;

	branch_info(n->b, &info);
	st->st_uid = info.owner;
	st->st_gid = info.group;
	st->st_mtime = node_is_trash(n) ? info.trashed : info.last_active;
	if (node_is_trash(n))
		st->st_mode = n->kind == NODE_TRASHED
				      ? S_IFDIR | info.mode
				      : S_IFREG | (file_of(n)->mode & info.mode);
	else if (n->kind == NODE_BRANCH_FILE)
		st->st_mode = S_IFREG |
			      (file_of(n)->mode & node_access_mask(fs, n->b, &info));
	else
		st->st_mode = S_IFDIR | info.mode |
			      (node_has_service_uid(fs, n->b, &info) ? S_IXOTH : 0);
}

char *ctl_data_link(const struct node *n)
{
	struct branch_info info;

	branch_info(n->b, &info);
	return text_format("../../%s/" CTL_DATA_NAME, info.name);
}

static int stat_link(const struct node *n, struct stat *st)
{
	CLEAN(clean_free) char *target = ctl_data_link(n);

	if (!target)
		return -ENOMEM;
	st->st_mode = S_IFLNK | 0777;
	st->st_size = (off_t)strlen(target);
	return 0;
}

static mode_t info_mode(const struct node *n)
{
	struct branch_info info;

	branch_info(n->b, &info);
	return info.mode;
}

int ctl_stat(struct fs *fs, const struct node *n, const struct caller *who,
	     struct stat *ret_st)
{
	struct stat st;
	int rc = 0;

	memset(&st, 0, sizeof(st));
	st.st_ino = node_ino(n);
	st.st_nlink = 1; /* of a directory: its sub-directories are not counted */
	st.st_uid = fs->uid;
	st.st_gid = fs->gid;
	st.st_mtime = fs->mounted;
	if (n->b)
		stat_of_branch(fs, n, &st);
	st.st_atim = st.st_ctim = st.st_mtim;
	switch (n->kind) {
	case NODE_ROOT:
		st.st_mode = S_IFDIR | 01777;
		break;
	case NODE_RUN_TOP:
		st.st_mode = S_IFDIR | 0711;
		break;
	case NODE_CHECKPOINTS: /* no more than the branch's own rights */
		st.st_mode = S_IFDIR | info_mode(n);
		break;
	case NODE_CHECKPOINT:
	case NODE_LEFT:
		rc = ckpt_stat(fs, n, &st);
		break;
	case NODE_LEFT_TOP:
	case NODE_TRASH_TOP: /* as the root: who owns what decides */
		st.st_mode = S_IFDIR | 01777;
		break;
	case NODE_DATA_LINK:
		rc = stat_link(n, &st);
		break;
	case NODE_ROOT_FILE:
		st.st_mode = S_IFREG | file_of(n)->mode;
		rc = stat_content(fs, n, who, &st);
		break;
	case NODE_BRANCH_FILE:
	case NODE_TRASHED_FILE:
		rc = stat_content(fs, n, who, &st);
		break;
	default: /* NODE_BRANCH and NODE_TRASHED are filled; the others are not virtual
		  */
		break;
	}
	if (rc == 0)
		*ret_st = st;
	return rc;
}

bool ctl_is_writable(const struct node *n)
{
	return action_of(n) != NULL;
}

int ctl_open(fuse_req_t req, const struct node *n, int flags, struct ctl_handle *ret_h)
{
	CLEAN(str_fini) struct str text = STR_INIT;
	const struct caller who = fs_caller(req);
	struct fs *fs = fs_of(req);
	int rc;

	if ((flags & O_ACCMODE) != O_RDONLY) {
		if (!ctl_is_writable(n))
			return fs_refuse(req, -EPERM, "%s can only be read",
					 file_of(n)->name);
		node_bump_version();
	}
	if (is_log(n)) {
		int fd = branch_log_open(n->b, O_RDONLY);

		if (fd < 0 && fd != -ENOENT)
			return fd;
		*ret_h = (struct ctl_handle){NULL, 0, fd < 0 ? -1 : fd};
		return 0;
	}
	rc = render(fs, n, &who, &text);
	if (rc < 0)
		return rc;
	*ret_h = (struct ctl_handle){text.s, text.len, -1};
	text = (struct str)STR_INIT;
	return 0;
}

void ctl_close(struct ctl_handle *h)
{
	clean_free(&h->text);
	clean_fd(&h->log_fd);
	*h = (struct ctl_handle){NULL, 0, -1};
}

void ctl_read(fuse_req_t req, const struct node *n, const struct ctl_handle *h,
	      char *buf, size_t size, uint64_t off_bytes)
{
	if (is_log(n)) {
		CLEAN(clean_fd) int late = -1;
		int fd = h->log_fd;
		ssize_t got = 0;

		if (fd < 0) /* opened before the first server wrote anything */
			fd = late = branch_log_open(n->b, O_RDONLY);
		if (fd >= 0)
			got = fd_pread_full(fd, buf, size, off_bytes);
		if (got < 0)
			fs_reply_err(req, "read", n, (int)got);
		else
			(void)fuse_reply_buf(req, buf, (size_t)got);
		return;
	}
	if (off_bytes >= h->len)
		size = 0;
	else if (size > h->len - off_bytes)
		size = h->len - (size_t)off_bytes;
	/* a copy: the reader may close, and the handle go, before the answer is sent
	 * as far as this thread can tell */
	if (size)
		memcpy(buf, h->text + off_bytes, size);
	(void)fuse_reply_buf(req, buf, size);
}

static void file_written(void *ctx, int rc, struct branch *b)
{
	struct wait *w = ctx;

	(void)b;
	node_bump_version();
	if (rc < 0)
		wait_reply_err(w, "write", rc);
	else
		(void)fuse_reply_write(w->req, w->size);
	wait_free(w);
}

void ctl_write(fuse_req_t req, const struct node *n, const char *buf, size_t size)
{
	const struct ctl_action *act = action_of(n);
	CLEAN(clean_free) char *word = NULL;
	struct wait *w;
	int rc;

	if (!act) {
		fs_reply_err(req, "write", n,
			     fs_refuse(req, -EPERM, "%s can only be read",
				       file_of(n)->name));
		return;
	}
	/* each write is one request, wherever the writer thinks that it puts it */
	rc = input_parse_word(buf, size, &word);
	if (rc == -EINVAL)
		rc = fs_refuse(req, rc, "%s takes %s", file_of(n)->name, act->takes);
	if (rc < 0) {
		fs_reply_err(req, "write", n, rc);
		return;
	}
	w = wait_new(req, n->b, word, NULL);
	if (!w)
		return;
	w->size = size;
	act->ask(w->fs->control, &w->who, w->b, w->name, file_written, w);
}

void ctl_show_growth(struct fs *fs, const struct node *n, const struct stat *st)
{
	struct fuse_bufvec last = FUSE_BUFVEC_INIT(1);
	char newline = '\n';

	if (!is_log(n) || st->st_size <= 0)
		return;
	/*
	 * A byte put into the page cache is the one message that makes the kernel
	 * take a larger size; nobody reads the cache of a file with direct I/O.
	 * It fails when the kernel does not know the node, and then needs it not.
	 */
	last.buf[0].mem = &newline;
	(void)fuse_lowlevel_notify_store(fs->se, node_id(n, st), st->st_size - 1, &last,
					 0);
}

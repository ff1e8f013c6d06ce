/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Answers that several operations give, and requests whose answer comes later.
 * Here is the one place where a failure of the store becomes a client's EIO, so
 * it is logged here.
 */
#include "base/log.h"
#include "fs/ctlfs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct caller fs_caller(fuse_req_t req)
{
	const struct fuse_ctx *c = fuse_req_ctx(req);

	return (struct caller){c->uid, c->gid, c->pid};
}

int fs_refuse(fuse_req_t req, int code, const char *fmt, ...)
{
	CLEAN(clean_free) char *msg = NULL;
	CLEAN(err_fini) struct err e = ERR_INIT;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&msg, fmt, ap);
	va_end(ap);
	if (n < 0) {
		msg = NULL;
		return code; /* the errno says enough when memory is out */
	}
	(void)err_set(&e, code, "%s", msg);
	control_note_error(fs_of(req)->control, fuse_req_ctx(req)->uid, &e);
	return code;
}

void fs_reply_err(fuse_req_t req, const char *op, const struct node *n, int rc)
{
	if (rc == -EIO && n && n->b)
		log_error("branch %u: %s of object %llu failed with an I/O error, "
			  "the client gets EIO",
			  (unsigned)n->no, op, (unsigned long long)n->fid);
	else if (rc == -EIO)
		log_error("%s failed with an I/O error, the client gets EIO", op);
	if (rc < 0)
		reqstat_error(-rc);
	/* a failure to answer means that the mount is gone, nobody waits then */
	(void)fuse_reply_err(req, rc < 0 ? -rc : 0);
}

void fs_fill_entry(struct fs *fs, const struct node *n, const struct stat *st,
		   struct fuse_entry_param *ret_e)
{
	struct fuse_entry_param e;

	memset(&e, 0, sizeof(e));
	e.ino = node_id(n, st);
	e.attr = *st;
	if (n->b && S_ISDIR(st->st_mode))
		e.generation = n->kind == NODE_DATA || n->kind == NODE_CHECKPOINTS
				       ? branch_data_generation(n->b)
				       : branch_generation(n->b);
	e.entry_timeout = node_entry_timeout(fs, n);
	e.attr_timeout = node_attr_timeout(n, st);
	*ret_e = e;
}

void fs_reply_node(fuse_req_t req, const char *op, const struct node *n)
{
	const struct caller who = fs_caller(req);
	struct fuse_entry_param e;
	struct stat st;
	int rc = node_stat(fs_of(req), n, &who, &st);

	if (rc < 0) {
		fs_reply_err(req, op, n, rc);
		return;
	}
	fs_fill_entry(fs_of(req), n, &st, &e);
	(void)fuse_reply_entry(req, &e);
}

void fs_reply_attr(fuse_req_t req, const char *op, const struct node *n)
{
	const struct caller who = fs_caller(req);
	struct fs *fs = fs_of(req);
	struct stat st;
	int rc = node_stat(fs, n, &who, &st);

	if (rc < 0) {
		fs_reply_err(req, op, n, rc);
		return;
	}
	ctl_show_growth(fs, n, &st);
	(void)fuse_reply_attr(req, &st, node_attr_timeout(n, &st));
}

static int copy_name(const char *name, char **ret_copy)
{
	*ret_copy = name ? strdup(name) : NULL;
	return name && !*ret_copy ? -ENOMEM : 0;
}

struct wait *wait_new(fuse_req_t req, struct branch *b, const char *name,
		      const char *name2)
{
	struct wait *w = calloc(1, sizeof(*w));

	if (!w || copy_name(name, &w->name) < 0 || copy_name(name2, &w->name2) < 0) {
		if (w)
			free(w->name);
		free(w);
		fs_reply_err(req, "request", NULL, -ENOMEM);
		return NULL;
	}
	w->req = req;
	w->fs = fs_of(req);
	w->stat = reqstat_take();
	w->who = fs_caller(req);
	w->b = b ? branch_get(b) : NULL;
	atomic_fetch_add(&w->fs->waits, 1);
	return w;
}

void wait_reply_err(struct wait *w, const char *op, int rc)
{
	w->stat.error = rc < 0 ? -rc : 0;
	fs_reply_err(w->req, op, NULL, rc);
}

void wait_free(struct wait *w)
{
	struct fs *fs = w->fs;

	reqstat_finish(&w->stat);
	branch_put(w->b);
	free(w->name);
	free(w->name2);
	free(w);
	atomic_fetch_sub(&fs->waits, 1);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * .trash: a directory for each branch that was discarded and is kept, with nothing in
 * it but its status.  Like .run it is found by its name and not listed, so that what
 * walks over all branches, such as rm or find, does not come here.
 *
 * rmdir removes a branch for good; `rm -rf .trash/NAME@TIME` is that with a step before
 * it that does nothing.  A rename into the root brings it back.
 */
#include "fs/ctlfs.h"

#include <string.h>

void trash_lookup(fuse_req_t req, const struct node *dir, const char *name)
{
	const struct ctl_file *f = ctl_file_named(dir->kind, name);
	struct branch *b;

	if (f) {
		ctl_reply_made(req, dir->b, NODE_TRASHED_FILE, f->fid);
		return;
	}
	b = dir->kind == NODE_TRASH_TOP
		    ? ctl_seen(req, registry_find_trashed(fs_of(req)->reg, name))
		    : NULL;
	if (b)
		ctl_reply_made(req, b, NODE_TRASHED, FID_TRASHED);
	else
		ctl_reply_noent(req);
	branch_put(b);
}

void trash_unlink(fuse_req_t req, const struct node *dir, const char *name)
{
	struct caller who = fs_caller(req);

	(void)name; /* it goes with its directory */
	fs_reply_err(req, "unlink", dir,
		     control_may_discard(fs_of(req)->control, &who, dir->b));
}

void trash_rmdir(fuse_req_t req, const struct node *dir, const char *name)
{
	struct wait *w = wait_new(req, NULL, name, NULL);

	(void)dir;
	if (w)
		control_purge(w->fs->control, &w->who, w->name, ctl_change_done, w);
}

void trash_rename(fuse_req_t req, const char *name, const char *newname)
{
	struct wait *w = wait_new(req, NULL, name, newname);

	if (w)
		control_restore(w->fs->control, &w->who, w->name, w->name2,
				ctl_change_done, w);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * overlay_change.c - making, removing, renaming and changing objects of a tree.
 *
 * Every change is one step on disk that makes it visible: an entry put, replaced,
 * moved or taken away in the top layer.  What it needs is made before, what it
 * leaves behind is removed after.
 */
#include "store/overlay_priv.h"

#include "base/fault.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t new_fid(struct overlay *o)
{
	return atomic_fetch_add(&o->next_fid, 1);
}

/* Has a layer below the top an entry that would show if the top's went? */
static bool shows_below(struct overlay *o, uint64_t dir, const char *name)
{
	return o->top->parent &&
	       entry_visible(layer_chain_entry(o->top->parent, dir, name));
}

/* Takes the name away: a whiteout if something below would show. */
static int hide_entry(struct overlay *o, uint64_t dir, const char *name)
{
	if (shows_below(o, dir, name))
		return layer_set_entry(o->top, dir, name, ENTRY_WHITEOUT, 0);
	return layer_drop_entry(o->top, dir, name);
}

/* A name of a file went.  Its bytes go with the last one, or at the last close. */
static void drop_link(struct overlay *o, uint64_t fid)
{
	struct cowfile *f = NULL;
	struct attrs a;

	if (overlay_attrs_locked(o, fid, &a) < 0)
		return; /* damaged: rather leave the bytes */
	if (a.nlink > 1) {
		a.nlink--;
		(void)layer_set_attrs(o->top, fid, &a); /* too high is harmless */
		return;
	}
	{
		LOCK_SCOPE(&o->files);
		HASH_FIND(hh, o->open, &fid, sizeof(fid), f);
		if (f)
			atomic_store(&f->unlinked, true);
	}
	if (!f)
		layer_remove_file(o->top, fid);
}

static int check_new_name(struct overlay *o, uint64_t dir, const char *name)
{
	const struct entry *e;
	struct node_attr a;
	int rc = overlay_entry_locked(o, dir, name, &e);

	if (rc == 0 || rc == -EIO)
		return -EEXIST;
	if (rc != -ENOENT)
		return rc;
	rc = overlay_attr_locked(o, dir,
				 &a); /* a directory that was removed takes none */
	return rc < 0 ? -ENOENT : 0;
}

/* Permissions that the store's own file cannot carry, as an attribute record. */
static int keep_mode(struct overlay *o, uint64_t fid, mode_t mode, mode_t carried)
{
	struct attrs a = {.has_mode = true, .mode = mode & 07777, .nlink = 1};

	return (mode & 07777) == carried ? 0 : layer_set_attrs(o->top, fid, &a);
}

/* Makes the object's bytes or directory; the name comes after. */
static int make_object(struct overlay *o, uint64_t fid, mode_t mode, uint64_t dir)
{
	struct bfile *part;
	int rc;

	if (S_ISDIR(mode)) {
		rc = layer_make_dirnames(o->top, fid, mode, NULL);
		return rc < 0 ? rc : keep_mode(o, fid, mode, (mode & 01777) | 0700);
	}
	if (!S_ISREG(mode))
		return layer_make_special(o->top, fid, mode);
	rc = layer_make_file(o->top, fid, BFILE_FULL, mode, 0, &part);
	if (rc < 0)
		return rc;
	part->name_dir = dir;
	bfile_put(part);
	return keep_mode(o, fid, mode, (mode & 07777) | 0600);
}

static void unmake_object(struct overlay *o, uint64_t fid, bool is_dir)
{
	if (is_dir)
		layer_remove_dirnames(o->top, fid);
	layer_remove_file(o->top, fid);
}

/* A directory below one with the set-group-id bit has it, too. */
static mode_t inherited_bits(struct overlay *o, uint64_t dir)
{
	struct node_attr a;

	return overlay_attr_locked(o, dir, &a) == 0 ? a.mode & S_ISGID : 0;
}

int overlay_mknod(struct overlay *o, uint64_t dir, const char *name, mode_t mode,
		  struct node_attr *ret_attr)
{
	enum entry_kind kind = entry_kind_of_mode(mode);
	uint64_t fid;
	int rc;

	if (kind == ENTRY_BAD || kind == ENTRY_SYMLINK)
		return -EPERM; /* devices have no place in a data directory */
	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = check_new_name(o, dir, name);
	if (rc < 0)
		return rc;
	if (kind == ENTRY_DIR)
		mode |= inherited_bits(o, dir);
	fid = new_fid(o);
	rc = make_object(o, fid, mode, dir);
	FAULT_POINT("overlay.object-made");
	if (rc == 0)
		rc = overlay_attr_locked(o, fid, ret_attr);
	if (rc == 0) /* last: what fails after it would leave a name without bytes */
		rc = layer_set_entry(o->top, dir, name, kind, fid);
	if (rc < 0)
		unmake_object(o, fid, kind == ENTRY_DIR);
	return rc;
}

int overlay_symlink(struct overlay *o, uint64_t dir, const char *name,
		    const char *target, struct node_attr *ret_attr)
{
	uint64_t fid;
	int rc;

	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = check_new_name(o, dir, name);
	if (rc < 0)
		return rc;
	fid = new_fid(o);
	rc = layer_make_symlink(o->top, fid, target);
	if (rc == 0)
		rc = overlay_attr_locked(o, fid, ret_attr);
	if (rc == 0)
		rc = layer_set_entry(o->top, dir, name, ENTRY_SYMLINK, fid);
	if (rc < 0)
		unmake_object(o, fid, false);
	return rc;
}

static int readlink_locked(struct overlay *o, uint64_t fid, char **ret_target)
{
	CLEAN(clean_free) char *buf = malloc(PATH_MAX + 1);
	ssize_t n = -1;

	if (!buf)
		return -ENOMEM;
	for (struct layer *l = o->top; l; l = l->parent) {
		struct bfile *f = layer_file(l, fid);
		char path[BFILE_PATH_MAX];

		if (!f)
			continue;
		bfile_path(f, path);
		bfile_put(f);
		n = readlinkat(l->store->fd, path, buf, PATH_MAX);
		break;
	}
	if (n < 0)
		return -EINVAL;
	buf[n] = '\0';
	*ret_target = steal(buf);
	return 0;
}

int overlay_readlink(struct overlay *o, uint64_t fid, char **ret_target)
{
	READ_SCOPE(&o->freeze);
	return readlink_locked(o, fid, ret_target);
}

int overlay_link(struct overlay *o, uint64_t fid, uint64_t dir, const char *name,
		 struct node_attr *ret_attr)
{
	struct node_attr a;
	struct attrs attrs;
	int rc;

	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = check_new_name(o, dir, name);
	if (rc == 0)
		rc = overlay_attr_locked(o, fid, &a);
	if (rc < 0)
		return rc;
	if (S_ISDIR(a.mode))
		return -EPERM;
	if (a.nlink == 0)
		return -ENOENT; /* its last name is gone: it stays so */
	rc = overlay_attrs_locked(o, fid, &attrs);
	if (rc < 0)
		return rc;
	/* the count first: a crash between leaves it too high, so bytes are kept */
	attrs.nlink++;
	rc = layer_set_attrs(o->top, fid, &attrs);
	FAULT_POINT("overlay.link-counted");
	if (rc == 0)
		rc = layer_set_entry(o->top, dir, name, entry_kind_of_mode(a.mode),
				     fid);
	if (rc < 0) {
		attrs.nlink--;
		(void)layer_set_attrs(o->top, fid, &attrs); /* too high is harmless */
		return rc;
	}
	return overlay_attr_locked(o, fid, ret_attr);
}

int overlay_unlink(struct overlay *o, uint64_t dir, const char *name)
{
	const struct entry *e = NULL;
	enum entry_kind kind;
	uint64_t fid;
	int rc;

	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = overlay_entry_locked(o, dir, name, &e);
	if (rc == -EIO) /* a damaged name may be taken away */
		return hide_entry(o, dir, name);
	if (rc < 0)
		return rc;
	if (e->kind == ENTRY_DIR)
		return -EISDIR;
	fid = e->fid;
	kind = e->kind;
	rc = hide_entry(o, dir, name);
	FAULT_POINT("overlay.unlinked");
	if (rc == 0 && kind != ENTRY_BAD)
		drop_link(o, fid);
	return rc;
}

int overlay_rmdir(struct overlay *o, uint64_t dir, const char *name)
{
	const struct entry *e;
	uint64_t fid;
	int rc;

	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = overlay_entry_locked(o, dir, name, &e);
	if (rc < 0)
		return rc;
	if (e->kind != ENTRY_DIR)
		return -ENOTDIR;
	fid = e->fid;
	if (!overlay_is_empty_locked(o, fid))
		return -ENOTEMPTY;
	rc = hide_entry(o, dir, name);
	if (rc == 0)
		unmake_object(o, fid, true);
	return rc;
}

/* May `from` take the place of what is at newdir/newname?  *ret_old: its fid or 0. */
static int check_replace(struct overlay *o, const struct entry *from, uint64_t newdir,
			 const char *newname, unsigned flags, uint64_t *ret_old,
			 bool *ret_old_dir)
{
	const struct entry *to = NULL;
	int rc = overlay_entry_locked(o, newdir, newname, &to);

	*ret_old = 0;
	*ret_old_dir = false;
	if (rc == -ENOENT)
		return check_new_name(o, newdir, newname);
	if (rc < 0)
		return rc;
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (from->kind == ENTRY_DIR && to->kind != ENTRY_DIR)
		return -ENOTDIR;
	if (from->kind != ENTRY_DIR && to->kind == ENTRY_DIR)
		return -EISDIR;
	if (to->kind == ENTRY_DIR && to->fid != from->fid &&
	    !overlay_is_empty_locked(o, to->fid))
		return -ENOTEMPTY;
	*ret_old = to->fid;
	*ret_old_dir = to->kind == ENTRY_DIR;
	return 0;
}

/* Marks a change of the object itself; of a regular file the kernel knows by itself. */
static void touch_ctime(struct overlay *o, uint64_t fid)
{
	struct attrs a;

	/* the record's time is what counts, see overlay_attr_locked; a failure costs
	 * only that */
	if (overlay_attrs_locked(o, fid, &a) == 0)
		(void)layer_set_attrs(o->top, fid, &a);
}

int overlay_rename(struct overlay *o, uint64_t dir, const char *name, uint64_t newdir,
		   const char *newname, unsigned flags)
{
	const struct entry *e, *own;
	enum entry_kind kind;
	uint64_t old, fid;
	bool old_dir, below;
	int rc;

	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = overlay_entry_locked(o, dir, name, &e);
	if (rc == 0)
		rc = check_replace(o, e, newdir, newname, flags, &old, &old_dir);
	if (rc < 0)
		return rc;
	fid = e->fid;
	kind = e->kind;
	if (old == fid)
		return 0; /* two names of one file: POSIX wants both left alone */
	below = shows_below(o, dir, name);
	/* an entry of the top's own first, so that one rename does the rest */
	own = layer_entry(o->top, dir, name);
	if (!own || !own->on_disk)
		rc = layer_set_entry(o->top, dir, name, e->kind, fid);
	FAULT_POINT("overlay.rename-own-entry");
	if (rc == 0)
		rc = layer_move_entry(o->top, dir, name, newdir, newname, below);
	if (rc == 0 && kind != ENTRY_FILE)
		touch_ctime(o, fid);
	if (rc < 0 || old == 0)
		return rc;
	FAULT_POINT("overlay.renamed");
	if (old_dir)
		unmake_object(o, old, true);
	else
		drop_link(o, old);
	return 0;
}

static int set_mode(struct overlay *o, uint64_t fid, mode_t mode)
{
	struct node_attr is;
	struct attrs a;
	int rc;

	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = overlay_attr_locked(o, fid, &is); /* a record of nothing would stay */
	if (rc == 0)
		rc = overlay_attrs_locked(o, fid, &a);
	if (rc < 0)
		return rc;
	a.has_mode = true;
	a.mode = mode & 07777;
	return layer_set_attrs(o->top, fid, &a);
}

/* Makes a symlink, fifo or socket of a lower layer again in the top. */
static int copy_up_other(struct overlay *o, uint64_t fid, mode_t mode)
{
	CLEAN(clean_free) char *target = NULL;
	int rc;

	if (!S_ISLNK(mode))
		return layer_make_special(o->top, fid, mode);
	rc = readlink_locked(o, fid, &target);
	return rc < 0 ? rc : layer_make_symlink(o->top, fid, target);
}

/* Times of what is not a regular file: on the top's own inode. */
static int set_other_times(struct overlay *o, uint64_t fid, const struct timespec in[2])
{
	struct timespec times[2];
	struct node_attr a;
	char path[BFILE_PATH_MAX];
	int rc;

	READ_SCOPE(&o->freeze);
	WRITE_SCOPE(&o->names);
	rc = overlay_attr_locked(o, fid, &a);
	if (rc < 0)
		return rc;
	/* both: the top's inode may be made for it, and is not from before */
	times[0] = in[0].tv_nsec == UTIME_OMIT ? a.atime : in[0];
	times[1] = in[1].tv_nsec == UTIME_OMIT ? a.mtime : in[1];
	if (S_ISDIR(a.mode))
		rc = layer_make_dirnames(o->top, fid, a.mode, NULL);
	else if (!layer_has_file(o->top, fid))
		rc = copy_up_other(o, fid, a.mode);
	if (rc < 0)
		return rc;
	layer_part_path(o->top, S_ISDIR(a.mode) ? PART_NAMES : PART_FULL, fid, path);
	if (utimensat(o->top->store->fd, path, times, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return -errno;
}

/* utimensat's times: what is not to be set is UTIME_OMIT. */
static void times_to_set(int what, const struct node_attr *in,
			 struct timespec ret_times[static 2])
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	ret_times[0] = ret_times[1] = (struct timespec){0, UTIME_OMIT};
	if (what & (SET_ATIME | SET_ATIME_NOW))
		ret_times[0] = what & SET_ATIME_NOW ? now : in->atime;
	if (what & (SET_MTIME | SET_MTIME_NOW))
		ret_times[1] = what & SET_MTIME_NOW ? now : in->mtime;
}

static int set_size_and_times(struct overlay *o, uint64_t fid, int what,
			      const struct node_attr *in)
{
	struct timespec times[2];
	struct cowfile *f = NULL;
	int rc = overlay_open(o, fid, &f);

	times_to_set(what, in, times);
	if (rc == 0 && what & SET_SIZE)
		rc = cowfile_truncate(f, in->size_bytes);
	if (rc == 0 && what & SET_TIMES)
		rc = cowfile_set_times(f, times);
	else if ((rc == -EISDIR || rc == -EINVAL) && !f && !(what & SET_SIZE))
		rc = set_other_times(o, fid, times);
	overlay_close(o, f);
	return rc;
}

int overlay_setattr(struct overlay *o, uint64_t fid, int what,
		    const struct node_attr *in, struct node_attr *ret_attr)
{
	int rc = 0;

	if (what & SET_MODE)
		rc = set_mode(o, fid, in->mode);
	if (rc == 0 && what & (SET_SIZE | SET_TIMES))
		rc = set_size_and_times(o, fid, what, in);
	return rc < 0 ? rc : overlay_getattr(o, fid, ret_attr);
}

int overlay_write_file(struct overlay *o, const char *path, const void *buf, size_t len,
		       mode_t mode)
{
	CLEAN(clean_free) char *copy = strdup(path);
	struct cowfile *f = NULL;
	struct node_attr dir, a;
	char *name;
	int rc;

	if (!copy)
		return -ENOMEM;
	name = strrchr(copy, '/');
	if (name)
		*name++ = '\0';
	rc = overlay_walk(o, name ? copy : "", &dir);
	name = name ? name : copy;
	if (rc == 0)
		rc = overlay_lookup(o, dir.fid, name, &a);
	if (rc == -ENOENT)
		rc = overlay_mknod(o, dir.fid, name, S_IFREG | (mode & 07777), &a);
	if (rc == 0)
		rc = overlay_open(o, a.fid, &f);
	if (rc == 0)
		rc = cowfile_truncate(f, 0);
	if (rc == 0)
		rc = cowfile_write(f, buf, len, 0);
	overlay_close(o, f);
	return rc;
}

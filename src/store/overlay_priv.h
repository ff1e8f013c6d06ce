/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * overlay_priv.h - what the files of an overlay and its cowfiles share; for them alone.
 *
 * Locks, in the order in which they are taken:
 *   overlay->freeze   read: whoever changes the top layer; write: the freeze
 *   overlay->names    entries of the top layer; write: whoever changes them
 *   overlay->files    the table of open files
 *   cowfile->lock     a file's stack, size and top map
 *   layer->lock, bfile->lock   inside the functions of those modules
 * None of them is held over an fsync.
 */
#ifndef STORE_OVERLAY_PRIV_H
#define STORE_OVERLAY_PRIV_H

#include "store/cowfile.h"
#include "store/layer.h"
#include "store/overlay.h"

struct cowfile {
	UT_hash_handle hh; /* in overlay->open, by fid */
	uint64_t fid;
	struct overlay *o;
	unsigned opens;       /* lock: o->files */
	atomic_bool unlinked; /* no name left: goes at the last close */
	bool watched;         /* the overlay's watched file */
	bool is_wal;          /* it lies in OVERLAY_WAL_DIR */

	pthread_rwlock_t lock;
	struct layer
		*top; /* lock: lock; the top layer when the stack was made (owned) */
	struct bfile **parts;            /* lock: lock; top first, references */
	unsigned nparts;                 /* lock: lock */
	atomic_uint_fast64_t size_bytes; /* changes under lock held for writing */
	uint64_t run_end; /* lock: lock; block after the last one copied up */
	uint64_t ahead;   /* lock: lock; blocks to prepare ahead at the next sync */
	atomic_uint_fast64_t wal_end; /* where the last write of a WAL file ended */
	uint64_t filled_end;          /* lock: lock; no hole up to here */
	uint64_t synced_end;          /* lock: lock; wal_end at the last sync */
	struct timespec
		mtime;    /* lock: lock; at the first open, or as it was set since */
	atomic_bool late; /* something was written that does not change it */
};

struct overlay {
	atomic_uint refs;
	uint32_t no;      /* its number; of a run directory that of the branch */
	atomic_bool gone; /* the branch has another tree now */
	/* lock: the branch's */
	bool touched;     /* handed out since it was looked at last */
	int64_t since_ms; /* the time of that, or of a later look that found it in use
			   */

	pthread_rwlock_t freeze;
	struct layer *top; /* lock: freeze; owned reference */
	pthread_rwlock_t names;
	atomic_uint_fast64_t next_fid;
	pthread_mutex_t files;
	struct cowfile *open; /* lock: files */
	char *watch_name;
	void (*watch_fn)(void *ctx);
	void *watch_ctx;
};

/* The top of the stack is the file's own part in the present top layer. */
static inline bool cowfile_has_top(const struct cowfile *f)
{
	return f->nparts > 0 && f->parts[0]->layer == f->o->top;
}

/* Loads the stack of a file; the caller fills in fid and o. */
int cowfile_stack(struct cowfile *f) MUST_CHECK;
void cowfile_free(struct cowfile *f);
/* Gives the file a part in the top layer if it has none; nothing is copied.  With
 * the freeze lock (read) and the file's lock (write) held. */
int cowfile_copy_up_locked(struct cowfile *f) MUST_CHECK;
/* Copies blocks up from below into the file's own part, which must be a delta. */
int cowfile_copy_blocks_locked(struct cowfile *f, uint64_t blkno,
			       uint64_t count) MUST_CHECK;
/* Before the file grows over a line that was lowered: size and map to disk.  The one
 * place that holds the file's lock over an fsync, of that file. */
int cowfile_settle_cut_locked(struct cowfile *f) MUST_CHECK;
/* Sets times of the file's own part, as utimensat(2): atime, mtime. */
int cowfile_set_times(struct cowfile *f, const struct timespec times[2]) MUST_CHECK;
/* At a close: takes back what late writes did to the mtime.  With the freeze lock
 * (read). */
void cowfile_settle_mtime(struct cowfile *f);
/* Reads below part `i` of the stack; zeros where nothing is. */
int cowfile_read_parts(struct cowfile *f, unsigned i, uint8_t *buf, uint64_t len,
		       uint64_t off_bytes) MUST_CHECK;

/*
 * With freeze and names held, at least for reading.  stat of the topmost file of that
 * number, with st_blocks as what no other branch shares; -ENOENT if no layer has one.
 */
int overlay_stat_file_locked(struct overlay *o, uint64_t fid,
			     struct stat *ret_st) MUST_CHECK;
/* The same for a directory: times of its topmost part, permissions of the one that it
 * was made with.  -ESTALE if no layer knows it. */
int overlay_stat_dir_locked(struct overlay *o, uint64_t fid,
			    struct stat *ret_st) MUST_CHECK;
/* What a name means (visible, not damaged), an object's attributes, whether a directory
 * shows nothing. */
int overlay_entry_locked(struct overlay *o, uint64_t dir, const char *name,
			 const struct entry **ret_entry) MUST_CHECK;
int overlay_attr_locked(struct overlay *o, uint64_t fid,
			struct node_attr *ret_attr) MUST_CHECK;
/* Its attribute record alone: the defaults if it has none. */
int overlay_attrs_locked(struct overlay *o, uint64_t fid, struct attrs *ret) MUST_CHECK;
bool overlay_is_empty_locked(struct overlay *o, uint64_t dir);
int overlay_open_locked(struct overlay *o, uint64_t fid,
			struct cowfile **ret_file) MUST_CHECK;

/* Makes durable all that was not fsynced. */
int overlay_settle(struct overlay *o) MUST_CHECK;

/* Moves the overlay to a new, empty top over the present one, which is sealed.
 * new_top: a layer whose parent is the present top; the reference passes over. */
void overlay_freeze(struct overlay *o, struct layer *new_top);
/*
 * A layer that the tree stands on is to get `merged` for a parent, which says what the
 * run of layers below it says that leave.  Can the open files follow?  -EBUSY: not
 * those that have no name any more, and bytes in the run.
 */
int overlay_can_switch(struct overlay *o, struct layer *const *run, unsigned n,
		       struct layer *merged) MUST_CHECK;
/* With the freeze lock held for writing: keeps everybody out of the open files, until
 * overlay_switch_end.  -EBUSY: readers did not let it in until the time is over. */
int overlay_switch_begin(struct overlay *o, const struct timespec *until) MUST_CHECK;
void overlay_switch_end(struct overlay *o);
/* Between the two: lets the open files follow, with `leaving` set in those of the run.
 * The merged layer's index must be held. */
void overlay_switch_locked(struct overlay *o, struct layer *merged);

/* An overlay over a chain of layers, loading them; takes the reference over.  There is
 * never more than one over a top layer. */
int overlay_new(struct layer *top, uint32_t no,
		struct overlay **ret_overlay) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint.h - the checkpoints of branches: a name for what a branch held at some
 * time.  Taken by the same freeze as a branch is made, and kept by a record of its own,
 * so that it costs one file and outlives its branch.
 *
 * A checkpoint is known by its branch's number and its own, which grows within the
 * branch and is not given out twice while mounted.  Callers get copies.  All functions
 * are thread-safe; those that change something may take a few fsyncs, as in registry.h.
 */
#ifndef STORE_CHECKPOINT_H
#define STORE_CHECKPOINT_H

#include "store/branch_meta.h"
#include "store/registry.h"

struct checkpoint_info {
	uint32_t no, seq;
	char name[64];
	char branch[64]; /* what its branch is, or was last, called */
	enum checkpoint_kind kind;
	time_t taken;
	uid_t owner; /* its branch's; if that is gone, the last one */
	gid_t group;
	mode_t mode; /* likewise; without a branch 0700 */
	bool left;   /* its branch was discarded */
};

struct checkpoint_spec {
	const char *name; /* NULL: made of prefix and time */
	const char *prefix;
	enum checkpoint_kind kind;
	bool if_changed; /* only if something was written since the last one */
};

/*
 * Takes one of the branch as it is now; it survives a power cut when 0 is returned.
 * -EEXIST, -EINVAL, -ENAMETOOLONG for the name, -ENOENT if the branch is gone;
 * -EALREADY if nothing was written.
 */
int checkpoint_take(struct registry *r, struct branch *b,
		    const struct checkpoint_spec *spec,
		    struct checkpoint_info *ret_info, struct err *e) MUST_CHECK;
/* Was something written since the last one, so that if_changed takes one? */
bool checkpoint_is_wanted(struct registry *r, struct branch *b);
/* Drops it; what only it holds is freed in the background.  -ENOENT. */
int checkpoint_drop(struct registry *r, uint32_t no, uint32_t seq,
		    struct err *e) MUST_CHECK;
/* Gives it another name, and with that makes it one that stays. */
int checkpoint_rename(struct registry *r, uint32_t no, uint32_t seq,
		      const char *newname, struct err *e) MUST_CHECK;

struct rollback_spec {
	uint32_t seq;          /* to this checkpoint of the branch... */
	struct branch *parent; /* ...or, if this is not NULL, to what it is now */
	/* parent is a copy that was made for it and may not be entered, and this is by
	 * what it was masked; or NULL */
	const char *masked;
};
/*
 * The branch becomes that, and what it was a checkpoint, in one step on disk; nobody
 * may be running on it.  What is open in its data, and node ids of it, stand for
 * nothing any more.  *ret_old: the old tree, for registry_forget_tree when there is
 * time; NULL if it was not loaded.  -EPERM when it is protected, -ENOENT.
 */
int registry_rollback(struct registry *r, struct branch *b,
		      const struct rollback_spec *spec,
		      struct checkpoint_info *ret_before, struct overlay **ret_old,
		      struct err *e) MUST_CHECK;
/* What others know of it is forgotten (registry_on_unload).  Takes the reference. */
void registry_forget_tree(struct registry *r, struct branch *b, struct overlay *old);
/* fn is called behind each one on the same thread, with no lock held: the branch's data
 * is another tree from here on.  NULL: no more. */
void registry_on_rollback(struct registry *r, void (*fn)(void *ctx, struct branch *b),
			  void *ctx);

/* -ENOENT. */
int checkpoint_find(struct registry *r, uint32_t no, const char *name,
		    struct checkpoint_info *ret_info) MUST_CHECK;
int checkpoint_find_seq(struct registry *r, uint32_t no, uint32_t seq,
			struct checkpoint_info *ret_info) MUST_CHECK;
/*
 * Of a branch that was discarded, by the name that it had: of several the one that was
 * taken last.
 */
int checkpoint_find_left(struct registry *r, const char *branch, const char *name,
			 struct checkpoint_info *ret_info) MUST_CHECK;
/* The branch's checkpoint that its present state was written upon. */
int checkpoint_below(struct registry *r, struct branch *b,
		     struct checkpoint_info *ret_info) MUST_CHECK;
/* All of a branch, the oldest first: a heap array. */
int checkpoint_list(struct registry *r, uint32_t no, struct checkpoint_info **ret_list,
		    size_t *ret_n) MUST_CHECK;
/* All that checkpoint_find_left finds. */
int checkpoint_list_left(struct registry *r, struct checkpoint_info **ret_list,
			 size_t *ret_n) MUST_CHECK;

/*
 * Bytes on disk that would go with it.  Those that several checkpoints of its branch
 * share are counted at the oldest of them, those that the branch itself stands on at
 * none.  As branch_own_bytes.
 */
int checkpoint_held_bytes(struct registry *r, uint32_t no, uint32_t seq,
			  uint64_t *ret_bytes) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry.h - the branches of a store and their lineage: made, renamed,
 * discarded, each change durable before it is visible.
 *
 * A branch is reference counted (branch_get/branch_put); its record outlives
 * discard only in memory.  All functions are thread-safe.  Changes are
 * serialised inside and may take a few fsyncs: call them from a thread that may
 * block, never from the loop.
 */
#ifndef STORE_REGISTRY_H
#define STORE_REGISTRY_H

#include "base/cleanup.h"
#include "base/err.h"
#include "store/overlay.h"
#include "store/trash_name.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

struct registry;
struct branch;

#define BRANCH_NO_BITS                                                                 \
	26 /* a branch number is 1 .. 2^26 - 1, not reused while mounted */
#define MAIN_BRANCH "main"

/* A copy of what the record says; strings are owned by the copy. */
struct branch_info {
	uint32_t no;
	char name[64];
	char parent[64];            /* "" for main */
	char parent_checkpoint[64]; /* that it was made from; "": as it was then */
	bool parent_gone; /* the parent was discarded (or its name given to another) */
	time_t created;
	time_t last_active; /* newest of creation and branch_touch */
	time_t expires;     /* 0: never */
	uid_t owner;
	gid_t group;
	mode_t mode; /* permission bits of the branch directory */
	bool is_protected;
	bool prepared; /* the first-start clean-up was done once */
	bool started;  /* a server ran on it */
	bool stopped_by_hand;
	uid_t server_uid; /* whom its servers run as; 0: its owner, if that is not root
			   */
	gid_t server_gid;
	char make_role[64]; /* to be made at its next start; "": none */
	bool masking;       /* nobody may enter it yet */
	char masked[64];    /* by what its data was masked; "": it was not */
	bool discarded;     /* gone, or in the trash */
	char trash_name[TRASH_NAME_MAX]; /* NAME@TIME; "": it is not there */
	time_t trashed;                  /* when it was discarded */
	bool loaded;                     /* its trees take memory */
	unsigned depth;
	unsigned checkpoints; /* that somebody took... */
	unsigned automatic;   /* ...and others */
};

/*
 * Opens the store at path: checks its format, takes the lock, reads all
 * records, ends what a crash left half done (makes leftovers of the page cache
 * durable first).  A corrupt record is logged with its file name and left out.
 * -EBUSY: another daemon has it.  ctl_uid/gid are who "data" files belong to if
 * unprivileged.
 */
int registry_open(const char *path, struct registry **ret_reg,
		  struct err *e) MUST_CHECK;
/* Flushes everything and releases the store. */
struct registry *registry_close(struct registry *r);
/* The store's directory, borrowed. */
int registry_dirfd(const struct registry *r);
const char *registry_path(const struct registry *r);
int registry_statvfs(struct registry *r, struct statvfs *ret_st) MUST_CHECK;

/* What is kept in memory of the store, and how often that was enough. */
enum registry_cache {
	CACHE_DESCRIPTORS, /* open files of layers */
	CACHE_MAPS,        /* their block maps */
	CACHE_TREES,       /* branches' data directories */
	CACHE_COUNT
};
struct registry_stats {
	uint64_t layers, layers_merged; /* merged: those whose place another one took */
	uint64_t cold_files, cold_saved_bytes; /* compressed, and what that freed */
	uint64_t descriptors, descriptors_max;
	struct {
		uint64_t hits, misses;
	} caches[CACHE_COUNT];
};
/* Since the store was opened.  Never waits for a disk. */
void registry_stats(struct registry *r, struct registry_stats *ret_stats);
/* Bytes on disk that more than one branch holds; as branch_own_bytes. */
int registry_shared_bytes(struct registry *r, uint64_t *ret_bytes) MUST_CHECK;

/* A new reference, or NULL.  Discarded branches are found by number only. */
struct branch *registry_find(struct registry *r, const char *name);
struct branch *registry_find_no(struct registry *r, uint32_t no);
/* The one whose data has this number now. */
struct branch *registry_find_data(struct registry *r, uint32_t data_no);
/* All living branches, sorted by name; a heap array of references ended by NULL. */
int registry_list(struct registry *r, struct branch ***ret_list) MUST_CHECK;
void branch_list_free(struct branch **list);

struct branch *branch_get(struct branch *b);
struct branch *branch_put(struct branch *b); /* NULL is fine; returns NULL */
uint32_t branch_no(const struct branch *b);
void branch_info(struct branch *b, struct branch_info *ret_info);

struct branch_spec {
	const char *name;
	struct branch *parent; /* NULL: a checkpoint of one that is gone */
	/* from this checkpoint (checkpoint.h) of the branch; seq 0: as it is now */
	uint32_t checkpoint_of, checkpoint_seq;
	uid_t owner;
	gid_t group;
	mode_t mode;      /* permission bits, usually 0700 */
	time_t expires;   /* 0: never */
	uid_t server_uid; /* 0: the owner */
	gid_t server_gid;
	const char *make_role; /* NULL: none */
	bool masking;
	const char *masked; /* NULL: it is not */
};

/*
 * Makes a branch of spec->parent as it is now (the freeze of the design), or of a
 * checkpoint.  When it returns 0 the branch survives a power cut.  -EEXIST, -EINVAL and
 * -ENAMETOOLONG for the name, -ENOENT if the parent or checkpoint is gone, -ENOSPC.
 */
int registry_create(struct registry *r, const struct branch_spec *spec,
		    struct branch **ret_branch, struct err *e) MUST_CHECK;
/*
 * Discards a branch; nobody may be running on it.  -EPERM when protected.  The
 * space is freed in the background (see registry_reclaim).
 */
int registry_discard(struct registry *r, struct branch *b, struct err *e) MUST_CHECK;
int registry_rename(struct registry *r, struct branch *b, const char *newname,
		    struct err *e) MUST_CHECK;

/*
 * The trash: as registry_discard, but the branch is kept under another name, NAME@TIME,
 * with its number, layers and unsynced files.  For all but the functions here it is
 * discarded.
 */
int registry_trash(struct registry *r, struct branch *b, struct err *e) MUST_CHECK;
/*
 * Brings it back, in one step that is durable when it returns 0.  -ENOENT when it is
 * not in the trash, and what registry_create says of a name.
 */
int registry_restore(struct registry *r, struct branch *b, const char *name,
		     time_t expires, struct err *e) MUST_CHECK;
/* Removes it for good. */
int registry_purge(struct registry *r, struct branch *b, struct err *e) MUST_CHECK;
struct branch *registry_find_trashed(struct registry *r, const char *trash_name);
struct branch *registry_find_trashed_no(struct registry *r, uint32_t no);
/* All of them, sorted by the name in the trash; as registry_list. */
int registry_list_trash(struct registry *r, struct branch ***ret_list) MUST_CHECK;

/*
 * Makes durable what no fsync asked for: the layers that a freeze sealed, and
 * files that were written some time ago.  Blocking, on no request's way; called
 * every few seconds.
 */
int registry_flush(struct registry *r) MUST_CHECK;
/* Frees layers that no branch stands on; blocking, restartable. */
int registry_reclaim(struct registry *r) MUST_CHECK;
/*
 * Takes the trees out of memory that nobody had a reference on for rest_ms, after
 * making them durable; blocking.  *ret_count: how many went.  An error is that of one
 * which stays.  Called again and again: the time counts from the call that finds it at
 * rest.
 */
int registry_unload(struct registry *r, int64_t rest_ms,
		    unsigned *ret_count) MUST_CHECK;
/* fn is called before that on the same thread, with no lock held: what others know of
 * the tree o (the run directory, or the data) is to be forgotten.  NULL: no more. */
void registry_on_unload(struct registry *r,
			void (*fn)(void *ctx, struct branch *b, struct overlay *o,
				   bool run),
			void *ctx);

enum branch_flag {
	BRANCH_PREPARED,
	BRANCH_STARTED,
	BRANCH_STOPPED_BY_HAND,
	BRANCH_PROTECTED
};
/* Durable when it returns 0.  Setting what is set already costs nothing. */
int branch_set_flag(struct branch *b, enum branch_flag flag, bool on,
		    struct err *e) MUST_CHECK;
/* The directory's permission bits, owner and group; -1 keeps one as it is. */
struct branch_access {
	mode_t mode;
	uid_t owner;
	gid_t group;
	bool set_server;  /* these, too: */
	uid_t server_uid; /* 0: the owner */
	gid_t server_gid;
};
/* All of it in one step, which is durable when it returns 0. */
int branch_set_access(struct branch *b, const struct branch_access *a,
		      struct err *e) MUST_CHECK;
/* Its role was made. */
int branch_clear_make_role(struct branch *b, struct err *e) MUST_CHECK;
/* It is masked now: from here on it may be entered. */
int branch_end_masking(struct branch *b, const char *masked, struct err *e) MUST_CHECK;
/* expires 0: never.  Durable when it returns 0. */
int branch_set_expires(struct branch *b, time_t expires, struct err *e) MUST_CHECK;
/* Notes activity now; written to disk lazily. */
void branch_touch(struct branch *b);

/*
 * Bytes on disk that only this branch holds: its own layers' files, those of its
 * checkpoints that it stands on included.  Does not load the data directory; may read
 * directories of the store.
 */
int branch_own_bytes(struct branch *b, uint64_t *ret_bytes) MUST_CHECK;
/*
 * Counts that go with the numbers of the branch's directories, and of those in its
 * data. The kernel takes a directory that it saw removed for dead as long as somebody
 * holds it; if it comes back under the same number, it must be another one: renew.
 */
uint64_t branch_generation(const struct branch *b);
uint64_t branch_data_generation(const struct branch *b);
void branch_renew_data(struct branch *b);

/* A reference on the branch's data directory, which is loaded if need be.  It stays in
 * memory as long as there is one. */
int branch_data_get(struct branch *b, struct overlay **ret_overlay) MUST_CHECK;
/*
 * The same for its run directory: a scratch overlay in STORE/run, never synced,
 * for its sockets and generated configuration; made at first use, emptied by
 * branch_run_clear, when nobody used it for a while, and at every mount.
 */
int branch_run_get(struct branch *b, struct overlay **ret_overlay) MUST_CHECK;
int branch_run_clear(struct branch *b) MUST_CHECK;
/* Opens STORE/run/NO.log for the server's output (O_APPEND) or for reading. */
int branch_log_open(struct branch *b, int flags) MUST_CHECK;
/* When it takes more than max, only its last `keep` bytes stay, behind a hole: who
 * reads it, or writes on, is where it was. */
int branch_log_trim(struct branch *b, uint64_t max_bytes,
		    uint64_t keep_bytes) MUST_CHECK;
/*
 * Waits until all layers below the branch's top are on disk.  Nothing may be
 * started on the branch before it returned 0.
 */
int branch_wait_durable(struct branch *b) MUST_CHECK;

#endif

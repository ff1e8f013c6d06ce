/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_priv.h - what registry.c, registry_*.c, branch.c,
 * checkpoint.c, holdings.c and rest.c share; for them
 * alone.
 *
 * Locks, in this order: registry->change (a mutex that serialises whatever
 * writes records; held over their fsyncs), registry->table (short, for the two
 * tables and the names), branch->lock (a branch's record in memory and its overlays).
 */
#ifndef STORE_REGISTRY_PRIV_H
#define STORE_REGISTRY_PRIV_H

#include "store/branch_meta.h"
#include "store/layer.h"
#include "store/registry.h"
#include "store/trash_name.h"

/* quota.c */
struct branch_quota {
	pthread_mutex_t lock;
	uint64_t limit, used; /* lock: lock */
	int64_t newer, older; /* lock: lock; bytes that are announced */
	int64_t turned_ms;    /* lock: lock; when newer became older */
	atomic_bool on, near;
};

struct branch {
	UT_hash_handle hh_no, hh_name; /* lock: registry->table */
	UT_hash_handle hh_data;        /* lock: likewise; in by_data, if data_key */
	uint32_t data_key;             /* lock: likewise */
	struct registry *reg;
	atomic_uint refs; /* the table holds one while the branch lives */
	uint32_t no;
	char name[64];              /* lock: registry->table */
	char trash[TRASH_NAME_MAX]; /* lock: registry->table; "": not in the trash */
	atomic_bool discarded;      /* in the trash or gone */
	atomic_bool trashed;
	atomic_uint lives, data_renewed; /* its generations are made of these */
	atomic_llong last_active;        /* seconds; newer than meta's until saved */

	pthread_mutex_t lock;
	struct branch_meta meta; /* lock: lock; changed only under registry->change */
	bool unsaved;            /* lock: lock; meta differs from the record */
	bool misnamed;     /* lock: registry->change; the record holds its old name */
	struct layer *top; /* lock: lock; owned; likewise */
	struct overlay *data, *run; /* lock: lock; references; NULL: not loaded */
	uint64_t run_fid; /* lock: lock; largest number that the run directory had */
	struct branch_quota quota;
};

/* A file that could not be read when the store was opened. */
struct damage {
	char *path, *branch, *why; /* owned */
};

struct registry {
	char *path;
	int lock_fd;
	struct store store;

	pthread_mutex_t change;
	uint32_t next_no, next_layer; /* lock: change */
	struct layer **dead;          /* lock: change; layers to remove, references */
	size_t ndead;
	struct layer **sealed; /* lock: change; layers to flush, references */
	size_t nsealed;
	uint32_t *orphans; /* lock: change; ids of layers that nobody knows */
	size_t norphans;
	/* lock: change; layers with lower ids are kept: a damaged record may need them
	 */
	uint32_t keep_below;
	uint32_t building; /* lock: change; a layer that nobody names yet; 0: none */
	unsigned search_round;   /* lock: change */
	struct squash *squash;   /* registry_squash's caller's */
	int64_t squash_again_ms; /* likewise */
	struct metric_counter squashed;
	struct chill *chill;    /* registry_chill's caller's */
	int64_t chill_again_ms; /* likewise */
	struct metric_counter cold_files, cold_saved;
	unsigned misnamed;     /* lock: change; how many branches are */
	struct damage *damage; /* lock: change */
	size_t ndamage;

	pthread_rwlock_t table;
	struct branch *by_no, *by_name;             /* lock: table */
	struct branch *trash_by_no, *trash_by_name; /* lock: table */
	/* lock: table; branches whose data has another number than they */
	struct branch *by_data;
	struct checkpoint_set *checkpoints; /* lock: table; checkpoint_priv.h */
	/* lock: table; registry_on_unload's */
	void (*forget)(void *ctx, struct branch *b, struct overlay *o, bool run);
	void *forget_ctx;
	/* lock: table; registry_on_rollback's */
	void (*switched)(void *ctx, struct branch *b);
	void *switched_ctx;

	struct metric_counter tree_hits, tree_misses;
	pthread_mutex_t stats; /* one round over all layers at a time; taken first */
	unsigned stats_round;  /* lock: stats */
};

struct branch *branch_new(struct registry *r, const char *name,
			  const struct branch_meta *meta, struct layer *top);
/* A new reference on its top layer. */
struct layer *branch_top(struct branch *b);
/* overlay_sync, if the branch's files were touched in this mount. */
int branch_sync(struct branch *b) MUST_CHECK;
/* Writes the time of its last activity, if the record's is old. */
int branch_save_activity(struct branch *b) MUST_CHECK;
/* What its data's node ids have: its own number, but for a rollback. */
uint32_t branch_data_no(struct branch *b);
/* With the table's lock held for writing: enters the data's number in by_data if it is
 * another one than the branch's, or takes it out. */
int data_number_add_locked(struct registry *r, struct branch *b) MUST_CHECK;
void data_number_drop_locked(struct registry *r, struct branch *b);
/* Enters it in the tables; the caller's reference becomes the table's. */
int registry_add(struct registry *r, struct branch *b) MUST_CHECK;
/* The same for one pair of tables, whose lock is held for writing. */
int registry_add_to(struct branch **by_no, struct branch **by_name, struct branch *b,
		    const char *name) MUST_CHECK;

/* --- registry.c; with registry->change held --- */

/* May a branch be given this name? */
int registry_check_name(struct registry *r, const char *name, struct err *e) MUST_CHECK;
int registry_check_discard(struct branch *b, struct err *e) MUST_CHECK;
/* Is there nothing in the branch's own top layer? */
bool registry_top_is_empty(struct registry *r, struct branch *b);
/*
 * The sealed layer that holds the branch as it is now, by a freeze if need be;
 * borrowed, it lives as long as the branch's top.
 */
int registry_freeze_base(struct registry *r, struct branch *b, struct layer **ret_base,
			 struct err *e) MUST_CHECK;
/* The same; -EBUSY while it is being masked. */
int registry_base_of(struct registry *r, struct branch *b, struct layer **ret_base,
		     struct err *e) MUST_CHECK;
/* A branch on a sealed, durable layer that is nobody's, with a name that was checked.
 */
int registry_add_on(struct registry *r, const struct branch_spec *spec,
		    struct layer *base, struct branch **ret_branch,
		    struct err *e) MUST_CHECK;
/* The last of a branch that is in no table any more; the table's reference goes. */
void registry_forget(struct registry *r, struct branch *b);
/* With the table's lock, too: children remember this name of it. */
void registry_name_in_children(struct registry *r, const struct branch *parent);

/* --- registry_record.c; all but record_path with registry->change held --- */

#define RECORD_PATH_MAX (sizeof("branches/") + TRASH_NAME_MAX + sizeof(".ini"))
void record_path(const char *name, char buf[static RECORD_PATH_MAX]);
/* Writes a record's text durably, whatever it describes. */
int record_write(struct registry *r, const char *name, const char *text) MUST_CHECK;
/* Removes a record that holds this text; when it fails it is there again. */
int record_unlink(struct registry *r, const char *name, const char *text) MUST_CHECK;
/* After a failed registry_save: what was there before it, as far as that can be. */
void record_put_back(struct registry *r, const char *name,
		     const struct branch_meta *meta);
/* Takes one back that could not be written durably; -errno: it may be there. */
int record_undo(struct registry *r, const char *name) MUST_CHECK;
/* Writes the record durably, with its name in it. */
int registry_save(struct registry *r, const char *name,
		  const struct branch_meta *meta) MUST_CHECK;
/* fsync of branches/, if anything in it changed. */
int records_sync(struct registry *r) MUST_CHECK;
/* A failed fsync of branches/ sticks: -errno until the next mount. */
int records_failed(struct registry *r) MUST_CHECK;
/*
 * Gives the record's file another name, which is durable then, and then the record,
 * with this content.  When it fails the file has its old name.
 */
int record_rename(struct registry *r, struct branch *b, const char *from,
		  const char *to, const struct branch_meta *meta,
		  struct err *e) MUST_CHECK;
/* The record of this name and content; when it fails it is there again. */
int record_remove(struct registry *r, const char *name,
		  const struct branch_meta *meta) MUST_CHECK;
/* Is there no file of this name?  -EEXIST: there is, and it is damaged. */
int record_check_free(struct registry *r, const char *name, struct err *e) MUST_CHECK;
/* What its file is called, without the ending; table's lock or registry->change. */
static inline const char *branch_record_name(const struct branch *b)
{
	return b->trash[0] ? b->trash : b->name;
}
/* A record that holds another name than its file: to be written again... */
void record_note_misnamed(struct registry *r, struct branch *b);
/* ...which is done here, before a name is taken. */
int record_settle_names(struct registry *r, struct err *e) MUST_CHECK;

/* --- registry_upkeep.c; with registry->change held --- */

/* Appends a reference; without memory the layer is found again in another way. */
void layer_remember(struct layer ***v, size_t *n, struct layer *l);
/* One user less for a layer; the last one's going makes it dead. */
void layer_release(struct registry *r, struct layer *l);

/* --- holdings.c; with registry->change held --- */

/* The branch, its checkpoints, or others on its layers have changed: which layers are
 * its own? */
void holdings_recount(struct registry *r, struct branch *b);

/* --- squash.c, chill.c --- */

/* Gives up what is on its way. */
void registry_squash_end(struct registry *r);
void registry_chill_end(struct registry *r);

/* --- check.c --- */

/* branch: whom it costs, "" if nobody knows. */
void damage_note(struct registry *r, const char *path, const char *branch,
		 const char *why);
void damage_free(struct registry *r);

/* --- registry_read.c --- */

/* Reads all records and makes the branches; removes no layer. */
int registry_read(struct registry *r, struct err *e) MUST_CHECK;

#endif

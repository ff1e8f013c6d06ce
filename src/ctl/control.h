/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control.h - every request that changes something passes here: authorise, then
 * run, then remember why it failed.  The mount's files and directories are
 * one front of it, the command line another.
 *
 * Requests may come from any thread and never block it: work that waits goes to
 * the pool or the loop, and `done` is called exactly once, on any thread, maybe
 * before the request function returns.  A failure is kept as the sentence that
 * .error shows to the caller's uid.
 */
#ifndef CTL_CONTROL_H
#define CTL_CONTROL_H

#include "base/err.h"
#include "base/loop.h"
#include "ctl/caller.h"
#include "ctl/config.h"
#include "pg/fleet.h"
#include "store/checkpoint.h"
#include "store/registry.h"

struct control;
struct metrics;

/* b: the branch it was about, borrowed for the call; NULL on failure. */
typedef void (*control_done)(void *ctx, int rc, struct branch *b);

int control_new(struct loop *l, struct pool *p, struct registry *r, struct fleet *f,
		const struct config *cfg, const char *mountpoint, uid_t mount_owner,
		struct control **ret_control, struct err *e) MUST_CHECK;
/* cfg is borrowed until the next configure.  Opens the audit log anew, too. */
void control_configure(struct control *c, const struct config *cfg);
/* Waits for what has threads of its own; the loop does not run any more. */
void control_drain(struct control *c);
struct control *control_free(struct control *c);

/* spec: NAME, NAME@PARENT or NAME@PARENT:CHECKPOINT (later :TIME). */
void control_create(struct control *c, const struct caller *who, const char *spec,
		    mode_t mode, control_done done, void *ctx);
void control_discard(struct control *c, const struct caller *who, const char *name,
		     control_done done, void *ctx);
/* trash_name: NAME@TIME.  Brings back a branch that was kept, as `to`. */
void control_restore(struct control *c, const struct caller *who,
		     const char *trash_name, const char *to, control_done done,
		     void *ctx);
/* Removes one for good. */
void control_purge(struct control *c, const struct caller *who, const char *trash_name,
		   control_done done, void *ctx);
void control_rename(struct control *c, const struct caller *who, const char *from,
		    const char *to, control_done done, void *ctx);
/* Takes a checkpoint. */
void control_checkpoint(struct control *c, const struct caller *who, struct branch *b,
			const char *name, control_done done, void *ctx);
/* These change one that was found; b of done is NULL. */
void control_drop_checkpoint(struct control *c, const struct caller *who,
			     const struct checkpoint_info *about, control_done done,
			     void *ctx);
/* Does the caller see one that a discarded branch left? */
bool control_sees_left(struct control *c, const struct caller *who,
		       const struct checkpoint_info *left);
void control_rename_checkpoint(struct control *c, const struct caller *who,
			       const struct checkpoint_info *about, const char *to,
			       control_done done, void *ctx);
/* word: the checkpoint's name. */
void control_rollback(struct control *c, const struct caller *who, struct branch *b,
		      const char *word, control_done done, void *ctx);
/* word: "parent". */
void control_reset(struct control *c, const struct caller *who, struct branch *b,
		   const char *word, control_done done, void *ctx);
/* word: "running" or "stopped". */
void control_set_state(struct control *c, const struct caller *who, struct branch *b,
		       const char *word, control_done done, void *ctx);
/* word: see input_parse_expires. */
void control_set_expires(struct control *c, const struct caller *who, struct branch *b,
			 const char *word, control_done done, void *ctx);
/* word: "1" or "0". */
void control_set_protected(struct control *c, const struct caller *who,
			   struct branch *b, const char *word, control_done done,
			   void *ctx);
/* chmod, chown, chgrp of the branch directory; mode (mode_t)-1: keep. */
void control_set_access(struct control *c, const struct caller *who, struct branch *b,
			mode_t mode, uid_t owner, gid_t group, control_done done,
			void *ctx);
/* What who may now; for rights_fini.  May block on the databases of users. */
void control_rights(struct control *c, const struct caller *who,
		    struct rights *ret_rights);
/* Does the caller, who has these rights, see that the branch is there? */
bool control_sees_with(struct control *c, const struct rights *rt,
		       const struct caller *who, struct branch *b);
bool control_sees(struct control *c, const struct caller *who, struct branch *b);
/* Is there anybody who does not see every branch? */
bool control_hides(struct control *c);
/*
 * The caller is about to connect to the branch's server: 0 when the audit log has it,
 * or why not, noted for .error.
 */
int control_connect(struct control *c, const struct caller *who,
		    struct branch *b) MUST_CHECK;
/* May this caller take the branch, or one in the trash, away?  0 or a negative code,
 * noted for .error. */
int control_may_discard(struct control *c, const struct caller *who,
			struct branch *b) MUST_CHECK;

/* Remembers a failed request of uid for .error; takes what e says. */
void control_note_error(struct control *c, uid_t uid, const struct err *e);
/* What .error shows this uid: heap string, "" when nothing failed. */
char *control_error_text(struct control *c, uid_t uid);

/* When a branch that was discarded then goes for good; 0: not by itself. */
time_t control_purge_time(struct control *c, time_t trashed);
/* The uid that mounted it. */
uid_t control_mount_owner(const struct control *c);
/* The superuser role of the cluster; fixed for the life of the mount. */
const char *control_superuser(const struct control *c);
/* What mkdir NAME branches from: heap string, NULL when out of memory. */
char *control_default_parent(struct control *c);
struct sanitize *control_sanitize(struct control *c);
struct registry *control_registry(struct control *c);
struct fleet *control_fleet(struct control *c);
const char *control_mountpoint(const struct control *c);
struct metrics *control_metrics(struct control *c);

#endif

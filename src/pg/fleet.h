/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fleet.h - the Postgres servers of all branches: what the rest of the daemon may
 * ask of them.  One loop thread owns every server's state; other threads post
 * requests and get a callback.
 */
#ifndef PG_FLEET_H
#define PG_FLEET_H

#include "base/err.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "store/registry.h"

#include <stdbool.h>
#include <stdint.h>

struct fleet;

/* Strings are borrowed and must outlive the fleet, or the next fleet_configure. */
struct fleet_config {
	const char *mountpoint; /* absolute */
	const char *bin_dir;    /* NULL: find by PG_VERSION */
	const char *superuser;  /* the cluster's superuser role */
	const char *const
		*settings; /* "name=value", ended by NULL: extra -c settings */
	uid_t run_as_uid;  /* the server's uid where the owner is root */
	gid_t run_as_gid;
	bool privileged;            /* we are root and may become other uids */
	uint64_t idle_timeout_s;    /* 0: never stop an idle server */
	bool keep_idle_connections; /* and one with connections that do nothing */
	uint64_t start_timeout_s;
	/* a uid is only the role that fleet_admit gave it; otherwise everybody may be
	 * the role of their own name, and the owner the superuser */
	bool strict_roles;
};

enum pm_state {
	PM_STOPPED,
	PM_STARTING,
	PM_RUNNING,
	PM_STOPPING,
	PM_FAILED,
	PM_EXTERNAL, /* somebody else's server runs on its data directory */
};
#define PM_STATES (PM_EXTERNAL + 1)
const char *pm_state_name(enum pm_state s);

struct pm_status {
	enum pm_state state;
	pid_t pid;        /* 0: none */
	time_t since;     /* of the present state; 0: never ran in this mount */
	uint64_t wakes;   /* starts in this mount */
	char reason[256]; /* why it failed or is not ours; "" otherwise */
};

enum pm_want {
	PM_WANT_RUNNING,
	PM_WANT_STOPPED,
	PM_WANT_HALTED,
	PM_WANT_HELD,
	PM_WANT_GONE
};

int fleet_new(struct loop *l, struct pool *p, struct registry *r,
	      const struct fleet_config *cfg, struct fleet **ret_fleet,
	      struct err *e) MUST_CHECK;
/* New settings hold for servers started from now on, those for idle ones at once.
 * Loop thread. */
void fleet_configure(struct fleet *f, const struct fleet_config *cfg);
struct fleet *fleet_free(struct fleet *f);
/*
 * Calls fn for each client that is refused, with its uid and what it is told, on the
 * loop thread.  To be set before the loop runs.
 */
void fleet_on_refusal(struct fleet *f,
		      void (*fn)(void *ctx, uid_t uid, const struct err *e), void *ctx);
/* The uid and gid that the branch's server runs under and its data shows. */
void fleet_server_ids(struct fleet *f, struct branch *b, uid_t *ret_uid,
		      gid_t *ret_gid);

/* Any thread, never blocks. */
void fleet_status(struct fleet *f, struct branch *b, struct pm_status *ret_st);

/* What happened in this mount.  Any thread, never blocks. */
struct fleet_stats {
	uint64_t wakes;         /* starts that were begun */
	uint64_t failed_starts; /* those that did not get ready */
	uint64_t crashes;       /* servers that ended unasked */
	uint64_t idle_stops;
	struct metric_totals
		wake_time; /* from the first who wants it until it is ready */
};
extern const struct metric_bounds fleet_wake_bounds;
void fleet_stats(const struct fleet *f, struct fleet_stats *ret_stats);

/*
 * From here on the uid that servers know by the name `user` may be `role` in this
 * branch, and nothing else.  A server that runs knows it when this returns 0.  Any
 * thread; writes to the run directory.
 */
int fleet_admit(struct fleet *f, struct branch *b, const char *user,
		const char *role) MUST_CHECK;
/*
 * What is known of a role in the branch's cluster: from its server if one runs, else
 * from its files.  Blocks: pool threads only.
 */
enum fleet_role {
	FLEET_ROLE_UNKNOWN,  /* the files do not tell */
	FLEET_ROLE_MISSING,  /* there is none of this name */
	FLEET_ROLE_NO_LOGIN, /* it cannot log in */
	FLEET_ROLE_POWERFUL, /* it can get at the server's files, or make itself able to
			      */
	FLEET_ROLE_FIT,
};
enum fleet_role fleet_look_for_role(struct fleet *f, struct branch *b,
				    const char *role);

typedef void (*fleet_done)(void *ctx, int rc, const struct err *e);
/*
 * RUNNING: start (if not running) and call done when it accepts connections.
 * STOPPED: fast, then immediate shutdown; done when it is gone.
 * HALTED: likewise, by immediate shutdown; its next start recovers.
 * HELD: as STOPPED, but it is to come back: whoever wants a server, or comes as a
 * client, waits until fleet_release.
 * GONE: the branch is about to be discarded: immediate shutdown, held clients
 * are dropped, the listener closed, nothing starts again.  done when it is gone.
 * While the branch is external, all are answered with -EBUSY.
 * done is called exactly once, on the loop thread.  Any thread may ask.
 */
void fleet_want(struct fleet *f, struct branch *b, enum pm_want want, fleet_done done,
		void *ctx);
/*
 * The end of HELD.  renewed: the branch has other data now, so that nothing is known of
 * its server.  run: it is started, and done called when it accepts connections, or does
 * not; otherwise done is called at once.  As fleet_want.
 */
void fleet_release(struct fleet *f, struct branch *b, bool renewed, bool run,
		   fleet_done done, void *ctx);
/* The discard after PM_WANT_GONE did not happen: the branch may start again. */
void fleet_keep(struct fleet *f, struct branch *b);
/* -EBUSY, with a sentence, while the branch is external.  Any thread, never blocks. */
int fleet_check_ours(struct fleet *f, struct branch *b, struct err *e) MUST_CHECK;

/*
 * The file by which servers keep one another out of a data directory: fs tells when a
 * process (0: it cannot be seen from here) has made it there, before the file is
 * opened, and when it is gone.  Any thread; may read from the store.
 */
#define FLEET_LOCK_FILE "postmaster.pid"
void fleet_lock_made(struct fleet *f, struct branch *b, pid_t pid);
void fleet_lock_gone(struct fleet *f, struct branch *b);
/* May this process take it away?  -EBUSY, with a sentence, while another one that made
 * it as its own lives. */
int fleet_lock_may_go(struct fleet *f, struct branch *b, pid_t pid,
		      struct err *e) MUST_CHECK;
/*
 * Which object of the branch's run overlay its socket name stands for now: the
 * server's own socket when it accepts connections, else the wake-up listener,
 * made if need be.  done gets rc and the fid, exactly once: at once on the calling
 * thread if it is known, otherwise on the loop thread.  Any thread may ask; a FUSE
 * worker must not wait for the answer.
 */
void fleet_socket(struct fleet *f, struct branch *b,
		  void (*done)(void *ctx, int rc, uint64_t fid), void *ctx);
/* Is this object of its run directory what its socket's name stands for now?  Any
 * thread, never blocks. */
bool fleet_is_public(struct fleet *f, struct branch *b, uint64_t fid);
/* Is this the process of the branch's own server?  Any thread, never blocks. */
bool fleet_is_server(struct fleet *f, struct branch *b, pid_t pid);
/*
 * Does anybody use the branch: clients that are held or served, or a start that was
 * asked for?  The daemon's own session is left out.  done is called exactly once, on
 * the loop thread; rc < 0: it cannot be told now, ask again.  Any thread may ask.
 */
typedef void (*fleet_used)(void *ctx, int rc, bool used);
void fleet_in_use(struct fleet *f, struct branch *b, fleet_used done, void *ctx);
/*
 * Makes every commit that the branch's server has acknowledged durable, the
 * asynchronous ones too (one tiny synchronous commit).  Returns 0 at once if no
 * server runs.  Blocks: pool threads only.
 */
int fleet_sync_commit(struct fleet *f, struct branch *b, struct err *e) MUST_CHECK;
/* Stops all servers, closes all listeners, refuses new starts; then done: nothing of
 * the fleet keeps the mount busy any more. */
void fleet_shutdown(struct fleet *f, fleet_done done, void *ctx);
/*
 * Ends every server that an earlier daemon left behind on this store and proves
 * it gone.  Called at mount, before anything else; blocks.
 */
int fleet_fence(struct registry *r, struct err *e) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fleet_priv.h - what the files behind fleet.h share.
 *
 * A slot is a branch's line in the table: small, and there as long as the fleet,
 * so other threads and callbacks may hold a pointer to it.  A struct postmaster
 * (postmaster_priv.h) is there only while a branch is awake or listened for.
 */
#ifndef PG_FLEET_PRIV_H
#define PG_FLEET_PRIV_H

#include "base/cpuwake.h"
#include "base/loop.h"
#include "pg/doorman.h"
#include "pg/fleet.h"
#include "pg/monitor.h"
#include "pg/refuse.h"
#include "pg/roles.h"
#include "pg/rundir.h"
#include "store/registry.h"

#include <stdatomic.h>

#define FLEET_BUCKETS 4096

/* A fleet_config with strings of its own, never changed; reference counted. */
struct fleet_conf {
	atomic_uint refs;
	char *mountpoint;
	char *bin_dir; /* NULL: find it */
	char *superuser;
	char **settings; /* ended by NULL */
	uid_t run_as_uid;
	gid_t run_as_gid;
	bool privileged;
	uint64_t idle_timeout_s;
	bool keep_idle_connections;
	uint64_t start_timeout_s;
	bool strict_roles;
};

int fleet_conf_new(const struct fleet_config *cfg,
		   struct fleet_conf **ret_conf) MUST_CHECK;
struct fleet_conf *fleet_conf_get(struct fleet_conf *c);
struct fleet_conf *
fleet_conf_put(struct fleet_conf *c); /* NULL is fine; returns NULL */
/* Whom the server of such a branch runs as. */
void fleet_conf_ids(const struct fleet_conf *c, const struct branch_info *info,
		    uid_t *ret_uid, gid_t *ret_gid);

/* Who made the data directory's lock file (lockfile.h). */
struct lock_maker {
	bool there; /* made in this mount, not removed */
	pid_t pid;  /* 0: cannot be seen from here */
	int pidfd;  /* owned; -1: cannot be seen */
};

struct slot {
	struct slot *next; /* lock: fleet->lock */
	struct fleet *fleet;
	uint32_t no;

	/* lock: fleet->lock; written by the loop thread only */
	enum pm_state state;
	pid_t pid;
	time_t since;
	uint64_t wakes;
	char *reason;            /* NULL: none */
	uint64_t socket_fid;     /* what the socket's name stands for; 0: ask */
	int server_pidfd;        /* whose socket that is, borrowed; -1: the listener */
	struct monitor *monitor; /* while it runs */
	/* lock: fleet->lock; by anybody */
	int64_t looked_ms; /* the last time somebody asked for the socket */
	struct lock_maker lock;

	struct roles roles; /* lock: fleet->roles_lock */

	/* loop thread only */
	struct postmaster *pm; /* NULL: asleep and not listened for */
	bool gone;             /* being discarded */
	bool held;             /* nothing starts until it is released */
	bool ran;              /* a server was started on it in this mount */
	unsigned fails;        /* failed starts in the window */
	int64_t first_fail_ms;
	int64_t retry_at_ms, backoff_ms;
	uint32_t orphan_key; /* a dead server's processes may live; 0: none */
	int orphan_id;

	atomic_bool lock_posted; /* a look at the lock file is on its way */
};

struct fleet {
	struct loop *loop;
	struct pool *pool;
	struct registry *reg;
	struct rundirs *dirs;
	struct doorman *doorman;
	pthread_mutex_t roles_lock; /* taken before lock; held while a pg_ident.conf is
				     * written */
	pthread_mutex_t lock;
	pthread_cond_t moved;    /* a slot's state changed */
	struct fleet_conf *conf; /* lock: lock */
	void (*refused)(void *ctx, uid_t uid, const struct err *e); /* or NULL */
	void *refused_ctx;
	struct slot *buckets[FLEET_BUCKETS]; /* lock: lock */
	struct metric_counter wakes, failed_starts, crashes, idle_stops;
	struct metric_histogram wake_time;

	/* loop thread only */
	struct cpuwake *cpuwake;
	struct refusals refusals;
	struct postmaster *pms;
	unsigned jobs; /* results that are still to come from the pool */
	bool closing;
	bool down_posted;
	fleet_done down_done;
	void *down_ctx;
};

/* The branch's slot if it has one; with f->lock held. */
struct slot *fleet_find_slot_locked(struct fleet *f, uint32_t no);
/* The branch's slot, made if need be; NULL when out of memory.  Any thread. */
struct slot *fleet_slot(struct fleet *f, uint32_t no);
/* A new reference on the present configuration.  Any thread. */
struct fleet_conf *fleet_conf_now(struct fleet *f);
/* The monitor of a running server, referenced; NULL if none runs.  Any thread. */
struct monitor *fleet_monitor(struct fleet *f, uint32_t no);
/* Writes pg_ident.conf for the branch's server; *ret_version: of the list in it. */
int fleet_write_roles(struct fleet *f, struct slot *s, struct branch *b,
		      struct overlay *run, const struct fleet_conf *c,
		      unsigned *ret_version, struct err *e) MUST_CHECK;
/* Ends a shutdown once nothing runs any more.  Loop thread. */
void fleet_check_down(struct fleet *f);
/* Posts a pool job whose result is counted in f->jobs.  Loop thread. */
int fleet_job(struct fleet *f, void (*fn)(void *ctx), void *ctx) MUST_CHECK;
/* To be called first by the loop half of such a job. */
void fleet_job_done(struct fleet *f);

#endif

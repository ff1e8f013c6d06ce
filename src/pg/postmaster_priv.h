/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * postmaster_priv.h - the parts of a postmaster: postmaster.c decides (states,
 * requests, what a run's end leads to), pmclient.c what clients meet, pmwait.c knows
 * who waits for a state, pmstart.c starts a server, pmserver.c handles the process,
 * pmidle.c its idleness, pmuse.c whether it is in use, pmexternal.c the server of
 * somebody else, pmtimes.c how long a start took.
 * Loop thread only.
 */
#ifndef PG_POSTMASTER_PRIV_H
#define PG_POSTMASTER_PRIV_H

#include "base/err.h"
#include "base/proc.h"
#include "pg/activate.h"
#include "pg/lockfile.h"
#include "pg/monitor.h"
#include "pg/postmaster.h"

enum stop_step { STOP_NONE, STOP_FAST, STOP_IMMEDIATE, STOP_KILL };

enum pm_time {
	PM_TIME_BEGIN,
	PM_TIME_EXEC,
	PM_TIME_READY,
	PM_TIME_OPEN,
	PM_TIME_CLIENT,
	PM_TIMES,
};

struct waiter {
	struct waiter *next;
	enum pm_want want;
	fleet_done done;
	void *ctx;
};

struct asker {
	struct asker *next;
	void (*done)(void *ctx, int rc, uint64_t fid);
	void *ctx;
};

struct postmaster {
	struct postmaster *next; /* fleet->pms */
	struct fleet *fleet;
	struct slot *slot;
	struct branch *branch;
	struct activation *act;
	struct loop_timer *deadline; /* of the start, or of the present stop step */
	struct loop_timer *idle;     /* next probe */
	struct loop_timer *linger;   /* next look whether all this is still needed */
	enum pm_state state;
	struct waiter *waiters;
	struct asker *askers;
	bool wanted;        /* start again after the stop that is under way */
	bool begin_pending; /* STARTING, but a job of an earlier run is still out */
	unsigned busy;      /* jobs of starts and burials */
	unsigned probes;    /* probes under way */
	unsigned asked;     /* questions of pmuse.c under way */

	/* the present run; results that carry another number are dropped */
	uint64_t run;
	struct fleet_conf *conf;
	struct rundir *rd;
	struct proc proc;
	struct loop_io *exit_io;
	struct monitor *mon;
	int major;
	uint64_t log_off;
	uint64_t server_fid; /* of its socket */
	uint32_t shm_key;
	int shm_id;
	bool ready;                  /* it said so */
	bool served;                 /* it was running */
	bool subscriptions, promote; /* what to prepare */
	unsigned roles_version;      /* of the pg_ident.conf that it was started with */
	int64_t times_us[PM_TIMES];  /* of its start; 0: not reached */
	enum stop_step step;
	struct err failure; /* why it is being stopped, if that is a failure */

	uint64_t
		asked_ns; /* when the first one came who waits for it; 0: nobody does */

	/* external: who uses the data directory */
	struct lock_user user;
	struct loop_io *user_io; /* NULL: cannot be seen */

	int64_t active_ms; /* start of the idle window */
	bool draining;     /* idle: new clients are led to the listener */
	bool blind;        /* the last probe failed */
};

/* postmaster.c, called by the others: */
bool pm_at_rest(const struct postmaster *pm);
/* Which object its socket's name stands for; 0: none yet, or none any more. */
uint64_t pm_socket_fid(const struct postmaster *pm);
void pm_move(struct postmaster *pm, enum pm_state to, const char *reason);
/* Shows the others what changed without a move: the pid, the socket. */
void pm_publish(struct postmaster *pm);
/* From here on somebody waits for a server. */
void pm_note_asked(struct postmaster *pm);
/* Starts; only at rest, and not if it is found to be external. */
void pm_begin(struct postmaster *pm);
/* Gives up a start that has no process yet. */
void pm_give_up_start(struct postmaster *pm);
/* At rest: does anybody want the next server? */
void pm_what_next(struct postmaster *pm);
/* It accepts connections and is prepared. */
void pm_started(struct postmaster *pm);
/* No process of it is left (or could be made); e: why, if that is a failure. */
void pm_ended(struct postmaster *pm, struct err *e);
/* The name for log lines; buf is also the result. */
const char *pm_name(struct postmaster *pm, char buf[static 64]);

/* pmclient.c */
extern const struct activation_events pm_client_events;
/* Clients are held and nobody serves them: what comes of them in this state? */
void pm_client_came(void *ctx);
/* Tell all clients that are held. */
void pm_refuse_for_failure(struct postmaster *pm, const char *why);
void pm_refuse_for_unmount(struct postmaster *pm);
/* Answers those who look for the socket. */
void pm_tell_askers(struct postmaster *pm, int rc);

/* pmwait.c */
#define PM_WANT_BIT(want) (1u << (want))
/* Tells, and takes off the list, the waiters for one of these wants (bits). */
void pm_tell_waiters(struct postmaster *pm, unsigned wants, const struct err *e);
bool pm_is_waited_for(const struct postmaster *pm, enum pm_want want);
/* NULL done: nobody wants to know. */
void pm_add_waiter(struct postmaster *pm, enum pm_want want, fleet_done done,
		   void *ctx);
/* code 0: done; otherwise why not. */
void pm_tell_one(fleet_done done, void *ctx, int code, const char *why);

/* pmstart.c */
void pm_start_begin(struct postmaster *pm);
int pm_start_timeout_ms(const struct fleet_conf *c);
/* The lock file changed: is the server ready? */
void pm_start_look(struct postmaster *pm);

/* pmserver.c */
struct start_plan;
int pm_server_spawn(struct postmaster *pm, struct start_plan *plan,
		    struct err *e) MUST_CHECK;
void pm_server_deadline(void *ctx); /* the timer of pm->deadline */
/* Starts stopping, or stops harder, with this step and then the next ones. */
void pm_server_stop(struct postmaster *pm, enum stop_step step);
/* Gives back what belongs to a run. */
void pm_server_release(struct postmaster *pm);

/* pmexternal.c */
/* Is it, or does it become or cease to be external?  A server of ours has no process.
 * starting: one that has just made its lock file counts, too. */
bool pm_external_look(struct postmaster *pm, bool starting);
/* It is, by this one, of whom pidfd is taken over. */
void pm_external_begin(struct postmaster *pm, struct lock_user *u);
/* What a request for it is told: -EBUSY. */
int pm_external_error(struct postmaster *pm, struct err *e);
void pm_external_release(struct postmaster *pm);

/* pmtimes.c */
/* Notes that this step is reached; the first time counts. */
void pm_time(struct postmaster *pm, enum pm_time which);
/* Logs the times of the start, once. */
void pm_times_tell(struct postmaster *pm);

/* pmidle.c */
void pm_idle_begin(struct postmaster *pm);
void pm_idle_end(struct postmaster *pm);
void pm_idle_timer(void *ctx);
/* A client came: the idle window starts anew. */
void pm_idle_reset(struct postmaster *pm);

#endif

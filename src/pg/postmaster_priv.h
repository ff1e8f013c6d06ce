/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * postmaster_priv.h - the parts of a postmaster: postmaster.c decides (states,
 * clients, requests), pmwait.c knows who waits for them, pmserver.c handles the
 * process, pmidle.c its idleness, pmuse.c whether it is in use.
 * Loop thread only.
 */
#ifndef PG_POSTMASTER_PRIV_H
#define PG_POSTMASTER_PRIV_H

#include "base/err.h"
#include "base/proc.h"
#include "pg/activate.h"
#include "pg/monitor.h"
#include "pg/postmaster.h"

enum stop_step { STOP_NONE, STOP_FAST, STOP_IMMEDIATE, STOP_KILL };

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
	enum stop_step step;
	struct err failure; /* why it is being stopped, if that is a failure */

	uint64_t
		asked_ns; /* when the first one came who waits for it; 0: nobody does */
	int64_t active_ms; /* start of the idle window */
	bool draining;     /* idle: new clients are led to the listener */
	bool blind;        /* the last probe failed */
};

/* postmaster.c, called by the other two: */
void pm_move(struct postmaster *pm, enum pm_state to, const char *reason);
/* Shows the others what changed without a move: the pid, the socket. */
void pm_publish(struct postmaster *pm);
/* It accepts connections and is prepared. */
void pm_started(struct postmaster *pm);
/* No process of it is left (or could be made); e: why, if that is a failure. */
void pm_ended(struct postmaster *pm, struct err *e);
/* The name for log lines; buf is also the result. */
const char *pm_name(struct postmaster *pm, char buf[static 64]);

/* pmwait.c */
#define PM_WANT_BIT(want) (1u << (want))
/* Tells, and takes off the list, the waiters for one of these wants (bits). */
void pm_tell_waiters(struct postmaster *pm, unsigned wants, const struct err *e);
/* NULL done: nobody wants to know. */
void pm_add_waiter(struct postmaster *pm, enum pm_want want, fleet_done done,
		   void *ctx);
/* code 0: done; otherwise why not. */
void pm_tell_one(fleet_done done, void *ctx, int code, const char *why);

/* pmserver.c */
void pm_server_deadline(void *ctx); /* the timer of pm->deadline */
void pm_server_begin(struct postmaster *pm);
/* Starts stopping, or stops harder, with this step and then the next ones. */
void pm_server_stop(struct postmaster *pm, enum stop_step step);
/* Gives back what belongs to a run. */
void pm_server_release(struct postmaster *pm);

/* pmidle.c */
void pm_idle_begin(struct postmaster *pm);
void pm_idle_end(struct postmaster *pm);
void pm_idle_timer(void *ctx);
/* A client came: the idle window starts anew. */
void pm_idle_reset(struct postmaster *pm);

#endif

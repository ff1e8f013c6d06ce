/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * postmaster.h - the life of one branch's server, from the first look at its socket
 * to sleep.  Loop thread only.
 */
#ifndef PG_POSTMASTER_H
#define PG_POSTMASTER_H

#include "pg/fleet_priv.h"

struct postmaster;

/* The branch's, made if need be.  It frees itself when it is of no use any more. */
int postmaster_get(struct fleet *f, struct slot *s, struct branch *b,
		   struct postmaster **ret_pm) MUST_CHECK;
/* As fleet_want and fleet_socket. */
void postmaster_want(struct postmaster *pm, enum pm_want want, fleet_done done,
		     void *ctx);
void postmaster_release(struct postmaster *pm, bool renewed, bool run, fleet_done done,
			void *ctx);
void postmaster_socket(struct postmaster *pm,
		       void (*done)(void *ctx, int rc, uint64_t fid), void *ctx);
/* The fleet's settings changed. */
void postmaster_reconfigured(struct postmaster *pm);
/* Other rules for who may be which role. */
void postmaster_roles_changed(struct postmaster *pm);
/* As fleet_in_use. */
void postmaster_in_use(struct postmaster *pm, fleet_used done, void *ctx);
/* The data directory's lock file was made, written or removed. */
void postmaster_lock_changed(struct postmaster *pm);
/* The fleet shuts down: refuse clients, close the listener, stop. */
void postmaster_close(struct postmaster *pm);
/* Nothing runs and nothing is under way. */
bool postmaster_is_still(const struct postmaster *pm);
struct postmaster *postmaster_next(const struct postmaster *pm);
/* At the end of the fleet. */
struct postmaster *postmaster_free(struct postmaster *pm);

#endif

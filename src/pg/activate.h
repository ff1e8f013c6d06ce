/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * activate.h - the listener that stands in for a branch's server, and the clients
 * that came to it: held until the server is there, then relayed.
 *
 * Loop thread only.  It does not decide what a client leads to: it reports that one
 * is held, and is told to serve, refuse or drop.
 */
#ifndef PG_ACTIVATE_H
#define PG_ACTIVATE_H

#include "base/err.h"
#include "base/loop.h"
#include "pg/doorman.h"
#include "pg/refuse.h"
#include "pg/rundir.h"
#include "store/registry.h"

struct activation;

struct activation_events {
	/* Clients ask for a server that are held; or new ones came to one that runs. */
	void (*client)(void *ctx);
	/* A client of this uid, who asked for a server, is told e. */
	void (*refused)(void *ctx, uid_t uid, const struct err *e);
	/* A client is connected to the server. */
	void (*connected)(void *ctx);
	/* The answer to activation_listen. */
	void (*listening)(void *ctx, int rc);
	/* activation_pending became 0. */
	void (*settled)(void *ctx);
};

struct activation_spec {
	struct loop *loop;
	struct doorman *doorman;
	struct rundirs *dirs;
	struct refusals *refusals;
	struct branch *branch; /* borrowed, as all of these */
	const struct activation_events *events;
	void *ctx;
};

int activation_new(const struct activation_spec *spec,
		   struct activation **ret_act) MUST_CHECK;
/* Only when activation_pending is 0. */
struct activation *activation_free(struct activation *a);

/* Makes the listener unless there is one; answered by events.listening, later. */
void activation_listen(struct activation *a);
/* Closes and unlinks the listener; clients that it accepted stay. */
void activation_close(struct activation *a);
/* The listener's fid in the run overlay; 0: there is none. */
uint64_t activation_fid(const struct activation *a);

/* From now on clients, also those held, are connected to the server in rd. */
void activation_serve(struct activation *a, struct rundir *rd);
/* From now on clients are held; relays go on. */
void activation_hold(struct activation *a);
/* Answers all held clients with FATAL, and what e says. */
void activation_refuse(struct activation *a, const struct err *e);
/* Closes the connections of all clients, relayed ones too. */
void activation_drop(struct activation *a);

unsigned activation_held(const struct activation *a);
/* Does one of them want a server? */
bool activation_asking(const struct activation *a);
unsigned activation_relays(const struct activation *a);
/* Requests whose answer is still to come. */
unsigned activation_pending(const struct activation *a);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon.h - all parts of a mounted store, started in order, run and stopped.
 */
#ifndef CLI_DAEMON_H
#define CLI_DAEMON_H

#include "base/err.h"

struct daemon_spec {
	const char *store;       /* absolute */
	const char *mountpoint;  /* absolute */
	const char *config_path; /* absolute; NULL: STORE/pgbranchfs.conf, if any */
};

/*
 * Runs until a signal or an unmount from outside ends it; ready(ctx) is called
 * once, when the mount can be used.  Returns 0 after a clean end, or why it did
 * not start; everything is undone then.  Threads start in here, on the thread
 * that calls, so fork before.
 */
int daemon_run(const struct daemon_spec *spec, void (*ready)(void *ctx), void *ctx,
	       struct err *e) MUST_CHECK;

#endif

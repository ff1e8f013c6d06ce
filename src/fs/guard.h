/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guard.h - ends the connection of a mount whose daemon was killed.
 *
 * The kernel does that when /dev/fuse is closed, which is when the last thread of the
 * daemon has ended.  But the daemon uses its own mount: a thread that waits for an
 * answer of the mount when the kill comes waits for ever, keeps the device open, and
 * everybody else waits with it.  So a small process watches the daemon, and when it is
 * dying and does not end, aborts the connection: all who wait get an error.
 */
#ifndef FS_GUARD_H
#define FS_GUARD_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct guard;

/* Watches over the mount at path from now on.  dev: its device number. */
int guard_start(const char *mountpoint, dev_t dev, struct guard **ret_guard) MUST_CHECK;
/* The daemon ends by itself: the watch is over.  NULL is fine; returns NULL. */
struct guard *guard_stop(struct guard *g);
/* The watching process: returns only if argv is not a call of it (-1). */
int guard_main(int argc, char **argv);

/*
 * Aborts the connection of a mount, whose daemon must be dead or dying.  dev_minor: of
 * its device number, which is the connection's.  The mount stays, dead.  -EPERM where
 * neither fusectl nor the right to unmount can be had.
 */
int guard_abort(unsigned dev_minor, const char *mountpoint) MUST_CHECK;
/* Was the process killed, although it may still be there?  Also when it is gone. */
bool guard_is_dying(pid_t pid);

#endif

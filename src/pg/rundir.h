/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rundir.h - handles on MNT/.run/NO, the run directories as the mount shows them.
 *
 * The daemon reaches its sockets through an O_PATH descriptor: no length limit
 * (sun_path has 108 bytes), and no walk through the mount's root, whose lock the
 * kernel holds while it waits for our answer to a mkdir or rmdir.  The pinned
 * dentries spare the server's own walks that lock, too.  It also keeps the branch's
 * trees in memory.
 *
 * Any descriptor in the mount makes it busy, so MNT/.run itself is open only as long
 * as there are handles: while a server runs or a listener stands.  Opening it again
 * is the one walk through the root, and may have to wait until a mkdir or rmdir is
 * answered.  So only a thread that no answer ever waits for may open a handle: the
 * doorman's.  Not a FUSE worker, not the loop, and not the pool, whose threads a
 * mkdir needs.  Giving a handle back never blocks.
 */
#ifndef PG_RUNDIR_H
#define PG_RUNDIR_H

#include "store/registry.h"

#include <sys/socket.h>
#include <sys/un.h>

struct rundirs;
struct rundir;

int rundirs_new(const char *mountpoint, struct rundirs **ret_dirs) MUST_CHECK;
struct rundirs *rundirs_free(struct rundirs *d); /* NULL is fine; returns NULL */

/* Opens a branch's run directory, on the doorman's thread; one reference. */
int rundir_open(struct rundirs *d, struct branch *b, struct rundir **ret_rd) MUST_CHECK;
/* Pins the branch's data directory as well, before a server is started in it.  Same
 * thread: the directory's link leads through the root. */
int rundir_pin_data(struct rundir *rd) MUST_CHECK;
struct rundir *rundir_get(struct rundir *rd);
struct rundir *rundir_put(struct rundir *rd); /* NULL is fine; returns NULL */
int rundir_fd(const struct rundir *rd);
/* The trees behind it, borrowed: they stay loaded as long as the handle is there.  data
 * is NULL unless it was pinned. */
struct overlay *rundir_run(const struct rundir *rd);
struct overlay *rundir_data(const struct rundir *rd);
/*
 * Is whoever listens at the other end of this connected socket of the uid that the
 * branch's server runs under?  What stands in the directory is the server's to
 * change, so its name may lead to somebody else's socket.  -EPERM: no.  Asks the mount.
 */
int rundir_check_peer(const struct rundir *rd, int fd) MUST_CHECK;
/* Fills in the address of a socket in it; returns the length for bind/connect. */
socklen_t rundir_address(const struct rundir *rd, const char *name,
			 struct sockaddr_un *ret_addr);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rundir.h - handles on MNT/.run/NO, the run directories as the mount shows them.
 *
 * The daemon reaches its sockets through an O_PATH descriptor: no length limit
 * (sun_path has 108 bytes), and no walk through the mount's root, whose lock the
 * kernel holds while it waits for our answer to a mkdir or rmdir.  The pinned
 * dentries spare the server's own walks that lock, too.
 *
 * Opening blocks on our own mount: never on a FUSE worker, nor on the loop.
 */
#ifndef PG_RUNDIR_H
#define PG_RUNDIR_H

#include "base/cleanup.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct rundirs;
struct rundir;

int rundirs_new(const char *mountpoint, struct rundirs **ret_dirs) MUST_CHECK;
struct rundirs *rundirs_free(struct rundirs *d); /* NULL is fine; returns NULL */
/* Opens MNT/.run ahead of the first use; the mount must be up. */
int rundirs_attach(struct rundirs *d) MUST_CHECK;

/* Opens a branch's run directory; the result holds one reference. */
int rundir_open(struct rundirs *d, uint32_t no, struct rundir **ret_rd) MUST_CHECK;
/* Pins the branch's data directory as well, before a server is started in it. */
int rundir_pin_data(struct rundir *rd) MUST_CHECK;
struct rundir *rundir_get(struct rundir *rd);
struct rundir *rundir_put(struct rundir *rd); /* NULL is fine; returns NULL */
int rundir_fd(const struct rundir *rd);
/* Fills in the address of a socket in it; returns the length for bind/connect. */
socklen_t rundir_address(const struct rundir *rd, const char *name,
			 struct sockaddr_un *ret_addr);

#endif

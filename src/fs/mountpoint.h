/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mountpoint.h - the place in the file tree where the mount sits: taking a mount
 * off, and the kernel's limits for it.
 */
#ifndef FS_MOUNTPOINT_H
#define FS_MOUNTPOINT_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

#define MOUNT_SUBTYPE "pgbranchfs"

/* Takes off a mount of ours whose daemon is gone.  0 when there is none. */
int mountpoint_clear(const char *path, struct err *e) MUST_CHECK;
/*
 * Takes the mount with device number dev (0: whatever of ours is there) off; lazily if
 * it is busy, so that nobody finds it by its name any more. *ret_busy: it may live on
 * for those who are in it, also because somebody else has taken it off lazily; the
 * kernel does not end the workers' reads then.  They must be running: the kernel
 * writes out what it holds.
 */
int mountpoint_detach(const char *path, dev_t dev, bool *ret_busy) MUST_CHECK;
/* The device number of the mount of ours at path; 0: there is none.  Asks the kernel's
 * list, not the mount. */
dev_t mountpoint_dev(const char *path);
/* Lifts the kernel's limits for FUSE; what cannot be had is logged. */
void mountpoint_tune(dev_t dev);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * session.h - the mount itself: made, served by worker threads, taken down.
 */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include "base/err.h"
#include "ctl/control.h"

#include <stdbool.h>

struct fs_session;

/*
 * Mounts at mountpoint (absolute; as root directly, otherwise through
 * fusermount3) and tunes the kernel's limits for it.  A dead mount of ours left
 * there is taken off first.  Requests are not served before fs_session_start.
 * source: what mountinfo shows as the device, the store's path.
 */
int fs_session_mount(const char *mountpoint, const char *source,
		     struct fs_session **ret_session, struct err *e) MUST_CHECK;
/*
 * Starts the workers.  gone(ctx) is called once, on a worker's thread, when the kernel
 * ended the mount (somebody unmounted it).
 */
int fs_session_start(struct fs_session *s, struct control *c, void (*gone)(void *ctx),
		     void *ctx, struct err *e) MUST_CHECK;
/*
 * Has a worker had time for a request since the call before?  False when all of them
 * are in the same ones as then.  One thread; the first call is true.
 */
bool fs_session_pulse(struct fs_session *s) MUST_CHECK;
/* Unmounts (lazily if it is busy) and joins the workers. */
void fs_session_stop(struct fs_session *s);
struct fs_session *fs_session_free(struct fs_session *s);

#endif

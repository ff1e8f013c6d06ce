/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * forget.h - makes the kernel forget what it knows of a branch's files.
 *
 * There is no list of what it knows, so the tree is walked and each object named; what
 * it does not know costs a microsecond.  These calls wait for the kernel, which may
 * wait for our workers: any thread but a worker's, with no lock held.
 */
#ifndef FS_FORGET_H
#define FS_FORGET_H

#include "fs/fs.h"

/* From here on the trees that the registry takes out of memory are forgotten. */
void forget_start(struct fs *fs);
/* No message to the kernel is under way or will be sent: the session may be closed. */
void forget_stop(struct fs *fs);
/* A branch was given away: who owns its data is asked for again. */
void forget_owners(struct fs *fs, struct branch *b);

#endif

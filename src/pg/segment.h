/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * segment.h - the memory that the processes of a server share, as it is seen from
 * outside: a System V segment, which all of them attach, and files in /dev/shm, which
 * only that segment names.
 *
 * A segment is known by key and id: both are small numbers that are used again.
 */
#ifndef PG_SEGMENT_H
#define PG_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Did this process make it?  What a lock file says of it may be forged. */
bool segment_made_by(pid_t pid, uint32_t key, int id);
/* Is anybody attached to it?  Also when that cannot be told. */
bool segment_is_attached(uint32_t key, int id);
/*
 * Removes what a server that was killed has left, with the files.  Waits a second at
 * most for who still has it, and leaves it alone then.  Key 0: nothing.
 */
void segment_remove(uint32_t key, int id);

#endif

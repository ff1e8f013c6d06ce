/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault.h - named points where a test kills this process or makes a system call fail.
 *
 * Compiled out unless configured with --enable-fault-points.  With it:
 *
 * The environment PGBRANCHFS_FAULT="name[:N]" makes the Nth pass (default: the
 * first) of FAULT_POINT("name") a SIGKILL.
 *
 * FAULT_FAILS("name", what) stands in front of a system call and is true, with errno
 * set, while the file that the environment PGBRANCHFS_FAULT_FILE names has a line
 * "name ERRNO [PART]" and `what` (a path; NULL: none) has PART in it.  Each failure
 * adds a line to that file's neighbour with ".hit" behind its name.  So one process
 * can be tried at many places, one after the other.
 *
 * Any thread, any lock.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>

#ifdef ENABLE_FAULT_POINTS
/* Counts a pass of the point; does not return from the chosen one. */
void fault_pass(const char *name);
#define FAULT_POINT(name) fault_pass(name)
bool fault_fails(const char *name, const char *what);
#define FAULT_FAILS(name, what) fault_fails((name), (what))
#else
#define FAULT_POINT(name) ((void)0)
#define FAULT_FAILS(name, what) ((void)(what), false)
#endif

#endif

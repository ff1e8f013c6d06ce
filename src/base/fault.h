/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault.h - named points where a crash test kills this process.
 *
 * Compiled out unless configured with --enable-fault-points.  With it, the
 * environment PGBRANCHFS_FAULT="name[:N]" makes the Nth pass (default: the
 * first) of FAULT_POINT("name") a SIGKILL.  Any thread, any lock.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#ifdef ENABLE_FAULT_POINTS
/* Counts a pass of the point; does not return from the chosen one. */
void fault_pass(const char *name);
#define FAULT_POINT(name) fault_pass(name)
#else
#define FAULT_POINT(name) ((void)0)
#endif

#endif

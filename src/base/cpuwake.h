/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpuwake.h - keeps idle processors from falling asleep for a moment.
 *
 * What a moment is spent on may be a long chain of requests between two threads, each
 * of which sleeps while the other one works: a server that starts, and this daemon.  To
 * wake a processor takes longer than a request then, most of all in a virtual machine,
 * where an idle one is given back to the host.  Loop thread only.
 */
#ifndef BASE_CPUWAKE_H
#define BASE_CPUWAKE_H

#include "base/loop.h"

struct cpuwake;

int cpuwake_new(struct loop *l, struct cpuwake **ret_c) MUST_CHECK;
struct cpuwake *cpuwake_free(struct cpuwake *c); /* NULL is fine; returns NULL */
/*
 * For the next `ms` at least.  Takes the kernel's /dev/cpu_dma_latency, which root
 * may; where it cannot be had all goes on as before, a little slower.
 */
void cpuwake_for(struct cpuwake *c, int64_t ms);

#endif

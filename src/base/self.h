/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * self.h - what this process takes of the machine.
 */
#ifndef BASE_SELF_H
#define BASE_SELF_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

struct self_usage {
	uint64_t resident_bytes, virtual_bytes;
	uint64_t open_fds, max_fds; /* max_fds: UINT64_MAX if there is no limit */
	uint64_t cpu_ns;
};

/* Reads /proc; -errno if that cannot be had. */
int self_usage(struct self_usage *ret_usage) MUST_CHECK;

/* From here on the disk serves this thread only while it has nothing else to do, or as
 * before.  Where the kernel knows no such order, nothing changes. */
void self_io_idle(bool on);

#endif

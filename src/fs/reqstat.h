/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reqstat.h - how many requests of each kind the kernel sent, how long they took
 * until they were answered, and with which errors.
 *
 * A worker has one request at a time, so what is known of it lies in its thread: it
 * says when one begins and ends.  A request that is answered later takes its note
 * along.  Thread-safe; one table for the process.
 */
#ifndef FS_REQSTAT_H
#define FS_REQSTAT_H

#include "base/metrics.h"

#include <stdbool.h>
#include <stdint.h>

struct reqstat {
	bool open; /* false: it was counted, or none was begun */
	uint32_t opcode;
	int error; /* of the answer, positive; 0: none */
	uint64_t start_ns;
};

/* The calling worker begins a request with this opcode of the kernel's. */
void reqstat_begin(uint32_t opcode);
/* It was answered, unless somebody took it along. */
void reqstat_end(void);
/* The answer to the calling worker's request is this error (positive). */
void reqstat_error(int error);

/* Takes the calling worker's request along, to be ended by reqstat_finish. */
struct reqstat reqstat_take(void);
/* Any thread. */
void reqstat_finish(const struct reqstat *rs);

void reqstat_render(struct metric_text *t);

#endif

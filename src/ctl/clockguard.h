/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clockguard.h - may branches be discarded by what the clock says?
 *
 * A clock that was set far ahead by mistake, at boot or later, makes every branch with
 * an end look expired at once.  When it looks so, nothing is discarded for a while, in
 * which somebody, or NTP, can put it right.  Pure: times come in as arguments.
 */
#ifndef CTL_CLOCKGUARD_H
#define CTL_CLOCKGUARD_H

#include <stdbool.h>
#include <stdint.h>

/* How long nothing is discarded then. */
#define CLOCK_HOLD_S 600
/* A step of the clock that is smaller does no harm. */
#define CLOCK_STEP_S 60
/* A mount so long after the last sign of life in the store may be a clock's error. */
#define CLOCK_FAR_S (24 * 3600)

struct clockguard {
	int64_t offset_s;     /* of the clock against the time since boot */
	int64_t hold_until_s; /* on the clock since boot; 0: no hold */
};

enum clock_event {
	CLOCK_SAME,
	CLOCK_FAR,     /* at the mount: far behind the last sign of life */
	CLOCK_FORWARD, /* it was set ahead */
	CLOCK_BACK,    /* it was set back: nothing expires that should not */
};

/* real_s: CLOCK_REALTIME, boot_s: CLOCK_BOOTTIME, newest_s: the last sign of life. */
enum clock_event clockguard_init(struct clockguard *g, int64_t real_s, int64_t boot_s,
				 int64_t newest_s);
/* To be asked every few seconds.  *ret_step_s: by how much the clock was set. */
enum clock_event clockguard_look(struct clockguard *g, int64_t real_s, int64_t boot_s,
				 int64_t *ret_step_s);
/* Seconds for which nothing may be discarded yet; 0: it may. */
int64_t clockguard_held(const struct clockguard *g, int64_t boot_s);

#endif

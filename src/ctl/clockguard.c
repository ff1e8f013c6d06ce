/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clock is compared with the time since boot, suspends included, which nobody can
 * set.  A machine that slept, or was paused, is no step; a store that nobody had
 * mounted for days is told from a clock that is wrong only by waiting.
 */
#include "ctl/clockguard.h"

enum clock_event clockguard_init(struct clockguard *g, int64_t real_s, int64_t boot_s,
				 int64_t newest_s)
{
	*g = (struct clockguard){.offset_s = real_s - boot_s};
	if (real_s - newest_s <= CLOCK_FAR_S)
		return CLOCK_SAME;
	g->hold_until_s = boot_s + CLOCK_HOLD_S;
	return CLOCK_FAR;
}

enum clock_event clockguard_look(struct clockguard *g, int64_t real_s, int64_t boot_s,
				 int64_t *ret_step_s)
{
	int64_t step = real_s - boot_s - g->offset_s;

	g->offset_s += step; /* also when small: NTP drags a clock along for days */
	if (step <= CLOCK_STEP_S && step >= -CLOCK_STEP_S)
		return CLOCK_SAME;
	*ret_step_s = step;
	if (step < 0)
		return CLOCK_BACK;
	g->hold_until_s = boot_s + CLOCK_HOLD_S;
	return CLOCK_FORWARD;
}

int64_t clockguard_held(const struct clockguard *g, int64_t boot_s)
{
	return g->hold_until_s > boot_s ? g->hold_until_s - boot_s : 0;
}

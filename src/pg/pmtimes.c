/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmtimes.c - where the time of a start went, for the log: what we took before and
 * behind it, and what the server itself did.
 */
#include "base/log.h"
#include "base/text.h"
#include "pg/postmaster_priv.h"

#include <time.h>

static const char *const until[] = {
	[PM_TIME_EXEC] = "until exec",
	[PM_TIME_READY] = "until it was ready",
	[PM_TIME_OPEN] = "until clients were let in",
	[PM_TIME_CLIENT] = "until the first was connected",
};

void pm_time(struct postmaster *pm, enum pm_time which)
{
	struct timespec ts;

	if (which == PM_TIME_BEGIN)
		for (size_t i = 0; i < ARRAY_SIZE(pm->times_us); i++)
			pm->times_us[i] = 0;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail on Linux */
	if (!pm->times_us[which])
		pm->times_us[which] = ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

void pm_times_tell(struct postmaster *pm)
{
	int64_t last = pm->times_us[PM_TIME_BEGIN];
	CLEAN(clean_free) char *text = NULL;
	struct str t = STR_INIT;
	char name[64];

	if (!last)
		return; /* told already */
	for (size_t i = PM_TIME_EXEC; i < ARRAY_SIZE(until); i++) {
		int64_t us = pm->times_us[i];

		if (!us)
			continue;
		str_printf(&t, ", %.1f %s", (double)(us - last) / 1000, until[i]);
		last = us;
	}
	text = str_steal(&t);
	if (text)
		log_info("branch %s: its start took %.1f ms%s", pm_name(pm, name),
			 (double)(last - pm->times_us[PM_TIME_BEGIN]) / 1000, text);
	pm->times_us[PM_TIME_BEGIN] = 0;
}

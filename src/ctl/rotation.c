/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one goes that is missed least: without it there is a gap, and of all gaps this
 * one is the smallest beside the age of what was in it.  So the distances grow with the
 * age, whatever the interval is and whenever one was skipped.  The newest stays, and so
 * does the oldest, from which the others move away.
 */
#include "ctl/rotation.h"

size_t rotation_victim(const time_t *taken, size_t n, size_t keep, time_t now)
{
	size_t victim = 0;
	double least = 0;

	if (n <= keep)
		return n;
	for (size_t i = 1; keep > 1 && i + 1 < n; i++) {
		double gap = (double)(taken[i + 1] - taken[i - 1]);
		double age = (double)(now - taken[i]) + 1;
		double missed = age > 0 ? gap / age : gap;

		if (victim == 0 || missed < least) {
			victim = i;
			least = missed;
		}
	}
	return victim;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * report.h - what gc and doctor answer: a line a finding, its fields with tabs between:
 *
 *	KIND NAME BYTES STATE WHY
 *
 * and a last line "end", without which an answer is not whole.  Pure.
 */
#ifndef CTL_REPORT_H
#define CTL_REPORT_H

#include "base/text.h"

/* What becomes, or became, of a finding. */
#define REPORT_PLAN "plan" /* would be done */
#define REPORT_DONE "done"
#define REPORT_KEPT "kept" /* must not be done */
#define REPORT_FAILED "failed"
#define REPORT_BAD "bad" /* for a person to put right */

void report_add(struct str *out, const char *kind, const char *name, uint64_t bytes,
		const char *state, const char *why);
void report_end(struct str *out);

#endif

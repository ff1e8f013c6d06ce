/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/report.h"

/* Names come from disks and messages from systems: neither must make a field or line.
 */
static void add_field(struct str *out, const char *s, const char *end)
{
	for (; *s; s++) {
		unsigned char ch = (unsigned char)*s;

		str_addn(out, ch < 0x20 || ch == 0x7f ? "?" : s, 1);
	}
	str_add(out, end);
}

void report_add(struct str *out, const char *kind, const char *name, uint64_t bytes,
		const char *state, const char *why)
{
	add_field(out, kind, "\t");
	add_field(out, name, "\t");
	str_printf(out, "%llu\t", (unsigned long long)bytes);
	add_field(out, state, "\t");
	add_field(out, why, "\n");
}

void report_end(struct str *out)
{
	str_add(out, "end\n");
}

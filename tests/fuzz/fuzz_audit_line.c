/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A line of the audit log, read back and written again. */
#include "base/text.h"
#include "ctl/audit_line.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEAN(str_fini) struct str again = STR_INIT;
	char *text = fuzz_text(data, size);
	struct audit_line l, twice;

	if (audit_line_parse(text, &l) == 0) {
		MUST(l.n > 0 && l.n <= AUDIT_FIELDS_MAX);
		for (size_t i = 0; i < l.n; i++) {
			str_add(&again, i ? "," : "{");
			str_json(&again, l.fields[i].key);
			str_add(&again, ":");
			if (l.fields[i].value)
				str_json(&again, l.fields[i].value);
			else
				str_add(&again, "null");
		}
		str_add(&again, "}");
		MUST(!again.failed);
		MUST(audit_line_parse(again.s, &twice) == 0);
		MUST(twice.n == l.n);
	}
	free(text);
	return 0;
}

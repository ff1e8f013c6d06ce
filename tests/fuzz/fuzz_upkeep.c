/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is written to .upkeep. */
#include "base/text.h"
#include "ctl/input.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char *text = fuzz_text(data, size), *again;
	struct input_upkeep ask, twice;
	int rc = input_parse_upkeep(text, &ask, &e);

	if (rc < 0) {
		MUST(rc == -EINVAL && err_text(&e)[0] && e.hint);
	} else {
		MUST(ask.unused_days <= UPKEEP_DAYS_MAX);
		MUST(!ask.doctor || ask.unused_days == 0);
		again = text_format("%s%s", ask.doctor ? "doctor" : "gc",
				    ask.apply ? " apply" : "");
		MUST(again && input_parse_upkeep(again, &twice, NULL) == 0);
		MUST(twice.doctor == ask.doctor && twice.apply == ask.apply);
		free(again);
	}
	free(text);
	return 0;
}

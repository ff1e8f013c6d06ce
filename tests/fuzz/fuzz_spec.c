/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What mkdir is given in the root of the mount: NAME[@PARENT[:CHECKPOINT]]. */
#include "base/text.h"
#include "ctl/input.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char *spec = fuzz_text(data, size), *name = NULL, *parent = NULL, *from = NULL,
	     *again;
	int rc = input_parse_spec(spec, &name, &parent, &from, &e);

	if (rc < 0) {
		MUST(rc == -EINVAL && err_text(&e)[0]);
		MUST(!name && !parent && !from);
	} else {
		MUST(name && !strchr(name, '@'));
		MUST((parent != NULL) == (strchr(spec, '@') != NULL));
		MUST(!parent || text_check_name(parent) == 0);
		MUST(!from || (parent && text_check_name(from) == 0));
		again = from     ? text_format("%s@%s:%s", name, parent, from)
			: parent ? text_format("%s@%s", name, parent)
				 : strdup(name);
		MUST(again && strcmp(again, spec) == 0);
		free(again);
	}
	free(name);
	free(parent);
	free(from);
	free(spec);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is written to a branch's `expires`: the first byte says when. */
#include "base/text.h"
#include "ctl/input.h"
#include "fuzz.h"

static const time_t nows[] = {0, 1795341600, EXPIRES_MAX - 1, EXPIRES_MAX + 1};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	time_t now = nows[size ? data[0] % ARRAY_SIZE(nows) : 0], expires, again;
	char *word = NULL, text[21];
	int rc;

	if (size == 0 || input_parse_word((const char *)data + 1, size - 1, &word) < 0)
		return 0;
	rc = input_parse_expires(word, now, &expires, &e);
	if (rc < 0) {
		MUST(rc == -EINVAL && err_text(&e)[0] && e.hint);
	} else if (expires == 0) {
		MUST(strcmp(word, "never") == 0);
	} else {
		MUST(expires > now && expires <= EXPIRES_MAX);
		/* what `expires` shows then may be written again */
		text_format_time(expires, text);
		MUST(input_parse_expires(text, now, &again, NULL) == 0);
		MUST(again == expires);
	}
	free(word);
	return 0;
}

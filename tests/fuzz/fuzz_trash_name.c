/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The name of a branch in the trash, as a client or a directory gives it. */
#include "base/text.h"
#include "fuzz.h"
#include "store/trash_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), name[NAME_LEN_MAX + 1],
	     plain[TRASH_NAME_MAX];
	time_t t;

	if (trash_name_parse(text, name, &t) == 0) {
		MUST(text_check_name(name) == 0);
		MUST(strlen(text) < TRASH_NAME_MAX);
		/* one spelling for each */
		trash_name_format(name, t, -1, plain);
		MUST(strncmp(text, plain, strlen(plain) - 1) == 0);
		MUST(strlen(text) == strlen(plain) || text[strlen(plain) - 1] == '.');
	}
	free(text);
	return 0;
}

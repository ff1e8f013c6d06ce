/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is written to a branch's `state`. */
#include "ctl/input.h"
#include "fuzz.h"

static int word_len(const uint8_t *data, size_t size)
{
	while (size && (data[size - 1] == '\n' || data[size - 1] == ' '))
		size--;
	return (int)size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char *word = NULL;
	enum pm_want want;
	int rc = input_parse_word((const char *)data, size, &word);

	MUST((rc == 0) == (word != NULL));
	if (rc < 0) {
		MUST(rc == -EINVAL);
		return 0;
	}
	MUST(word_len(data, size) == (int)strlen(word));
	MUST(memcmp(word, data, strlen(word)) == 0);
	rc = input_parse_state(word, &want, &e);
	if (rc == 0)
		MUST(strcmp(word, want == PM_WANT_RUNNING ? "running" : "stopped") ==
		     0);
	else
		MUST(rc == -EINVAL && err_text(&e)[0]);
	free(word);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs gc: what could be cleaned up, and with --apply cleans it up.
 */
#include "cli/ask.h"
#include "cli/listing.h"
#include "ctl/report.h"

#include <stdio.h>
#include <string.h>

static void print_sum(const struct ask *a)
{
	uint64_t bytes = 0;
	char size[8];
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++) {
		if (strcmp(a->rows[i].state, a->apply ? REPORT_DONE : REPORT_PLAN) != 0)
			continue;
		bytes += a->rows[i].bytes;
		n++;
	}
	if (n == 0)
		return;
	listing_size(bytes, size);
	if (a->apply)
		printf("%zu removed, %s\n", n, size);
	else
		printf("%zu could be removed, %s: nothing was done, --apply does it\n",
		       n, size);
}

static int run_gc(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(ask_fini) struct ask a = ASK_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	char question[64], unused[32] = "";
	int rc = ask_args(self, true, argc, argv, &a);

	if (rc >= 0)
		return rc;
	if (a.unused_days)
		(void)snprintf(unused, sizeof(unused), " unused=%u", a.unused_days);
	(void)snprintf(question, sizeof(question), "gc%s%s", unused,
		       a.apply ? " apply" : "");
	if (ask_daemon(&a, question, &e) < 0 ||
	    ask_print(&a, "there is nothing to clean up", &e) < 0)
		return cli_fail(&e);
	if (!a.json)
		print_sum(&a);
	rc = cli_flush();
	return rc == CLI_OK && ask_count(&a, REPORT_FAILED) > 0 ? CLI_FAILED : rc;
}

const struct cli_command cmd_gc = {
	.name = "gc",
	.args = ASK_ARGS " [--unused DAYS]",
	.summary = "Show what could be cleaned up, and do it",
	.help = ASK_HELP
	"  --unused DAYS  branches too that nobody used for so many days\n"
	"  --apply     remove it\n",
	.run = run_gc,
};

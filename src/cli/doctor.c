/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs doctor: what is wrong, or soon will be.
 */
#include "cli/ask.h"
#include "ctl/report.h"

static int run_doctor(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(ask_fini) struct ask a = ASK_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	int rc = ask_args(self, false, argc, argv, &a);

	if (rc >= 0)
		return rc;
	if (ask_daemon(&a, a.apply ? "doctor apply" : "doctor", &e) < 0 ||
	    ask_print(&a, "nothing is wrong", &e) < 0)
		return cli_fail(&e);
	rc = cli_flush();
	return rc == CLI_OK && ask_count(&a, REPORT_DONE) < a.n ? CLI_FAILED : rc;
}

const struct cli_command cmd_doctor = {
	.name = "doctor",
	.args = ASK_ARGS,
	.summary = "Show what is wrong with a mount and its store",
	.help = ASK_HELP "  --apply     end servers that should not run\n",
	.run = run_doctor,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs remask: a masked branch becomes a newly masked copy of what its parent is
 * now.
 */
#include "cli/ask.h"

#include "base/text.h"

#include <getopt.h>

static int run_remask(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	CLEAN(ask_fini) struct ask a = ASK_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(clean_free) char *request = NULL;
	bool dead = false;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(self);
		return cli_usage(self, NULL);
	}
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage(self,
				 "remask takes a branch, and perhaps a directory");
	if (mounts_choose(argv[optind + 1], &a.mount, &dead, &e) < 0)
		return cli_fail(&e);
	if (dead) {
		(void)err_set(&e, -ENOTCONN, "the daemon of '%s' is dead",
			      a.mount.mountpoint);
		(void)err_hint(&e, "mount the store %s there again", a.mount.store);
		return cli_fail(&e);
	}
	request = text_format("remask %s", argv[optind]);
	rc = request ? ask_to_do(&a, request, &e)
		     : err_set(&e, -ENOMEM, "out of memory");
	return rc < 0 ? cli_fail(&e) : CLI_OK;
}

const struct cli_command cmd_remask = {
	.name = "remask",
	.args = "NAME [MOUNTPOINT]",
	.summary = "Mask a masked branch anew, of what its parent is now",
	.help = "  MOUNTPOINT  may be left out when only one pgbranchfs is mounted\n"
		"\n"
		"It can be used until the copy is masked; then its sessions end, and "
		"what\n"
		"it was is kept as a checkpoint.\n",
	.run = run_remask,
};

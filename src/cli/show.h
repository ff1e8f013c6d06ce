/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * show.h - what the commands that show a mount share: their options, the mount that is
 * meant, and its branches.
 */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include "cli/cli.h"
#include "cli/color.h"
#include "cli/listing.h"
#include "cli/mounts.h"

struct show {
	struct mount_entry mount;
	struct listing listing;
	bool json;
	bool color;
	unsigned watch_s; /* 0: once */
};

#define SHOW_INIT                                                                      \
	{                                                                              \
		.json = false                                                          \
	}
void show_fini(struct show *sh);

#define SHOW_HELP                                                                      \
	"  MOUNTPOINT      may be left out when only one pgbranchfs is mounted\n"      \
	"  --color[=WHEN]  always, never, or auto: if it is a terminal\n"

/*
 * Reads the options, and finds the mount.  can_watch: is --watch one of them?  -1: go
 * on; otherwise it has been said why not, and that is the exit status.
 */
int show_args(const struct cli_command *self, bool can_watch, int argc, char **argv,
	      struct show *sh);
/* Loads the branches; also says so when the mount went away meanwhile. */
int show_load(const struct mount_entry *mount, struct listing *ret_listing,
	      struct err *e) MUST_CHECK;
/* Prints status.json of all branches; returns the exit status. */
int show_json(struct show *sh);

#endif

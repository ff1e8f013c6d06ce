/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where pgbranchfs-exec is missing this program stands in for it; that comes before
 * anything that looks at the arguments.
 */
#include "base/proc.h"
#include "cli/cli.h"
#include "fs/guard.h"

int main(int argc, char **argv)
{
	int rc = proc_exec_main(argc, argv);

	if (rc < 0)
		rc = guard_main(argc, argv);
	return rc >= 0 ? rc : cli_main(argc, argv);
}

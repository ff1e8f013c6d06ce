/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs-exec: what the daemon runs beside itself, as a small program: the exec
 * helper (base/proc.c) and the guard of the mount (fs/guard.c).
 */
#include "base/proc.h"
#include "fs/guard.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	int rc = proc_exec_main(argc, argv);

	if (rc < 0)
		rc = guard_main(argc, argv);
	if (rc >= 0)
		return rc;
	(void)fprintf(stderr, "pgbranchfs-exec is run by pgbranchfs, not by hand\n");
	return 2;
}

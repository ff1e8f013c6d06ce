/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs-exec: the exec helper as a small program, see base/proc.c.
 */
#include "base/proc.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	int rc = proc_exec_main(argc, argv);

	if (rc >= 0)
		return rc;
	(void)fprintf(stderr, "pgbranchfs-exec is run by pgbranchfs, not by hand\n");
	return 2;
}

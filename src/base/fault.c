/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The environment is read once: the points sit on paths where another thread may
 * hold any lock, so a pass costs one comparison and, on the chosen name, one
 * atomic increment.
 */
#include "base/fault.h"

#ifdef ENABLE_FAULT_POINTS

#include "base/text.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t fault_once = PTHREAD_ONCE_INIT;
static char *fault_name; /* NULL: none was chosen; never freed */
static uint64_t fault_nth = 1;
static atomic_uint_fast64_t fault_passes;

static void fault_load(void)
{
	const char *env = getenv("PGBRANCHFS_FAULT");
	char *colon;

	if (!env || !*env)
		return;
	fault_name = strdup(env);
	if (!fault_name)
		return;
	colon = strrchr(fault_name, ':');
	if (!colon)
		return;
	*colon = '\0';
	if (text_parse_u64(colon + 1, 10, UINT32_MAX, &fault_nth) < 0)
		fault_nth = 1;
}

void fault_pass(const char *name)
{
	(void)pthread_once(&fault_once, fault_load); /* cannot fail */
	if (!fault_name || strcmp(fault_name, name) != 0)
		return;
	if (atomic_fetch_add(&fault_passes, 1) + 1 == fault_nth)
		(void)raise(SIGKILL); /* cannot be blocked */
}

#else
/* ISO C wants a declaration in every translation unit. */
typedef int fault_points_are_off;
#endif

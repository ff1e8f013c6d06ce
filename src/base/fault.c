/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The environment is read once: the points sit on paths where another thread may
 * hold any lock, so a pass costs one comparison and, on the chosen name, one
 * atomic increment.
 */
#include "base/fault.h"

#ifdef ENABLE_FAULT_POINTS

#include "base/cleanup.h"
#include "base/text.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t fault_once = PTHREAD_ONCE_INIT;
static char *fault_name; /* NULL: none was chosen; never freed */
static char *fault_file; /* likewise */
static char *fault_hits; /* likewise */
static uint64_t fault_nth = 1;
static atomic_uint_fast64_t fault_passes;

static void fault_load(void)
{
	const char *env = getenv("PGBRANCHFS_FAULT_FILE");
	char *colon;

	if (env && *env) {
		fault_hits = text_format("%s.hit", env);
		fault_file = strdup(env);
	}
	env = getenv("PGBRANCHFS_FAULT");
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

static int errno_named(const char *name)
{
	for (int code = 1; code < 256; code++) {
		const char *known = strerrorname_np(code);

		if (known && strcmp(known, name) == 0)
			return code;
	}
	return 0;
}

/* The errno that a line says for this call, or 0. */
static int errno_for(char *line, const char *name, const char *what)
{
	char *save = NULL;
	const char *point = strtok_r(line, " ", &save);
	const char *code = strtok_r(NULL, " ", &save);
	const char *part = strtok_r(NULL, " ", &save);

	if (!point || !code || strcmp(point, name) != 0)
		return 0;
	if (part && (!what || !strstr(what, part)))
		return 0;
	return errno_named(code);
}

/* The errno for this pass of the point, or 0. */
static int chosen_errno(const char *name, const char *what)
{
	/* read anew each time: a test writes it while we run */
	CLEAN(clean_fd) int fd = open(fault_file, O_RDONLY | O_CLOEXEC);
	char text[256], *cursor = text, *line;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	int code = 0;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	while (code == 0 && (line = text_next_line(&cursor)))
		code = errno_for(line, name, what);
	return code;
}

bool fault_fails(const char *name, const char *what)
{
	CLEAN(clean_fd) int hits = -1;
	int saved = errno, code;

	(void)pthread_once(&fault_once, fault_load); /* cannot fail */
	code = fault_file ? chosen_errno(name, what) : 0;
	if (code == 0) {
		errno = saved;
		return false;
	}
	if (fault_hits)
		hits = open(fault_hits, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
			    0600);
	(void)!write(hits, "hit\n", 4); /* a test that misses it fails */
	errno = code;
	return true;
}

#else
/* ISO C wants a declaration in every translation unit. */
typedef int fault_points_are_off;
#endif

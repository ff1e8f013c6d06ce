/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exec helper: what a child of proc_spawn does before it becomes what it is to
 * be (see the head of proc.c).  From the first line on this process is the child.
 *
 * The parent-death signal is set after the uids, because changing them clears
 * it; then the parent's pid is compared, because it may have died before.
 */
#include "base/proc.h"
#include "base/text.h"

#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

struct helper {
	uint64_t uid, gid, death_signal, parent;
	const char *cwd;
	char **argv;
};

#define HELPER_UNSET UINT64_MAX

static _Noreturn void helper_fail(const char *what, const char *object)
{
	const char *why = strerrordesc_np(errno);

	(void)fprintf(stderr, "pgbranchfs: cannot %s%s%s: %s\n", what,
		      object ? " " : "", object ? object : "",
		      why ? why : "unknown error");
	_exit(PROC_EXIT_HELPER);
}

static int helper_set(struct helper *h, char *arg)
{
	const struct {
		const char *key;
		uint64_t max;
		uint64_t *value;
	} numbers[] = {
		{"uid=", UINT32_MAX - 1, &h->uid},
		{"gid=", UINT32_MAX - 1, &h->gid},
		{"death_signal=", 64, &h->death_signal},
		{"parent=", INT32_MAX, &h->parent},
	};

	if (strncmp(arg, "cwd=", 4) == 0) {
		h->cwd = arg + 4;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		size_t n = strlen(numbers[i].key);

		if (strncmp(arg, numbers[i].key, n) == 0)
			return text_parse_u64(arg + n, 10, numbers[i].max,
					      numbers[i].value);
	}
	return -EINVAL;
}

static int helper_parse(struct helper *h, char **args)
{
	for (; *args; args++) {
		if (strcmp(*args, "--") == 0) {
			h->argv = args + 1;
			return h->argv[0] ? 0 : -EINVAL;
		}
		if (helper_set(h, *args) < 0)
			return -EINVAL;
	}
	return -EINVAL;
}

static void helper_become(uid_t uid, gid_t gid)
{
	/* an ordinary user may only "become" what it is: then these do nothing */
	if (geteuid() == 0 && setgroups(1, &gid) < 0)
		helper_fail("set the groups of the server", NULL);
	if (setresgid(gid, gid, gid) < 0)
		helper_fail("change the group id", NULL);
	if (setresuid(uid, uid, uid) < 0)
		helper_fail("change the user id", NULL);
}

int proc_exec_main(int argc, char **argv)
{
	struct helper h = {HELPER_UNSET, HELPER_UNSET, 0, 0, NULL, NULL};

	if (argc < 2 || strcmp(argv[1], PROC_HELPER_ARG) != 0)
		return -1;
	if (helper_parse(&h, argv + 2) < 0 ||
	    (h.uid == HELPER_UNSET) != (h.gid == HELPER_UNSET)) {
		errno = EINVAL;
		helper_fail("use these arguments of", PROC_HELPER_ARG);
	}
	if (h.uid != HELPER_UNSET)
		helper_become((uid_t)h.uid, (gid_t)h.gid);
	if (h.cwd && chdir(h.cwd) < 0)
		helper_fail("change to the directory", h.cwd);
	if (h.death_signal) {
		if (prctl(PR_SET_PDEATHSIG, (unsigned long)h.death_signal, 0, 0, 0) < 0)
			helper_fail("tie the life of the child to the daemon", NULL);
		if ((uint64_t)getppid() != h.parent) {
			errno = ESRCH;
			helper_fail("go on without the daemon", NULL);
		}
	}
	(void)execve(h.argv[0], h.argv, environ);
	helper_fail("run", h.argv[0]);
}

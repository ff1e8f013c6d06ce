/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel does not say why it looks a name up, but who asks waits in a system call
 * until it is answered, and /proc/TID/syscall has its number and arguments.
 *
 * Those that only look are listed, so that one which is not known, of another
 * architecture, or cannot be read, counts as a connect.  An O_PATH descriptor can
 * be connected to later without another look-up.
 */
#include "fs/intent.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

static const long looks[] = {
#ifdef SYS_stat
	SYS_stat,
	SYS_lstat,
	SYS_access,
	SYS_readlink,
	SYS_unlink,
	SYS_rename,
	SYS_link,
	SYS_chmod,
	SYS_chown,
	SYS_lchown,
	SYS_creat,
	SYS_utimes,
#endif
#ifdef SYS_newfstatat
	SYS_newfstatat,
#endif
#ifdef SYS_renameat
	SYS_renameat,
#endif
	SYS_statx,
	SYS_faccessat,
	SYS_faccessat2,
	SYS_readlinkat,
	SYS_unlinkat,
	SYS_renameat2,
	SYS_linkat,
	SYS_fchmodat,
	SYS_fchownat,
	SYS_utimensat,
	SYS_getxattr,
	SYS_lgetxattr,
	SYS_listxattr,
	SYS_llistxattr,
	SYS_statfs,
	SYS_truncate,
	SYS_execve,
	SYS_bind,
	SYS_inotify_add_watch,
};

/* Argument n, from 0, of the line; ~0: there is none. */
static unsigned long long argument(const char *text, int n)
{
	char *end = NULL;

	for (const char *at = strchr(text, ' '); at; at = strchr(at + 1, ' '))
		if (n-- == 0) {
			unsigned long long v = strtoull(at + 1, &end, 16);

			return end == at + 1 ? ~0ULL : v;
		}
	return ~0ULL;
}

bool intent_parse(const char *text)
{
	char *end;
	long nr = strtol(text, &end, 10);

	if (end == text || *end != ' ')
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(looks); i++)
		if (nr == looks[i])
			return false;
#ifdef SYS_open
	if (nr == SYS_open)
		return argument(text, 1) & O_PATH;
#endif
	return nr != SYS_openat || argument(text, 2) & O_PATH;
}

static bool is_ours(pid_t tid)
{
	CLEAN(clean_free) char *path = text_format("/proc/self/task/%d", (int)tid);

	return path && access(path, F_OK) == 0;
}

bool intent_is_connect(pid_t tid)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/syscall", (int)tid);
	CLEAN(clean_free) char *text = NULL;

	if (tid <= 0 || !path)
		return true;
	if (is_ours(tid))
		return false;
	return fd_read_file(AT_FDCWD, path, 512, &text, NULL) < 0 || intent_parse(text);
}

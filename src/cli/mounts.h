/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mounts.h - mounts of ours as the kernel lists them, and paths of mount points,
 * also of those whose daemon is dead.
 */
#ifndef CLI_MOUNTS_H
#define CLI_MOUNTS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define MOUNT_FSTYPE "fuse.pgbranchfs"

struct mount_entry {
	char *mountpoint; /* absolute */
	char *store;      /* absolute; the mount's source */
	unsigned dev_minor;
};

struct mount_list {
	struct mount_entry *entries; /* in the order of mounting */
	size_t n;
};

#define MOUNT_LIST_INIT                                                                \
	{                                                                              \
		NULL, 0                                                                \
	}

int mounts_load(struct mount_list *ret_list, struct err *e) MUST_CHECK;
void mounts_fini(struct mount_list *list);
/* The topmost of our mounts at this path, or NULL. */
const struct mount_entry *mounts_find(const struct mount_list *list, const char *path);
/* Reads the text of a mountinfo file, for mounts_load and its test. */
int mounts_parse(char *text, struct mount_list *ret_list) MUST_CHECK;

/*
 * The absolute path of a directory to mount at or mounted at.  A dead mount
 * there (*ret_dead) is no error.
 */
int mounts_resolve(const char *path, char **ret_path, bool *ret_dead,
		   struct err *e) MUST_CHECK;
/* As mounts_resolve, for a live or dead mount of ours; path NULL: the only one. */
int mounts_choose(const char *path, struct mount_entry *ret_entry, bool *ret_dead,
		  struct err *e) MUST_CHECK;
void mount_entry_fini(struct mount_entry *m);

#endif

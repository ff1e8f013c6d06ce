/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layer_usage.c - how much disk space a layer takes.
 *
 * The answer comes from the layer's directories and never from its index, so that
 * asking about a branch that nobody uses does not bring its index into memory.  It is
 * kept until something is written to the layer: a thousand sleeping branches cost a
 * walk of their directories once, and then nothing.
 *
 * File systems go on moving blocks for a while after a write (delayed allocation,
 * space reserved ahead), so the first figure behind a change is taken once more later.
 */
#include "store/layer.h"

#include "base/fd.h"
#include "base/loop.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SETTLE_MS 60000

static int add_blocks(const struct layer *l, const char *part, uint64_t *blocks)
{
	char path[BFILE_PATH_MAX];
	const struct dirent *ent;
	struct stat st;
	int fd, rc = 0;
	DIR *d;

	(void)snprintf(path, sizeof(path), "%s/%s", l->dir, part);
	fd = openat(l->store->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) /* nothing was written to it, or it was removed meanwhile */
		return errno == ENOENT ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		rc = -errno;
		(void)close(fd);
		return rc;
	}
	errno = 0;
	while ((ent = readdir(d))) {
		if (ent->d_name[0] != '.' &&
		    fstatat(fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			*blocks += (uint64_t)st.st_blocks;
		errno = 0;
	}
	rc = -errno;
	(void)closedir(d);
	return rc;
}

int layer_blocks(struct layer *l, uint64_t *ret_blocks)
{
	struct layer_usage *u = &l->usage;
	int64_t now_ms = loop_now_ms();
	uint64_t blocks = 0;
	bool changed;
	int rc;

	LOCK_SCOPE(&u->lock);
	/* taken back before the walk: what is written during it counts the next time */
	changed = atomic_exchange(&u->changed, false);
	if (!changed && (u->settled || now_ms < u->again_ms)) {
		*ret_blocks = u->blocks;
		return 0;
	}
	rc = add_blocks(l, "full", &blocks);
	if (rc == 0)
		rc = add_blocks(l, "delta", &blocks);
	if (rc == 0)
		rc = add_blocks(l, "cold", &blocks);
	if (rc < 0) {
		atomic_store(&u->changed, true);
		return rc;
	}
	u->blocks = blocks;
	u->settled = !changed;
	u->again_ms = now_ms + SETTLE_MS;
	*ret_blocks = blocks;
	return 0;
}

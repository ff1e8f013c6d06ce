/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.h - what of a mounted store is damaged, and what a crash, or somebody else,
 * left in it.  Looks at the disk and may take a while: from a thread that may block.
 */
#ifndef STORE_CHECK_H
#define STORE_CHECK_H

#include "base/cleanup.h"
#include "store/registry.h"

enum leftover_kind {
	LEFTOVER_LAYER, /* no branch stands on it */
	LEFTOVER_TEMP,  /* a file that was being written */
	LEFTOVER_LOG,   /* of a branch that is gone */
};

struct leftover {
	enum leftover_kind kind;
	char path[128]; /* below the store */
	uint64_t bytes;
	bool kept; /* a damaged record may need it */
};

/* Calls fn for each. */
int check_leftovers(struct registry *r, void (*fn)(void *ctx, const struct leftover *l),
		    void *ctx) MUST_CHECK;
/* Looks once more whether it is one, and removes it.  -EBUSY: it is not, or is kept. */
int check_remove(struct registry *r, const struct leftover *l) MUST_CHECK;

/*
 * Calls fn for each file that could not be read, at the mount or now.  branches: the
 * names of those that this costs, "" if they are not known.
 */
int check_damage(struct registry *r,
		 void (*fn)(void *ctx, const char *path, const char *branches,
			    const char *why),
		 void *ctx) MUST_CHECK;

#endif

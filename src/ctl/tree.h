/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree.h - the lineage of branches drawn with lines.  Pure.
 */
#ifndef CTL_TREE_H
#define CTL_TREE_H

#include "base/text.h"
#include "store/registry.h"

struct tree_branch {
	struct branch_info info;
	const char *state; /* borrowed */
};

/*
 * Appends the tree of branches, which must be sorted by name: `root` on the
 * first line, main below it, each branch below the one it was made from.  A
 * branch whose parent is gone hangs below the root.
 */
int tree_draw(const char *root, const struct tree_branch *branches, size_t n,
	      struct str *out) MUST_CHECK;

#endif

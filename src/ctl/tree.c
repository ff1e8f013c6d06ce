/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree is walked without recursion, over first-child and next-sibling
 * numbers: a lineage may be deeper than a worker thread's stack.
 */
#include "ctl/tree.h"

#include <string.h>

#define NONE SIZE_MAX

/* The lines' own bytes; what stands below an entry is shorter or longer by them. */
#define BRANCH_MORE "├── "
#define BRANCH_LAST "└── "
#define BELOW_MORE "│   "
#define BELOW_LAST "    "

struct node {
	size_t parent, child, sibling; /* NONE, or an index; sorted by name */
};

static int compare_name(const void *key, const void *member)
{
	const struct tree_branch *b = member;

	return strcmp(key, b->info.name);
}

static size_t find_parent(const struct tree_branch *branches, size_t n,
			  const struct branch_info *info)
{
	const struct tree_branch *found;

	if (info->parent[0] == '\0' || info->parent_gone)
		return NONE;
	found = bsearch(info->parent, branches, n, sizeof(*branches), compare_name);
	return found ? (size_t)(found - branches) : NONE;
}

/* Does the way up from i come back to i? */
static bool is_in_circle(const struct node *nodes, size_t n, size_t i)
{
	size_t up = nodes[i].parent;

	for (size_t steps = 0; up != NONE && up != i && steps < n; steps++)
		up = nodes[up].parent;
	return up == i;
}

/*
 * Links all nodes; returns the first of those below the root.  The list is no
 * snapshot: when names change hands while it is made, two branches may each
 * claim to be the other's child; one of them then goes to the root.
 */
static size_t link_nodes(const struct tree_branch *branches, size_t n,
			 struct node *nodes)
{
	size_t first = NONE;

	for (size_t i = 0; i < n; i++)
		nodes[i] = (struct node){find_parent(branches, n, &branches[i].info),
					 NONE, NONE};
	for (size_t i = 0; i < n; i++) {
		if (is_in_circle(nodes, n, i))
			nodes[i].parent = NONE;
	}
	for (size_t i = n; i-- > 0;) {
		size_t up = nodes[i].parent;
		size_t *head = up == NONE ? &first : &nodes[up].child;

		nodes[i].sibling = *head;
		*head = i;
	}
	return first;
}

static void draw_line(const struct tree_branch *b, const struct str *indent, bool last,
		      struct str *out)
{
	if (indent->len)
		str_addn(out, indent->s, indent->len);
	str_printf(out, "%s%s  %s  depth %u", last ? BRANCH_LAST : BRANCH_MORE,
		   b->info.name, b->state, b->info.depth);
	if (b->info.checkpoints + b->info.automatic > 0)
		str_printf(out, "  checkpoints %u",
			   b->info.checkpoints + b->info.automatic);
	if (b->info.parent_gone)
		str_printf(out, "  (parent %s gone)", b->info.parent);
	else if (b->info.parent_checkpoint[0])
		str_printf(out, "  (of %s:%s)", b->info.parent,
			   b->info.parent_checkpoint);
	str_add(out, "\n");
}

int tree_draw(const char *root, const struct tree_branch *branches, size_t n,
	      struct str *out)
{
	CLEAN(clean_free) struct node *nodes = calloc(n ? n : 1, sizeof(*nodes));
	struct str indent = STR_INIT;
	size_t at;

	if (!nodes)
		return -ENOMEM;
	str_printf(out, "%s\n", root);
	at = link_nodes(branches, n, nodes);
	while (at != NONE) {
		bool last = nodes[at].sibling == NONE;

		draw_line(&branches[at], &indent, last, out);
		if (nodes[at].child != NONE) {
			str_add(&indent, last ? BELOW_LAST : BELOW_MORE);
			at = nodes[at].child;
			continue;
		}
		while (at != NONE && nodes[at].sibling == NONE) {
			at = nodes[at].parent;
			if (at != NONE && !indent.failed) {
				indent.len -=
					strlen(nodes[at].sibling == NONE ? BELOW_LAST
									 : BELOW_MORE);
			}
		}
		if (at != NONE)
			at = nodes[at].sibling;
	}
	if (indent.failed)
		out->failed = true;
	str_fini(&indent);
	return out->failed ? -ENOMEM : 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_stats.c - figures about a store that no request needs.
 */
#include "store/registry_priv.h"

void registry_stats(struct registry *r, struct registry_stats *ret_stats)
{
	const struct store *st = &r->store;
	unsigned open_now, open_max;

	fdcache_count(st->fds, &open_now, &open_max);
	*ret_stats = (struct registry_stats){
		.layers = atomic_load(&st->layer_count),
		.layers_merged = metric_value(&r->squashed),
		.cold_files = metric_value(&r->cold_files),
		.cold_saved_bytes = metric_value(&r->cold_saved),
		.descriptors = open_now,
		.descriptors_max = open_max,
		.caches =
			{
				[CACHE_DESCRIPTORS] = {metric_value(&st->fd_hits),
						       metric_value(&st->fd_misses)},
				[CACHE_MAPS] = {metric_value(&st->map_hits),
						metric_value(&st->map_misses)},
				[CACHE_TREES] = {metric_value(&r->tree_hits),
						 metric_value(&r->tree_misses)},
			},
	};
}

/*
 * Adds up what a branch does not have for itself, but for the layers that this round
 * has met: all from the first one that something else stands on, too.  l: a reference,
 * which is given back.
 */
static int add_shared(struct layer *l, uint32_t no, unsigned round, uint64_t *blocks)
{
	bool shared = false;
	uint64_t one = 0;
	int rc = 0;

	while (rc == 0 && l && l->usage.round != round) {
		l->usage.round = round;
		shared = shared || layer_is_shared(l, no);
		if (shared)
			rc = layer_blocks(l, &one);
		if (shared && rc == 0)
			*blocks += one;
		l = layer_step_down(l);
	}
	layer_put(l);
	return rc;
}

int registry_shared_bytes(struct registry *r, uint64_t *ret_bytes)
{
	struct branch **list;
	uint64_t blocks = 0;
	int rc;

	LOCK_SCOPE(&r->stats);
	rc = registry_list(r, &list);
	if (rc < 0)
		return rc;
	r->stats_round++;
	for (size_t i = 0; list[i]; i++) {
		if (rc == 0)
			rc = add_shared(branch_top(list[i]), branch_data_no(list[i]),
					r->stats_round, &blocks);
	}
	branch_list_free(list);
	if (rc == 0)
		*ret_bytes = blocks * 512;
	return rc;
}

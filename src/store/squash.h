/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * squash.h - makes long chains of layers shorter.
 *
 * Where branches were made of a branch and discarded again, layers are left in its
 * chain that nothing but the next one stands on.  A run of them is merged to one layer
 * (merge.h), which takes their place; what they alone held is freed.
 *
 * It goes on in steps, one run at a time, and keeps nobody waiting but for an instant
 * at its end.  A crash at any time leaves the chain as it was or as it is to be, and
 * directories that nobody stands on.
 */
#ifndef STORE_SQUASH_H
#define STORE_SQUASH_H

#include "store/registry.h"

/*
 * Works about max_bytes further.  min_run: how many layers in a row make it worth
 * beginning, at least 2.  1: there is more to do now; 0: not for the time being.  After
 * a failure nothing is begun for some minutes.  One caller at a time.
 */
int registry_squash(struct registry *r, unsigned min_run,
		    uint64_t max_bytes) MUST_CHECK;
#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chill.h - compresses sealed layers that nobody used for a while, file by file.
 *
 * Only layers whose index is not in memory: no tree stands on them that is loaded.  A
 * file that does not get shorter by a quarter stays as it is, and a layer that was gone
 * through is not looked at again.
 */
#ifndef STORE_CHILL_H
#define STORE_CHILL_H

#include "store/registry.h"

/* Reads about max_bytes.  1: there is more to do now; 0: not for the time being.  After
 * a failure nothing is done for some minutes.  after_s 0: never.  One caller at a time.
 */
int registry_chill(struct registry *r, uint64_t after_s, uint64_t max_bytes) MUST_CHECK;

#endif

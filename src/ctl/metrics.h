/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metrics.h - the text of .metrics, in the format of Prometheus, made without asking or
 * starting a server or loading a branch.  Thread-safe.
 */
#ifndef CTL_METRICS_H
#define CTL_METRICS_H

#include "base/metrics.h"
#include "pg/fleet.h"
#include "store/registry.h"

struct metrics;

/* mountpoint is borrowed. */
int metrics_new(struct registry *r, struct fleet *f, const char *mountpoint,
		struct metrics **ret_metrics) MUST_CHECK;
struct metrics *metrics_free(struct metrics *m); /* NULL is fine; returns NULL */

/* What else the text has: fn appends whole families.  Before the first reader. */
void metrics_set_source(struct metrics *m, void (*fn)(void *ctx, struct metric_text *t),
			void *ctx);
/*
 * Appends the text, which is at most a second old and the same for all readers.  sees:
 * NULL, or whether the reader may see a branch: without the others' samples then.
 */
int metrics_render(struct metrics *m, bool (*sees)(void *ctx, struct branch *b),
		   void *ctx, struct str *out) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metrics.h - numbers about what the program does: counters and histograms of
 * durations that may stand in every request's way, and the text in which Prometheus
 * reads them.
 *
 * Counting is thread-safe and waits for nobody: each thread adds to a shard that it
 * shares with few others, readers add the shards up.  Who counts owns the memory,
 * which starts as zeros (static, or from calloc).
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/text.h"

#include <stdatomic.h>

#define METRIC_SHARDS 16
#define METRIC_BOUNDS_MAX 12

/* As far from the next shard as processors write to each other's caches. */
struct metric_counter {
	struct {
		atomic_uint_fast64_t v;
		uint64_t pad[7];
	} shards[METRIC_SHARDS];
};

/* The upper bounds of a histogram's buckets, rising; one more bucket is behind them. */
struct metric_bounds {
	unsigned n;
	uint64_t ns[METRIC_BOUNDS_MAX];
};

struct metric_histogram {
	struct {
		atomic_uint_fast64_t buckets[METRIC_BOUNDS_MAX + 1], sum_ns;
		uint64_t pad[2];
	} shards[METRIC_SHARDS];
};

/* A histogram at one moment. */
struct metric_totals {
	uint64_t buckets[METRIC_BOUNDS_MAX + 1];
	uint64_t count, sum_ns;
};

/* The calling thread's shard. */
unsigned metric_shard(void);
/* CLOCK_MONOTONIC. */
uint64_t metric_now_ns(void);

static inline void metric_add(struct metric_counter *c, uint64_t n)
{
	atomic_fetch_add_explicit(&c->shards[metric_shard()].v, n,
				  memory_order_relaxed);
}

uint64_t metric_value(const struct metric_counter *c);
void metric_observe(struct metric_histogram *h, const struct metric_bounds *bounds,
		    uint64_t ns);
void metric_sum(const struct metric_histogram *h, struct metric_totals *ret_totals);

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* A text that is being made: family after family, each with all of its samples. */
struct metric_text {
	struct str *out;
	const char *mountpoint; /* a label of every sample; borrowed */
	const char *family;     /* the present one; borrowed */
};

/* Begins a family; help is one sentence. */
void metric_family(struct metric_text *t, enum metric_type type, const char *name,
		   const char *help);
/* A sample of it.  Labels are pairs of name and value, ended by NULL. */
void metric_sample(struct metric_text *t, uint64_t v, ...) __attribute__((sentinel));
/* The same for a duration or a time, shown in seconds. */
void metric_sample_ns(struct metric_text *t, uint64_t ns, ...)
	__attribute__((sentinel));
void metric_sample_histogram(struct metric_text *t, const struct metric_bounds *bounds,
			     const struct metric_totals *totals, ...)
	__attribute__((sentinel));

#endif

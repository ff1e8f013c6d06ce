/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters are added to without order: each is right by itself, and two of them may
 * be a request apart.  A histogram's count is the sum of its buckets, so these two
 * always agree.
 */
#include "base/metrics.h"

#include <stdarg.h>

#define NS_PER_S UINT64_C(1000000000)

unsigned metric_shard(void)
{
	static atomic_uint next;
	static _Thread_local unsigned mine; /* from 1; 0: not chosen yet */

	if (!mine)
		mine = atomic_fetch_add(&next, 1) % METRIC_SHARDS + 1;
	return mine - 1;
}

uint64_t metric_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail on Linux */
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t metric_value(const struct metric_counter *c)
{
	uint64_t v = 0;

	for (size_t i = 0; i < METRIC_SHARDS; i++)
		v += atomic_load_explicit(&c->shards[i].v, memory_order_relaxed);
	return v;
}

void metric_observe(struct metric_histogram *h, const struct metric_bounds *bounds,
		    uint64_t ns)
{
	unsigned shard = metric_shard(), i = 0;

	while (i < bounds->n && ns > bounds->ns[i])
		i++;
	atomic_fetch_add_explicit(&h->shards[shard].buckets[i], 1,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&h->shards[shard].sum_ns, ns, memory_order_relaxed);
}

void metric_sum(const struct metric_histogram *h, struct metric_totals *ret_totals)
{
	struct metric_totals t = {.count = 0};

	for (size_t s = 0; s < METRIC_SHARDS; s++) {
		for (size_t i = 0; i <= METRIC_BOUNDS_MAX; i++) {
			uint64_t v = atomic_load_explicit(&h->shards[s].buckets[i],
							  memory_order_relaxed);

			t.buckets[i] += v;
			t.count += v;
		}
		t.sum_ns += atomic_load_explicit(&h->shards[s].sum_ns,
						 memory_order_relaxed);
	}
	*ret_totals = t;
}

/* --- the text --- */

static void put_label(struct str *out, char before, const char *name, const char *value)
{
	str_addn(out, &before, 1);
	str_add(out, name);
	str_add(out, "=\"");
	for (const char *p = value; *p;) {
		size_t n = text_utf8_len(p);

		if (*p == '\\' || *p == '"')
			str_add(out, "\\");
		if (n == 0) /* no reader takes a text with such bytes */
			str_add(out, "\xef\xbf\xbd");
		else if (*p == '\n')
			str_add(out, "\\n");
		else
			str_addn(out, p, n);
		p += n ? n : 1;
	}
	str_add(out, "\"");
}

/* The name with its labels, and the blank before the value.  le: NULL for none. */
static void put_name(struct metric_text *t, const char *suffix, const char *le,
		     va_list labels)
{
	const char *name;

	str_add(t->out, t->family);
	str_add(t->out, suffix);
	put_label(t->out, '{', "mountpoint", t->mountpoint);
	while ((name = va_arg(labels, const char *)))
		put_label(t->out, ',', name, va_arg(labels, const char *));
	if (le)
		put_label(t->out, ',', "le", le);
	str_add(t->out, "} ");
}

/* No more digits than it needs: 0.025, 2.5, 60. */
static void put_seconds(struct str *out, uint64_t ns)
{
	uint64_t part = ns % NS_PER_S;
	int digits = 9;

	str_printf(out, "%llu", (unsigned long long)(ns / NS_PER_S));
	if (!part)
		return;
	for (; part % 10 == 0; part /= 10)
		digits--;
	str_printf(out, ".%0*llu", digits, (unsigned long long)part);
}

void metric_family(struct metric_text *t, enum metric_type type, const char *name,
		   const char *help)
{
	static const char *const types[] = {
		[METRIC_COUNTER] = "counter",
		[METRIC_GAUGE] = "gauge",
		[METRIC_HISTOGRAM] = "histogram",
	};

	t->family = name;
	str_printf(t->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
		   types[type]);
}

void metric_sample(struct metric_text *t, uint64_t v, ...)
{
	va_list labels;

	va_start(labels, v);
	put_name(t, "", NULL, labels);
	va_end(labels);
	str_printf(t->out, "%llu\n", (unsigned long long)v);
}

void metric_sample_ns(struct metric_text *t, uint64_t ns, ...)
{
	va_list labels;

	va_start(labels, ns);
	put_name(t, "", NULL, labels);
	va_end(labels);
	put_seconds(t->out, ns);
	str_add(t->out, "\n");
}

void metric_sample_histogram(struct metric_text *t, const struct metric_bounds *bounds,
			     const struct metric_totals *totals, ...)
{
	uint64_t below = 0;
	va_list labels;

	for (unsigned i = 0; i <= bounds->n; i++) {
		struct str le = STR_INIT;

		if (i < bounds->n)
			put_seconds(&le, bounds->ns[i]);
		else
			str_add(&le, "+Inf");
		below += totals->buckets[i];
		va_start(labels, totals);
		put_name(t, "_bucket", le.failed ? "" : le.s, labels);
		va_end(labels);
		str_printf(t->out, "%llu\n", (unsigned long long)below);
		t->out->failed |= le.failed;
		str_fini(&le);
	}
	va_start(labels, totals);
	put_name(t, "_sum", NULL, labels);
	va_end(labels);
	put_seconds(t->out, totals->sum_ns);
	str_add(t->out, "\n");
	va_start(labels, totals);
	put_name(t, "_count", NULL, labels);
	va_end(labels);
	str_printf(t->out, "%llu\n", (unsigned long long)totals->count);
}

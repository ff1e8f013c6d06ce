/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A text is kept for a second: who asks for the file's size and then reads it gets
 * what was measured, and many readers cost no more than one.
 *
 * Samples of a family must stand together, so what is shown of the branches is
 * collected first.
 */
#include "ctl/metrics.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/self.h"

#include <stdio.h>
#include <string.h>

#define KEEP_MS 1000

struct metrics {
	struct registry *reg;
	struct fleet *fleet;
	const char *mountpoint;
	time_t started;
	void (*source)(void *ctx, struct metric_text *t);
	void *source_ctx;

	pthread_mutex_t lock; /* held while the text is made */
	char *text;           /* lock: lock; NULL: none yet */
	int64_t made_ms;      /* lock: lock */
};

struct row {
	char name[64], owner[12];
	enum pm_state state;
	unsigned depth, checkpoints, automatic;
	time_t last_active;
	uint64_t wakes, bytes;
	bool has_bytes, loaded, seen;
};

/* For whom the text is. */
struct reader {
	bool (*sees)(void *ctx, struct branch *b); /* NULL: everything */
	void *ctx;
};

int metrics_new(struct registry *r, struct fleet *f, const char *mountpoint,
		struct metrics **ret_metrics)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->reg = r;
	m->fleet = f;
	m->mountpoint = mountpoint;
	m->started = time(NULL);
	(void)pthread_mutex_init(&m->lock, NULL); /* cannot fail with NULL */
	*ret_metrics = m;
	return 0;
}

struct metrics *metrics_free(struct metrics *m)
{
	if (!m)
		return NULL;
	(void)pthread_mutex_destroy(&m->lock); /* nobody holds it */
	free(m->text);
	free(m);
	return NULL;
}

void metrics_set_source(struct metrics *m, void (*fn)(void *ctx, struct metric_text *t),
			void *ctx)
{
	m->source = fn;
	m->source_ctx = ctx;
}

static void fill_row(struct metrics *m, struct branch *b, struct row *ret_row)
{
	struct row row = {.bytes = 0};
	struct branch_info info;
	struct pm_status pm;

	branch_info(b, &info);
	fleet_status(m->fleet, b, &pm);
	(void)snprintf(row.name, sizeof(row.name), "%s", info.name); /* the same size */
	(void)snprintf(row.owner, sizeof(row.owner), "%u", (unsigned)info.owner);
	row.state = pm.state;
	row.depth = info.depth;
	row.checkpoints = info.checkpoints;
	row.automatic = info.automatic;
	row.loaded = info.loaded;
	row.last_active = info.last_active;
	row.wakes = pm.wakes;
	/* without a sample where the store cannot say: no figure is better than 0 */
	row.has_bytes = branch_own_bytes(b, &row.bytes) == 0;
	*ret_row = row;
}

static int collect(struct metrics *m, const struct reader *rd, struct row **ret_rows,
		   size_t *ret_n)
{
	struct branch **list;
	struct row *rows;
	size_t n = 0;
	int rc = registry_list(m->reg, &list);

	if (rc < 0)
		return rc;
	while (list[n])
		n++;
	rows = calloc(n ? n : 1, sizeof(*rows));
	for (size_t i = 0; rows && i < n; i++) {
		fill_row(m, list[i], &rows[i]);
		rows[i].seen = !rd->sees || rd->sees(rd->ctx, list[i]);
	}
	branch_list_free(list);
	if (!rows)
		return -ENOMEM;
	*ret_rows = rows;
	*ret_n = n;
	return 0;
}

static void render_states(struct metric_text *t, const struct row *rows, size_t n)
{
	uint64_t counts[PM_STATES] = {0}, loaded = 0;

	for (size_t i = 0; i < n; i++) {
		counts[rows[i].state]++;
		loaded += rows[i].loaded;
	}
	metric_family(t, METRIC_GAUGE, "pgbranchfs_branches",
		      "Branches, by the state of their servers.");
	for (int s = 0; s < PM_STATES; s++)
		metric_sample(t, counts[s], "state", pm_state_name((enum pm_state)s),
			      NULL);
	metric_family(t, METRIC_GAUGE, "pgbranchfs_branches_loaded",
		      "Branches that take memory in the daemon.");
	metric_sample(t, loaded, NULL);
}

static void render_branches(struct metric_text *t, const struct row *rows, size_t n)
{
	metric_family(t, METRIC_GAUGE, "pgbranchfs_branch_bytes",
		      "What only this branch holds on disk, with its owner's uid.");
	for (size_t i = 0; i < n; i++)
		if (rows[i].has_bytes)
			metric_sample(t, rows[i].bytes, "branch", rows[i].name, "owner",
				      rows[i].owner, NULL);
	metric_family(t, METRIC_GAUGE, "pgbranchfs_branch_depth",
		      "How many layers the branch stands on.");
	for (size_t i = 0; i < n; i++)
		metric_sample(t, rows[i].depth, "branch", rows[i].name, NULL);
	metric_family(t, METRIC_GAUGE, "pgbranchfs_branch_checkpoints",
		      "How many checkpoints the branch has, by who took them.");
	for (size_t i = 0; i < n; i++) {
		metric_sample(t, rows[i].checkpoints, "branch", rows[i].name, "kind",
			      "named", NULL);
		metric_sample(t, rows[i].automatic, "branch", rows[i].name, "kind",
			      "automatic", NULL);
	}
	metric_family(t, METRIC_GAUGE,
		      "pgbranchfs_branch_last_active_timestamp_seconds",
		      "When somebody last used the branch.");
	for (size_t i = 0; i < n; i++)
		metric_sample(t, (uint64_t)rows[i].last_active, "branch", rows[i].name,
			      NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_branch_wakes_total",
		      "How often the branch's server was started.");
	for (size_t i = 0; i < n; i++)
		metric_sample(t, rows[i].wakes, "branch", rows[i].name, NULL);
}

static void render_fleet(struct metric_text *t, const struct fleet *f)
{
	struct fleet_stats st;

	fleet_stats(f, &st);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_wakes_total",
		      "Starts of servers, also of branches that are gone.");
	metric_sample(t, st.wakes, NULL);
	metric_family(t, METRIC_HISTOGRAM, "pgbranchfs_wake_duration_seconds",
		      "Time from the first client that wants a server until it accepts "
		      "connections.");
	metric_sample_histogram(t, &fleet_wake_bounds, &st.wake_time, NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_failed_starts_total",
		      "Servers that did not get as far as to accept connections.");
	metric_sample(t, st.failed_starts, NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_server_crashes_total",
		      "Servers that ran and ended with a failure.");
	metric_sample(t, st.crashes, NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_idle_stops_total",
		      "Servers that were stopped because nobody used them.");
	metric_sample(t, st.idle_stops, NULL);
}

static void render_caches(struct metric_text *t, const struct registry_stats *st)
{
	static const char *const names[CACHE_COUNT] = {
		[CACHE_DESCRIPTORS] = "descriptors",
		[CACHE_MAPS] = "maps",
		[CACHE_TREES] = "trees",
	};

	metric_family(t, METRIC_COUNTER, "pgbranchfs_cache_hits_total",
		      "What was in memory when it was needed: open files of the store, "
		      "their block maps, trees of branches.");
	for (int i = 0; i < CACHE_COUNT; i++)
		metric_sample(t, st->caches[i].hits, "cache", names[i], NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_cache_misses_total",
		      "What was not, and was fetched from the store.");
	for (int i = 0; i < CACHE_COUNT; i++)
		metric_sample(t, st->caches[i].misses, "cache", names[i], NULL);
	metric_family(t, METRIC_GAUGE, "pgbranchfs_cached_descriptors",
		      "Open files of the store.");
	metric_sample(t, st->descriptors, NULL);
	metric_family(
		t, METRIC_GAUGE, "pgbranchfs_cached_descriptors_max",
		"How many are kept open at most while nobody reads or writes them.");
	metric_sample(t, st->descriptors_max, NULL);
}

static void render_store(struct metric_text *t, struct registry *r)
{
	struct registry_stats st;
	uint64_t shared_bytes;
	struct statvfs fs;

	registry_stats(r, &st);
	metric_family(t, METRIC_GAUGE, "pgbranchfs_layers",
		      "Layers that branches stand on or that are about to be removed.");
	metric_sample(t, st.layers, NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_layers_merged_total",
		      "Layers that were merged with others to one.");
	metric_sample(t, st.layers_merged, NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_cold_files_total",
		      "Files of layers that were compressed.");
	metric_sample(t, st.cold_files, NULL);
	metric_family(t, METRIC_COUNTER, "pgbranchfs_cold_saved_bytes_total",
		      "What that freed on disk.");
	metric_sample(t, st.cold_saved_bytes, NULL);
	render_caches(t, &st);
	if (registry_shared_bytes(r, &shared_bytes) == 0) {
		metric_family(t, METRIC_GAUGE, "pgbranchfs_shared_bytes",
			      "What more than one branch holds on disk.");
		metric_sample(t, shared_bytes, NULL);
	}
	if (registry_statvfs(r, &fs) < 0)
		return;
	metric_family(t, METRIC_GAUGE, "pgbranchfs_store_size_bytes",
		      "Size of the file system that the store is on.");
	metric_sample(t, (uint64_t)fs.f_blocks * fs.f_frsize, NULL);
	metric_family(t, METRIC_GAUGE, "pgbranchfs_store_avail_bytes",
		      "What is free of it for branches.");
	metric_sample(t, (uint64_t)fs.f_bavail * fs.f_frsize, NULL);
}

/*
 * Names and sentences are those of the Prometheus clients: a collector that puts
 * several texts together refuses one name with two meanings.
 */
static void render_self(struct metric_text *t, time_t started)
{
	struct self_usage u;

	if (self_usage(&u) < 0)
		return;
	metric_family(t, METRIC_COUNTER, "process_cpu_seconds_total",
		      "Total user and system CPU time spent in seconds.");
	metric_sample_ns(t, u.cpu_ns, NULL);
	metric_family(t, METRIC_GAUGE, "process_open_fds",
		      "Number of open file descriptors.");
	metric_sample(t, u.open_fds, NULL);
	metric_family(t, METRIC_GAUGE, "process_max_fds",
		      "Maximum number of open file descriptors.");
	metric_sample(t, u.max_fds, NULL);
	metric_family(t, METRIC_GAUGE, "process_resident_memory_bytes",
		      "Resident memory size in bytes.");
	metric_sample(t, u.resident_bytes, NULL);
	metric_family(t, METRIC_GAUGE, "process_virtual_memory_bytes",
		      "Virtual memory size in bytes.");
	metric_sample(t, u.virtual_bytes, NULL);
	metric_family(t, METRIC_GAUGE, "process_start_time_seconds",
		      "Start time of the process since unix epoch in seconds.");
	metric_sample(t, (uint64_t)started, NULL);
}

/* Moves the rows that the reader may see to the front; how many. */
static size_t keep_seen(struct row *rows, size_t n)
{
	size_t seen = 0;

	for (size_t i = 0; i < n; i++)
		if (rows[i].seen)
			rows[seen++] = rows[i];
	return seen;
}

static int make(struct metrics *m, const struct reader *rd, struct str *out)
{
	struct metric_text t = {.out = out, .mountpoint = m->mountpoint};
	CLEAN(clean_free) struct row *rows = NULL;
	size_t n;
	int rc = collect(m, rd, &rows, &n);

	if (rc < 0)
		return rc;
	metric_family(&t, METRIC_GAUGE, "pgbranchfs_build_info",
		      "Always 1; the label is the daemon's version.");
	metric_sample(&t, 1, "version", PACKAGE_VERSION, NULL);
	render_states(&t, rows, n);
	render_branches(&t, rows, keep_seen(rows, n));
	render_fleet(&t, m->fleet);
	render_store(&t, m->reg);
	if (m->source)
		m->source(m->source_ctx, &t);
	metric_family(&t, METRIC_COUNTER, "pgbranchfs_log_messages_total",
		      "Errors and warnings that the daemon logged.");
	metric_sample(&t, log_count(LOG_LVL_ERROR), "level", "error", NULL);
	metric_sample(&t, log_count(LOG_LVL_WARN), "level", "warning", NULL);
	render_self(&t, m->started);
	return out->failed ? -ENOMEM : 0;
}

int metrics_render(struct metrics *m, bool (*sees)(void *ctx, struct branch *b),
		   void *ctx, struct str *out)
{
	CLEAN(str_fini) struct str fresh = STR_INIT;
	const struct reader rd = {sees, ctx};
	int rc;

	if (sees)
		return make(m, &rd, out);
	LOCK_SCOPE(&m->lock);
	if (!m->text || loop_now_ms() - m->made_ms >= KEEP_MS) {
		rc = make(m, &rd, &fresh);
		if (rc < 0)
			return rc;
		free(m->text);
		m->text = str_steal(&fresh);
		m->made_ms = loop_now_ms();
		if (!m->text)
			return -ENOMEM;
	}
	str_add(out, m->text);
	return 0;
}

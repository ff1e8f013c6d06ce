/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters, histograms and their text; then .metrics over a registry and a fleet that
 * are written down here.
 */
#include "unit.h"

#include "base/self.h"
#include "ctl/metrics.h"

#include <fcntl.h>

#define THREADS 8
#define ROUNDS 20000

static const struct metric_bounds bounds = {3, {10, 1000, 2500000000}};

static void test_buckets(void **state)
{
	static const struct {
		const char *name;
		uint64_t ns;
		unsigned bucket;
	} rows[] = {
		{"nothing", 0, 0},
		{"below", 9, 0},
		{"a bound belongs to its bucket", 10, 0},
		{"behind it", 11, 1},
		{"the last bound", 2500000000, 2},
		{"more than all", 2500000001, 3},
		{"the most", UINT64_MAX, 3},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct metric_histogram h;
		struct metric_totals t;

		memset(&h, 0, sizeof(h));
		metric_observe(&h, &bounds, rows[i].ns);
		metric_sum(&h, &t);
		ROW_EQUAL(rows[i].name, t.count, 1);
		ROW_EQUAL(rows[i].name, t.sum_ns, rows[i].ns);
		ROW_EQUAL(rows[i].name, t.buckets[rows[i].bucket], 1);
	}
}

static struct metric_counter counter;
static struct metric_histogram histogram;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		metric_add(&counter, 2);
		metric_observe(&histogram, &bounds, 11);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct metric_totals t;
	pthread_t threads[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(metric_value(&counter), 2 * THREADS * ROUNDS);
	metric_sum(&histogram, &t);
	assert_int_equal(t.count, THREADS * ROUNDS);
	assert_int_equal(t.buckets[1], THREADS * ROUNDS);
	assert_int_equal(t.sum_ns, 11 * THREADS * ROUNDS);
}

static void test_text(void **state)
{
	struct str out = STR_INIT;
	struct metric_text t = {.out = &out, .mountpoint = "/m\"\n\\\xff\xc3\xa4"};
	struct metric_totals totals = {{1, 0, 2, 4}, 7, 1500000000};

	(void)state;
	metric_family(&t, METRIC_COUNTER, "a_total", "One sentence.");
	metric_sample(&t, UINT64_MAX, NULL);
	t.mountpoint = "/";
	metric_sample(&t, 0, "b", "x", "c", "", NULL);
	metric_family(&t, METRIC_GAUGE, "g_seconds", "Another.");
	metric_sample_ns(&t, 60000000000, NULL);
	metric_sample_ns(&t, 1, "n", "1", NULL);
	metric_sample_ns(&t, 1020000000, "n", "2", NULL);
	metric_family(&t, METRIC_HISTOGRAM, "h_seconds", "The last.");
	metric_sample_histogram(&t, &bounds, &totals, "op", "read", NULL);
	assert_string_equal(
		out.s,
		"# HELP a_total One sentence.\n"
		"# TYPE a_total counter\n"
		"a_total{mountpoint=\"/m\\\"\\n\\\\\xef\xbf\xbd\xc3\xa4\"} "
		"18446744073709551615\n"
		"a_total{mountpoint=\"/\",b=\"x\",c=\"\"} 0\n"
		"# HELP g_seconds Another.\n"
		"# TYPE g_seconds gauge\n"
		"g_seconds{mountpoint=\"/\"} 60\n"
		"g_seconds{mountpoint=\"/\",n=\"1\"} 0.000000001\n"
		"g_seconds{mountpoint=\"/\",n=\"2\"} 1.02\n"
		"# HELP h_seconds The last.\n"
		"# TYPE h_seconds histogram\n"
		"h_seconds_bucket{mountpoint=\"/\",op=\"read\",le=\"0.00000001\"} 1\n"
		"h_seconds_bucket{mountpoint=\"/\",op=\"read\",le=\"0.000001\"} 1\n"
		"h_seconds_bucket{mountpoint=\"/\",op=\"read\",le=\"2.5\"} 3\n"
		"h_seconds_bucket{mountpoint=\"/\",op=\"read\",le=\"+Inf\"} 7\n"
		"h_seconds_sum{mountpoint=\"/\",op=\"read\"} 1.5\n"
		"h_seconds_count{mountpoint=\"/\",op=\"read\"} 7\n");
	str_fini(&out);
}

static void test_self(void **state)
{
	struct self_usage before, after;
	int fds[2];

	(void)state;
	assert_int_equal(self_usage(&before), 0);
	assert_true(before.resident_bytes > 4096);
	assert_true(before.resident_bytes < before.virtual_bytes);
	assert_true(before.open_fds < before.max_fds);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(self_usage(&after), 0);
	assert_int_equal(after.open_fds, before.open_fds + 2);
	assert_true(after.cpu_ns >= before.cpu_ns);
	assert_int_equal(close(fds[0]) + close(fds[1]), 0);
}

/* --- .metrics --- */

struct branch {
	struct branch_info info;
	struct pm_status pm;
	uint64_t bytes;
	int bytes_rc;
};

static struct branch branches[] = {
	{.info = {.name = "a",
		  .owner = 1000,
		  .depth = 3,
		  .loaded = true,
		  .last_active = 1795341600},
	 .pm = {.state = PM_RUNNING, .wakes = 2},
	 .bytes = 8192},
	{.info = {.name = "main", .depth = 2, .checkpoints = 3, .automatic = 4},
	 .bytes_rc = -EIO},
};
static int list_rc, shared_rc;

const struct metric_bounds fleet_wake_bounds = {1, {100000000}};

int registry_list(struct registry *r, struct branch ***ret_list)
{
	struct branch **list;

	(void)r;
	if (list_rc < 0)
		return list_rc;
	list = calloc(ARRAY_SIZE(branches) + 1, sizeof(*list));
	for (size_t i = 0; list && i < ARRAY_SIZE(branches); i++)
		list[i] = &branches[i];
	*ret_list = list;
	return list ? 0 : -ENOMEM;
}

void branch_list_free(struct branch **list)
{
	free(list);
}

void branch_info(struct branch *b, struct branch_info *ret_info)
{
	*ret_info = b->info;
}

int branch_own_bytes(struct branch *b, uint64_t *ret_bytes)
{
	if (b->bytes_rc == 0)
		*ret_bytes = b->bytes;
	return b->bytes_rc;
}

void fleet_status(struct fleet *f, struct branch *b, struct pm_status *ret_st)
{
	(void)f;
	*ret_st = b->pm;
}

const char *pm_state_name(enum pm_state s)
{
	static const char *const names[PM_STATES] = {
		[PM_STOPPED] = "stopped", [PM_RUNNING] = "running"};

	return names[s] ? names[s] : "else";
}

void fleet_stats(const struct fleet *f, struct fleet_stats *ret_stats)
{
	(void)f;
	*ret_stats = (struct fleet_stats){.wakes = 5,
					  .failed_starts = 1,
					  .crashes = 2,
					  .idle_stops = 3,
					  .wake_time = {{3, 1}, 4, 2000000000}};
}

void registry_stats(struct registry *r, struct registry_stats *ret_stats)
{
	(void)r;
	*ret_stats = (struct registry_stats){
		.layers = 7,
		.layers_merged = 19,
		.cold_files = 20,
		.cold_saved_bytes = 21,
		.descriptors = 8,
		.descriptors_max = 9,
		.caches = {[CACHE_DESCRIPTORS] = {11, 12}, [CACHE_MAPS] = {13, 14}},
	};
}

int registry_shared_bytes(struct registry *r, uint64_t *ret_bytes)
{
	(void)r;
	*ret_bytes = 65536;
	return shared_rc;
}

int registry_statvfs(struct registry *r, struct statvfs *ret_st)
{
	(void)r;
	*ret_st = (struct statvfs){.f_frsize = 4096, .f_blocks = 10, .f_bavail = 4};
	return 0;
}

static void add_own(void *ctx, struct metric_text *t)
{
	int *calls = ctx;

	metric_family(t, METRIC_GAUGE, "source_calls", "How often this was asked.");
	metric_sample(t, (uint64_t)++ * calls, NULL);
}

static void expect_line(const char *text, const char *line, bool there)
{
	CLEAN(clean_free) char *whole = text_format("\n%s\n", line);

	assert_non_null(whole);
	ROW_EQUAL(line, strstr(text, whole) != NULL, there);
}

static void test_metrics(void **state)
{
	static const char *const lines[] = {
		"pgbranchfs_build_info{mountpoint=\"/m\",version=\"" PACKAGE_VERSION
		"\"} 1",
		"pgbranchfs_branches{mountpoint=\"/m\",state=\"stopped\"} 1",
		"pgbranchfs_branches{mountpoint=\"/m\",state=\"running\"} 1",
		"pgbranchfs_branches_loaded{mountpoint=\"/m\"} 1",
		"pgbranchfs_branch_bytes{mountpoint=\"/m\",branch=\"a\","
		"owner=\"1000\"} 8192",
		"pgbranchfs_branch_depth{mountpoint=\"/m\",branch=\"main\"} 2",
		"pgbranchfs_branch_checkpoints{mountpoint=\"/m\",branch=\"main\","
		"kind=\"named\"} 3",
		"pgbranchfs_branch_checkpoints{mountpoint=\"/m\",branch=\"main\","
		"kind=\"automatic\"} 4",
		"pgbranchfs_branch_last_active_timestamp_seconds{mountpoint=\"/m\","
		"branch=\"a\"} 1795341600",
		"pgbranchfs_branch_wakes_total{mountpoint=\"/m\",branch=\"a\"} 2",
		"pgbranchfs_wakes_total{mountpoint=\"/m\"} 5",
		"pgbranchfs_wake_duration_seconds_bucket{mountpoint=\"/m\",le=\"0.1\"} "
		"3",
		"pgbranchfs_wake_duration_seconds_sum{mountpoint=\"/m\"} 2",
		"pgbranchfs_failed_starts_total{mountpoint=\"/m\"} 1",
		"pgbranchfs_server_crashes_total{mountpoint=\"/m\"} 2",
		"pgbranchfs_idle_stops_total{mountpoint=\"/m\"} 3",
		"pgbranchfs_layers{mountpoint=\"/m\"} 7",
		"pgbranchfs_layers_merged_total{mountpoint=\"/m\"} 19",
		"pgbranchfs_cold_files_total{mountpoint=\"/m\"} 20",
		"pgbranchfs_cold_saved_bytes_total{mountpoint=\"/m\"} 21",
		"pgbranchfs_cached_descriptors{mountpoint=\"/m\"} 8",
		"pgbranchfs_cached_descriptors_max{mountpoint=\"/m\"} 9",
		"pgbranchfs_cache_hits_total{mountpoint=\"/m\",cache=\"descriptors\"} "
		"11",
		"pgbranchfs_cache_misses_total{mountpoint=\"/m\",cache=\"maps\"} 14",
		"pgbranchfs_shared_bytes{mountpoint=\"/m\"} 65536",
		"pgbranchfs_store_size_bytes{mountpoint=\"/m\"} 40960",
		"pgbranchfs_store_avail_bytes{mountpoint=\"/m\"} 16384",
		"source_calls{mountpoint=\"/m\"} 1",
	};
	struct str first = STR_INIT, second = STR_INIT;
	struct metrics *m;
	int calls = 0;

	(void)state;
	assert_int_equal(metrics_new(NULL, NULL, "/m", &m), 0);
	metrics_set_source(m, add_own, &calls);
	/* a failure is not kept */
	list_rc = -EIO;
	assert_int_equal(metrics_render(m, NULL, NULL, &first), -EIO);
	list_rc = 0;
	assert_int_equal(metrics_render(m, NULL, NULL, &first), 0);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		expect_line(first.s, lines[i], true);
	/* no figure for what the store cannot tell */
	assert_null(strstr(first.s, "pgbranchfs_branch_bytes{mountpoint=\"/m\","
				    "branch=\"main\""));
	/* who reads soon after gets the same text */
	assert_int_equal(metrics_render(m, NULL, NULL, &second), 0);
	if (calls == 1)
		assert_string_equal(first.s, second.s);
	str_fini(&second);
	str_fini(&first);
	m = metrics_free(m);
	shared_rc = -EIO;
	assert_int_equal(metrics_new(NULL, NULL, "/m", &m), 0);
	assert_int_equal(metrics_render(m, NULL, NULL, &first), 0);
	assert_null(strstr(first.s, "pgbranchfs_shared_bytes"));
	str_fini(&first);
	assert_null(metrics_free(m));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_text),    cmocka_unit_test(test_self),
		cmocka_unit_test(test_metrics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

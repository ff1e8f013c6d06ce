/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The errors that are told apart are those that mean something: what is asked for is
 * not there, is refused, or cannot be done by the store.
 */
#include "fs/reqstat.h"

#include <errno.h>
#include <linux/fuse.h>

#define OPCODES 64

/* By the kernel's opcode; 0, which is none, stands for all without a name. */
static const char *const operations[OPCODES] = {
	[0] = "other",
	[FUSE_LOOKUP] = "lookup",
	[FUSE_FORGET] = "forget",
	[FUSE_GETATTR] = "getattr",
	[FUSE_SETATTR] = "setattr",
	[FUSE_READLINK] = "readlink",
	[FUSE_SYMLINK] = "symlink",
	[FUSE_MKNOD] = "mknod",
	[FUSE_MKDIR] = "mkdir",
	[FUSE_UNLINK] = "unlink",
	[FUSE_RMDIR] = "rmdir",
	[FUSE_RENAME] = "rename",
	[FUSE_LINK] = "link",
	[FUSE_OPEN] = "open",
	[FUSE_READ] = "read",
	[FUSE_WRITE] = "write",
	[FUSE_STATFS] = "statfs",
	[FUSE_RELEASE] = "release",
	[FUSE_FSYNC] = "fsync",
	[FUSE_OPENDIR] = "opendir",
	[FUSE_READDIR] = "readdir",
	[FUSE_RELEASEDIR] = "releasedir",
	[FUSE_FSYNCDIR] = "fsyncdir",
	[FUSE_CREATE] = "create",
	[FUSE_BATCH_FORGET] = "batch_forget",
	[FUSE_FALLOCATE] = "fallocate",
	[FUSE_READDIRPLUS] = "readdirplus",
};

/* From a look into the cache of names to an fsync on a slow disk. */
static const struct metric_bounds bounds = {
	.n = 6,
	.ns = {10000, 100000, 1000000, 10000000, 100000000, 1000000000},
};

static const struct {
	int error;
	const char *name;
} errors[] = {
	{0, "other"}, /* all that has no row */
	{ENOENT, "ENOENT"},
	{EPERM, "EPERM"},
	{EACCES, "EACCES"},
	{EEXIST, "EEXIST"},
	{ENOTEMPTY, "ENOTEMPTY"},
	{EINVAL, "EINVAL"},
	{EBUSY, "EBUSY"},
	{ESTALE, "ESTALE"},
	{ENOSPC, "ENOSPC"},
	{ENOMEM, "ENOMEM"},
	{EIO, "EIO"},
};
#define ERRORS ARRAY_SIZE(errors)

static struct metric_histogram times[OPCODES];
static atomic_uint_fast64_t failures[OPCODES][ERRORS];

static _Thread_local struct reqstat current;

void reqstat_begin(uint32_t opcode)
{
	if (opcode == FUSE_RENAME2)
		opcode = FUSE_RENAME;
	if (opcode >= OPCODES || !operations[opcode])
		opcode = 0;
	current = (struct reqstat){true, opcode, 0, metric_now_ns()};
}

void reqstat_error(int error)
{
	current.error = error;
}

struct reqstat reqstat_take(void)
{
	struct reqstat taken = current;

	current.open = false;
	return taken;
}

void reqstat_finish(const struct reqstat *rs)
{
	size_t i = 1;

	if (!rs->open)
		return;
	metric_observe(&times[rs->opcode], &bounds, metric_now_ns() - rs->start_ns);
	if (!rs->error)
		return;
	while (i < ERRORS && errors[i].error != rs->error)
		i++;
	(void)atomic_fetch_add(&failures[rs->opcode][i < ERRORS ? i : 0], 1);
}

void reqstat_end(void)
{
	struct reqstat rs = reqstat_take();

	reqstat_finish(&rs);
}

void reqstat_render(struct metric_text *t)
{
	metric_family(t, METRIC_HISTOGRAM, "pgbranchfs_request_duration_seconds",
		      "Time from a request of the kernel to its answer, by operation.");
	for (size_t i = 0; i < OPCODES; i++) {
		struct metric_totals totals;

		if (!operations[i])
			continue;
		metric_sum(&times[i], &totals);
		metric_sample_histogram(t, &bounds, &totals, "operation", operations[i],
					NULL);
	}
	metric_family(t, METRIC_COUNTER, "pgbranchfs_request_errors_total",
		      "Requests of the kernel that were answered with an error, by "
		      "operation and errno.");
	for (size_t i = 0; i < OPCODES; i++) {
		for (size_t j = 0; j < ERRORS; j++) {
			uint64_t n = atomic_load(&failures[i][j]);

			if (n)
				metric_sample(t, n, "operation", operations[i], "errno",
					      errors[j].name, NULL);
		}
	}
}

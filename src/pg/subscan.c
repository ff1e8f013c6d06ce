/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * subscan.c - pg_subscription is a shared catalog, so one file of the whole cluster:
 * it has no block if no subscription was ever made.  Which file it is says
 * global/pg_filenode.map, as VACUUM FULL gives it a new one.
 *
 * Both files are written in the byte order of the machine, and that part of them is
 * the same in all versions since 9.0 (map) and 8.0 (control file).
 */
#include "pg/subscan.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAP_FILE "global/pg_filenode.map"
#define MAP_MAX 4096
#define MAP_MAGIC 0x592717
#define MAP_HEAD 8 /* magic, number of pairs of oid and file */
#define SUBSCRIPTION_OID 6100

#define CONTROL_FILE "global/pg_control"
#define CONTROL_MAX 65536
#define CONTROL_VERSION_AT 8 /* behind the system identifier */
#define CONTROL_STATE_AT 16
#define CONTROL_VERSION_MAX 9999 /* larger: the other byte order */
#define STATE_SHUT_DOWN 1

static uint32_t u32_at(const void *buf, size_t off)
{
	uint32_t v;

	memcpy(&v, (const char *)buf + off, sizeof(v));
	return v;
}

uint32_t subscan_mapped_file(const void *map, size_t len, uint32_t oid)
{
	uint32_t n;

	if (len < MAP_HEAD || u32_at(map, 0) != MAP_MAGIC)
		return 0;
	n = u32_at(map, 4);
	if (n > (len - MAP_HEAD) / 8)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (u32_at(map, MAP_HEAD + 8 * i) == oid)
			return u32_at(map, MAP_HEAD + 8 * i + 4);
	return 0;
}

bool subscan_control_clean(const void *control, size_t len)
{
	uint32_t version;

	if (len < CONTROL_STATE_AT + 4)
		return false;
	version = u32_at(control, CONTROL_VERSION_AT);
	return version && version <= CONTROL_VERSION_MAX &&
	       u32_at(control, CONTROL_STATE_AT) == STATE_SHUT_DOWN;
}

bool subscan_none(struct overlay *data)
{
	CLEAN(clean_free) char *map = NULL;
	struct node_attr attr;
	char path[32];
	uint32_t file;
	size_t len;

	if (overlay_read_file(data, MAP_FILE, MAP_MAX, &map, &len) < 0)
		return false;
	file = subscan_mapped_file(map, len, SUBSCRIPTION_OID);
	(void)snprintf(path, sizeof(path), "global/%u", file); /* fits */
	return file && overlay_walk(data, path, &attr) == 0 && S_ISREG(attr.mode) &&
	       attr.size_bytes == 0;
}

bool subscan_was_clean(struct overlay *data)
{
	CLEAN(clean_free) char *control = NULL;
	struct node_attr attr;
	size_t len;

	return overlay_read_file(data, CONTROL_FILE, CONTROL_MAX, &control, &len) ==
		       0 &&
	       subscan_control_clean(control, len) &&
	       overlay_lookup(data, OVERLAY_ROOT, "backup_label", &attr) == -ENOENT;
}

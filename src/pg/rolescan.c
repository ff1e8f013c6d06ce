/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rolescan.c - pg_authid is a shared catalog, one small file of the whole cluster.  Its
 * rows begin alike in all versions since 12: oid, rolname, and the flags one by one;
 * and so does the page around them.
 *
 * Which rows are live say their hint bits, or else pg_xact.  After a clean shutdown all
 * of it is on disk.  Otherwise the newest may be in the WAL alone: then what is found
 * is true enough, and what is not found says nothing.
 */
#include "pg/rolescan.h"

#include "base/cleanup.h"
#include "pg/subscan.h"

#include <stdio.h>
#include <string.h>

#define AUTHID_OID 1260
#define AUTHID_MAX (16 << 20)
#define MAP_FILE "global/pg_filenode.map"
#define MAP_MAX 4096

#define PAGE_LOWER 12 /* where the array of pointers ends */
#define PAGE_POINTERS 24
#define POINTER_NORMAL 1
#define TUPLE_XMIN 0
#define TUPLE_XMAX 4
#define TUPLE_MASK 20
#define TUPLE_HOFF 22
#define TUPLE_HEAD 23
#define ROW_NAME 4 /* behind the oid */
#define NAME_BYTES 64
#define ROW_SUPER 68
#define ROW_CREATEROLE 70
#define ROW_LOGIN 72
#define ROW_REPLICATION 73
#define ROW_BYTES 74

#define XMIN_COMMITTED 0x0100
#define XMIN_INVALID 0x0200
#define XMAX_COMMITTED 0x0400
#define XMAX_INVALID 0x0800
#define XMAX_IS_MULTI 0x1000
#define XMAX_LOCK_ONLY 0x0080
#define XID_FIRST_NORMAL 3

#define XACT_PER_BYTE 4
#define XACT_PER_SEGMENT (32u * 8192 * XACT_PER_BYTE)
#define XACT_SEGMENT_BYTES (32u * 8192)
#define XACT_COMMITTED 1
#define XACT_ABORTED 2

static uint16_t u16_at(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t u32_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* 1: the row is there; 0: it is not. */
static int is_live(const uint8_t *tuple, rolescan_committed committed, void *ctx)
{
	uint16_t mask = u16_at(tuple + TUPLE_MASK);
	uint32_t xmin = u32_at(tuple + TUPLE_XMIN), xmax = u32_at(tuple + TUPLE_XMAX);
	int rc = 1;

	if ((mask & XMIN_INVALID) && !(mask & XMIN_COMMITTED)) /* both: frozen */
		return 0;
	if (!(mask & XMIN_COMMITTED) && xmin >= XID_FIRST_NORMAL)
		rc = committed(ctx, xmin);
	if (rc <= 0)
		return rc;
	if ((mask & (XMAX_INVALID | XMAX_LOCK_ONLY)) || xmax == 0)
		return 1;
	if (mask & XMAX_IS_MULTI)
		return -EAGAIN;
	if (mask & XMAX_COMMITTED)
		return 0;
	rc = committed(ctx, xmax);
	return rc < 0 ? rc : !rc;
}

int rolescan_page(const uint8_t *page, const char *role, rolescan_committed committed,
		  void *ctx, struct role_facts *ret_facts)
{
	size_t lower = u16_at(page + PAGE_LOWER);
	bool doubt = false;

	if (lower == 0) /* a new page, never used */
		return 0;
	if (lower < PAGE_POINTERS || lower > ROLESCAN_PAGE)
		return -EBADMSG;
	for (size_t at = PAGE_POINTERS; at + 4 <= lower; at += 4) {
		uint32_t pointer = u32_at(page + at);
		size_t off = pointer & 0x7fff, len = pointer >> 17;
		const uint8_t *tuple = page + off, *row;
		int live;

		if ((pointer >> 15 & 3) != POINTER_NORMAL)
			continue;
		if (off + len > ROLESCAN_PAGE || len < TUPLE_HEAD ||
		    (size_t)tuple[TUPLE_HOFF] + ROW_BYTES > len)
			return -EBADMSG;
		row = tuple + tuple[TUPLE_HOFF];
		if (strncmp((const char *)row + ROW_NAME, role, NAME_BYTES) != 0)
			continue;
		live = is_live(tuple, committed, ctx);
		doubt = doubt || live < 0;
		if (live <= 0)
			continue;
		ret_facts->powerful =
			row[ROW_SUPER] || row[ROW_CREATEROLE] || row[ROW_REPLICATION];
		ret_facts->can_login = row[ROW_LOGIN];
		return 1;
	}
	return doubt ? -EAGAIN : 0;
}

static int xact_committed(void *ctx, uint32_t xid)
{
	CLEAN(clean_free) char *bytes = NULL;
	size_t at = xid % XACT_PER_SEGMENT / XACT_PER_BYTE, len;
	char path[32];
	unsigned state;

	(void)snprintf(path, sizeof(path), "pg_xact/%04X", xid / XACT_PER_SEGMENT);
	if (overlay_read_file(ctx, path, XACT_SEGMENT_BYTES, &bytes, &len) < 0 ||
	    at >= len)
		return -EAGAIN;
	state = (unsigned char)bytes[at] >> 2 * (xid % XACT_PER_BYTE) & 3;
	if (state == XACT_COMMITTED)
		return 1;
	return state == XACT_ABORTED ? 0 : -EAGAIN;
}

int rolescan(struct overlay *data, const char *role, struct role_facts *ret_facts)
{
	CLEAN(clean_free) char *map = NULL, *pages = NULL;
	char path[32];
	uint32_t file;
	size_t len;
	int rc = overlay_read_file(data, MAP_FILE, MAP_MAX, &map, &len);

	if (rc < 0)
		return rc;
	file = subscan_mapped_file(map, len, AUTHID_OID);
	(void)snprintf(path, sizeof(path), "global/%u", file);
	rc = file ? overlay_read_file(data, path, AUTHID_MAX, &pages, &len) : -EAGAIN;
	for (size_t at = 0; rc == 0 && at + ROLESCAN_PAGE <= len; at += ROLESCAN_PAGE)
		rc = rolescan_page((const uint8_t *)pages + at, role, xact_committed,
				   data, ret_facts);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	return subscan_was_clean(data) ? -ENOENT : -EAGAIN;
}

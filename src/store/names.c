/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * names.c - entries of directories: "f1a3.89abcdef" is the regular file 0x1a3, "w" with
 * its checksum a whiteout.  The checksum covers what stands before it: a
 * flipped bit is an error, not another file.
 */
#include "store/names.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

struct dirnames *dirnames_find(struct dirnames *table, uint64_t dir)
{
	struct dirnames *d = NULL;

	HASH_FIND(hh, table, &dir, sizeof(dir), d);
	return d;
}

struct dirnames *dirnames_add(struct dirnames **table, uint64_t dir)
{
	struct dirnames *d = dirnames_find(*table, dir);

	if (d)
		return d;
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->dir = dir;
	HASH_ADD(hh, *table, dir, sizeof(d->dir), d);
	if (!d->hh.tbl) {
		free(d);
		return NULL;
	}
	dsync_init(&d->sync);
	atomic_init(&d->refs, 1);
	return d;
}

void dirnames_put(struct dirnames *d)
{
	struct entry *e, *next;

	if (atomic_fetch_sub(&d->refs, 1) != 1)
		return;
	HASH_ITER(hh, d->entries, e, next)
	{
		HASH_DEL(d->entries, e);
		free(e);
	}
	dsync_fini(&d->sync);
	free(d);
}

void dirnames_remove(struct dirnames **table, struct dirnames *d)
{
	HASH_DEL(*table, d);
	dirnames_put(d);
}

void dirnames_free_all(struct dirnames **table)
{
	struct dirnames *d, *next;

	HASH_ITER(hh, *table, d, next)
	{
		HASH_DEL(*table, d);
		dirnames_put(d);
	}
}

struct entry *entry_find(const struct dirnames *d, const char *name)
{
	struct entry *e = NULL;

	if (d)
		HASH_FIND(hh, d->entries, name, (unsigned)strlen(name), e);
	return e;
}

/* FNV-1a with a final mix: stable for ever, because readers keep cookies. */
static uint64_t name_cookie(const char *name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *p = name; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	h = (h * UINT64_C(0x9e3779b97f4a7c15)) >> 1;
	return h < 16 ? h + 16 : h;
}

struct entry *entry_set(struct dirnames *d, const char *name, enum entry_kind kind,
			uint64_t fid, bool on_disk)
{
	struct entry *e = entry_find(d, name);
	size_t len = strlen(name);

	if (!e) {
		e = calloc(1, sizeof(*e) + len + 1);
		if (!e)
			return NULL;
		memcpy(e->name, name, len + 1);
		e->cookie = name_cookie(name);
		HASH_ADD_KEYPTR(hh, d->entries, e->name, (unsigned)len, e);
		if (!e->hh.tbl) {
			free(e);
			return NULL;
		}
	}
	e->kind = kind;
	e->fid = fid;
	e->on_disk = on_disk;
	return e;
}

void entry_remove(struct dirnames *d, struct entry *e)
{
	HASH_DEL(d->entries, e);
	free(e);
}

static const struct {
	enum entry_kind kind;
	mode_t type;
} kinds[] = {
	{ENTRY_FILE, S_IFREG}, {ENTRY_DIR, S_IFDIR},     {ENTRY_SYMLINK, S_IFLNK},
	{ENTRY_FIFO, S_IFIFO}, {ENTRY_SOCKET, S_IFSOCK},
};

enum entry_kind entry_kind_of_mode(mode_t mode)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].type == (mode & S_IFMT))
			return kinds[i].kind;
	return ENTRY_BAD;
}

mode_t entry_type_mode(enum entry_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == kind)
			return kinds[i].type;
	return 0;
}

static void add_sum(char buf[static NAME_TARGET_MAX], int n, unsigned long seed)
{
	unsigned long sum = crc32_z(seed, (const Bytef *)buf, (size_t)n);

	(void)snprintf(buf + n, NAME_TARGET_MAX - (size_t)n, ".%08lx", sum);
}

/* Checks the sum and returns the length of what it covers, or -EBADMSG. */
static int check_sum(const char *text, unsigned long seed)
{
	size_t len = strlen(text);
	char want[16];

	if (len < 10 || len >= NAME_TARGET_MAX || text[len - 9] != '.')
		return -EBADMSG;
	(void)snprintf(want, sizeof(want), "%08lx",
		       crc32_z(seed, (const Bytef *)text, len - 9));
	return strcmp(text + len - 8, want) == 0 ? (int)(len - 9) : -EBADMSG;
}

void entry_encode(enum entry_kind kind, uint64_t fid, char buf[static NAME_TARGET_MAX])
{
	int n;

	if (kind == ENTRY_WHITEOUT)
		n = snprintf(buf, NAME_TARGET_MAX, "w");
	else
		n = snprintf(buf, NAME_TARGET_MAX, "%c%llx", (char)kind,
			     (unsigned long long)fid);
	add_sum(buf, n, 0);
}

int entry_decode(const char *text, enum entry_kind *ret_kind, uint64_t *ret_fid)
{
	int n = check_sum(text, 0);
	char digits[NAME_TARGET_MAX] = "", again[NAME_TARGET_MAX];
	uint64_t fid = 0;

	if (n < 1)
		return -EBADMSG;
	if (text[0] == ENTRY_WHITEOUT && n == 1) {
		*ret_kind = ENTRY_WHITEOUT;
		*ret_fid = 0;
		return 0;
	}
	memcpy(digits, text + 1, (size_t)n - 1);
	if (!strchr("fdlps", text[0]) ||
	    text_parse_u64(digits, 16, (UINT64_C(1) << 36) - 1, &fid) < 0)
		return -EBADMSG;
	entry_encode((enum entry_kind)text[0], fid, again);
	if (strcmp(text, again) != 0) /* as in "f01a3": nothing of ours */
		return -EBADMSG;
	*ret_kind = (enum entry_kind)text[0];
	*ret_fid = fid;
	return 0;
}

void attrs_encode(uint64_t fid, const struct attrs *a, char buf[static NAME_TARGET_MAX])
{
	int n = snprintf(buf, NAME_TARGET_MAX, "n%x", a->nlink);

	if (a->has_mode)
		n += snprintf(buf + n, NAME_TARGET_MAX - (size_t)n, "m%o",
			      a->mode & 07777U);
	add_sum(buf, n, (unsigned long)(fid & 0xffffffff));
}

int attrs_decode(const char *text, uint64_t fid, struct attrs *ret_attrs)
{
	int n = check_sum(text, (unsigned long)(fid & 0xffffffff));
	char body[NAME_TARGET_MAX] = "", again[NAME_TARGET_MAX];
	uint64_t nlink, bits = 0;
	struct attrs a;
	char *mode;

	if (n < 2 || text[0] != 'n')
		return -EBADMSG;
	memcpy(body, text + 1, (size_t)n - 1);
	mode = strchr(body, 'm');
	if (mode) {
		*mode++ = '\0';
		if (text_parse_u64(mode, 8, 07777, &bits) < 0)
			return -EBADMSG;
	}
	if (text_parse_u64(body, 16, UINT32_MAX, &nlink) < 0 || nlink == 0)
		return -EBADMSG;
	a = (struct attrs){
		.has_mode = mode != NULL,
		.mode = (mode_t)bits,
		.nlink = (uint32_t)nlink,
	};
	attrs_encode(fid, &a, again);
	if (strcmp(text, again) != 0)
		return -EBADMSG;
	*ret_attrs = a;
	return 0;
}

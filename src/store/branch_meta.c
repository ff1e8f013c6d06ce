/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * branch_meta.c - one table a record: key, kind, place in the struct.  Encode
 * writes every key once in the table's order; decode wants every key once.  Keys
 * that early builds did not write are optional: empty or 0, they are left out.
 */
#include "store/branch_meta.h"

#include "base/text.h"

#include <ini.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum field_kind { F_U32, F_OCTAL, F_COUNT, F_TIME, F_BOOL, F_NAME, F_FILE, F_KIND };

struct field {
	const char *key;
	enum field_kind kind;
	size_t off;
	bool optional;
};

#define BRANCH_FIELD(key, kind)                                                        \
	{                                                                              \
#key, kind, offsetof(struct branch_meta, key), false                   \
	}
static const struct field branch_fields[] = {
	{"name", F_FILE, offsetof(struct branch_meta, name), true},
	BRANCH_FIELD(no, F_U32),
	BRANCH_FIELD(top, F_U32),
	BRANCH_FIELD(base, F_U32),
	BRANCH_FIELD(fresh, F_BOOL),
	BRANCH_FIELD(parent, F_NAME),
	BRANCH_FIELD(parent_no, F_U32),
	BRANCH_FIELD(created, F_TIME),
	BRANCH_FIELD(last_active, F_TIME),
	{"expires", F_TIME, offsetof(struct branch_meta, expires), true},
	BRANCH_FIELD(owner, F_U32),
	BRANCH_FIELD(group, F_U32),
	BRANCH_FIELD(mode, F_OCTAL),
	{"protected", F_BOOL, offsetof(struct branch_meta, is_protected), false},
	BRANCH_FIELD(prepared, F_BOOL),
	BRANCH_FIELD(started, F_BOOL),
	BRANCH_FIELD(stopped_by_hand, F_BOOL),
	{"data_no", F_U32, offsetof(struct branch_meta, data_no), true},
	{"parent_checkpoint", F_NAME, offsetof(struct branch_meta, parent_checkpoint),
	 true},
	{"server_uid", F_U32, offsetof(struct branch_meta, server_uid), true},
	{"server_gid", F_U32, offsetof(struct branch_meta, server_gid), true},
	{"make_role", F_NAME, offsetof(struct branch_meta, make_role), true},
	{"masking", F_BOOL, offsetof(struct branch_meta, masking), true},
	{"masked", F_NAME, offsetof(struct branch_meta, masked), true},
};

#define CHECKPOINT_FIELD(key, kind)                                                    \
	{                                                                              \
#key, kind, offsetof(struct checkpoint_meta, key), false               \
	}
static const struct field checkpoint_fields[] = {
	CHECKPOINT_FIELD(branch_no, F_U32),
	CHECKPOINT_FIELD(seq, F_U32),
	CHECKPOINT_FIELD(name, F_NAME),
	CHECKPOINT_FIELD(branch, F_NAME),
	CHECKPOINT_FIELD(base, F_U32),
	CHECKPOINT_FIELD(kind, F_KIND),
	CHECKPOINT_FIELD(taken, F_TIME),
	CHECKPOINT_FIELD(prepared, F_BOOL),
	CHECKPOINT_FIELD(owner, F_U32),
	CHECKPOINT_FIELD(group, F_U32),
	{"masking", F_BOOL, offsetof(struct checkpoint_meta, masking), true},
	{"masked", F_NAME, offsetof(struct checkpoint_meta, masked), true},
	{"make_role", F_NAME, offsetof(struct checkpoint_meta, make_role), true},
};

static const char *const kind_names[CHECKPOINT_KINDS] = {
	[CHECKPOINT_NAMED] = "named",
	[CHECKPOINT_AUTO] = "automatic",
	[CHECKPOINT_SAFETY] = "safety",
};

#define LAYER_FIELD(key, kind)                                                         \
	{                                                                              \
#key, kind, offsetof(struct layer_meta, key), false                    \
	}
static const struct field layer_fields[] = {
	LAYER_FIELD(id, F_U32),
	LAYER_FIELD(parent, F_U32),
	LAYER_FIELD(fresh, F_BOOL),
	{"max_fid", F_COUNT, offsetof(struct layer_meta, max_fid), true},
};

static void put_field(struct str *t, const struct field *f, const void *rec)
{
	const char *p = (const char *)rec + f->off;
	uint32_t u;
	int64_t i;
	bool b;

	switch (f->kind) {
	case F_U32:
	case F_OCTAL:
		memcpy(&u, p, sizeof(u));
		if (u != 0 || !f->optional)
			str_printf(t, f->kind == F_U32 ? "%s = %u\n" : "%s = %o\n",
				   f->key, u);
		break;
	case F_COUNT:
	case F_TIME:
		memcpy(&i, p, sizeof(i));
		if (i != 0 || !f->optional)
			str_printf(t, "%s = %lld\n", f->key, (long long)i);
		break;
	case F_BOOL:
		memcpy(&b, p, sizeof(b));
		if (b || !f->optional)
			str_printf(t, "%s = %s\n", f->key, b ? "yes" : "no");
		break;
	case F_NAME:
	case F_FILE:
		if (*p || !f->optional)
			str_printf(t, "%s = %s\n", f->key, p);
		break;
	case F_KIND:
		memcpy(&u, p, sizeof(u));
		if (u != 0 || !f->optional)
			str_printf(t, "%s = %s\n", f->key,
				   u < CHECKPOINT_KINDS ? kind_names[u] : "");
		break;
	}
}

static char *record_encode(const char *section, const struct field *fields, size_t n,
			   const void *rec)
{
	struct str t = STR_INIT;

	str_printf(&t, "[%s]\n", section);
	for (size_t i = 0; i < n; i++)
		put_field(&t, &fields[i], rec);
	if (!t.failed)
		str_printf(&t, "sum = %08lx\n",
			   crc32_z(0, (const Bytef *)t.s, (z_size_t)t.len));
	return str_steal(&t);
}

static int get_kind(const char *value, char *p)
{
	for (uint32_t i = 0; i < CHECKPOINT_KINDS; i++) {
		if (strcmp(value, kind_names[i]) != 0)
			continue;
		memcpy(p, &i, sizeof(i));
		return 0;
	}
	return -EINVAL;
}

static int get_field(const struct field *f, const char *value, void *rec)
{
	char *p = (char *)rec + f->off, name[NAME_LEN_MAX + 1];
	uint64_t v = 0;
	time_t t;
	uint32_t u;
	int64_t i;
	bool b;
	int rc = 0;

	switch (f->kind) {
	case F_U32:
	case F_OCTAL:
		rc = text_parse_u64(value, f->kind == F_U32 ? 10 : 8, UINT32_MAX, &v);
		u = (uint32_t)v;
		memcpy(p, &u, sizeof(u));
		break;
	case F_COUNT:
	case F_TIME:
		rc = text_parse_u64(value, 10, INT64_MAX, &v);
		i = (int64_t)v;
		memcpy(p, &i, sizeof(i));
		break;
	case F_BOOL:
		rc = text_parse_bool(value, &b);
		if (rc == 0)
			memcpy(p, &b, sizeof(b));
		break;
	case F_NAME:
		if (value[0] != '\0')
			rc = text_check_name(value);
		if (rc == 0)
			(void)snprintf(p, NAME_LEN_MAX + 1, "%s", value);
		break;
	case F_FILE: /* of a branch, or one in the trash */
		if (value[0] != '\0' && text_check_name(value) < 0)
			rc = trash_name_parse(value, name, &t);
		if (rc == 0)
			(void)snprintf(p, TRASH_NAME_MAX, "%s", value);
		break;
	case F_KIND:
		rc = get_kind(value, p);
		break;
	}
	return rc;
}

struct parse {
	const char *section;
	const struct field *fields;
	size_t n;
	void *rec;
	uint32_t seen; /* a bit a field */
	bool bad;
};

static int on_pair(void *user, const char *section, const char *key, const char *value)
{
	struct parse *p = user;

	if (strcmp(key, "sum") == 0)
		return 1;
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(key, p->fields[i].key) != 0)
			continue;
		if (p->seen & (UINT32_C(1) << i) || strcmp(section, p->section) != 0 ||
		    get_field(&p->fields[i], value, p->rec) < 0)
			break;
		p->seen |= UINT32_C(1) << i;
		return 1;
	}
	p->bad = true;
	return 0;
}

/* Is the last line the checksum of all before it? */
static bool sum_fits(const char *text)
{
	static const char key[] = "\nsum = ";
	const char *line = NULL, *next = text;
	char want[16];

	while ((next = strstr(next, key)) != NULL)
		line = ++next;
	if (!line)
		return false;
	(void)snprintf(want, sizeof(want), "%08lx\n",
		       crc32_z(0, (const Bytef *)text, (z_size_t)(line - text)));
	return strcmp(line + strlen(key) - 1, want) == 0;
}

static int record_decode(const char *text, struct parse *p)
{
	if (!sum_fits(text))
		return -EBADMSG;
	if (ini_parse_string(text, on_pair, p) != 0 || p->bad)
		return -EBADMSG;
	for (size_t i = 0; i < p->n; i++)
		if (!(p->seen & (UINT32_C(1) << i)) && !p->fields[i].optional)
			return -EBADMSG;
	return 0;
}

char *branch_meta_encode(const struct branch_meta *m)
{
	return record_encode("branch", branch_fields, ARRAY_SIZE(branch_fields), m);
}

char *layer_meta_encode(const struct layer_meta *m)
{
	return record_encode("layer", layer_fields, ARRAY_SIZE(layer_fields), m);
}

char *checkpoint_meta_encode(const struct checkpoint_meta *m)
{
	return record_encode("checkpoint", checkpoint_fields,
			     ARRAY_SIZE(checkpoint_fields), m);
}

int branch_meta_decode(const char *text, struct branch_meta *ret_meta)
{
	struct branch_meta m = {0};
	struct parse p = {"branch", branch_fields, ARRAY_SIZE(branch_fields), &m,
			  0,        false};
	int rc = record_decode(text, &p);

	if (rc == 0 &&
	    (m.no == 0 || m.no >= UINT32_C(1) << 26 || m.top == 0 ||
	     m.top > LAYER_ID_MAX || m.base > LAYER_ID_MAX || m.base == m.top ||
	     m.mode > 07777 || m.data_no >= UINT32_C(1) << 26))
		rc = -EBADMSG;
	if (rc == 0)
		*ret_meta = m;
	return rc;
}

int layer_meta_decode(const char *text, struct layer_meta *ret_meta)
{
	struct layer_meta m = {0};
	struct parse p = {"layer", layer_fields, ARRAY_SIZE(layer_fields), &m,
			  0,       false};
	int rc = record_decode(text, &p);

	if (rc == 0 && (m.id == 0 || m.id > LAYER_ID_MAX || m.parent > LAYER_ID_MAX ||
			m.parent == m.id || m.max_fid < 0))
		rc = -EBADMSG; /* longer circles are found where chains are read */
	if (rc == 0)
		*ret_meta = m;
	return rc;
}

int checkpoint_meta_decode(const char *text, struct checkpoint_meta *ret_meta)
{
	struct checkpoint_meta m = {0};
	struct parse p = {
		"checkpoint", checkpoint_fields, ARRAY_SIZE(checkpoint_fields), &m, 0,
		false};
	int rc = record_decode(text, &p);

	if (rc == 0 &&
	    (m.branch_no == 0 || m.branch_no >= UINT32_C(1) << 26 || m.seq == 0 ||
	     m.seq > CHECKPOINT_SEQ_MAX || m.base == 0 || m.base > LAYER_ID_MAX ||
	     m.name[0] == '\0' || m.branch[0] == '\0'))
		rc = -EBADMSG;
	if (rc == 0)
		*ret_meta = m;
	return rc;
}

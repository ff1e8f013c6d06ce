/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/stream.h"

#include "base/bytes.h"

#define MAGIC_BYTES "pgbrsend"
#define STREAM_VERSION 1
#define OBJECT_BYTES 40 /* before the name */
#define END_BYTES 20
#define NAME_MAX_BYTES 255
#define TARGET_MAX_BYTES 4095
#define PATH_MAX_BYTES 4095

void stream_head_encode(uint8_t buf[static STREAM_HEAD])
{
	memcpy(buf, MAGIC_BYTES, 8);
	put16(buf + 8, STREAM_VERSION);
	put16(buf + 10, 0);
}

int stream_head_decode(const uint8_t buf[static STREAM_HEAD])
{
	return memcmp(buf, MAGIC_BYTES, 8) == 0 && get16(buf + 8) == STREAM_VERSION &&
			       get16(buf + 10) == 0
		       ? 0
		       : -EBADMSG;
}

static bool is_object(enum stream_type t)
{
	return t == STREAM_DIR || t == STREAM_FILE || t == STREAM_SYMLINK ||
	       t == STREAM_LINK;
}

/* Returns where the payload ends; NULL: a name is too long. */
static uint8_t *encode_object(const struct stream_record *r, uint8_t *p)
{
	size_t n = strlen(r->name), t = r->target ? strlen(r->target) : 0;

	if (n > NAME_MAX_BYTES || t > TARGET_MAX_BYTES)
		return NULL;
	put64(p, r->id);
	put64(p + 8, r->parent);
	put32(p + 16, r->mode & 07777);
	put64(p + 20, (uint64_t)r->mtime_s);
	put32(p + 28, r->mtime_ns);
	put64(p + 32, r->size_bytes);
	p += OBJECT_BYTES;
	memcpy(p, r->name, n + 1);
	p += n + 1;
	if (r->type == STREAM_SYMLINK) {
		memcpy(p, r->target, t + 1);
		p += t + 1;
	}
	return p;
}

int stream_encode(const struct stream_record *r, uint8_t *buf)
{
	uint8_t *p = buf + STREAM_RECORD, *end = p;

	if (is_object(r->type)) {
		end = encode_object(r, p);
	} else if (r->type == STREAM_END) {
		put64(p, r->records);
		put64(p + 8, r->total_bytes);
		put32(p + 16, r->sum);
		end = p + END_BYTES;
	} else if (r->type == STREAM_CHECK) {
		put32(p, r->sum);
		end = p + 4;
	} else {
		if (r->type == STREAM_BYTES) {
			put64(p, r->off_bytes);
			p += 8;
		}
		memcpy(p, r->bytes, r->len);
		end = p + r->len;
	}
	if (!end)
		return -ENAMETOOLONG;
	buf[0] = (uint8_t)r->type;
	put32(buf + 1, (uint32_t)(end - buf - STREAM_RECORD));
	return (int)(end - buf);
}

int stream_record_decode(const uint8_t buf[static STREAM_RECORD],
			 enum stream_type *ret_type, uint32_t *ret_len)
{
	enum stream_type t = (enum stream_type)buf[0];
	uint32_t len = get32(buf + 1);

	if ((!is_object(t) && t != STREAM_HEADER && t != STREAM_BYTES &&
	     t != STREAM_SAME && t != STREAM_CHECK && t != STREAM_END) ||
	    len > STREAM_PAYLOAD_MAX)
		return -EBADMSG;
	*ret_type = t;
	*ret_len = len;
	return 0;
}

/* A text with a NUL within len bytes; its length with that, or 0. */
static size_t text_bytes(const uint8_t *p, size_t len)
{
	const uint8_t *end = memchr(p, '\0', len);

	return end ? (size_t)(end - p) + 1 : 0;
}

static bool name_ok(const char *name, uint64_t id)
{
	size_t n = strlen(name);

	if (id == STREAM_ROOT)
		return n == 0;
	return n > 0 && n <= NAME_MAX_BYTES && !strchr(name, '/') &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int decode_object(const uint8_t *buf, uint32_t len, struct stream_record *r)
{
	const uint8_t *p = buf + OBJECT_BYTES;
	size_t left, n;

	if (len <= OBJECT_BYTES)
		return -EBADMSG;
	left = len - OBJECT_BYTES;
	r->id = get64(buf);
	r->parent = get64(buf + 8);
	r->mode = get32(buf + 16);
	r->mtime_s = (int64_t)get64(buf + 20);
	r->mtime_ns = get32(buf + 28);
	r->size_bytes = get64(buf + 32);
	r->name = (const char *)p;
	n = text_bytes(p, left);
	if (n == 0 || !name_ok(r->name, r->id) || r->mode > 07777 ||
	    r->mtime_ns >= 1000000000 || r->size_bytes > INT64_MAX || r->id == 0 ||
	    (r->id == STREAM_ROOT) != (r->parent == 0))
		return -EBADMSG;
	p += n;
	left -= n;
	if (r->type == STREAM_SYMLINK) {
		r->target = (const char *)p;
		n = text_bytes(p, left);
		if (n < 2 || n > TARGET_MAX_BYTES + 1)
			return -EBADMSG;
		left -= n;
	}
	return left == 0 ? 0 : -EBADMSG;
}

int stream_decode(enum stream_type type, const uint8_t *buf, uint32_t len,
		  struct stream_record *ret)
{
	struct stream_record r = {.type = type, .bytes = buf, .len = len};
	int rc = 0;

	if (is_object(type)) {
		rc = decode_object(buf, len, &r);
	} else if (type == STREAM_END) {
		if (len != END_BYTES)
			return -EBADMSG;
		r.records = get64(buf);
		r.total_bytes = get64(buf + 8);
		r.sum = get32(buf + 16);
	} else if (type == STREAM_CHECK) {
		if (len != 4)
			return -EBADMSG;
		r.sum = get32(buf);
	} else if (type == STREAM_SAME) {
		if (len == 0 || len > PATH_MAX_BYTES || memchr(buf, '\0', len))
			return -EBADMSG;
	} else if (type == STREAM_BYTES) {
		if (len <= 8 || len - 8 > STREAM_BYTES_MAX)
			return -EBADMSG;
		r.off_bytes = get64(buf);
		r.bytes = buf + 8;
		r.len = len - 8;
	}
	if (rc == 0)
		*ret = r;
	return rc;
}
